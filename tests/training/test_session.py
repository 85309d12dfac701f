"""A run from start to end: what it writes, that it repeats itself, and what it refuses."""

import json
import logging
import re
import shutil

import pytest
import torch
from ignite.engine import Events
from PIL import Image

from passerby.errors import UserError
from passerby.evaluation import evaluate
from passerby.models.embedder import load_embedder
from passerby.recipe import load_recipe
from passerby.training import run_log
from passerby.training.session import train
from passerby.training.start_messages import start_messages
from passerby.training.trainer import make_trainer
from passerby.types import Embeddings
from tests.conftest import JOINT, draw_person
from tests.training.runs import interrupt_after, run, weights


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    return run(tiny(), tmp_path_factory.mktemp("runs") / "finished")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_writes_its_folder(finished, tiny):
    assert names(finished) == [
        "embedder.safetensors", "embeddings", "environment.json", "last.pt", "log.jsonl", "recipe.yaml",
        "scores.json",
    ]  # fmt: skip
    records = run_log.read(finished / "log.jsonl")
    assert [record.event for record in records] == ["gradients", "epoch", "threads", "epoch", "scores"]
    assert [record.epoch for record in run_log.epochs(records)] == [1, 2]
    scores = json.loads((finished / "scores.json").read_text())
    assert scores["market1501"]["plain"]["mAP"] == 100 * run_log.scores(records)[0].mAP > 50
    assert scores["market1501"]["reranked"]["protocol"]["rerank"] == {"k1": 6, "k2": 2, "weight": 0.3}
    assert scores["market1501"]["trained"] == {"softmax": "after_neck", "triplet": "before_neck"}
    found = Embeddings.load(finished / "embeddings" / "market1501.npz")
    assert (len(found.query), len(found.gallery), found.feature) == (8, 24, "after_neck")
    assert load_recipe(str(finished / "recipe.yaml")) == tiny()
    assert load_embedder(finished / "embedder.safetensors").dimension == found.vectors.shape[1]
    assert json.loads((finished / "environment.json").read_text())["precision"] == "float32"


def test_the_losses_fall(tiny, tmp_path):
    heard = []
    train(tiny("stages.0.epochs=10"), tmp_path / "run", listen=[heard.append])
    epochs = run_log.epochs(heard)
    assert epochs[-1].loss < 0.7 * epochs[0].loss
    assert all(0 <= record.busy <= 1 and record.images_per_second > 0 for record in epochs)
    assert epochs == run_log.epochs(run_log.read(tmp_path / "run" / "log.jsonl"))


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(finished, tiny, tmp_path):
    torch.manual_seed(99)  # whatever happened before in this process plays no part
    assert weights(run(tiny(), tmp_path / "again")) == weights(finished)
    assert weights(run(tiny("engine.seed=1"), tmp_path / "other")) != weights(finished)


def test_what_came_of_a_weights_file_is_said(finished, tiny, tmp_path):
    file = finished / "embedder.safetensors"
    found = start_messages(make_trainer(tiny(f"model.weights={file}", "model.attention=se"), tmp_path))
    count = len(load_embedder(file).backbone.state_dict())
    gates = ", ".join(f"layer{i}.0.se.fc.{j}.weight" for i, j in ((1, 0), (1, 2), (2, 0)))
    kept = f"8 keep their initial values ({gates}, 5 more)"
    unused = "5 unused (neck.bias, neck.num_batches_tracked, neck.running_mean, 2 more)"
    other = "the file is for model.attention=none"
    assert f"{file}: {count} tensors match, {kept}, {unused}; {other}" in found


@pytest.mark.parametrize("change", ["data.cache=none", "engine.track=none", "test.every=1", "evaluate=[]"])
def test_what_must_not_matter_does_not(finished, tiny, tmp_path, change):
    assert weights(run(tiny(change), tmp_path / "run")) == weights(finished)


def test_workers_do_not_matter(finished, tiny, tmp_path):
    assert weights(run(tiny("data.cache=none", "data.workers=2"), tmp_path / "run")) == weights(finished)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_an_unreadable_image_is_refused_before_the_first_batch(site, tiny, tmp_path, cache):
    copied = shutil.copytree(site, tmp_path / "set" / site.name)
    victim = max((copied / "bounding_box_train").iterdir())
    victim.write_bytes(victim.read_bytes()[:300])
    with pytest.raises(UserError, match=rf"{victim.name} is not a readable image"):
        run(tiny(f"root={copied.parent}", f"data.cache={cache}"), tmp_path / "run", watch=[interrupt_after(1)])


