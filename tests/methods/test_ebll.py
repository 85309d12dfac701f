"""Encoders that stages leave, the autoencoders they come from, and what holds later stages to their codes."""

import json

import pytest
import torch
from torch.nn import functional as F

from passerby.data.datasets import open_dataset
from passerby.errors import UserError
from passerby.methods.autoencoder import Autoencoder
from passerby.methods.ebll import EbllSettings
from passerby.methods.encoder import Encoder
from passerby.methods.method import frozen
from passerby.methods.reconstruction import (
    COLLAPSED,
    LOW,
    FeatureSource,
    reconstructing,
)
from passerby.models.embedder import Embedder
from passerby.settings import build
from passerby.training import run_log
from passerby.training.session import train
from passerby.training.trainer import make_trainer
from passerby.types import Output, Split
from tests.methods.steps import some

CODE = "method.ebll={code: 8, epochs: 30, lr: 0.01, batch: 16}"
PEOPLE = "data.sampler.identities=3"  # as many as the second site has
THREE = (
    "stages=[{train: [market1501], epochs: 1}, {train: [other], epochs: 1}, {train: [market1501], epochs: 1, name: c}]"
)


@pytest.fixture
def model(tiny):
    torch.manual_seed(0)
    return frozen(Embedder(tiny().model, tiny().input))


@pytest.fixture
def paths(tiny):
    return open_dataset(tiny().dataset("market1501"), "market1501").train.path[:10]


@pytest.mark.parametrize("place", ["after_pooling", "before_pooling"])
def test_what_is_kept_equals_what_is_made_anew(model, paths, place):
    kept, anew = (FeatureSource(model, Split.of_paths(paths), place=place, limit=limit) for limit in (2**30, 0))
    assert kept.stored is not None
    assert anew.stored is None
    rows, mirrored = torch.tensor([7, 0, 3, 7]), torch.tensor([True, False, True, False])
    found = kept(rows, mirrored)
    torch.testing.assert_close(found, anew(rows, mirrored), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found[0], found[3])
    assert found.shape[1] == (model.dimension if place == "after_pooling" else model.backbone.channels)


class Unchanged(Autoencoder):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize("place", ["after_pooling", "before_pooling"])
def test_a_reconstruction_that_changes_nothing_leaves_the_scores_as_they_are(tiny, tmp_path, place):
    run = make_trainer(tiny("model.pool=gem"), tmp_path)
    model = frozen(run.state.embedder)
    before = run.evaluator.scores(model)["market1501"]
    with reconstructing(model, Unchanged(4, 2), place=place):
        assert run.evaluator.scores(model)["market1501"].ap.tolist() == before.ap.tolist()
    constant = Autoencoder(run.state.embedder.backbone.channels, 2, place=place)
    torch.nn.init.zeros_(constant.decoder.weight)
    with reconstructing(model, constant, place=place):
        assert run.evaluator.scores(model)["market1501"].mAP < before.mAP
    assert run.evaluator.scores(model)["market1501"].ap.tolist() == before.ap.tolist()


# ---- in a run


@pytest.mark.parametrize("place", ["after_pooling", "before_pooling"])
def test_codes_are_held_to_those_of_the_teacher(later, place):
    run = later(PEOPLE, f"method.ebll={{code: 8, epochs: 60, lr: 0.01, batch: 16, weight: 3.0, place: {place}}}")
    method, batch = run.state.methods["ebll"], some(run)
    with torch.no_grad():
        old = run.state.previous_model.embedder(batch.inputs)
    new = run.state.embedder(batch.inputs)
    (term,) = method.losses(run.context, batch, new).values()
    layer = method.encoders[0].layer
    codes = [layer(out.before_neck if place == "after_pooling" else out.map).sigmoid() for out in (old, new)]
    torch.testing.assert_close(term.value, F.mse_loss(codes[1], codes[0]))
    assert term.value > 1e-4
    assert term.weight == 3.0


