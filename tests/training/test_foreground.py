"""Training with masks as a part of the same loop: what is learnt, what is tested, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from passerby.cli import app
from passerby.errors import UserError
from passerby.inference import tested
from passerby.inference.embed import View, embed, masked_view, read_inputs
from passerby.inference.tested import label_vectors
from passerby.methods.method import frozen
from passerby.methods.reconstruction import FeatureSource
from passerby.methods.weight_penalty import image_gradients
from passerby.models.embedder import load_embedder
from passerby.training.session import train
from passerby.training.trainer import make_trainer
from passerby.types import Batch, Embeddings, Split
from tests.training.runs import run, weights

USES = ("none", "mask", "swap", "pool")


@pytest.fixture(scope="module")
def trained(tiny, masks, tmp_path_factory):
    """One run for each use of the masks."""
    place = tmp_path_factory.mktemp("runs")
    return {use: run(tiny(f"masks={masks}", f"foreground={use}"), place / use) for use in USES}


def protocol(folder, name="market1501"):
    return json.loads((folder / "scores.json").read_text())[name]["plain"]["protocol"]


def test_each_use_learns_something_else(trained):
    assert len({weights(folder) for folder in trained.values()}) == len(USES)


def test_masks_that_are_not_used_change_nothing(tiny, trained, tmp_path):
    assert weights(run(tiny(), tmp_path / "run")) == weights(trained["none"])


def test_the_protocol_says_what_was_shown(trained):
    shown = {use: protocol(folder)["input_mask"] for use, folder in trained.items()}
    assert shown == {"none": "none", "mask": "foreground", "swap": "none", "pool": "weighted"}
    assert Embeddings.load(trained["pool"] / "embeddings" / "market1501.npz").input_mask == "weighted"


@pytest.mark.parametrize(
    ("changes", "input_mask"),
    [
        (["foreground={use: mask, probability: 0.5}"], "none"),
        (["foreground=pool", "test.input_mask=none"], "none"),
        (["test.input_mask=foreground"], "foreground"),
        (["foreground.use=mask"], "foreground"),
    ],
)
def test_what_is_shown_at_test_can_be_chosen(tiny, changes, input_mask):
    assert tiny(*changes).input_mask == input_mask


def test_the_vectors_are_those_of_what_is_shown(tiny, masks, trained):
    """By hand: the background in the mean colour, or a pooling over the cells of the mask."""
    dataset = make_trainer(tiny(f"masks={masks}"), None).setup.datasets["market1501"]
    for use in ("mask", "pool"):
        embedder = load_embedder(trained[use] / "embedder.safetensors")
        shown = embed(
            embedder,
            tested.tested_split(dataset),
            view=tested.tested_view(dataset, protocol(trained[use])["input_mask"]),
        )
        kept = Embeddings.load(trained[use] / "embeddings" / "market1501.npz")
        np.testing.assert_allclose(shown, kept.vectors, atol=1e-4)
        whole = embed(embedder, Split.of_paths(tested.tested_paths(dataset)))
        assert np.abs(whole - shown).max() > 1e-3


@pytest.mark.parametrize("use", ["pool", "mask"])
def test_parts_are_shown_what_the_model_learns_from(tiny, masks, tmp_path, use):
    """The earlier model's answers, and every look at images between stages, compared with the vectors of a test."""
    again = "stages=[{train: [market1501]}, {train: [market1501], name: again}]"
    run = make_trainer(tiny(f"masks={masks}", f"foreground={use}", again, "method.feature={}"), tmp_path)
    run.open_stage(0)
    run.open_stage(1)
    some = run.state.stage.train.select(np.arange(5))
    word = {"pool": "weighted", "mask": "foreground"}[use]
    view = masked_view(some.masks, word)
    wanted = torch.from_numpy(embed(run.state.embedder, Split.of_paths(some.path), vector="before_neck", view=view))
    whole = torch.from_numpy(embed(run.state.embedder, Split.of_paths(some.path), vector="before_neck"))
    assert (wanted - whole).abs().max() > 1e-4
    inputs = next(read_inputs(run.state.embedder, some, view, size=5))
    batch = Batch(inputs, torch.zeros(5), torch.arange(5))
    looks = {
        "teacher": run.state.previous_model.output(run.context, batch).before_neck,
        "vectors": run.context.vectors_of(some, "before_neck"),
        "clustered": torch.from_numpy(run.context.vectors().before_neck[:5]),
        "both": run.context.vectors_of(some, "before_neck", model=run.state.tested),
        "material": FeatureSource(
            frozen(run.state.embedder), some, place="after_pooling", view=run.setup.view(some, stage=0),
        ).stored[0],
    }  # fmt: skip
    one = []
    list(
        image_gradients(
            run.context,
            run.state.stage,
            np.arange(5),
            lambda out, _: (one.append(out.before_neck), out.before_neck.sum())[1],
        )
    )
    for name, found in {**looks, "gradients": torch.cat(one).detach()}.items():
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3, msg=name)


