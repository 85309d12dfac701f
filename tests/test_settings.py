"""Settings: YAML 1.2, extends, merge, overrides, and what a mistake is told."""

import json
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from passerby.errors import UserError
from passerby.settings import (
    Settings,
    build,
    dump_yaml,
    first_difference,
    merge,
    override,
    parse_yaml,
    read_mapping,
    read_yaml,
)


def parse(text):
    return parse_yaml(text, source="text")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1.5", 1.5),
        (".5", 0.5),
        ("-3E2", -300.0),
        ("7", 7),
        ("-7", -7),
        ("010", 10),
        ("0x10", 16),
        ("0o17", 15),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12:30:45", "12:30:45"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ('"1"', "1"),
        ("0b1", "0b1"),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("[1, a]", [1, "a"]),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = parse(text)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number():
    assert str(parse(".nan")) == "nan"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: key 'a' stands twice"),
        ("a: {b: 1, b: 2}", "key 'b' stands twice"),
        ("1: x", "line 1: a key must be a word, got 1"),
        ("a: [1", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['echo']", "not valid YAML"),
        ("a: !!timestamp 2001-01-01", "not valid YAML"),
        ("a: !!binary aGk=", "not valid YAML"),
        ("a: !!set {x, y}", "not valid YAML"),
        ("a: !!int word", "not valid YAML"),
        ("a: !!bool word", "not valid YAML"),
        ("a: !!float word", "not valid YAML"),
        ("a: &x [*x]", "not valid YAML"),
        ("a: &x {b: *x}", "not valid YAML"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_what_is_not_plain_data_is_refused(text, told):
    with pytest.raises(UserError, match=r"^text") as caught:
        parse(text)
    assert told in str(caught.value)


def test_a_file_must_hold_a_mapping(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_mapping(tmp_path / "empty.yaml") == {}
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match=r"list\.yaml must hold 'key: value' lines, got a list"):
        read_mapping(tmp_path / "list.yaml")
    (tmp_path / "photo.yaml").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UserError, match=r"photo\.yaml is not a text file"):
        read_mapping(tmp_path / "photo.yaml")
    with pytest.raises(UserError, match=r"cannot read .*none\.yaml: no such file"):
        read_mapping(tmp_path / "none.yaml")


# ---- extends


def find(name: str, folder: Path) -> Path:
    return folder / name


def test_the_nearest_file_of_a_chain_wins(tmp_path):
    (tmp_path / "a.yaml").write_text("x: {one: 1, two: 1}\ny: 1")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.yaml").write_text("extends: ../a.yaml\nx: {two: 2}")
    (tmp_path / "c.yaml").write_text("extends: sub/b.yaml\nx: {three: 3}\ny: [3]")
    assert read_yaml(tmp_path / "c.yaml", find) == {"x": {"one": 1, "two": 2, "three": 3}, "y": [3]}


def test_a_loop_is_told_with_its_files(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml")
    (tmp_path / "b.yaml").write_text("extends: a.yaml")
    with pytest.raises(UserError, match=r"a\.yaml extends b\.yaml extends a\.yaml: a recipe cannot extend itself"):
        read_yaml(tmp_path / "a.yaml", find)


def test_extends_takes_one_word(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: [b.yaml]")
    with pytest.raises(UserError, match="'extends' takes one file name"):
        read_yaml(tmp_path / "a.yaml", find)


# ---- merge and override

WORDS = st.text("abc", min_size=1, max_size=2)
LEAVES = (
    st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab1e- ", max_size=3)
)
NODES = st.recursive(
    LEAVES | st.lists(LEAVES, max_size=3), lambda inner: st.dictionaries(WORDS, inner, max_size=3), max_leaves=8
)
TREES = st.dictionaries(WORDS, NODES, max_size=4)


@given(TREES, TREES)
def test_merge_laws(base, changes):
    before = json.dumps([base, changes])
    merged = merge(base, changes)
    assert json.dumps([base, changes]) == before  # neither is touched
    assert merge(base, {}) == base
    assert merge({}, changes) == changes
    assert merge(base, base) == base
    assert merge(merged, changes) == merged
    assert set(merged) == set(base) | set(changes)
    for key in base.keys() - changes.keys():
        assert merged[key] == base[key]
    for key in changes:
        if not isinstance(changes[key], dict):
            assert merged[key] == changes[key]


@given(TREES, st.lists(WORDS, min_size=1, max_size=3), LEAVES | st.none())
def test_override_changes_one_place_and_no_other(tree, path, value):
    before = json.dumps(tree)
    changed = override(tree, f"{'.'.join(path)}={json.dumps(value)}") if _leads(tree, path) else None
    assert json.dumps(tree) == before
    if changed is None:
        return
    node = changed
    for key in path:
        node = node[key]
    assert node == value
    assert {k: v for k, v in changed.items() if k != path[0]} == {k: v for k, v in tree.items() if k != path[0]}


def _leads(tree, path):
    for key in path[:-1]:
        tree = tree.get(key, {})
        if isinstance(tree, list):
            return False
        tree = tree if isinstance(tree, dict) else {}
    return True


def test_an_override_steps_into_lists():
    data = {"stages": [{"epochs": 1}, {"epochs": 2}]}
    assert override(data, "stages.1.epochs=5") == {"stages": [{"epochs": 1}, {"epochs": 5}]}
    assert override(data, "stages.0={train: [x]}") == {"stages": [{"train": ["x"]}, {"epochs": 2}]}
    assert override(data, "a=b=c")["a"] == "b=c"
    assert override({"a": {"b": 1}}, "a={c: 2}") == {"a": {"b": 1, "c": 2}}


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("stages.2.epochs=5", "stages.2.epochs: '2' must be a number from 0 to 1"),
        ("stages.first.epochs=5", "'first' must be a number from 0 to 1"),
        ("stages.-1.epochs=5", "'-1' must be a number from 0 to 1"),
        ("epochs", "'epochs' is not an override; write key=value"),
        ("=5", "is not an override"),
        ("a..b=5", "is not an override"),
        ("a=[1", "the value of a, line 1: not valid YAML"),
    ],
)
def test_a_bad_override_is_told(assignment, told):
    with pytest.raises(UserError) as caught:
        override({"stages": [{"epochs": 1}, {"epochs": 2}]}, assignment)
    assert told in str(caught.value)


def test_an_override_of_an_empty_list_is_told():
    with pytest.raises(UserError, match="empty"):
        override({"stages": []}, "stages.0.epochs=5")


# ---- building


class Leaf(Settings):
    margin: Annotated[float, Field(ge=0)] = 0.3
    count: int = 1
    colour: Literal["red", "green"] = "red"


class Disc(Settings):
    kind: Literal["disc"] = "disc"
    radius: float = 1.0


class Box(Settings):
    kind: Literal["box"] = "box"
    width: float = 1.0


class Tree(Settings):
    leaf: Leaf = Leaf()
    maybe: Leaf | None = Leaf()
    named: dict[str, Leaf] = Field(default_factory=dict)
    shapes: dict[str, Annotated[Disc | Box, Field(discriminator="kind")]] = Field(default_factory=dict)
    row: tuple[Leaf, ...] = ()
    pair: tuple[int, int] = (1, 2)
    word: str = ""
    flag: bool = False
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    below: Annotated[float, Field(lt=2.5)] = 1.0
    some: Annotated[tuple[int, ...], Field(min_length=1)] = (1,)
    size: Literal[1, 2, 4] = 1
    either: int | Literal["few", "many"] = "few"
    step: Annotated[int, Field(multiple_of=2)] = 2


def make(data, **more):
    return build(Tree, data | more, source="here")


def told(data):
    with pytest.raises(UserError) as caught:
        make(data)
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"leef": {}}, "here: unknown key leef; did you mean 'leaf'?"),
        ({"leaf": {"margn": 1}}, "here: unknown key leaf.margn; did you mean 'margin'?"),
        ({"maybe": {"margn": 1}}, "here: unknown key maybe.margn; did you mean 'margin'?"),
        ({"named": {"x": {"margn": 1}}}, "here: unknown key named.x.margn; did you mean 'margin'?"),
        ({"row": [{}, {"margn": 1}]}, "here: unknown key row.1.margn; did you mean 'margin'?"),
        ({"leaf": {"zzz": 1}}, "here: unknown key leaf.zzz; known here: colour, count, margin"),
        ({"shapes": {"a": {"kind": "box", "wdth": 1.0}}}, "here: unknown key shapes.a.wdth; did you mean 'width'?"),
        (
            {"shapes": {"a": {"kind": "box", "radius": 1.0}}},
            "here: unknown key shapes.a.radius; known here: kind, width",
        ),
        ({"leaf": {"colour": "gren"}}, "here: leaf.colour is 'gren', allowed: 'red' or 'green'; did you mean 'green'?"),
        ({"leaf": {"margin": "0.3"}}, 'here: leaf.margin is "0.3": must be a number'),
        ({"leaf": {"count": "1"}}, 'here: leaf.count is "1": must be a whole number'),
        ({"leaf": {"count": 1.5}}, "here: leaf.count is 1.5: must be a whole number"),
        ({"leaf": {"count": 1.0}}, None),
        ({"leaf": {"count": True}}, "here: leaf.count is true: must be a whole number"),
        ({"leaf": {"margin": True}}, "here: leaf.margin is true: must be a number"),
        ({"leaf": {"margin": -1}}, "here: leaf.margin is -1: must be at least 0"),
        ({"leaf": {"margin": float("nan")}}, "here: leaf.margin is NaN: must be a finite number"),
        ({"leaf": {"margin": float("inf")}}, "here: leaf.margin is Infinity: must be a finite number"),
        ({"word": 5}, "here: word is 5: must be text"),
        ({"pair": [1, 2, 3]}, "here: pair is [1, 2, 3]: must be a list of at most 2"),
        ({"pair": 1}, "here: pair is 1: must be a list"),
        ({"leaf": 5}, "here: leaf is 5: must be keys with values"),
        ({"named": [1]}, "here: named is [1]: must be keys with values"),
        ({"flag": "yes"}, 'here: flag is "yes": must be true or false'),
        ({"share": 1.5}, "here: share is 1.5: must be at most 1"),
        ({"share": 0}, "here: share is 0: must be greater than 0"),
        ({"below": 2.5}, "here: below is 2.5: must be less than 2.5"),
        ({"some": []}, "here: some is []: must be a list of at least 1"),
        ({"size": 3}, "here: size is 3, allowed: 1, 2 or 4"),
        ({"either": 1.5}, "here: either is 1.5: must be a whole number or 'few' or 'many'"),
        ({"either": "fwe"}, "here: either is \"fwe\": must be a whole number or 'few' or 'many'"),
        ({"step": 3}, "here: step is 3: must be valid (Input should be a multiple of 2)"),
    ],
)
def test_mistakes_are_told_with_path_and_nearest_name(data, sentence):
    found = told(data)
    assert "\n" not in found
    if sentence is not None:
        assert found == sentence


