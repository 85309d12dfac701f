"""Weights that are held: what their importance is, on a tiny network, against slow loops."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from passerby.data.loading import EpochKey, ImageStore, plain_batches, training_batches
from passerby.methods.weight_penalty import EwcSettings, MasSettings, SiSettings, flat, image_gradients, some_rows
from passerby.training import run_log
from passerby.training.plan import plan_epoch
from passerby.training.session import train
from passerby.training.trainer import make_trainer
from passerby.types import Inputs
from tests.methods.steps import some
from tests.training.test_loop import PLAIN

SITES = "stages=[{train: [market1501], epochs: 1}, {train: [other], epochs: 2}]"
TWO_SITES = [SITES, "data.sampler.identities=2", "evaluate=[]"]


@pytest.fixture
def begun(tiny, tmp_path):
    def begin(*overrides):
        run = make_trainer(tiny(*overrides), tmp_path / "run")
        run.open_stage(0)
        return run

    return begin


def slow_gradients(run, rows, figure):
    """Return the gradient of a figure of each image, found by `backward`."""
    found = []
    run.state.embedder.eval()
    for row in rows:
        run.state.embedder.zero_grad()
        (image,) = plain_batches(run.state.stage.train.path[[row]], run.state.embedder.input, size=1)
        figure(run.state.embedder(Inputs.of_images(image)), int(row)).backward()
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in run.state.embedder.parameters()]
        found.append(torch.cat([piece.flatten() for piece in pieces]))
    run.state.embedder.zero_grad()
    return torch.stack(found)


def test_the_fisher_information_of_a_network_equals_a_slow_loop(begun):
    run = begun("method.ewc.images=3")
    run.state.losses.losses["softmax"].classifier.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    rows = some_rows(run.state.stage, 3, seed=run.state.seed)
    head = run.state.losses.losses["softmax"].classifier

    def likelihood(out, row):
        return -F.cross_entropy(head(out.after_neck), torch.tensor([run.state.stage.train.pid[row]]))

    gradients = slow_gradients(run, rows, likelihood)
    found = run.state.methods["ewc"].measure_importance(run.context, run.state.stage)
    torch.testing.assert_close(found, gradients.square().mean(dim=0), atol=1e-7, rtol=1e-4)
    batched = gradients.mean(dim=0).square()  # the square of a batch's gradient is known to be wrong
    assert not torch.allclose(found, batched, rtol=0.1)
    assert found.max() > 0
    assert run.state.embedder.neck.bias.grad is None


def test_labels_may_be_drawn_from_what_the_model_says(begun):
    run = begun("method.ewc={images: 8, labels: sampled}")
    sampled = run.state.methods["ewc"].measure_importance(run.context, run.state.stage)
    assert torch.equal(sampled, run.state.methods["ewc"].measure_importance(run.context, run.state.stage))
    run.state.methods["ewc"].settings = EwcSettings(images=8)
    assert not torch.equal(sampled, run.state.methods["ewc"].measure_importance(run.context, run.state.stage))


def test_labels_are_drawn_as_likely_as_the_model_says(begun):
    run = begun("method.ewc={images: 6, labels: sampled}")
    head = run.state.losses.losses["softmax"].classifier
    head.weight.data.normal_(std=20.0, generator=torch.Generator().manual_seed(0))
    rows = some_rows(run.state.stage, 6, seed=run.state.seed)
    sure, right = [], []

    def believed(out, row):
        says = head(out.after_neck)
        sure.append(says.detach().softmax(dim=1).max().item())
        right.append(says.argmax().item() == run.state.stage.train.pid[row])
        return -F.cross_entropy(says, says.argmax(dim=1))

    gradients = slow_gradients(run, rows, believed)
    assert min(sure) > 0.99, "so sure that nothing else is drawn"
    assert sum(right) <= 3, "what is drawn is not what the data say"
    found = run.state.methods["ewc"].measure_importance(run.context, run.state.stage)
    torch.testing.assert_close(found, gradients.square().mean(dim=0), atol=1e-12, rtol=1e-2)
    assert found.max() > 0


@pytest.mark.parametrize(
    ("name", "settings", "kept"),
    [
        ("ewc", "images: 3, decay: 0.3", 0.3),
        ("ewc", "images: 3", 1.0),
        ("mas", "images: 3", 1.0),
        ("si", "damping: 0.1", 1.0),
    ],
)
def test_importance_of_earlier_stages_fades_as_the_decay_says(later, name, settings, kept):
    run = later(f"method.{name}={{{settings}}}")
    method, earlier = run.state.methods[name], run.state.methods[name].importance.clone()
    if name == "si":  # an untrained stage has gone no way
        earlier = torch.rand(len(earlier), generator=torch.Generator().manual_seed(0))
        method.importance, method.path = earlier.clone(), torch.ones_like(earlier)
    fresh = method.measure_importance(run.context, run.state.stage)
    assert earlier.max() > 0
    assert fresh.max() > 0
    method.on_stage_end(run.context)
    torch.testing.assert_close(method.importance, kept * earlier + fresh, atol=0, rtol=1e-4)
    torch.testing.assert_close(method.reference, flat(run.state.embedder.parameters()).detach())


@pytest.mark.parametrize(("name", "factor"), [("ewc", 0.5), ("mas", 1.0)])
def test_weights_are_pulled_as_published(later, name, factor):
    run = later(f"method.{name}={{images: 3, strength: 7.0}}")
    method, batch = run.state.methods[name], some(run)
    method.importance = torch.rand(len(method.reference), generator=torch.Generator().manual_seed(0))
    (term,) = method.losses(run.context, batch, run.state.embedder(batch.inputs)).values()
    away = flat(run.state.embedder.parameters()) - method.reference
    torch.testing.assert_close(term.value, factor * (method.importance * away.square()).sum())
    assert term.value > 0.1
    assert term.weight == 7.0


def test_memory_aware_synapses_of_a_network_equal_a_slow_loop(begun):
    run = begun("method.mas.images=3")
    rows = some_rows(run.state.stage, 3, seed=run.state.seed)
    gradients = slow_gradients(run, rows, lambda out, _: out.after_neck.square().sum())
    torch.testing.assert_close(
        run.state.methods["mas"].measure_importance(run.context, run.state.stage),
        gradients.abs().mean(dim=0),
        atol=1e-5,
        rtol=1e-3,
    )


def test_asking_for_gradients_leaves_the_model_as_it_was(begun):
    run = begun()
    run.state.embedder.train()
    before = {key: value.clone() for key, value in run.state.embedder.state_dict().items()}
    (gradient, _) = image_gradients(
        run.context, run.state.stage, some_rows(run.state.stage, 2, seed=0), lambda out, _: out.before_neck.sum()
    )
    assert gradient.shape == flat(run.state.embedder.parameters()).shape
    assert run.state.embedder.training
    assert all(torch.equal(value, before[key]) for key, value in run.state.embedder.state_dict().items())
    assert all(p.grad is None for p in run.state.embedder.parameters())


@pytest.mark.parametrize("strength", [0.1, 1.0])
def test_a_path_follows_the_gradient_without_the_penalty(tiny, tmp_path, strength):
    run = make_trainer(tiny(*PLAIN, f"method.si.strength={strength}"), tmp_path / "run")
    run.open_stage(0)
    stage, method = run.state.stage.train, run.state.methods["si"]
    weights = flat(run.state.embedder.parameters()).detach()
    method.reference, method.importance = weights + 0.01, torch.full_like(weights, 2.0)  # as if a stage lay behind
    plan = plan_epoch(run.state.stage, stage.pid, np.random.default_rng(0), sampler=run.setup.recipe.data.sampler)
    store = ImageStore(stage.path, run.setup.recipe.input)
    batches = training_batches(
        store, plan, labels=stage.pid, cam=stage.cam, settings=run.setup.recipe.data, place=EpochKey(0, 0, 0)
    )
    path = torch.zeros_like(weights)
    for batch in list(batches)[:2]:
        run.state.embedder.train()
        before = flat(run.state.embedder.parameters()).detach()
        loss = sum(term.weighted for term in run.state.losses(run.state.embedder(batch.inputs), batch.labels).values())
        gradient = flat(torch.autograd.grad(loss, list(run.state.embedder.parameters())))
        run.step(batch, count=6)
        run.state.counters.iteration += 1
        path -= gradient * (flat(run.state.embedder.parameters()).detach() - before)
    torch.testing.assert_close(method.path, path, atol=1e-6, rtol=1e-3)
    assert method.path.abs().max() > 1e-6
    assert all(p.grad is None for p in run.state.embedder.parameters())


def test_pulls_are_logged_with_their_ratio_to_the_loss(tiny, tmp_path):
    strengths = {"ewc": 10.0, "si": 1.0, "mas": 1e-3}
    method = (
        f"method={{ewc: {{strength: 10.0, images: 4}}, si: {{strength: 1.0}}, mas: {{strength: {1e-3}, images: 4}}}}"
    )
    train(tiny(*TWO_SITES, method), tmp_path / "run")
    records = run_log.read(tmp_path / "run" / "log.jsonl")
    epochs = run_log.epochs(records)
    told = [record for record in records if isinstance(record, run_log.MetricRecord)]
    assert not set(epochs[0].terms) & set(strengths)
    for name, strength in strengths.items():
        assert epochs[-1].terms[name].weight == strength
        first, last = (record.values for record in told if record.method == name)
        others = sum(term.weighted for other, term in epochs[-1].terms.items() if other != name)
        ratio = epochs[-1].terms[name].weighted / others
        assert last["penalty / loss in the last epoch"] == pytest.approx(ratio, rel=1e-6)
        assert ratio > 0
        assert last["mean importance"] > first["mean importance"] > 0


def test_the_first_stage_has_no_penalty_and_later_ones_add_up(begun):
    run = begun("method.mas.images=2")
    method = run.state.methods["mas"]
    assert method.losses(run.context, None, None) == {}
    method.on_stage_end(run.context)
    once = method.importance.clone()
    method.on_stage_end(run.context)
    torch.testing.assert_close(method.importance, 2 * once)
    (term,) = method.losses(run.context, None, None).values()
    assert term.value.item() == 0
    with torch.no_grad():
        next(run.state.embedder.parameters()).add_(1)
    (term,) = method.losses(run.context, None, None).values()
    size = next(run.state.embedder.parameters()).numel()
    assert term.value.item() == pytest.approx(method.importance[:size].sum().item(), rel=1e-4)
    assert sum(method.memory_footprint().values()) == 8 * len(once)


def test_defaults_are_what_the_papers_have_where_they_have_one():
    assert (SiSettings().strength, SiSettings().damping, MasSettings().strength) == (0.1, 0.1, 1.0)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_synaptic_intelligence_reads_gradients_that_no_scale_is_on(tiny, tmp_path, name):
    found = {}
    for scale in (None, 2.0**10):
        run = make_trainer(tiny("method.si={}", f"optim.name={name}", "optim.warmup_epochs=0"), tmp_path / f"{scale}")
        run.open_stage(0)
        if scale is not None:
            run.state.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        for run.state.counters.iteration in range(2):
            run.step(some(run, rows=range(0, 48, 6)), count=3)
        found[scale] = run.state.methods["si"].path.clone()
    largest = float(found[None].abs().max())
    assert largest > 0
    torch.testing.assert_close(found[2.0**10], found[None], rtol=1e-3, atol=1e-4 * largest)


def test_synaptic_intelligence_leaves_out_a_step_whose_gradients_overflow(tiny, tmp_path):
    run = make_trainer(tiny("method.si={}", "optim.warmup_epochs=0"), tmp_path)
    run.open_stage(0)
    run.state.scaler = torch.amp.GradScaler("cpu", init_scale=torch.inf)
    run.step(some(run, rows=range(0, 48, 6)), count=3)
    method = run.state.methods["si"]
    assert torch.equal(method.path, torch.zeros_like(method.path))
    assert torch.equal(method.latest, method.start)
