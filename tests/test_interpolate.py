"""Between two models: the ends are the models themselves, the middle is their mean, and nothing is changed."""

import json

import pytest
import torch
from typer.testing import CliRunner

from passerby.cli import app
from passerby.encoders import chosen_dataset
from passerby.errors import UserError
from passerby.interpolate import interpolate, load_pair, read_shares
from tests.train.runs import run
from tests.train.test_course import SEQUENCE


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """A run of two stages."""
    return run(tiny(*SEQUENCE, "method.lwf=null", "test.start=off"), tmp_path_factory.mktemp("interpolate") / "run")


def test_the_ends_are_the_models_themselves(folder):
    old, new = load_pair(folder / "stage-1.safetensors", folder)
    before = {name: value.clone() for name, value in new.embedder.state_dict().items()}
    dataset = chosen_dataset(new.recipe, on="market1501", data=None)
    found = interpolate(old, new, datasets=[dataset], shares=[0, 0.5, 1])
    course = json.loads((folder / "continual_metrics.json").read_text())["mAP"]["matrix"]
    first, middle, last = (row.scores["market1501"].mAP for row in found)
    assert (100 * first, 100 * last) == pytest.approx((course[0][0], course[1][0]), abs=1e-3)
    assert 0 < middle <= 1
    assert all(torch.equal(value, before[name]) for name, value in new.embedder.state_dict().items())


def test_the_command_prints_a_table_and_writes_it(folder, tmp_path):
    file = tmp_path / "found.json"
    words = ["interpolate", folder / "stage-1.safetensors", folder, "--shares", "0.1,0.9", "--json", file]
    found = CliRunner().invoke(app, [str(word) for word in words])
    assert found.exit_code == 0, found.output
    assert "share of new" in found.output
    rows = json.loads(file.read_text())
    assert [row["share"] for row in rows] == [0.1, 0.9]
    assert list(rows[0]["scores"]) == ["market1501", "other"]


@pytest.mark.parametrize(
    ("text", "told"), [("0.1,x", "give numbers"), ("0.5,1.5", "from 0 to 1, got 1.5"), ("", "give")]
)
def test_shares_that_are_none(folder, text, told):
    with pytest.raises(UserError, match=told):
        read_shares(text)
    found = CliRunner().invoke(app, ["interpolate", str(folder), str(folder), "--shares", text])
    assert found.exit_code == 2


def test_models_built_differently_are_refused(folder, tiny, tmp_path):
    other = run(tiny("stages.0.epochs=1", "evaluate=[]", "model.attention=se"), tmp_path / "run")
    with pytest.raises(UserError, match="are built differently"):
        load_pair(other, folder)
