"""A run that starts where another one ended."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from passerby.cli import app
from passerby.errors import UserError
from passerby.training import run_log
from passerby.training.init_from import read_initial_state
from passerby.training.session import train
from tests.training.runs import interrupt_after, optimiser_hash, run, weights

ONE = ["data.sampler.identities=3", "stages=[{train: [market1501], epochs: 1}]"]
OTHER = ["data.sampler.identities=3", "stages=[{train: [other], epochs: 1}]"]
CODE = "method.ebll={code: 8, epochs: 10, lr: 0.01, batch: 16}"


@pytest.fixture(scope="module")
def earlier(tiny, tmp_path_factory):
    """A finished run that left a code."""
    return run(tiny(*ONE, CODE), tmp_path_factory.mktemp("earlier") / "run")


def terms(folder):
    (epoch,) = run_log.epochs(run_log.read(folder / "log.jsonl"))
    return set(epoch.terms)


def test_the_model_and_the_codes_are_taken_over(tiny, earlier, tmp_path):
    folder = run(tiny(*OTHER, CODE, f"init_from={earlier}"), tmp_path / "run")
    assert terms(folder) == {"softmax", "triplet", "code 1 ae"}
    before, after = (torch.load(f / "last.pt", weights_only=True)["methods"] for f in (earlier, folder))
    described = before.pop("ebll._extra_state")
    assert after.pop("ebll._extra_state")[: len(described)] == described
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert len(after) == 2 * len(before)


def test_the_teacher_is_the_model_that_was_taken_over(tiny, earlier, tmp_path):
    folder = run(tiny(*OTHER, CODE, f"init_from={earlier}"), tmp_path / "run")
    before, teacher = load_file(earlier / "embedder.safetensors"), torch.load(folder / "last.pt")["previous_model"]
    assert all(torch.equal(value, teacher[f"embedder.{key}"]) for key, value in before.items())


def test_a_running_mean_is_what_is_taken_over(tiny, tmp_path):
    folder = run(tiny(*ONE, "optim.ema_decay=0.9"), tmp_path / "one")
    start = read_initial_state(folder, tiny())
    kept = load_file(folder / "embedder.safetensors")
    assert kept.keys() == start.embedder.keys()
    assert all(torch.equal(value, start.embedder[key]) for key, value in kept.items())


def test_any_part_may_ask_about_the_model_of_the_earlier_run(tiny, earlier, tmp_path):
    folder = run(tiny(*OTHER, "method.lwf.tr_dist=1.0", f"init_from={earlier}"), tmp_path / "run")
    assert "tr_dist" in terms(folder)


LATER = "stages=[{train: [other], epochs: 1}, {train: [market1501], epochs: 1, method: {ebll: {epochs: 0}}}]"


def test_a_part_that_only_a_later_stage_names_is_taken_over_too(tiny, earlier, tmp_path):
    recipe = tiny("data.sampler.identities=3", LATER, f"init_from={earlier}")
    folder, broken = run(recipe, tmp_path / "run"), tmp_path / "broken"
    first, second = run_log.epochs(run_log.read(folder / "log.jsonl"))
    assert ("code 1 ae" in first.terms, "code 1 ae" in second.terms) == (False, True)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, broken, watch=[interrupt_after(2)])
    before, kept = (torch.load(f / "last.pt", weights_only=True)["methods"] for f in (earlier, broken))
    assert kept.keys() == before.keys()
    train(recipe, broken, start="resume")
    assert weights(broken) == weights(folder)


def test_a_run_that_started_from_another_needs_it_no_more_and_resumes_to_the_bit(tiny, earlier, tmp_path):
    copy = shutil.copytree(earlier, tmp_path / "copy")
    recipe = tiny(*OTHER, "stages.0.epochs=2", CODE, f"init_from={copy}")
    whole = run(recipe, tmp_path / "whole")
    stopped = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        train(recipe, stopped, watch=[interrupt_after(2)])
    shutil.rmtree(copy)
    train(recipe, stopped, start="resume")
    assert weights(stopped) == weights(whole)
    assert optimiser_hash(stopped) == optimiser_hash(whole)


def test_a_run_whose_code_collapsed_still_serves_as_a_start(tiny, tmp_path):
    with pytest.raises(UserError, match="has collapsed"):
        train(tiny(*ONE, CODE, "method.ebll.lr=1e-9", "method.ebll.epochs=1"), tmp_path / "run")
    folder = run(tiny(*ONE, CODE, "method.ebll.weight=0.0", f"init_from={tmp_path / 'run'}"), tmp_path / "again")
    assert len(run_log.metrics(run_log.read(folder / "log.jsonl"))) == 1


def test_a_model_file_is_a_start_without_methods(tiny, earlier, tmp_path):
    file = Path(shutil.copy(earlier / "embedder.safetensors", tmp_path / "model.safetensors"))
    start = read_initial_state(file, tiny())
    assert start.methods == {}
    kept = load_file(file)
    assert kept.keys() == start.embedder.keys()
    assert all(torch.equal(value, start.embedder[key]) for key, value in kept.items())
    folder = run(tiny(*OTHER, "method.lwf.tr_dist=1.0", f"init_from={file}"), tmp_path / "run")
    teacher = torch.load(folder / "last.pt")["previous_model"]
    assert all(torch.equal(value, teacher[f"embedder.{key}"]) for key, value in kept.items())


# ---- mistakes


def test_a_model_file_of_another_network_is_refused(tiny, earlier):
    with pytest.raises(UserError, match=r"init_from: the model in .*embedder.safetensors has model.neck 'bnneck'"):
        read_initial_state(earlier / "embedder.safetensors", tiny("model.neck=none"))


def test_a_folder_without_a_run(tiny, tmp_path):
    with pytest.raises(UserError, match=r"init_from: no run in .*, which has no last\.pt"):
        train(tiny(f"init_from={tmp_path}"), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["init_from=NOWHERE"], "which has no last.pt"),
        (["method.ewc={}"], "left nothing that method.ewc could hold on to; start from a run whose method has it"),
        (["method.lwf.heads=1.0"], "left nothing that method.lwf could hold on to"),
        (["model.backbone=resnet18", CODE], "autoencoders fit only the network that they were trained with"),
    ],
)
def test_the_command_says_it_in_one_sentence(tiny_file, earlier, tmp_path, changes, sentence):
    changes = [change.replace("NOWHERE", str(tmp_path)) for change in changes]
    words = ["train", str(tiny_file), *OTHER, f"init_from={earlier}", *changes, "--out", str(tmp_path / "run")]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2, found.output
    assert sentence in " ".join(found.output.split())
    assert "Traceback" not in found.output


def test_a_run_in_the_middle_of_a_stage(tiny, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path / "half", watch=[interrupt_after(8)])
    with pytest.raises(
        UserError, match=r"in the middle of stage 1 \(1 of 2 epochs are finished\); finish it with --resume"
    ):
        train(tiny(f"init_from={tmp_path / 'half'}"), tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("model.backbone=test_resnet2", r"has model\.backbone 'test_resnet', this recipe has 'test_resnet2'"),
        ("model.last_stride=2", r"has model\.last_stride 1, this recipe has 2"),
    ],
)
def test_a_run_of_another_network(tiny, earlier, change, sentence):
    with pytest.raises(UserError, match=sentence):
        read_initial_state(earlier, tiny(change))


def test_an_autoencoder_of_another_width(tiny, earlier, tmp_path):
    foreign = shutil.copytree(earlier, tmp_path / "foreign")
    state = torch.load(foreign / "last.pt", weights_only=True)
    state["methods"]["ebll.encoders.0.layer.weight"] = torch.zeros(8, 20)
    state["methods"]["ebll._extra_state"] = [([8, 20], "sigmoid", "ae", 1)]
    torch.save(state, foreign / "last.pt")
    with pytest.raises(UserError, match=r"features of length 20 does not fit the length \d+ of 'test_resnet'"):
        train(tiny(*OTHER, CODE, f"init_from={foreign}"), tmp_path / "run")


def test_a_run_of_another_method(tiny, tmp_path):
    plain = run(tiny(*ONE), tmp_path / "plain")
    with pytest.raises(UserError, match="no stage before 'other' left a code"):
        train(tiny(*OTHER, CODE, f"init_from={plain}"), tmp_path / "run")


def test_a_start_that_was_shown_other_images(tiny, earlier):
    with pytest.raises(UserError, match=r"was trained with input\.size \[32, 16\], this recipe has \[64, 32\]"):
        read_initial_state(earlier, tiny("input.size=[64, 32]"))


def test_images_of_another_run_are_not_at_hand(tiny, tmp_path):
    replay = "method.replay={identities: 2}"
    kept = run(tiny(*ONE, replay), tmp_path / "kept")
    with pytest.raises(
        UserError, match=r"init_from: method\.replay keeps 4 images of the stages of .*/kept, which this run"
    ):
        train(tiny(*OTHER, replay, f"init_from={kept}"), tmp_path / "run")


def test_weights_beside_a_start(tiny, tmp_path):
    with pytest.raises(UserError, match=r"model\.weights has no effect beside init_from"):
        tiny(f"init_from={tmp_path}", f"model.weights={tmp_path / 'some.pth'}")
    assert tiny(f"init_from={tmp_path}", "model.weights=pretrained").init_from == str(tmp_path)