def told(folder):
    return run_log.metrics(run_log.read(folder / "log.jsonl"))


def state(folder):
    return torch.load(folder / "last.pt", weights_only=True)


def encoders(folder):
    found = state(folder)["methods"]
    return {key: value for key, value in found.items() if key.startswith("ebll.encoders.")}


@pytest.fixture(scope="module")
def three(tiny, tmp_path_factory):
    """Three stages, each of which leaves a code."""
    folder = tmp_path_factory.mktemp("three")
    train(tiny(CODE, PEOPLE, THREE), folder)
    return folder


def test_every_past_stage_has_a_term_of_its_own(three):
    records = run_log.epochs(run_log.read(three / "log.jsonl"))
    terms = [[name for name in record.terms if name.startswith("code")] for record in records]
    assert terms == [[], ["code 1 ae"], ["code 1 ae", "code 2 ae"]]
    assert all(record.terms[name].value > 0 for record, names in zip(records, terms, strict=True) for name in names)
    assert len({key.split(".")[2] for key in encoders(three)}) == 3


def test_a_stage_tells_how_good_its_code_is_and_what_the_reconstruction_does_to_the_scores(three):
    first, *_, last = told(three)
    assert [bool(record.note) for record in told(three)] == [r.values["ae R squared"] < LOW for r in told(three)]
    share = f"{100 * first.values['ae R squared']:.0f} %"
    assert f"The code ae of stage 'market1501' explains {share} of the variance of the features" in first.note
    assert "raise method.ebll.code, or raise method.ebll.epochs (now 30) or method.ebll.lr (now 0.01)" in first.note
    assert [record.stage for record in told(three)] == [1, 2, 3]
    assert first.method == "ebll"
    values = first.values
    assert values["ae"] == pytest.approx(values["ae error"])
    assert values["ae variance kept"] > COLLAPSED
    assert 0.01 < values["ae R squared"] <= 1
    for of in ("market1501", "other"):
        for figure in ("mAP", "rank-1"):
            assert {f"{of} {figure}", f"ae {of} {figure} reconstructed"} <= set(values)
    scores = json.loads((three / "scores.json").read_text())
    assert 100 * last.values["market1501 mAP"] == pytest.approx(scores["market1501"]["plain"]["mAP"])


def test_encoders_never_learn(tiny, tmp_path):
    train(tiny(CODE, PEOPLE, "stages=[{train: [market1501], epochs: 1}]"), tmp_path / "one")
    two = "stages=[{train: [market1501], epochs: 1}, {train: [other], epochs: 2, method: {ebll: {epochs: 0}}}]"
    train(tiny(CODE, PEOPLE, two), tmp_path / "two")
    before, after = encoders(tmp_path / "one"), encoders(tmp_path / "two")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(
    "changes",
    [
        ["method.ebll.place=before_pooling", "method.ebll.kernel=3"],
        ["method.ebll.autoencoders=[ae, ae_l2]", "method.ebll.reduction=mean", "method.ebll.activation=none"],
        *(
            pytest.param(changes, marks=pytest.mark.slow)
            for changes in (
                ["method.ebll.task=1.0"],
                ["method.ebll.task=1.0", "method.ebll.place=before_pooling", "losses.softmax.feature=before_neck"],
                ["method.ebll.distance=bce", "method.ebll.scale=size_squared", "method.ebll.temperature=2.0"],
                ["optim.ema_decay=0.5"],
            )
        ),
    ],
)
def test_every_form_trains_over_two_stages(tiny, tmp_path, changes):
    two = "stages=[{train: [market1501], epochs: 1}, {train: [other], epochs: 1}]"
    train(tiny(CODE, PEOPLE, two, "evaluate=[other]", *changes), tmp_path)
    _, second = run_log.epochs(run_log.read(tmp_path / "log.jsonl"))
    assert second.terms["code 1 ae"].value > 0
    assert len(told(tmp_path)) == 2


