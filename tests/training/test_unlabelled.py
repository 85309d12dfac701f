"""Stages without labels: who is who is found anew in every epoch, and a run may be broken off anywhere."""

import json

import numpy as np
import pytest
import torch

from passerby.errors import UserError
from passerby.methods.clustered import Clustered
from passerby.optim import learning_rate_at
from passerby.training import run_log
from passerby.training.pseudo_labels import labels_file
from passerby.training.session import train
from passerby.training.trainer import make_trainer
from tests.training.runs import optimiser_hash, run, run_interrupted, weights

STAGES = "stages=[{train: [market1501], epochs: 1}, {train: [other], labelled: false, epochs: 2%s}]"
CLUSTER = "{cluster: {kind: kmeans, k: 3}}"
GRAPH = "{kind: hdbscan, min_size: 2, min_samples: 2, k1: 8, form: reranking}"
HIDDEN = "stages=[{train: [other], labelled: false}]"
BESIDE = "stages=[{train: [other], labelled: false, source: [market1501]}]"
METHODS = {
    "pseudo": [f"method={{pseudo: {CLUSTER}}}", "losses={softmax: {}, triplet: {}, center: {}}"],
    "contrast": [f"method={{contrast: {CLUSTER}}}"],
    "contrast-alone": [
        f"method={{contrast: {{update: hard, camera_norm: standardise, {CLUSTER[1:-1]}}}}}",
        "stages.1.losses={softmax: null, triplet: null}",
    ],
    "ssg-dec": [
        f"method={{ssg: {{cluster: {GRAPH}, oracle: random, oracle_after: 1}}, dec: {{}}}}",
        "stages.1.losses={softmax: null, triplet: null}",
        "model.stripes=2",
    ],
    "pseudo-dec": [
        f"method={{pseudo: {CLUSTER}, dec: {{k: 4, dimension: 3, scope: batch, centres: fixed}}}}",
        "stages.1.losses={softmax: null, triplet: null}",
    ],
    "spcl": ["method={spcl: {cluster: {eps: 0.6, k1: 6, k2: 2, min_samples: 2}}}"],
    "mmt": [f"method={{mmt: {CLUSTER}}}", "stages.1.losses={softmax: null, triplet: null}"],
    "pplr": [
        f"method={{pplr: {{from_epoch: 1, neighbours: 5, {CLUSTER[1:-1]}}}}}",
        "stages.1.losses={softmax: null, triplet: null}",
        "model.stripes=2",
    ],
    "spcl-beside": [
        "method={spcl: {cluster: {eps: 0.6, k1: 6, k2: 2, min_samples: 2}}}",
        "stages.1.source=[market1501]",
        "stages.1.losses={softmax: null, triplet: null}",
    ],
}
FAST = {"pseudo", "contrast", "spcl"}
"""All other methods are slow together."""


def recipe_of(tiny, name="pseudo", *more, stage=""):
    return tiny(STAGES % stage, *METHODS[name], "evaluate=[]", "data.sampler.identities=2", *more)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in METHODS]
)
def test_broken_off_anywhere_ends_alike(tiny, tmp_path, name):
    recipe = recipe_of(tiny, name)
    whole = run(recipe, tmp_path / "whole")
    torch.manual_seed(3)
    broken = run_interrupted(recipe, tmp_path / "broken", steps=[2, 5])
    assert weights(broken) == weights(whole)
    assert optimiser_hash(broken) == optimiser_hash(whole)


@pytest.fixture(scope="module")
def beside(tiny, tmp_path_factory):
    """A run that shows known people beside unknown ones, its recipe and its folder."""
    recipe = recipe_of(tiny, "pseudo", "data.sampler=per_domain", stage=", source: [market1501], iterations: 4")
    return recipe, run(recipe, tmp_path_factory.mktemp("beside") / "run")


def test_nothing_is_told_of_unknown_people_and_known_ones_keep_their_numbers(beside, tmp_path):
    recipe, folder = beside
    stage = make_trainer(recipe, tmp_path).setup.stages[1]
    hidden = stage.origin == 0
    assert stage.sources == ("other", "market1501")
    assert (stage.learnt, stage.source) == (("other",), ("market1501",))
    assert (stage.train.pid[hidden] == -1).all()
    assert (stage.truth >= 0).all()
    with np.load(labels_file(folder, 2, 1)) as kept:
        labels, truth = kept["labels"], kept["truth"]
        assert kept["path"].tolist() == stage.train.path.tolist()
    assert labels[~hidden].tolist() == stage.train.pid[~hidden].tolist()
    assert sorted(set(labels[hidden].tolist())) == [6, 7, 8]
    assert truth.tolist() == stage.truth.tolist()


