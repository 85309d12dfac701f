"""DKP against loops, what its samples and prototypes are, and which of its terms DKP++ has of transferred images."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from passerby.errors import UserError
from passerby.methods.consolidation import interpolate_weights
from passerby.methods.distillation import affinity, affinity_divergence
from passerby.methods.dkp import FLOOR, draw_samples, make_prototypes, relation_divergence, set_triplet
from passerby.training.forward import forward
from passerby.training.trainer import make_trainer
from tests.methods.steps import shake, some

KNOWN = json.loads((Path(__file__).parents[1] / "oracles_data" / "lstkc_pp.json").read_text())
DASK = "method.dask={backbone: test_resnet, steps: 1, batch: 2, weight: 1.0}"
ALIGNED = "method.affinity={images: transferred, weight: 0.75}"
CLASSES = torch.tensor([0, 0, 1, 1])


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- numbers


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2], [0, 1, 2, 3, 4]], ids=["people", "one image each"])
def test_the_set_triplet_equals_a_loop(labels):
    means, samples = F.normalize(drawn(5, 6), dim=1), F.normalize(drawn(3, 5, 6, seed=1), dim=2)
    values = []
    for sample in samples:
        for row, anchor in enumerate(sample):
            distances = [float((anchor - mean).norm()) for mean in means]
            positive = max(d for d, label in zip(distances, labels, strict=True) if label == labels[row])
            negative = min(d for d, label in zip(distances, labels, strict=True) if label != labels[row])
            values.append(np.log1p(np.exp(positive - negative)))
    assert set_triplet(samples, means, torch.tensor(labels)).item() == pytest.approx(np.mean(values), rel=1e-6)


def test_a_batch_of_one_identity_has_no_triplet():
    means = F.normalize(drawn(4, 6), dim=1).requires_grad_()
    loss = set_triplet(means[None], means, torch.zeros(4, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert not means.grad.any()


def test_prototypes_have_the_moments_of_all_samples_of_their_identity():
    means, deviations, labels = drawn(6, 3), drawn(6, 3, seed=1).abs(), torch.tensor([0, 1, 0, 2, 2, 2])
    centres, spreads = make_prototypes(means, deviations, labels)
    generator = torch.Generator().manual_seed(0)
    for identity in range(3):
        rows = labels == identity
        noise = torch.randn((200_000, int(rows.sum()), 3), generator=generator, dtype=torch.float64)
        samples = (means[rows] + noise * deviations[rows]).flatten(0, 1)
        torch.testing.assert_close(samples.mean(dim=0), centres[identity], rtol=0, atol=0.01)
        torch.testing.assert_close(samples.std(dim=0), spreads[identity], rtol=0, atol=0.01)


def test_the_relation_divergence_equals_a_loop_and_moves_both_affinities():
    x, prototypes = drawn(4, 5).requires_grad_(), F.normalize(drawn(7, 5, seed=1), dim=1)
    loss = relation_divergence(x, prototypes)

    def softmax(values):
        powers = np.exp((values - values.max()) / 0.1)
        return powers / powers.sum()

    unit = F.normalize(x.detach(), dim=1).numpy()
    relations = np.array([softmax(row @ prototypes.numpy().T) for row in unit])
    related = relations / np.linalg.norm(relations, axis=1, keepdims=True)
    pairs = zip([softmax(row @ related.T) for row in related], [softmax(row @ unit.T) for row in unit], strict=True)
    assert loss.item() == pytest.approx(np.mean([np.sum(p * np.log(p / q)) for p, q in pairs]), rel=1e-9)
    (whole,) = torch.autograd.grad(loss, x)
    target = affinity((F.normalize(x.detach()) @ prototypes.T / 0.1).softmax(dim=1))
    (half,) = torch.autograd.grad(affinity_divergence(target, x), x)
    assert float((whole - half).norm() / half.norm()) > 0.05


def test_the_alignment_diverges_from_the_old_model_and_not_from_the_new_one():
    relations, known = KNOWN["rectified_relations"], KNOWN["dkp_pp_alignment"]
    old, new = (torch.tensor(relations[name], dtype=torch.float64) for name in ("f_short_term_old", "f_new"))
    loss = affinity_divergence(affinity(old), new).item()
    assert loss == pytest.approx(known["intended_KL_old_target"], rel=1e-6)
    assert abs(loss - known["public_code_value"]) > 0.1


# ---- the samples of a batch


def begin(tiny, folder, *overrides, stages=("market1501", "other")):
    """Begin a run whose stages are not trained, and open the last one."""
    told = ", ".join(f"{{train: [{name}], epochs: 1}}" for name in stages)
    run = make_trainer(
        tiny(f"stages=[{told}]", "data.sampler.identities=2", "evaluate=[]", "method.dkp={}", *overrides), folder
    )
    run.save = lambda: None
    run.context._log = lambda record: None
    for number in range(len(stages)):
        run.open_stage(number)
        shake(run.state.embedder, seed=number)
        run.state.embedder.train()
        if number + 1 < len(stages):
            run.state.counters.epoch = 1
            run.end_stage()
    return run


def batch_of(run):
    return some(run, rows=(0, 1, 8, 9))


def terms_of(run, batch):
    """Return the terms of the method for a batch."""
    return run.state.methods["dkp"].losses(run.context, batch, forward(run.setup, run.state, batch))


class Still(nn.Module):
    """A head without any deviation."""

    def forward(self, out, mask):
        return torch.zeros_like(out.before_neck)


def test_samples_without_deviation_are_classified_as_their_images(tiny, tmp_path):
    run = begin(tiny, tmp_path / "run", stages=("market1501",))
    run.state.methods["dkp"].head = Still()
    batch = batch_of(run)
    out = forward(run.setup, run.state, batch)
    terms = run.state.methods["dkp"].losses(run.context, batch, out)
    torch.testing.assert_close(terms["dkp softmax"].value, run.state.losses(out, batch.labels)["softmax"].value)
    means = F.normalize(out.before_neck)
    torch.testing.assert_close(terms["dkp triplet"].value, set_triplet(means[None], means, batch.labels))


def test_terms_have_their_weights_and_train_head_and_network(tiny, tmp_path):
    run = begin(tiny, tmp_path / "run", "method.dkp={softmax: 0.5, triplet: 2.0, relation: 3.0}")
    terms = terms_of(run, batch_of(run))
    weights = {"dkp softmax": 0.5, "dkp triplet": 2.0, "dkp relation": 3.0}
    assert {name: term.weight for name, term in terms.items()} == weights
    head, first = run.state.methods["dkp"].head, next(run.state.embedder.backbone.parameters())
    for name, term in terms.items():
        gradients = torch.autograd.grad(term.value, [first, *head.parameters()], retain_graph=True, allow_unused=True)
        reached = [gradient is not None and bool(gradient.any()) for gradient in gradients]
        assert reached == [True] + [name != "dkp relation"] * 3, name


@pytest.mark.parametrize("grouped", [[], ["engine.ghost_batch_size=2"]], ids=["plain", "grouped"])
def test_samples_leave_the_statistics_of_the_neck_alone(tiny, tmp_path, grouped):
    run = begin(tiny, tmp_path / "run", *grouped, stages=("market1501",))
    batch = batch_of(run)
    out = forward(run.setup, run.state, batch)
    before = copy.deepcopy(run.state.embedder.neck.state_dict())
    run.state.methods["dkp"].losses(run.context, batch, out)
    assert all(torch.equal(value, before[name]) for name, value in run.state.embedder.neck.state_dict().items())
    assert run.state.embedder.neck.track_running_stats


def test_samples_are_drawn_anew_in_each_step_and_again_in_the_same_one(tiny, tmp_path):
    run = begin(tiny, tmp_path / "run", stages=("market1501",))
    batch, values = batch_of(run), []
    for iteration in (0, 0, 1):
        run.state.counters.iteration = iteration
        values.append(terms_of(run, batch)["dkp triplet"].value.item())
    assert values[0] == values[1] != values[2]


def test_deviations_are_from_maps_by_a_convolution_of_any_size(tiny, tmp_path):
    run = begin(tiny, tmp_path / "run", "method.dkp.kernel=2", stages=("market1501",))
    head, batch = run.state.methods["dkp"].head, batch_of(run)
    out = forward(run.setup, run.state, batch)
    assert head.conv.kernel_size == (2, 1), "no wider than the map"
    deviations = head(out)
    assert deviations.shape == out.before_neck.shape
    assert float(deviations.min().detach()) == pytest.approx(FLOOR)
    assert bool(((deviations - FLOOR).norm(dim=1) <= 1).all())


# ---- prototypes


def test_prototypes_are_of_the_final_model_of_the_last_stage(tiny, tmp_path):
    run = begin(tiny, tmp_path / "run", "method.average={alpha: 0.3}", stages=("market1501", "other"))
    method, model = run.state.methods["dkp"], run.state.embedder
    first = copy.deepcopy(method)
    assert len(first.means) == run.setup.stages[0].train.count_identities
    shake(method.head, seed=5)
    trained = copy.deepcopy(method.head)
    run.state.counters.epoch = 1
    run.end_stage()
    wanted = copy.deepcopy(trained)
    interpolate_weights(wanted, first.head, alpha=0.3)
    for name, value in wanted.state_dict().items():
        torch.testing.assert_close(method.head.state_dict()[name], value)
    train_split = run.setup.stages[1].train
    assert method.means.shape == (train_split.count_identities, model.dimension)
    batch = some(run, rows=range(len(train_split)))
    with torch.no_grad():
        out = model.eval()(batch.inputs)
        means, deviations = make_prototypes(F.normalize(out.before_neck), wanted(out), batch.labels)
    torch.testing.assert_close(method.means, means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(method.deviations, deviations, rtol=1e-4, atol=1e-5)


def test_taking_prototypes_moves_no_statistics(tiny, tmp_path):
    run = begin(tiny, tmp_path / "run", stages=("market1501",))
    before = copy.deepcopy(run.state.embedder.state_dict())
    run.state.methods["dkp"].on_stage_end(run.context)
    assert all(torch.equal(value, before[name]) for name, value in run.state.embedder.state_dict().items())


def test_stored_images_of_earlier_stages_give_no_prototypes(tiny, tmp_path):
    run = begin(tiny, tmp_path / "run", "method.replay={identities: 2}")
    run.state.methods["dkp"].on_stage_end(run.context)
    assert run.state.stage.train.count_identities > run.setup.stages[1].train.count_identities
    assert len(run.state.methods["dkp"].means) == run.setup.stages[1].train.count_identities


def test_relations_are_to_samples_of_the_prototypes_from_the_second_stage_on(tiny, tmp_path):
    run = begin(tiny, tmp_path / "run")
    method, batch = run.state.methods["dkp"], batch_of(run)
    out = forward(run.setup, run.state, batch)
    noise = method._noise(run.context, *method.means.shape, of=1)
    prototypes = draw_samples(method.means, method.deviations, noise)
    terms = method.losses(run.context, batch, out)
    torch.testing.assert_close(terms["dkp relation"].value, relation_divergence(out.before_neck, prototypes))
    assert "dkp relation" not in terms_of(begin(tiny, tmp_path / "first", stages=("market1501",)), batch)


# ---- DKP++


def test_of_transferred_images_samples_are_classified_and_compared_with_both(tiny, tmp_path):
    run = begin(tiny, tmp_path / "run", "method.dkp={joint: 0.75, relation: 1.5}", ALIGNED, DASK)
    method, batch = run.state.methods["dkp"], batch_of(run)
    run.state.batch = batch
    seen = {}
    for name in ("affinity", "dkp", "dask"):
        out = forward(run.setup, run.state, batch)
        seen |= run.state.methods[name].losses(run.context, batch, out)
    assert {name: term.weight for name, term in seen.items()} == {
        "dkp softmax": 0.857, "dkp triplet": 1.5, "dkp relation": 1.5,
        "dask softmax": 1.0, "dask triplet": 1.0, "dask affinity": 0.75,
        "dask dkp softmax": 0.857, "dask dkp triplet": 1.5, "dask dkp joint": 0.75,
    }  # fmt: skip
    assert not run.context.is_transferred
    method.after_step(run.context, batch, out)
    assert method._sampled is None


def test_the_joint_triplet_is_of_all_samples_against_the_transfers(tiny, tmp_path):
    run = begin(tiny, tmp_path / "run", "method.dkp={joint: 0.75}", DASK)
    method = run.state.methods["dkp"]
    method.head = Still()
    first, second = F.normalize(drawn(4, run.state.embedder.dimension).float()), drawn(4, run.state.embedder.dimension)
    batch = batch_of(run)
    out = forward(run.setup, run.state, batch)
    method.losses(run.context, batch, replace(out, before_neck=first))
    run.context._transferred = True
    terms = method.losses(run.context, batch, replace(out, before_neck=second.float()))
    means = F.normalize(second.float())
    union = torch.stack([means] * 6 + [first] * 7)
    torch.testing.assert_close(terms["dkp joint"].value, set_triplet(union, means, batch.labels))


# ---- what does not fit


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.dkp={softmax: 0, triplet: 0}"], "give at least one of softmax and triplet a weight above 0"),
        (["method.dkp={joint: 0.75}"], "method.dkp.joint compares images with their transfers, and no method of stage"),
        (["method.dkp={joint: 0.75}", "method.dask={weight: 0}"], "add method.dask, or set joint to 0"),
        ([ALIGNED], "method.affinity.images: transferred needs a method that makes such images"),
        (["losses.softmax=null"], "method.dkp needs losses.softmax, and stage"),
        (["stages.1.labelled=false", "method.contrast={}"], "method.dkp needs known identities, and stage 'other'"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(tiny, overrides, message):
    two = "stages=[{train: [market1501], epochs: 1}, {train: [other], epochs: 1}]"
    with pytest.raises(UserError, match=message):
        tiny(two, "method.dkp={}", *overrides)


def test_without_prototypes_or_a_map_large_enough_no_stage_begins(tiny, tmp_path):
    stages = "stages=[{train: [market1501], epochs: 1}, {train: [other], epochs: 1, method: {dkp: {}}}]"
    run = make_trainer(tiny(stages, "data.sampler.identities=2"), tmp_path / "run")
    run.open_stage(0)
    with pytest.raises(UserError, match="no stage before 'other' left prototypes, so there are no earlier identities"):
        run.open_stage(1)
    with pytest.raises(UserError, match=r"method.dkp.kernel: 8 does not fit a map of \d x \d cells; use 1"):
        begin(tiny, tmp_path / "other", "method.dkp.kernel=8", stages=("market1501",))
