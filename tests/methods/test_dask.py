"""Sites that leave their colours, and batches that are seen in them again."""

import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from passerby.data.loading import ImageStore
from passerby.errors import UserError
from passerby.methods.dask import DaskSettings, learn_colours, measure_colours
from passerby.methods.method import bytes_of
from passerby.models.akpnet import AKPNet
from passerby.training.forward import forward
from passerby.training.start_messages import start_messages
from passerby.training.trainer import make_trainer
from passerby.types import Batch, Inputs
from tests.methods.test_weight_penalty import TWO_SITES

PART = "backbone: test_resnet, steps: 2, batch: 4"
THREE = (
    "stages=[{train: [market1501], epochs: 1}, {train: [other], epochs: 1}, {train: [market1501], epochs: 1, name: c}]"
)
CPU = torch.device("cpu")


def dask(more=""):
    return f"method.dask={{{PART}, {more}}}"


@pytest.fixture
def second(later):
    """Return what begins a run, ends its first stage untrained, and opens the second."""
    return partial(later, shaken=False)


def some(run, count=4):
    """Return a batch of the present stage."""
    rows = np.arange(count) * 3
    store = ImageStore(run.state.stage.train.path, run.state.embedder.input)
    images = torch.stack([store[row] for row in rows])
    pid, cam = (torch.from_numpy(column[rows]) for column in (run.state.stage.train.pid, run.state.stage.train.cam))
    return Batch(Inputs(images, cam), pid, torch.from_numpy(rows))


# ---- learning


def test_a_network_learns_to_bring_the_colours_of_a_site_back(tiny, tmp_path):
    run = make_trainer(tiny(), tmp_path / "run")
    store = ImageStore(run.setup.stages[0].train.path, run.state.embedder.input)
    torch.manual_seed(0)
    network = AKPNet("test_resnet", store.inputs)
    before = measure_colours(network.eval(), store, seed=0, device=CPU)
    assert before["error"] == pytest.approx(before["error without"], rel=1e-4)
    learn_colours(network, store, steps=40, batch=8, lr=2e-3, seed=0, device=CPU)
    after = measure_colours(network.eval(), store, seed=0, device=CPU)
    assert after["error without"] == before["error without"]
    assert after["error"] < 0.9 * before["error"]