def test_evaluation_between_epochs_is_in_the_log(tiny, tmp_path):
    folder = run(tiny("test.every=1", "test.keep_best=true"), tmp_path / "run")
    assert [r.epoch for r in run_log.scores(run_log.read(folder / "log.jsonl"))] == [1, 2]
    assert (folder / "best-on-test.safetensors").is_file()


def test_no_evaluation_is_a_choice(tiny, tmp_path):
    folder = run(tiny("evaluate=[]", "test.every=1"), tmp_path / "run")
    assert json.loads((folder / "scores.json").read_text()) == {}


def test_no_reranking_is_a_choice(tiny, tmp_path):
    folder = run(tiny("test.rerank=null"), tmp_path / "run")
    assert "reranked" not in json.loads((folder / "scores.json").read_text())["market1501"]


@pytest.mark.parametrize(
    ("sampler", "images", "batches"), [("pk", (48, 24), (9, None)), ("per_domain", (36, 36), (9, 9))]
)
def test_joint_training_scores_each_set_alone_and_records_what_it_drew(tiny, tmp_path, sampler, images, batches):
    said = []
    folder = tmp_path / "run"
    train(tiny(JOINT, f"data.sampler={sampler}", "test.every=1"), folder, say=said.append)
    records = run_log.read(folder / "log.jsonl")
    assert [r.dataset for r in run_log.scores(records)] == ["market1501", "other"] * 2
    for record in run_log.epochs(records):
        assert list(record.drawn) == ["market1501", "other"]
        drawn = record.drawn.values()
        assert sum(r.images for r in drawn) == 72
        for found, about, exactly in zip(drawn, images, batches, strict=True):
            assert found.images == about if sampler == "per_domain" else abs(found.images - about) <= 12
            assert exactly in (None, found.batches)
    for name, people in (("market1501", 6), ("other", 3)):
        found = Embeddings.load(folder / "embeddings" / f"{name}.npz")
        scores = json.loads((folder / "scores.json").read_text())[name]["plain"]
        assert len(found.query) == scores["queries"] == 8
        assert scores["mAP"] == pytest.approx(100 * evaluate(found).mAP, abs=1e-3)
        assert any(f"{name} {8 * people} images of {people} people from 2 cameras" in sentence for sentence in said)


def test_one_data_set_has_no_shares(finished):
    assert [record.drawn for record in run_log.epochs(run_log.read(finished / "log.jsonl"))] == [{}, {}]


# ---- what is refused