def test_every_epoch_tells_what_was_found(beside):
    _, folder = beside
    found = run_log.metrics(run_log.read(folder / "log.jsonl"))
    assert [(record.stage, record.epoch, record.values["people"]) for record in found] == [(2, 0, 3.0), (2, 1, 3.0)]
    assert "agreement with the epoch before" in found[1].values
    assert 0 < found[0].values["purity"] <= 1
    assert labels_file(folder, 2, 2).is_file()
    assert not labels_file(folder, 1, 1).exists()


def test_an_epoch_is_as_long_as_the_stage_says(beside):
    recipe, folder = beside
    drawn = [record.drawn for record in run_log.epochs(run_log.read(folder / "log.jsonl")) if record.stage == 2]
    assert all(counts["other"].batches == counts["market1501"].batches == 4 for counts in drawn)
    assert recipe.stages[1].iterations == 4


def test_classifiers_and_centres_begin_at_the_means_of_clusters_wherever_these_change(tiny, tmp_path, monkeypatch):
    from ignite.engine import Events

    seen = []

    def look(run, engine):
        @engine.on(Events.ITERATION_STARTED)
        def _note():
            if run.state.counters.stage == 1 and run.state.counters.iteration == 0:
                rows = run.state.counters.labels == 0
                found = run.context.vectors()
                mean = torch.from_numpy(found.after_neck)[rows].mean(0)
                seen.append(
                    (run.state.losses.losses["softmax"].classifier.weight[0].detach().clone(), mean / mean.norm())
                )
                seen.append(
                    (run.state.losses.losses["center"].centres[0], torch.from_numpy(found.before_neck)[rows].mean(0))
                )

    found = Clustered.pseudo_labels

    def renumbered(method, context):
        labels = found(method, context)
        return np.where(labels < 0, labels, (labels + context.epoch) % (labels.max() + 1))

    monkeypatch.setattr(Clustered, "pseudo_labels", renumbered)
    train(recipe_of(tiny, "pseudo"), tmp_path / "run", watch=[look])
    for mine, wanted in seen:
        assert torch.allclose(mine, wanted, atol=1e-5)
    assert len(seen) == 4
    assert not torch.equal(seen[1][0], seen[3][0])


def test_ssg_labels_each_view_and_queries_the_oracle_once(tiny, tmp_path):
    folder = run(recipe_of(tiny, "ssg-dec", stage=", source: [market1501], iterations: 4"), tmp_path / "run")
    with np.load(labels_file(folder, 2, 1)) as first, np.load(labels_file(folder, 2, 2)) as second:
        one, two = first["labels"], second["labels"]
    hidden = np.arange(len(one)) < 24
    assert (one.shape[1], two.shape[1]) == (3, 4)
    assert (one[~hidden] == one[~hidden, :1]).all()
    assert one[~hidden].max() == 5
    assert one[hidden].max() >= 6
    left_out = one[hidden].min(axis=1) < 0
    assert (one[hidden][left_out] == -1).all()
    assert (two[hidden, 3] >= 6).all()  # in the last epoch all are named
    found = {r.epoch: r.values for r in run_log.metrics(run_log.read(folder / "log.jsonl")) if r.method == "ssg"}
    assert "labels queried" not in found[0]
    assert found[1]["labels queried"] >= 2
    assert found[1]["images with an identity"] == 24
    terms = [record.terms for record in run_log.epochs(run_log.read(folder / "log.jsonl"))]
    assert ["ssg oracle" in names for names in terms] == [False, False, True]


STOP = ("method.pseudo.stop={agreement: 0.9, patience: 1}", "stages.1.epochs=5")


def test_a_stage_ends_early_when_its_clusters_are_at_rest_and_a_resume_agrees(tiny, tmp_path):
    recipe = recipe_of(tiny, "pseudo", *STOP, "optim.schedule=cosine", "optim.min_lr=0.0001")
    recipe = recipe.model_copy(update={"evaluate": ("market1501", "other")})
    whole = run(recipe, tmp_path / "whole")
    records = run_log.read(whole / "log.jsonl")
    epochs = [(record.stage, record.epoch, record.epochs) for record in run_log.epochs(records)]
    assert epochs == [(1, 1, 1), (2, 1, 5), (2, 2, 5)]
    (stop,) = (record for record in run_log.metrics(records) if record.method == "stop")
    assert stop.values == {"last epoch": 2.0, "planned": 5.0}
    planned = recipe.stages[1].optim
    assert run_log.epochs(records)[-1].lr == learning_rate_at(planned, 5, steps_per_epoch=3, epochs=5) > planned.min_lr
    metrics = json.loads((whole / "continual_metrics.json").read_text())
    assert len(metrics["stages"]) == 2
    broken = run_interrupted(recipe, tmp_path / "broken", steps=[2, 5])
    assert weights(broken) == weights(whole)
    assert optimiser_hash(broken) == optimiser_hash(whole)
    train(recipe, broken, start="resume")  # it is over, and stays so
    assert optimiser_hash(broken) == optimiser_hash(whole)
    further = tiny(
        "stages=[{train: [other], epochs: 1}]", f"init_from={whole}", "evaluate=[]", "data.sampler.identities=2"
    )
    assert run(further, tmp_path / "further").is_dir()


