"""Weights of other programs: what beside tensors is read, what is refused, and that nothing runs."""

import argparse
import collections
import pathlib
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from passerby.errors import UserError
from passerby.models.embedder import Embedder, load_embedder, save_embedder
from passerby.models.weights_file import read_table, read_weights
from passerby.recipe import load_recipe
from passerby.segment.network import Segmenter, SegmenterSettings, load_segmenter

STATE = {"a": torch.ones(2), "b": torch.zeros(1, dtype=torch.int64)}
BESIDE = {
    "numbers": {"rank1": np.float64(0.9), "epoch": np.int64(3), "half": np.float16(1), "yes": np.bool_(True)},
    "types": {"dtype": np.dtype("float32"), "other": np.dtype("int64")},
    "arguments": {"args": argparse.Namespace(lr=0.1, path="x", best=np.float32(1), list=[1, 2])},
    "paths": {"path": pathlib.Path("/data/x"), "windows": pathlib.PureWindowsPath("c:/x")},
    "tables": {"milestones": collections.Counter([40, 70]), "order": collections.OrderedDict(x=1)},
    "an optimiser": {"optimizer": torch.optim.Adam([torch.ones(1, requires_grad=True)]).state_dict()},
}


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("zipped", [True, False])
def test_harmless_things_beside_the_tensors(tmp_path, beside, zipped):
    whole = {"state_dict": STATE} | BESIDE[beside]
    torch.save(whole, tmp_path / "model.pth.tar", _use_new_zipfile_serialization=zipped)
    found = read_weights(tmp_path / "model.pth.tar")
    assert list(found) == ["a", "b"]
    assert torch.equal(found["a"], STATE["a"])


def test_a_number_as_earlier_versions_of_numpy_write_it(tmp_path):
    torch.save(
        {"state_dict": STATE, "rank1": np.float64(0.9)}, tmp_path / "w.pth", _use_new_zipfile_serialization=False
    )
    written = (tmp_path / "w.pth").read_bytes()
    assert b"numpy._core.multiarray" in written
    (tmp_path / "w.pth").write_bytes(written.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert list(read_weights(tmp_path / "w.pth")) == ["a", "b"]


class CfgNode(dict):
    """A table of settings as yacs has it: a dictionary with attributes of its own."""

    def __init__(self, *args):
        super().__init__(*args)
        self.__dict__["frozen"] = True


@pytest.mark.parametrize("module", ["yacs.config", "fvcore.common.config", "fastreid.config.config"])
@pytest.mark.parametrize("zipped", [True, False])
def test_tables_of_settings_are_read_without_the_package_that_wrote_them(tmp_path, monkeypatch, module, zipped):
    assert module not in sys.modules
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:depth]), types.ModuleType(parts[depth - 1]))
    monkeypatch.setattr(sys.modules[module], "CfgNode", CfgNode, raising=False)
    monkeypatch.setattr(CfgNode, "__module__", module)
    table = CfgNode({"MODEL": CfgNode({"HEADS": [1, 2]}), "ids": np.int64(3)})
    torch.save({"state_dict": STATE, "cfg": table}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    monkeypatch.undo()
    assert list(read_weights(tmp_path / "w.pth")) == ["a", "b"]


def test_of_a_teacher_and_a_student_the_teacher_is_taken_and_named(tmp_path):
    other = {name: value + 1 for name, value in STATE.items()}
    torch.save({"student": other, "teacher": STATE, "optimizer": {}, "epoch": 3}, tmp_path / "w.pth")
    table = read_table(tmp_path / "w.pth")
    assert torch.equal(table.tensors["a"], STATE["a"])
    assert table.notes == ("the weights are those of 'teacher'; student in the same file are not used",)
    torch.save({"student": other}, tmp_path / "w.pth")
    assert torch.equal(read_table(tmp_path / "w.pth").tensors["a"], other["a"])


class Bomb:
    def __init__(self, function, *given):
        self.how = function, given

    def __reduce__(self):
        return self.how


@pytest.mark.parametrize(
    "thing",
    [
        Bomb(Path.touch, Path("exploded")),
        Bomb(eval, "open('exploded', 'w')"),
        Bomb(np.save, "exploded", 1),
        np.ones(3),
        np.array([1, "x"], dtype=object),
        torch.nn.Linear(1, 1),
        collections.defaultdict(list),
    ],
)
def test_all_else_is_refused_and_never_runs(tmp_path, monkeypatch, thing):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": STATE, "thing": thing}, "w.pth")
    with pytest.raises(UserError, match=r"only tensors and plain values are read.*save its state_dict alone") as caught:
        read_weights("w.pth")
    assert "\n" not in str(caught.value)
    assert not list(Path().glob("exploded*"))


def test_the_list_is_not_left_behind(tmp_path):
    torch.save({"state_dict": STATE, "rank1": np.float64(0.9)}, tmp_path / "w.pth")
    before = {*map(str, torch.serialization.get_safe_globals())}
    read_weights(tmp_path / "w.pth")
    assert {*map(str, torch.serialization.get_safe_globals())} == before


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_weights_that_are_no_numbers_are_named(tmp_path, name, value):
    state = STATE | {"layer.weight": torch.tensor([0.0, value, value])}
    save_file(state, tmp_path / name) if name.endswith("s") else torch.save(state, tmp_path / name)
    told = rf"{name}: 1 of 3 tensors hold NaN or infinity \(first: layer.weight, 2 of 3 values\)"
    with pytest.raises(UserError, match=told):
        read_weights(tmp_path / name)


def test_models_of_passerby_are_checked_too(tmp_path):
    recipe = load_recipe("small", ["model.backbone=test_resnet", "model.weights=none", "input.size=[32, 16]"])
    embedder = Embedder(recipe.model, recipe.input)
    with torch.no_grad():
        embedder.neck.weight[0] = torch.nan
    save_embedder(embedder, tmp_path / "embedder.safetensors", recipe=recipe.dump())
    with pytest.raises(UserError, match=r"first: neck\.weight"):
        load_embedder(tmp_path / "embedder.safetensors")
    state = Segmenter(SegmenterSettings()).state_dict()
    first = next(key for key, value in state.items() if value.is_floating_point())
    save_file(state | {first: torch.full_like(state[first], torch.nan)}, tmp_path / "segmenter.safetensors")
    with pytest.raises(UserError, match=f"first: {first}"):
        load_segmenter(tmp_path / "segmenter.safetensors")