def test_people_alone_do_not_depend_on_the_background(tiny, masks, trained, tmp_path):
    dataset = make_trainer(tiny(f"masks={masks}"), None).setup.datasets["market1501"]
    embedder = load_embedder(trained["none"] / "embedder.safetensors")
    other = tmp_path / "other.png"
    pixels = np.array(Image.open(dataset.query.path[0]))
    person = np.array(Image.open(dataset.query.masks[0]))
    pixels[~person] = 0
    Image.fromarray(pixels).save(other)
    paths, files = np.array([dataset.query.path[0], str(other)]), dataset.query.masks[[0, 0]]
    distance = {}
    for shown in ("foreground", "whole", "background"):
        one, two = embed(embedder, Split.of_paths(paths), view=View(files, shown))
        distance[shown] = float(1 - one @ two / np.linalg.norm(one) / np.linalg.norm(two))
    # Not 0: resizing mixes a little across the edge of the mask, which is cut after it.
    assert distance["foreground"] < 0.3 * min(distance["background"], distance["whole"]), distance


def test_scores_of_other_pictures_are_not_compared(tiny, masks):
    trainer = make_trainer(tiny(f"masks={masks}"), None)
    vectors = np.random.default_rng(0).normal(size=(len(tested.tested_paths(trainer.setup.datasets["market1501"])), 4))
    one, other = (
        trainer.evaluator.score(
            label_vectors(
                vectors.astype(np.float32), trainer.setup.datasets["market1501"], feature="after_neck", input_mask=p
            )
        )
        for p in ("whole", "foreground")
    )
    with pytest.raises(UserError, match=r"differ in input_mask \(none and foreground\)"):
        one.protocol.require_like(other.protocol)


def test_every_run_with_masks_measures_its_background_bias(trained):
    for use, folder in trained.items():
        entry = json.loads((folder / "scores.json").read_text())["market1501"]
        tested = "foreground" if use == "mask" else "whole"
        assert entry["background_bias"][tested]["mAP"] == pytest.approx(entry["plain"]["mAP"])
        assert len(entry["background_bias"]["examples"]) == 2
        page = (folder / "scores.json").with_name("report.html")
        assert not page.exists()


def test_background_bias_can_be_left_out_and_needs_masks(tiny, masks, trained, tmp_path):
    for number, changes in enumerate((["test.background_bias=off", f"masks={masks}"], [])):
        results = train(tiny("stages.0.epochs=1", *changes), tmp_path / str(number))
        assert results[0].background_bias is None


# ---- what is refused


def some_masks(masks, folder, *, without):
    shutil.copytree(masks, folder)
    for name in without:
        for file in sorted(folder.glob(name)):
            file.unlink()
    return folder


