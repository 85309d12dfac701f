"""Checkpoints: plain, whole, and harmless to load."""

import pickle
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from passerby.errors import UserError
from passerby.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tests.test_files import on_a_full_disk
from tests.training.runs import run

OPTIMISER = {"state": {}, "param_groups": []}
EMPTY = Checkpoint("", 1, 2, 3, {"w": torch.arange(3.0)}, {}, {}, OPTIMISER, {}, None, {"softmax": [1.0, 2.0, 1.0]})


def plain(value):
    """Whether a value is made of tensors and plain Python only."""
    if isinstance(value, dict):
        return all(isinstance(key, str | int) and plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(plain(item) for item in value)
    return value is None or type(value) in (torch.Tensor, bool, int, float, str)


def test_a_round_trip(tmp_path):
    save_checkpoint(EMPTY, tmp_path / "last.pt")
    loaded = load_checkpoint(tmp_path / "last.pt")
    assert torch.equal(loaded.embedder["w"], EMPTY.embedder["w"])
    for field in fields(Checkpoint):
        assert field.name == "embedder" or getattr(loaded, field.name) == getattr(EMPTY, field.name)


def test_a_run_writes_plain_things_only(tiny, tmp_path):
    folder = run(tiny("evaluate=[]"), tmp_path / "run")
    content = torch.load(folder / "last.pt", weights_only=True)
    assert set(content) == {field.name for field in fields(Checkpoint)}
    assert plain(content)
    assert content["optimiser"]["state"]


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(EMPTY, path)
    before = path.read_bytes()
    said = on_a_full_disk(
        path,
        imports="import torch; from passerby.training.checkpoint import Checkpoint, save_checkpoint",
        write="save_checkpoint(Checkpoint('', 0, 0, 0, {'w': torch.zeros(9999)}, {}, {}, {}, {}, None, {}), path)",
    )
    assert said == f"cannot write {path}: the disk is full (the earlier file of that name is untouched)"
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def write_pickle(path):
    path.write_bytes(pickle.dumps(Bomb()))


def write_object(path):
    torch.save({"recipe": Bomb()}, path)


def write_other(path):
    torch.save({"state_dict": {}}, path)


def write_tensor(path):
    torch.save(torch.zeros(2), path)


def write_nothing(path):
    path.touch()


@pytest.mark.parametrize("write", [write_pickle, write_object, write_other, write_tensor, write_nothing])
def test_a_file_that_is_not_ours_is_told_and_not_executed(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"last\.pt is not a readable checkpoint \(.+\), so the run") as caught:
        load_checkpoint(tmp_path / "last.pt")
    assert "\n" not in str(caught.value)
    assert not Path("exploded").exists()