def test_the_classifier_is_asked_about_the_reconstruction_and_nothing_but_the_autoencoder_learns(tiny, tmp_path):
    one = "stages=[{train: [market1501], epochs: 1}]"
    folders = [tmp_path / "without", tmp_path / "with"]
    for folder, task in zip(folders, ("0.0", "10.0"), strict=True):
        train(tiny(CODE, one, f"method.ebll.task={task}"), folder)
    without, with_task = (encoders(folder) for folder in folders)
    assert any(not torch.equal(without[key], with_task[key]) for key in without)
    one, other = (state(folder) for folder in folders)
    for method in ("embedder", "losses"):
        assert all(torch.equal(value, other[method][key]) for key, value in one[method].items())


def test_the_maps_of_an_encoder_and_its_vectors(model):
    autoencoder = Autoencoder(model.backbone.channels, 3, place="before_pooling")
    encoder = frozen(Encoder(autoencoder.encoder, "sigmoid"))
    out = Output(torch.zeros(2, 5), torch.zeros(2, 5), torch.rand(2, model.backbone.channels, 4, 2))
    assert encoder(out).shape == (2, 3, 4, 2)
    torch.testing.assert_close(encoder(out), autoencoder.encode(out.map))
    vectors = Encoder(Autoencoder(5, 3).encoder, "none")
    assert vectors(out).shape == (2, 3)
    assert vectors.place == "after_pooling"


# ---- mistakes


def test_a_collapsed_code_without_a_penalty_stops_the_run_and_loses_nothing(tiny, tmp_path):
    recipe = tiny(CODE, "method.ebll.lr=1e-9", "method.ebll.epochs=1")
    with pytest.raises(UserError) as caught:
        train(recipe, tmp_path)
    sentence = str(caught.value)
    assert "code ae of stage 'market1501' has collapsed" in sentence
    assert "raise method.ebll.epochs (now 1) or method.ebll.lr (now 1e-09)" in sentence
    assert sentence.endswith("the trained model is kept in last.pt")
    assert state(tmp_path)["epoch"] == 2
    (record,) = told(tmp_path)
    assert record.values["ae variance kept"] < COLLAPSED


ALL = "method.ebll={code: 8, epochs: 60, lr: 0.01, batch: 16, autoencoders: [ae, ae_l1, ae_l2], strength: 1.0}"
TWO = "stages=[{train: [market1501], epochs: 1}, {train: [other], epochs: 1, method: {ebll: {epochs: 0%s}}}]"


@pytest.fixture(scope="module")
def several(tiny, tmp_path_factory):
    """Two stages, of which the first leaves three codes; two of them collapse."""
    folder = tmp_path_factory.mktemp("several")
    train(tiny(ALL, PEOPLE, TWO % "", "evaluate=[market1501]"), folder)
    return folder


def test_a_collapsed_code_with_a_penalty_is_a_warning_with_its_figures(several):
    (record,) = told(several)
    values = record.values
    assert values["ae variance kept"] > COLLAPSED
    assert values["ae_l1 variance kept"] < COLLAPSED
    assert values["ae_l2 variance kept"] < COLLAPSED
    for name in ("ae_l1", "ae_l2"):
        assert f"the code {name} of stage 'market1501' has collapsed" in record.note
        assert values[name] > values[f"{name} error"]
        assert f"{name} market1501 mAP reconstructed" in values
    assert f"error {values['ae_l1 error']:.4g}, variance" in record.note
    assert "lower method.ebll.strength (now 1) or set method.ebll.reduction to mean (now sum)" in record.note


