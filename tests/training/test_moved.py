"""Going on with a run elsewhere: other places, machines, tests and lengths; and what would make another run of it."""

import json
import os
import shutil
from dataclasses import replace

import pytest

from passerby.errors import UserError
from passerby.recipe import load_recipe
from passerby.training import run_log
from passerby.training.checkpoint import load_checkpoint, save_checkpoint
from passerby.training.resume import absolute, allow_changes, fingerprints, other_machine, recipe_differences
from passerby.training.session import Interrupted, train
from passerby.types import Dataset, Split
from tests.training.runs import interrupt_after, run, weights


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    return run(tiny(), tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def stopped(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(Interrupted):
        train(tiny(), folder, watch=[interrupt_after(8)])
    return folder


@pytest.fixture
def again(stopped, tmp_path):
    """A copy of the stopped run, in another place."""
    return shutil.copytree(stopped, tmp_path / "elsewhere" / "run")


def test_from_another_directory_with_data_that_moved(tiny, site, again, whole, tmp_path, monkeypatch):
    shutil.copytree(site, tmp_path / "moved" / site.name)
    monkeypatch.chdir(tmp_path / "moved")
    train(tiny("root=."), again, start="resume")
    assert weights(again) == weights(whole)
    assert load_recipe(str(again / "recipe.yaml")).root == str(tmp_path / "moved")


FREE = ("data.workers=1", "data.cache=none", "test.cameras=ignore", "test.rerank=null", "engine.keep_stages=off")


def test_with_another_cache_other_workers_and_another_test(tiny, again, whole):
    train(tiny(*FREE), again, start="resume")
    assert weights(again) == weights(whole)
    scores = json.loads((again / "scores.json").read_text())["market1501"]
    assert scores["plain"]["protocol"]["cameras"] == "ignore"
    assert "reranked" not in scores
    assert load_checkpoint(again / "last.pt").recipe == (again / "recipe.yaml").read_text()


def test_a_finished_run_is_tested_in_another_way(tiny, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    train(tiny("test.cameras=ignore"), folder, start="resume")
    assert weights(folder) == weights(whole)
    assert json.loads((folder / "scores.json").read_text())["market1501"]["plain"]["protocol"]["cameras"] == "ignore"
    assert "cameras: ignore" in load_checkpoint(folder / "last.pt").recipe


def test_for_more_epochs(tiny, again, whole, tmp_path):
    said = []
    train(tiny("stages.0.epochs=3"), again, start="resume", say=said.append)
    assert [r.epoch for r in run_log.epochs(run_log.read(again / "log.jsonl"))] == [1, 2, 3]
    assert any("3 epochs instead of 2; from now on the learning rate follows the schedule of 3" in s for s in said)
    longer = shutil.copytree(whole, tmp_path / "longer")  # with a constant rate, more epochs are more of the same
    train(tiny("stages.0.epochs=3"), longer, start="resume")
    assert weights(longer) == weights(again) == weights(run(tiny("stages.0.epochs=3"), tmp_path / "at once"))


def test_not_for_fewer_epochs_than_are_done(tiny, again):
    with pytest.raises(UserError, match="stands after 1 epochs of stage 1, which has 1"):
        train(tiny("stages.0.epochs=1"), again, start="resume")


REFUSED = {
    "data.sampler.instances=3": "data.sampler.instances was 2 and is now 3, .*: the finished epochs drew different",
    "optim.lr=0.5": "lr was 0.001 and is now 0.5, .*: the finished epochs were trained differently",
    "input.size=[64, 32]": "input.size was .* and is now",
    "engine.precision=bf16": "engine.precision was .* computed differently",
    "model.pool=gem": 'model.pool was "avg" and is now "gem"',
    "stages.0.train=[other]": "market1501.* and is .*other",
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_makes_another_run_of_it(tiny, stopped, change):
    before = (stopped / "last.pt").read_bytes()
    with pytest.raises(UserError, match=REFUSED[change]) as caught:
        train(tiny(change), stopped, start="resume")
    assert "which a resumed run cannot change" in str(caught.value)
    assert (stopped / "last.pt").read_bytes() == before


def add_image(root):
    first = sorted((root / "bounding_box_train").iterdir())[0]
    shutil.copy(first, first.with_name("0001_c1s1_000099_00.jpg"))


def exchange_image(root):
    first, *_, last = sorted((root / "bounding_box_train").iterdir())
    first.write_bytes(last.read_bytes() + b" ")


@pytest.mark.parametrize("change", [add_image, exchange_image])
def test_other_images(tiny, site, again, tmp_path, change):
    change(shutil.copytree(site, tmp_path / "other" / site.name))
    with pytest.raises(
        UserError, match="the training images of 'market1501' are not those that the run was started wi"
    ):
        train(tiny(f"root={tmp_path / 'other'}"), again, start="resume")


def test_places_become_absolute(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = absolute(tiny("root=data", "masks=masks", "datasets.other.root=there"))
    assert recipe.root == str(tmp_path / "data")
    assert recipe.masks == str(tmp_path / "masks")
    assert recipe.datasets["other"].root == str(tmp_path / "there")
    assert absolute(recipe) == recipe
    assert absolute(tiny(f"model.weights={os.curdir}/w.pth")).model.weights == str(tmp_path / "w.pth")
    assert absolute(tiny()).model.weights == "none"


def test_a_place_is_no_change(tiny):
    assert recipe_differences(tiny(), tiny("root=x", "masks=y", "datasets.other.root=z")) == []
    assert recipe_differences(tiny(), tiny("datasets.new={kind: market1501, root: x}", "evaluate=[new]")) == []
    shown = "stages=[{train: [market1501, other]}]"
    (change,) = recipe_differences(tiny(shown), tiny(shown, "datasets.other={kind: folder, root: x}"))[:1]
    assert change.key.startswith("datasets.other.")


def test_epochs_of_a_stage_that_has_ended_stay(tiny, stopped):
    checkpoint = load_checkpoint(stopped / "last.pt")
    longer = tiny("stages.0.epochs=5")
    with pytest.raises(UserError, match="has ended, and its method"):
        allow_changes(tiny(), longer, replace(checkpoint, ended=True))
    with pytest.raises(UserError, match="the stage is over"):
        allow_changes(tiny(), longer, replace(checkpoint, stage=1))


def test_a_fingerprint_knows_names_sizes_identities_and_cameras_but_no_place(tmp_path):
    def split(folder, *, content=b"1", pid=0, cam=0, name="x.jpg"):
        file = tmp_path / folder / "in" / name
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        train = Split([str(file)], [pid], [cam])
        return fingerprints({"one": Dataset("one", train, train, train)}, ["one"])["one"]

    first = split("a")
    assert split("b") == first
    others = [split("c", content=b"22"), split("d", pid=1), split("e", cam=1), split("f", name="y.jpg")]
    assert len({first, *others}) == 5


def test_another_machine_is_told(tiny, again, whole):
    assert other_machine(None, {"device": "cpu"}) == []
    checkpoint = load_checkpoint(again / "last.pt")
    save_checkpoint(replace(checkpoint, machine=checkpoint.machine | {"device": "cuda"}), again / "last.pt")
    said = []
    train(tiny(), again, start="resume", say=said.append)
    assert any("resumed with device cpu instead of cuda" in sentence for sentence in said)
    assert weights(again) == weights(whole)


def test_one_run_at_a_time(tiny, stopped, again):
    refused = []

    def start_another(_run, _engine):
        with pytest.raises(UserError, match="is in use by") as caught:
            train(tiny(), again, start="resume")
        refused.append(caught.value)

    train(tiny(), again, start="resume", watch=[start_another])
    assert len(refused) == 1
    assert not (again / ".lock").exists()


def test_where_moved_images_are_said_to_be_given(tiny, again):
    with pytest.raises(UserError, match="; if the images have moved, give their new path: --resume root=FOLDER"):
        train(tiny("root=/nowhere"), again, start="resume")
    both = "stages=[{train: [other]}]"
    with pytest.raises(UserError) as caught:
        train(tiny(both, "datasets.other.root=/nowhere"), again, start="resume")
    assert "which a resumed run cannot change" in str(caught.value)
