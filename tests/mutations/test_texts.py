"""Damaged recipes, overrides, lists and tables are read, or refused in one sentence."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby.data.datasets import dataset_settings, open_dataset
from passerby.recipe import load_recipe, recipe_from_text
from passerby.reference_results import shipped_files
from passerby.settings import parse_yaml
from tests.conftest import TINY
from tests.mutations.mutate import JUNK, damaged_bytes, damaged_tree, few, sentence_or_nothing

RECIPE = parse_yaml(load_recipe("small").dump(), source="small")
WRITTEN = {
    **TINY,
    "root": "nowhere",
    "datasets": {"other": {"kind": "market1501", "root": "x"}, "table": {"kind": "csv", "path": "x.csv"}},
    "losses": {"softmax": {}, "triplet": {"margin": 0.3}, "center": {"weight": 1e-3}},
    "method": {"lwf": {}, "replay": {}},
    "stages": [{"train": ["market1501"], "epochs": 2}, {"train": ["other"], "epochs": 1, "losses": {"triplet": None}}],
    "evaluate": ["market1501"],
    "reference_results": {"market1501": {"mAP": 50}},
}


@few
@given(tree=damaged_tree(WRITTEN))
def test_recipes(tree):
    sentence_or_nothing(recipe_from_text, json.dumps(tree), ["optim.lr=0.1"], source="text")


@few
@given(tree=damaged_tree(RECIPE))
def test_resolved_recipes(tree):
    sentence_or_nothing(recipe_from_text, json.dumps(tree), source="text")


@few
@given(content=damaged_bytes(shipped_files()["sbs"].read_bytes()))
def test_recipe_files(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("recipe") / "x.yaml"
    path.write_bytes(content)
    sentence_or_nothing(load_recipe, str(path))


def paths_of(node: object, above: str = "") -> list[str]:
    if not isinstance(node, dict | list):
        return [above]
    items = node.items() if isinstance(node, dict) else enumerate(node)
    return [above, *(path for key, value in items for path in paths_of(value, f"{above}.{key}"))]


@few
@given(
    path=st.sampled_from([path[1:] for path in paths_of(RECIPE) if path]),
    tail=st.sampled_from(["", ".x", ".0", ".-1", "..", "."]),
    value=st.one_of(st.sampled_from(JUNK).map(json.dumps), st.text(max_size=20)),
)
def test_overrides(path, tail, value):
    sentence_or_nothing(load_recipe, "small", [f"{path}{tail}={value}"])


TABLE = b"""path,pid,cam,frame,role,mask
a/1.jpg,Ann,north,1,query,
a/2.jpg,Ann,south,2,gallery,m/2.png
b/1.jpg,7,north,3,gallery,
c/1.jpg,8,2,4,train,
c/2.jpg,8,1,20240131235959123450,train,
"""


@few
@given(content=damaged_bytes(TABLE))
def test_tables(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("table") / "x.csv"
    path.write_bytes(content)
    sentence_or_nothing(open_dataset, dataset_settings("csv", str(path)), "table")


LIST = b"0000/0000_000_01_0303morning_0015_0.jpg 0\n0000/0000_001_01_0303morning_0020_0.jpg 0\n"


@pytest.fixture
def msmt(tmp_path):
    """A folder in the layout of MSMT17, whose lists all name the same two images."""
    for folder in ("train", "test"):
        (tmp_path / folder / "0000").mkdir(parents=True)
        for line in LIST.decode().splitlines():
            (tmp_path / folder / line.split()[0]).touch()
    for name in ("train", "val", "query", "gallery"):
        (tmp_path / f"list_{name}.txt").write_bytes(LIST)
    return tmp_path


@few
@given(content=damaged_bytes(LIST), name=st.sampled_from(["train", "query", "gallery"]))
def test_lists(msmt, content, name):
    path = msmt / f"list_{name}.txt"
    path.write_bytes(content)
    sentence_or_nothing(open_dataset, dataset_settings("msmt17", str(msmt)), "msmt17")
    path.write_bytes(LIST)


@few
@given(
    pattern=st.lists(
        st.sampled_from(["{pid}", "{cam}", "{role}", "{frame}", "{", "}", "*", "/", "_", "[", "\\", "**", "a", "\x00"]),
        max_size=6,
    ).map("".join)
)
def test_patterns(pattern):
    from passerby.data.readers.pattern import compile_pattern

    compiled = sentence_or_nothing(compile_pattern, pattern)
    assert compiled is None or compiled


NAMES = st.text(
    st.characters(codec=None, exclude_characters="/\x00", categories=["L", "N", "P", "S", "Z", "Cs", "Cc"]), max_size=12
)


@few
@given(names=st.lists(NAMES, max_size=4, unique=True), folder=NAMES)
def test_names_of_files_and_folders(tmp_path_factory, names, folder):
    root = tmp_path_factory.mktemp("names")
    for name in names:
        for place in (f"{folder}/{name}.jpg", f"{name}.jpg"):
            try:
                (root / place).parent.mkdir(exist_ok=True)
                (root / place).touch()
            except (OSError, ValueError):  # no system takes every name
                continue
    sentence_or_nothing(open_dataset, dataset_settings("auto", str(root)), "auto")


@pytest.mark.parametrize("text", ['"\\ud800"', "[x, {y: '\\udcff'}]", '"a\\udcffb"'])
def test_half_a_surrogate_pair_is_no_text(text):
    found = sentence_or_nothing(load_recipe, "small", [f"root={text}"])
    assert found is None