def test_what_is_left_depends_on_the_stage_alone(tiny, tmp_path):
    found = []
    for seed in (1, 2):
        run = make_trainer(tiny(*TWO_SITES, dask()), tmp_path / str(seed))
        run.open_stage(0)
        torch.manual_seed(seed)  # whatever was drawn before plays no part
        run.state.methods["dask"].on_stage_end(run.context)
        found.append(run.state.methods["dask"].networks[0].state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


# ---- the second look


def test_a_batch_is_seen_again_in_earlier_colours(second):
    run = second(dask("weight: 2"), "method.affinity={weight: 3}", "losses.triplet.weight=0.5")
    method, batch = run.state.methods["dask"], some(run)
    (network,) = method.networks
    torch.nn.init.normal_(network.predict[-1].weight, std=0.01, generator=torch.Generator().manual_seed(0))
    transferred = method.transfer(run.context, batch.inputs.images)
    wanted = network(batch.inputs.images / 255)  # normalised, which the embedder does itself
    torch.testing.assert_close(run.state.embedder.normalise(transferred), wanted, atol=1e-4, rtol=1e-4)
    assert (transferred - batch.inputs.images).abs().mean() > 1
    terms = method.losses(run.context, batch, forward(run.setup, run.state, batch))
    again = replace(batch, inputs=replace(batch.inputs, images=transferred))
    out = forward(run.setup, run.state, again)
    plain = run.state.losses(out, batch.labels) | run.state.methods["affinity"].losses(run.context, again, out)
    assert {name: term.weight for name, term in terms.items()} == {
        "dask softmax": 2.0, "dask triplet": 1.0, "dask affinity": 6.0,
    }  # fmt: skip
    for name, term in plain.items():
        torch.testing.assert_close(terms[f"dask {name}"].value, term.value, atol=1e-5, rtol=1e-4)


def test_only_losses_that_transfer_are_computed_in_earlier_colours(second, monkeypatch):
    run = second(dask(), "method.affinity={}")
    batch = some(run)
    assert {"softmax", "triplet", "affinity"} == set(run.context.compute_transferred_losses(batch))
    monkeypatch.setattr(type(run.state.methods["affinity"].settings), "transfers", False)
    assert {"softmax", "triplet"} == set(run.context.compute_transferred_losses(batch))


def test_gradients_reach_the_model_and_not_the_network(second):
    run = second(dask())
    networks = run.state.methods["dask"].networks
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    moved = {name: value.clone() for name, value in run.state.embedder.backbone.named_buffers()}
    batch = some(run)
    terms = run.state.methods["dask"].losses(run.context, batch, forward(run.setup, run.state, batch))
    torch.stack([term.weighted for term in terms.values()]).sum().backward()
    reached = [p.grad is not None and bool(p.grad.any()) for p in run.state.embedder.backbone.parameters()]
    assert reached[0]
    assert sum(reached) > len(reached) / 2  # the rest stands before a scale that begins at 0
    run.step(batch, count=6)
    assert not any(p.requires_grad or p.grad is not None for p in networks.parameters())
    assert not any(module.training for module in networks.modules() if module is not networks)
    assert all(torch.equal(value, before[name]) for name, value in networks.state_dict().items())
    counted = {
        int(value - moved[n]) for n, value in run.state.embedder.backbone.named_buffers() if n.endswith("_tracked")
    }
    assert counted == {4}  # two looks by hand, and two in the step


def test_a_weight_that_is_learnt_counts_here_too(second):
    run = second(dask("weight: 2"), "losses.softmax.weight=learned")
    share = run.state.losses.log_variances["softmax"]
    share.data.fill_(0.3)
    batch = some(run)
    term = run.state.methods["dask"].losses(run.context, batch, forward(run.setup, run.state, batch))["dask softmax"]
    plain = run.context.compute_transferred_losses(
        replace(
            batch,
            inputs=replace(batch.inputs, images=run.state.methods["dask"].transfer(run.context, batch.inputs.images)),
        )
    )["softmax"]
    assert term.weighted.item() == pytest.approx(2 * plain.weighted.item(), rel=1e-4)
    (gradient,) = torch.autograd.grad(term.weighted, share)
    assert gradient.item() == pytest.approx(2 * (0.5 - plain.value.item() * np.exp(-0.3)), rel=1e-3)


def test_the_pooling_is_weighted_in_the_second_look_too(tiny, masks, tmp_path):
    run = make_trainer(tiny("foreground=pool", f"masks={masks}", dask()), tmp_path / "run")
    run.open_stage(0)
    method, batch, found = run.state.methods["dask"], some(run), []
    method.on_stage_end(run.context)
    upper = torch.zeros(4, 1, 32, 16)
    upper[:, :, :16] = 1
    for mask in (upper, 1 - upper):
        masked = replace(batch, inputs=replace(batch.inputs, mask=mask))
        found.append(
            method.losses(run.context, masked, forward(run.setup, run.state, masked))["dask softmax"].value.item()
        )
    assert found[0] != found[1]


# ---- whose colours


@pytest.mark.parametrize(("whose", "count"), [("last", 1), ("random", 3)])
def test_only_the_last_network_is_kept_unless_any_may_be_asked(tiny, tmp_path, whose, count):
    run = make_trainer(
        tiny(THREE, "data.sampler.identities=3", "evaluate=[]", dask(f"domain: {whose}")), tmp_path / "run"
    )
    method, told = None, []
    run.context._log = told.append
    for number in range(3):
        run.open_stage(number)
        method = run.state.methods["dask"]
        method.on_stage_end(run.context)
    assert len(method.networks) == count
    assert method.memory_footprint() == {"networks": count * bytes_of(method.networks[0].state_dict())}
    assert [(record.method, set(record.values)) for record in told] == 3 * [("dask", {"error", "error without"})]


def test_networks_of_several_kinds_come_back(second):
    run = second(dask("domain: random"))
    method = run.state.methods["dask"]
    method.networks.append(AKPNet("test_efficientnet", run.state.embedder.input))
    state = copy.deepcopy(method.state_dict())
    fresh = DaskSettings().make()
    fresh.load_state_dict(state)
    assert not any(module.training for network in fresh.networks for module in network.modules())
    assert not any(p.requires_grad for p in fresh.parameters())
    again = fresh.state_dict()
    assert again.keys() == state.keys()
    assert all(torch.equal(value, again[name]) for name, value in state.items() if name != "_extra_state")
    assert again["_extra_state"] == state["_extra_state"]


def test_a_random_site_is_drawn_anew_in_every_epoch(second):
    run = second(dask("domain: random"))
    method = run.state.methods["dask"]
    method.networks.extend(
        [AKPNet("test_resnet", run.state.embedder.input), AKPNet("test_resnet", run.state.embedder.input)]
    )
    drawn = []
    for epoch in range(20):
        run.state.counters.epoch = epoch
        drawn.append(method._which(run.context))
        run.state.counters.iteration = 5
        assert method._which(run.context) == drawn[-1]
        run.state.counters.iteration = 0
    assert set(drawn) == {0, 1, 2}


# ---- what it says and what it refuses


def test_random_weights_are_told(tiny, tmp_path):
    told = "method.dask: its network begins with random weights; the published one is pre-trained (weights: pretrained)"
    assert told in start_messages(make_trainer(tiny(*TWO_SITES, dask()), tmp_path))
    assert DaskSettings(weights="pretrained").note == ""


def test_what_would_do_nothing_is_refused(tiny, tmp_path):
    with pytest.raises(UserError, match="steps: 0 and weight: 0 have no effect"):
        tiny("method.dask={steps: 0, weight: 0}")
    run = make_trainer(tiny("method.dask={steps: 0}"), tmp_path / "first")
    with pytest.raises(UserError, match="steps 0 and no earlier stage, so it would do nothing in 'market1501'"):
        run.open_stage(0)
    run = make_trainer(tiny(*TWO_SITES, "stages.1.method.dask={}"), tmp_path / "second")
    run.open_stage(0)
    with pytest.raises(UserError, match="no stage before 'other' left a network, so there are no earlier colours"):
        run.open_stage(1)


def test_a_network_that_cannot_be_had_is_refused_before_training(tiny, tmp_path):
    run = make_trainer(tiny("method.dask={backbone: no_such_net}"), tmp_path / "run")
    with pytest.raises(UserError, match=r"method.dask: its backbone: no family of backbones knows 'no_such_net'"):
        run.open_stage(0)


def test_covered_backgrounds_are_refused(tiny):
    with pytest.raises(UserError, match=r"method.dask learns the colours of whole images, and foreground.use: mask"):
        tiny("method.dask={}", "foreground=mask")


def test_images_of_a_memory_are_not_colours_of_the_site(second, monkeypatch):
    run = second(dask(), "method.replay={identities: 2}")
    seen = []
    monkeypatch.setattr("passerby.methods.dask.learn_colours", lambda _, store, **__: seen.append(store.paths))
    run.state.methods["dask"].on_stage_end(run.context)
    assert list(seen[0]) == list(run.setup.stages[1].train.path)
    assert len(run.state.stage.train) > len(run.setup.stages[1].train)


def test_dask_with_its_growing_head_is_that_of_the_paper():
    from passerby.recipe import load_recipe

    stage = load_recipe("lifelong/order_1-dask", ["method.grow={}"]).stages[1]
    assert list(stage.method.chosen) == ["average", "affinity", "grow", "dask"]
    method = stage.method.dask
    assert (method.weight, method.domain, method.steps, method.batch, method.lr) == (4.5, "last", 20_000, 128, 2e-4)
    assert (method.backbone, method.weights) == ("mobilenetv3_small_100", "pretrained")
    assert (stage.method.affinity.weight, stage.method.affinity.temperature) == (1.0, 0.1)
    assert (stage.method.affinity.rectified, stage.method.average.alpha) == (False, 0.5)


def test_it_declares_what_it_adds_and_keeps():
    for settings in (DaskSettings(), DaskSettings(domain="random")):
        assert (settings.adds_loss, settings.reads_memory, settings.acts_at_end) == ("later", True, True)
    only_leaves = DaskSettings(weight=0)
    assert (only_leaves.adds_loss, only_leaves.reads_memory, only_leaves.acts_at_end) == ("never", False, True)
    assert not DaskSettings(steps=0).acts_at_end