def told(*arguments) -> str:
    """Run a command that must fail as a user's mistake, and return its sentence."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def test_training_images_without_masks_are_counted(tiny_file, masks, tmp_path):
    few = some_masks(masks, tmp_path / "few", without=["bounding_box_train/0001_*"])
    sentence = told("train", tiny_file, "foreground=swap", f"masks={few}", "--out", tmp_path / "run")
    assert "a mask is missing for 8 of 48 training images of 'market1501' (first: " in sentence
    assert "bounding_box_train/0001_c1s1_000000_00.jpg); `passerby segment apply` makes masks" in sentence
    assert "a mask is missing for 48 of 48" in told("train", tiny_file, "foreground=swap", "--out", tmp_path / "other")
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_test_images_without_masks_are_counted_where_they_are_needed(tiny, tiny_file, masks, tmp_path):
    few = some_masks(masks, tmp_path / "few", without=["query/0007_c1*"])
    for use in ("mask", "pool"):
        sentence = told("train", tiny_file, f"foreground={use}", f"masks={few}", "--out", tmp_path / "run")
        assert "a mask is missing for 1 of 32 test images of market1501 (first: " in sentence
        assert sentence.endswith("or set test.input_mask=none")
        make_trainer(tiny(f"foreground={use}", f"masks={few}", "test.input_mask=none"), tmp_path)
    make_trainer(tiny("foreground=swap", f"masks={few}"), tmp_path)


def test_a_mask_of_another_size_is_one_sentence(tiny_file, masks, tmp_path):
    odd = some_masks(masks, tmp_path / "odd", without=[])
    Image.new("1", (32, 32)).save(odd / "bounding_box_train/0002_c1s1_000001_00.png")
    sentence = told("train", tiny_file, "foreground=mask", f"masks={odd}", "--out", tmp_path / "run")
    assert "0002_c1s1_000001_00.png has 32 x 32 pixels, its image" in sentence
    assert "has 32 x 64; a mask must have the size of its image" in sentence


def test_masks_that_are_nowhere_or_fit_nothing(tiny_file, masks, tmp_path):
    assert "masks: " in told("train", tiny_file, "masks=/nowhere", "--out", tmp_path / "run")
    shutil.copytree(masks / "query", tmp_path / "flat")
    sentence = told("train", tiny_file, f"masks={tmp_path / 'flat'}", "--out", tmp_path / "run")
    assert "holds no mask for any of the 80 images of market1501" in sentence


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            ["foreground=swop"],
            "foreground.use is 'swop', allowed: 'none', 'mask', 'swap' or 'pool'; did you mean 'swap'?",
        ),
        (["foreground=pool", "foreground.probability=0.5"], "probability has no effect"),
        (["foreground.use=pool", "foreground.probability=0.5"], "probability has no effect with use: pool"),
        (["foreground.use=swap", "foreground.probability=2"], "foreground.probability is 2: must be at most 1"),
        (["foreground.used=swap"], "unknown key foreground.used; did you mean 'use'?"),
        (["foreground=pool", "model.backbone=test_vit", "model.last_stride=2"], "pools its own tokens"),
        (["test.input_mask=weighted", "model.backbone=test_vit", "model.last_stride=2"], "pools its own tokens"),
        (["test.input_mask=person"], "test.input_mask is 'person'"),
    ],
)
def test_impossible_settings(tiny_file, masks, tmp_path, changes, sentence):
    assert sentence in told("train", tiny_file, f"masks={masks}", *changes, "--out", tmp_path / "run")


def test_loose_images_have_no_masks(site, trained, tmp_path):
    image = next(iter(sorted((site / "query").glob("*.jpg"))))
    for use in ("mask", "pool"):
        assert "needs the masks of a data set" in told("embed", trained[use], image, "-o", tmp_path / "x.npz")
    assert (
        CliRunner().invoke(app, ["embed", str(trained["swap"]), str(image), "-o", str(tmp_path / "x.npz")]).exit_code
        == 0
    )
    assert "needs the masks" in told("search", tmp_path / "x.npz", image, "--run", trained["mask"])


# ---- evaluate


def test_evaluate_measures_background_bias_on_a_folder(site, masks, trained, tmp_path):
    told_file = tmp_path / "scores.json"
    arguments = [
        "evaluate",
        trained["pool"],
        "--data",
        site,
        "--masks",
        masks,
        "--background-bias",
        "--json",
        told_file,
    ]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert "the background alone" in result.output
    found = json.loads(told_file.read_text())
    assert found["protocol"]["input_mask"] == "weighted"
    kept = json.loads((trained["pool"] / "scores.json").read_text())["market1501"]["background_bias"]
    for shown in ("whole", "foreground", "background", "chance"):
        assert found["background_bias"][shown]["mAP"] == pytest.approx(kept[shown]["mAP"], abs=0.5)


def test_evaluate_says_what_it_needs(site, masks, trained, tmp_path):
    assert "a mask is missing for 32 of 32 test images" in told("evaluate", trained["mask"], "--data", site)
    assert "background bias needs all of them" in told("evaluate", trained["none"], "--data", site, "--background-bias")
    assert "--masks belongs to --data DIR" in told("evaluate", trained["none"], "--masks", masks)
    table = trained["none"] / "embeddings" / "market1501.npz"
    assert "give a run folder instead of --embeddings" in told("evaluate", "--embeddings", table, "--background-bias")


def test_unlike_views_differ_in_pixels_only(tiny, masks):
    trainer = make_trainer(tiny(f"masks={masks}", "stages.0.epochs=1"), None)
    view = tested.tested_view(trainer.setup.datasets["market1501"], "weighted")
    assert (view.input_mask, view.visible, view.pooling) == ("weighted", "whole", "weighted")
    with torch.no_grad():
        assert trainer.evaluator.embed(trainer.state.embedder, "market1501", view=view).input_mask == "weighted"