def refusal(recipe, folder, **options):
    with pytest.raises(UserError) as caught:
        train(recipe, folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_that_holds_a_run_is_left_alone(finished, tiny):
    before = {path: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    assert (
        refusal(tiny(), finished)
        == f"{finished} already holds a run; continue it with --resume, or choose another --out"
    )
    assert {path: path.read_bytes() for path in finished.iterdir() if path.is_file()} == before


def test_a_file_is_no_folder(tiny, tmp_path):
    (tmp_path / "run").write_text("")
    assert refusal(tiny(), tmp_path / "run").endswith("is a file, not a folder")


def test_a_run_resumes_with_its_own_recipe_only(finished, tiny):
    assert "which a resumed run cannot change" in refusal(tiny("optim.lr=0.5"), finished, start="resume")


def test_nothing_to_resume(tiny, tmp_path):
    assert "no checkpoint" in refusal(tiny(), tmp_path / "run", start="resume")


@pytest.mark.parametrize("damage", [b"", b"text", None])
def test_a_damaged_checkpoint_is_told(finished, tiny, tmp_path, damage):
    folder = shutil.copytree(finished, tmp_path / "run")
    content = (folder / "last.pt").read_bytes()
    (folder / "last.pt").write_bytes(content[: len(content) // 2] if damage is None else damage)
    assert "last.pt is not a readable checkpoint" in refusal(tiny(), folder, start="resume")


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_epoch(tiny, tmp_path, caplog, capfd):
    recipe = tiny("optim.lr=1e30", "optim.warmup_epochs=0", "optim.name=sgd")
    with caplog.at_level(logging.ERROR):
        said = refusal(recipe, tmp_path / "run")
    assert re.match(
        r"the loss is not finite at stage 1, epoch \d, batch \d \(softmax .*, triplet .*\); lower optim.lr", said
    )
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["stage"] == 0
    assert "terminating" not in caplog.text + capfd.readouterr().err  # told once, by whoever called


def test_too_few_people_are_told_before_anything_is_written(tiny, tmp_path):
    said = refusal(tiny("data.sampler.identities=7"), tmp_path / "run")
    assert said == (
        "data.sampler.identities asks for batches of 7 identities, the training images show 6; set "
        "data.sampler.identities to 6 or less"
    )
    assert not (tmp_path / "run").exists()


def write_folder(root, identities, images):
    """Write a set of people in Market-1501's layout with its own counts; the same people are searched for."""
    import numpy as np

    for inner in ("bounding_box_train", "query", "bounding_box_test"):
        (root / inner).mkdir(parents=True)
        for identity in range(1, identities + 1):
            for number in range(images):
                cam = 1 if inner == "query" else 2
                pixels = draw_person(identity, np.random.default_rng(number))
                Image.fromarray(pixels).save(root / inner / f"{identity:04d}_c{cam}s1_{number:06d}_00.jpg")
    return root


@pytest.mark.parametrize(
    ("identities", "images", "told"),
    [(1, 8, "has 1 known identity; training needs at least two"), (4, 1, "has one image per identity")],
)
def test_people_that_cannot_be_told_apart(tiny, tmp_path, identities, images, told):
    root = write_folder(tmp_path / "site", identities, images)
    assert told in refusal(tiny(f"root={root}"), tmp_path / "run")


def test_an_unreadable_image_is_told(tiny, site, tmp_path):
    root = shutil.copytree(site, tmp_path / "site")
    first = sorted((root / "bounding_box_train").iterdir())[0]
    first.write_bytes(first.read_bytes()[:100])
    assert str(first) in refusal(tiny(f"root={root}"), tmp_path / "run")


def test_a_gpu_that_is_not_there_is_told(tiny, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert "torch sees no GPU here" in refusal(tiny("engine.device=cuda"), tmp_path / "run")
    assert "fp16 is for GPUs" in refusal(tiny("engine.precision=fp16"), tmp_path / "run")
    assert "works on GPUs only" in refusal(tiny("engine.batch_norm=synchronised"), tmp_path / "run")


def test_one_image_per_process_is_too_few_for_a_batch_norm(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("passerby.training.distributed.world", lambda: 4)
    one = ["data.sampler.instances=1", "losses.triplet=null"]
    with pytest.raises(UserError, match=r"each of 4 processes sees one image of a batch of 4 \(data.sampler\), and"):
        make_trainer(tiny(*one), tmp_path)
    make_trainer(tiny(*one, "optim.batch_norm=freeze_stats"), tmp_path)
    make_trainer(tiny(*one, "model.backbone=test_vit", "model.last_stride=2", "model.neck=none"), tmp_path)


def test_a_model_that_has_collapsed_is_told_after_its_test(tiny, tmp_path):
    def collapse(run, engine):
        @engine.on(Events.EPOCH_COMPLETED)
        def _forget():
            with torch.no_grad():
                run.state.embedder.neck.weight.zero_()

    said = []
    train(tiny("stages.0.epochs=1"), tmp_path / "run", watch=[collapse], say=said.append)
    assert any("market1501: all 32 vectors are equal: the model has collapsed" in sentence for sentence in said)


def test_a_run_scores_unknown_people_and_takes_cameras_out_where_its_recipe_says_so(tiny, tmp_path):
    folder = run(tiny("test.open_set=true", "test.camera_norm=auto", "stages.0.epochs=1"), tmp_path / "run")
    entry = json.loads((folder / "scores.json").read_text())["market1501"]
    embeddings = Embeddings.load(folder / "embeddings" / "market1501.npz")
    assert entry["open_set"]["count_mated"] == 8
    assert entry["plain"]["protocol"]["camera_norm"] == "auto"
    assert entry["plain"]["mAP"] == pytest.approx(100 * evaluate(embeddings, camera_norm="auto").mAP)