def test_an_unknown_kind_is_told():
    assert "'bxo'" in told({"shapes": {"a": {"kind": "bxo"}}})
    assert "did you mean 'box'?" in told({"shapes": {"a": {"kind": "bxo"}}})


def test_all_mistakes_are_told_at_once():
    found = told({"leaf": {"margn": 1, "count": "x"}, "worde": 1})
    assert found.count(";") >= 3
    for word in ("leaf.margn", "leaf.count", "worde"):
        assert word in found


def test_a_whole_number_is_a_number_and_a_list_a_tuple():
    assert make({"leaf": {"margin": 1}, "pair": [3, 4]}).leaf.margin == 1.0
    assert make({"pair": [3, 4]}).pair == (3, 4)


def test_null_takes_a_choice_away_and_otherwise_means_the_default():
    assert make({"maybe": None}).maybe is None
    assert make(merge({"maybe": {"margin": 1}}, {"maybe": None})).maybe is None
    assert make(override({}, "maybe=null")).maybe is None
    assert make(override({"leaf": {"margin": 1}}, "leaf=null")).leaf == Leaf()
    assert make(override({"leaf": {"margin": 1}}, "leaf.margin=null")).leaf == Leaf()
    assert make(override({"named": {"x": {}, "y": {}}}, "named.x=null")).named == {"y": Leaf()}
    assert (
        make({"named": {"x": {"margin": None}}, "shapes": {"a": {"kind": "box", "width": None}}}).shapes["a"] == Box()
    )
    assert told({"leeaf": None}) == "here: unknown key leeaf; did you mean 'leaf'?"
    assert make(override(override({}, "maybe=null"), "maybe.margin=2")).maybe == Leaf(margin=2)