def test_too_few_people_for_a_batch_are_told(tiny, tmp_path):
    with pytest.raises(UserError, match=r"other: 3 clusters were found in its 24 images, and a batch needs 4"):
        train(recipe_of(tiny, "pseudo", "data.sampler.identities=4"), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            [HIDDEN],
            "'other' is unlabelled, and no method assigns labels",
        ),
        (
            [f"method.pseudo={CLUSTER}"],
            r"method.pseudo assigns labels and has no effect here: no stage is labelled: false",
        ),
        (
            [HIDDEN, f"method={{pseudo: {CLUSTER}, contrast: {CLUSTER}}}"],
            "method.pseudo and method.contrast both assign labels; leave one out",
        ),
        (
            ["stages=[{train: [other], source: [market1501]}]"],
            "source shows labelled data sets together with unlabelled",
        ),
        (
            ["stages=[{train: [other], labelled: false, source: [other]}]", f"method.pseudo={CLUSTER}"],
            "'other' is both in train, without labels, and in source, with them",
        ),
        (["losses={softmax: null, triplet: null}"], "at least one loss is needed"),
        ([HIDDEN, f"method.mmt={CLUSTER}", "optim.ema_decay=0.9"], "method.mmt has mean teachers of its own"),
        (
            [HIDDEN, f"method.mmt={CLUSTER}", "optim.freeze_backbone_steps=2"],
            "optim.freeze_backbone_steps has no effect on the second network of method.mmt; leave it out",
        ),
        (
            [HIDDEN, "method.spcl={batch_norm: shared}"],
            "batch_norm: shared has no effect: no stage has source data sets",
        ),
        (
            [BESIDE, "method.spcl={}", "engine.batch_norm=synchronised"],
            "batch_norm: domain_specific and engine.batch_norm: synchronised exclude each other",
        ),
        (
            [BESIDE, "method.spcl={}", "optim.batch_norm=freeze_stats"],
            "batch_norm: domain_specific has no effect with optim.batch_norm: freeze_stats, .* use shared",
        ),
        (
            ["stages=[{train: [other], labelled: false}]", "method.ssg={}", "model.stripes=3"],
            "method.ssg compares stripes of images: set model.stripes to 2, not 3",
        ),
        ([HIDDEN, "method.pplr={}"], "method.pplr compares stripes of images: set model.stripes to 3, not null"),
        (["model.stripes=3"], "model.stripes has no effect: only method.pplr and method.ssg use stripes"),
        (
            ["stages=[{train: [other], labelled: false, epochs: 4}]", "method.pplr={from_epoch: 4}", "model.stripes=3"],
            "method.pplr.from_epoch is 4, and the stage has 4 epochs",
        ),
        (
            [
                "stages=[{train: [other], labelled: false, epochs: 5}]",
                "method.ssg={oracle: cluster}",
                "model.stripes=2",
            ],
            "method.ssg.oracle_after is 5, and the stage has 5 epochs",
        ),
        (
            ["stages=[{train: [other], labelled: false}]", "method.ssg={source: 0.3}", "model.stripes=2"],
            "method.ssg.source has no effect: the stage has no source data sets",
        ),
        (
            ["stages=[{train: [other], labelled: false, epochs: 4}]", "method.pseudo={stop: {}}"],
            "method.pseudo.stop has no effect: the stage ends before 3 epochs with converged clusters",
        ),
        (["method.dec={}"], "method.dec needs clusters and has no effect here: no stage is labelled: false"),
        (["stages=[{train: [other], labelled: false}]", "method.dec={}"], "no method assigns labels"),
        (
            [
                HIDDEN,
                f"method.pseudo={CLUSTER}",
                "losses={softmax: null, triplet: null}",
            ],
            "at least one loss is needed",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(tiny, changes, message):
    with pytest.raises(UserError, match=message):
        tiny(*changes)


def test_what_training_finds_out_is_told_in_a_sentence(tiny, tmp_path):
    with pytest.raises(UserError, match=r"method.dec.dimension is 900, and the vectors of this model have \d+ dim"):
        train(recipe_of(tiny, "pseudo-dec", "method.dec.dimension=900"), tmp_path / "run")
