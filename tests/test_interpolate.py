"""Between two models: the ends are the models themselves, the middle is their mean, and nothing is changed."""

import json

import pytest
import torch
from typer.testing import CliRunner

from passerby.cli import app
from passerby.encoders import select_dataset
from passerby.errors import UserError
from passerby.interpolate import interpolate, load_pair, read_alphas
from tests.training.runs import run
from tests.training.test_lifelong_results import SEQUENCE


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """A run of two stages."""
    return run(tiny(*SEQUENCE, "method.lwf=null", "test.start=off"), tmp_path_factory.mktemp("interpolate") / "run")


def test_the_ends_are_the_models_themselves(folder):
    old, new = load_pair(folder / "stage-1.safetensors", folder)
    before = {name: value.clone() for name, value in new.embedder.state_dict().items()}
    dataset = select_dataset(new.recipe, on="market1501", data=None)
    found = interpolate(old, new, datasets=[dataset], alphas=[0, 0.5, 1])
    course = json.loads((folder / "continual_metrics.json").read_text())["mAP"]["matrix"]
    first, middle, last = (row.scores["market1501"].mAP for row in found)
    assert (100 * first, 100 * last) == pytest.approx((course[0][0], course[1][0]), abs=1e-3)
    assert 0 < middle <= 1
    assert all(torch.equal(value, before[name]) for name, value in new.embedder.state_dict().items())


def test_the_command_prints_a_table_and_writes_it(folder, tmp_path):
    file = tmp_path / "found.json"
    words = ["interpolate", folder / "stage-1.safetensors", folder, "--alphas", "0.1,0.9", "--json", file]
    found = CliRunner().invoke(app, [str(word) for word in words])
    assert found.exit_code == 0, found.output
    assert "alpha" in found.output
    rows = json.loads(file.read_text())
    assert [row["alpha"] for row in rows] == [0.1, 0.9]
    assert list(rows[0]["scores"]) == ["market1501", "other"]


@pytest.mark.parametrize(
    ("text", "told"), [("0.1,x", "give numbers"), ("0.5,1.5", "from 0 to 1, got 1.5"), ("", "give")]
)
def test_unusable_alphas_are_refused(folder, text, told):
    with pytest.raises(UserError, match=told):
        read_alphas(text)
    found = CliRunner().invoke(app, ["interpolate", str(folder), str(folder), "--alphas", text])
    assert found.exit_code == 2


def test_models_built_differently_are_refused(folder, tiny, tmp_path):
    other = run(tiny("stages.0.epochs=1", "evaluate=[]", "model.attention=se"), tmp_path / "run")
    with pytest.raises(UserError, match="are built differently"):
        load_pair(other, folder)


def test_the_former_option_is_refused_with_the_present_name(tmp_path):
    result = CliRunner().invoke(app, ["interpolate", str(tmp_path), str(tmp_path), "--shares", "0.5"])
    assert result.exit_code == 2
    assert "no such option --shares; use --alphas" in result.output