def test_settings_do_not_change():
    with pytest.raises(Exception, match="frozen"):
        Leaf().margin = 2.0


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=6) | st.sampled_from(
    ["1e-4", "0o7", "0x1f", "off", "null", "~", "1.", "-.inf", "12:30", "<<", "=", "2024-01-01", "1_0", " a", "a: b"]
)
LEAF = st.builds(Leaf, margin=st.floats(0, 1e300), count=st.integers(), colour=st.sampled_from(["red", "green"]))


@given(st.builds(Tree, leaf=LEAF, maybe=st.none() | LEAF, named=st.dictionaries(TEXTS, LEAF, max_size=2), word=TEXTS))
def test_what_is_dumped_reads_back_equal(tree):
    assert build(Tree, parse(dump_yaml(tree.model_dump(mode="json"))), source="dump") == tree


def test_the_first_difference_is_named_with_both_values():
    class Size(Settings):
        side: int = 3
        shape: tuple[int, int] = (1, 2)
        name: str = "a"

    assert first_difference(Size(), Size()) is None
    assert first_difference(Size(), Size(shape=(1, 3), name="b")) == ("shape", [1, 2], [1, 3])
    assert first_difference(Size(side=1), Size(name="b"), without=frozenset({"side"})) == ("name", "a", "b")
