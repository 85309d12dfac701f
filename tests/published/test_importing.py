"""From a published file to a model: family, refusals, and what is written."""

import re
from pathlib import Path

import pytest
import torch

from passerby.errors import UserError
from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings, save_embedder
from passerby.published.importing import read_published, without_module
from passerby.published.table import FAMILIES
from passerby.published.tensors import FileTensors


def save(tmp_path, tensors):
    path = tmp_path / "published.pth"
    torch.save(tensors, path)
    return path


def refusal(path, **options):
    with pytest.raises(UserError) as caught:
        read_published(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


BASELINE = ("base.conv1.weight", "base.layer1.0.conv1.weight", "bottleneck.running_mean")
FASTREID = ("backbone.layer1.0.conv1.weight", "heads.bottleneck.0.running_mean")


def named(names):
    return dict.fromkeys(names, torch.ones(1, 3, 7, 7))


def test_a_file_of_no_family_is_refused_with_its_names(tmp_path):
    assert re.search(
        r"of no known family .*; its tensors are called a.weight, b.weight",
        refusal(save(tmp_path, named(["a.weight", "b.weight"]))),
    )


def test_a_file_of_two_families_is_refused(tmp_path):
    told = refusal(save(tmp_path, named([*BASELINE, *FASTREID])))
    assert "looks like several families (strong_baseline: it has base.conv1.weight" in told
    assert "; fastreid: it has backbone.layer1" in told


def test_a_file_of_another_family_than_given_is_refused(tmp_path):
    told = refusal(save(tmp_path, named(FASTREID)), family="strong-baseline")
    assert "is no file of the family strong_baseline; it looks like fastreid: it has backbone.layer1" in told


def test_files_that_need_no_import_are_named(tmp_path):
    save_embedder(
        Embedder(ModelSettings(backbone="osnet_x0_25"), InputSettings(size=(64, 32))),
        tmp_path / "a.safetensors",
        recipe="",
    )
    assert refusal(tmp_path / "a.safetensors").endswith("needs no import: it is a model file of passerby already")
    assert "take ONNX files of any program" in refusal(tmp_path / "a.onnx")
    assert "is a folder; import takes a file of weights" in refusal(tmp_path)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:1000])
    assert "cut.safetensors" in refusal(tmp_path / "cut.safetensors")


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_a_program_instead_of_tensors_is_refused(tmp_path):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / "script.pt")
    told = refusal(tmp_path / "script.pt")
    assert "script.pt is not a readable weights file (it is a TorchScript archive, which holds a program" in told
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pth")
    told = refusal(tmp_path / "whole.pth")
    assert "it holds torch.nn.modules.linear.Linear" in told
    assert "torch.save(model.state_dict(), FILE)" in told
    whole = save(tmp_path, named(FASTREID)).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    assert "cut.pth is not a readable weights file" in refusal(tmp_path / "cut.pth")


def test_an_unknown_family_is_refused(tmp_path):
    assert "--as fastried: no such family of published models; did you mean 'fastreid'?" in refusal(
        save(tmp_path, named(FASTREID)), family="fastried"
    )


def test_names_with_and_without_module_are_those_of_two_networks():
    with pytest.raises(UserError, match=r"f holds 'a' with and without 'module\.'"):
        without_module(named(["a", "module.a"]), source="f")
    assert list(without_module(named(["module.module.a", "b"]), source="f")) == ["a", "b"]


def test_what_is_not_taken_and_not_known_to_be_dead_is_refused():
    tensors = FileTensors(named(["a", "b", "classifier.weight", "bn.num_batches_tracked"]), source="f")
    tensors.take("a")
    assert tensors.left((r"classifier\..*",)) == ["b"]
    with pytest.raises(UserError, match=r"f: 1 of 4 tensors have no place in the family x \(b\), and nothing is drop"):
        tensors.require_all_used((r"classifier\..*",), family="x")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_states_its_facts(name):
    kind = FAMILIES[name]
    assert all((kind.summary, kind.code_licence, kind.weights_licence, kind.sizes, kind.download))
    assert kind.recognises({}) is None
    kind.settings_class()


def test_the_guide_names_every_family():
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "published.md").read_text(encoding="utf-8")
    assert [name for name in FAMILIES if f"`{name}`" not in guide] == []