def test_several_codes_of_a_stage_are_held_side_by_side(several):
    *_, second = run_log.epochs(run_log.read(several / "log.jsonl"))
    terms = {name: term.value for name, term in second.terms.items() if name.startswith("code")}
    assert list(terms) == ["code 1 ae", "code 1 ae_l1", "code 1 ae_l2"]
    assert terms["code 1 ae_l1"] < terms["code 1 ae"]
    methods = torch.load(several / "last.pt", weights_only=True)["methods"]
    assert [described[2:] for described in methods["ebll._extra_state"]] == [("ae", 1), ("ae_l1", 1), ("ae_l2", 1)]


def test_an_autoencoder_is_the_same_beside_others_and_alone(several, tiny, tmp_path):
    train(tiny(ALL, PEOPLE, "method.ebll.autoencoders=[ae_l2]", TWO % "", "evaluate=[market1501]"), tmp_path)
    alone, beside = encoders(tmp_path), encoders(several)
    for key in ("layer.weight", "layer.bias"):
        assert torch.equal(alone[f"ebll.encoders.0.{key}"], beside[f"ebll.encoders.2.{key}"])


def test_a_stage_holds_the_codes_that_it_names(tiny, tmp_path):
    recipe = tiny(ALL, PEOPLE, TWO % ", autoencoders: [ae_l2]", "evaluate=[]")
    train(recipe, tmp_path)
    *_, second = run_log.epochs(run_log.read(tmp_path / "log.jsonl"))
    assert [name for name in second.terms if name.startswith("code")] == ["code 1 ae_l2"]


def test_a_code_that_no_stage_left_cannot_be_held(later):
    with pytest.raises(UserError, match=r"\[ae_l1\] are to be held in 'other', and the stages before left ae"):
        later(PEOPLE, CODE, "stages.1.method.ebll.autoencoders=[ae_l1]")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"epochs": 0, "weight": 0.0}, "have no effect"),
        ({"kernel": 2, "place": "before_pooling"}, "kernel must be odd"),
        ({"kernel": 3}, "kernel has no effect with place: after_pooling"),
        ({"temperature": 2.0}, "temperature has no effect with distance: mse"),
        ({"scale": "size_squared"}, "scale has no effect with distance: mse"),
        ({"activation": "tanh"}, "activation"),
        ({"strength": 0.1}, r"strength has no effect with autoencoders: \[ae\]"),
        ({"autoencoders": ["ae", "ae"]}, "names one twice"),
        ({"autoencoders": []}, "autoencoders"),
        ({"milestones": [5, 2]}, "milestones must rise"),
        ({"milestones": [20]}, "go beyond the 20 epochs"),
    ],
)
def test_settings_that_would_do_nothing(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        build(EbllSettings, settings, source="test")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["method.ebll.code=4096"], r"code is 4096, which must be below the \d+ numbers that it codes"),
        (["method.ebll.epochs=0"], "epochs 0 and no earlier stage"),
        (["method.ebll.task=1.0", "losses.softmax=null"], "needs the classifier of losses.softmax"),
        (
            ["foreground=pool", "masks=MASKS", "method.ebll.task=1.0", "method.ebll.place=before_pooling"],
            "without the masks of foreground.use: pool; use place: after_pooling or task: 0",
        ),
        (
            ["model.backbone=test_vit", "model.last_stride=2", "method.ebll.place=before_pooling"],
            "pools its own tokens",
        ),
    ],
)
def test_what_cannot_work_is_told_before_the_first_step(tiny, masks, tmp_path, changes, sentence):
    changes = [change.replace("MASKS", str(masks)) for change in changes]
    with pytest.raises(UserError, match=sentence):
        train(tiny(CODE, *changes), tmp_path)
    assert not (tmp_path / "log.jsonl").exists()


def test_a_stage_without_a_code_before_it(tiny, tmp_path):
    late = "stages=[{train: [market1501], epochs: 1}, {train: [other], epochs: 1, method: {ebll: {code: 8}}}]"
    with pytest.raises(UserError, match="no stage before 'other' left a code"):
        train(tiny(PEOPLE, late), tmp_path)
