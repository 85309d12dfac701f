"""One step: what it does to the weights."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from ignite.engine import Events
from safetensors.torch import load_file

from passerby.data.loading import EpochKey, ImageStore, training_batches
from passerby.data.samplers.pk import identity_batches
from passerby.errors import UserError
from passerby.losses.mix import LossTerm, total
from passerby.methods.method import Method
from passerby.methods.settings import BaseMethodSettings
from passerby.models.blocks import SplitNorm
from passerby.models.embedder import load_embedder
from passerby.models.groups import batch_norms
from passerby.training.checkpoint import load_checkpoint
from passerby.training.gradients import gradient_norms
from passerby.training.session import train
from passerby.training.state import TrainState
from passerby.training.trainer import make_trainer
from passerby.types import Embeddings
from tests.embedded import embed_tested
from tests.training.runs import state_hash

PLAIN = [
    "model.backbone=test_vit", "model.last_stride=2", "model.neck=none", "optim.name=sgd", "optim.lr=0.05",
    "optim.momentum=0", "optim.weight_decay=0", "optim.warmup_epochs=0",
]  # fmt: skip
"""No batch norm and no memory in the optimiser: a step is the rate times the gradient."""


@pytest.fixture
def begun(tiny, tmp_path):
    def begin(*overrides):
        run = make_trainer(tiny(*PLAIN, *overrides), tmp_path / "run")
        run.open_stage(0)
        stage, data = run.state.stage.train, run.setup.recipe.data
        plan = identity_batches(stage.pid, np.random.default_rng(0), identities=4, instances=2, count=3)
        store = ImageStore(stage.path, run.setup.recipe.input)
        return run, list(
            training_batches(store, plan, labels=stage.pid, cam=stage.cam, settings=data, place=EpochKey(0, 0, 0))
        )

    return begin


def gradient(run, batches):
    """Return the gradient of the mean loss of some batches, per parameter of the embedder, and leave none behind."""
    run.state.embedder.train()
    loss = sum(total(run.state.losses(run.state.embedder(batch.inputs), batch.labels)) for batch in batches) / len(
        batches
    )
    return torch.autograd.grad(loss, list(run.state.embedder.parameters()))


def take(run, batches, *, count):
    for batch in batches:
        run.step(batch, count=count)
        run.state.counters.iteration += 1


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_a_step_follows_the_mean_gradient_of_its_batches(begun, accumulate):
    run, batches = begun(f"engine.grad_accum_steps={accumulate}")
    before = [p.detach().clone() for p in run.state.embedder.parameters()]
    wanted = gradient(run, batches[:accumulate])
    take(run, batches[:accumulate], count=3)
    for parameter, old, slope in zip(run.state.embedder.parameters(), before, wanted, strict=True):
        torch.testing.assert_close(parameter.detach(), old - 0.05 * slope, atol=1e-6, rtol=1e-4)


def test_nothing_moves_before_enough_batches_are_together(begun):
    run, batches = begun("engine.grad_accum_steps=3")
    before = [p.detach().clone() for p in run.state.embedder.parameters()]
    take(run, batches[:2], count=3)
    assert all(torch.equal(p, old) for p, old in zip(run.state.embedder.parameters(), before, strict=True))


def test_the_last_batches_of_an_epoch_make_a_step_of_their_own(begun):
    run, batches = begun("engine.grad_accum_steps=2")
    take(run, batches[:2], count=3)
    before = [p.detach().clone() for p in run.state.embedder.parameters()]
    wanted = gradient(run, batches[2:3])
    take(run, batches[2:3], count=3)
    for parameter, old, slope in zip(run.state.embedder.parameters(), before, wanted, strict=True):
        torch.testing.assert_close(parameter.detach(), old - 0.05 * slope, atol=1e-6, rtol=1e-4)


def test_a_part_is_told_of_every_batch_and_of_every_step(begun, monkeypatch):
    class Listener(Method):
        heard: ClassVar[list[str]] = []

        def losses(self, ctx, batch, out):
            assert ctx.batch is batch
            self.heard.append("losses")
            return {}

        def after_step(self, ctx, batch, out):
            assert not torch.is_grad_enabled()
            assert len(out.before_neck) == len(batch.labels)
            assert any(p.grad is not None for p in ctx.embedder.parameters())
            self.heard.append("step" if ctx.is_updated else "batch")

    run, batches = begun("engine.grad_accum_steps=2")
    monkeypatch.setattr(TrainState, "active_methods", [Listener(BaseMethodSettings())])
    take(run, batches, count=3)
    assert Listener.heard == ["losses", "batch", "losses", "step", "losses", "step"]
    assert run.context.batch is None


def test_sums_hold_every_term_as_computed_and_as_added(begun):
    run, batches = begun("losses.triplet.weight=0.5")
    run.state.embedder.train()
    with torch.no_grad():
        terms = run.state.losses(run.state.embedder(batches[0].inputs), batches[0].labels)
    take(run, batches[:1], count=3)
    for name, factor in (("softmax", 1.0), ("triplet", 0.5)):
        value = float(terms[name].value)
        assert run.state.counters.sums[name] == pytest.approx([value, factor * value, factor], rel=1e-4)


def test_a_learnt_weight_is_told_with_all_that_it_adds(begun):
    run, batches = begun("losses.triplet.weight=learned")
    torch.nn.init.constant_(run.state.losses.log_variances["triplet"], 0.8)
    take(run, batches[:1], count=3)
    value, weighted, weight = run.state.counters.sums["triplet"]
    assert weight == pytest.approx(np.exp(-0.8))
    assert weighted == pytest.approx(weight * value + 0.4, rel=1e-5)


def test_the_pull_of_a_term_is_the_norm_of_its_gradient(begun):
    run, batches = begun("losses.triplet.weight=0.5")
    run.state.embedder.train()
    terms = run.state.losses(run.state.embedder(batches[0].inputs), batches[0].labels)
    parameters, norms, found = list(run.state.embedder.parameters()), {}, []
    for name, term in terms.items():
        slopes = torch.autograd.grad(term.value, parameters, retain_graph=True, allow_unused=True)
        norms[name] = float(torch.cat([slope.flatten() for slope in slopes if slope is not None]).norm())
    run.step(batches[0], count=3, first_step=found.append)
    assert {name: gradient.norm for name, gradient in found[0].terms.items()} == pytest.approx(norms, rel=1e-4)
    assert {name: gradient.weight for name, gradient in found[0].terms.items()} == {"softmax": 1.0, "triplet": 0.5}
    run.state.counters.iteration = 1
    run.step(batches[1], count=3, first_step=found.append)
    assert len(found) == 1


def test_measuring_the_pull_changes_no_bit(begun, tmp_path):
    states = []
    for first_step in (None, lambda record: None):
        run, batches = begun("optim.name=adam", "optim.momentum=0.9")
        run.step(batches[0], count=3, first_step=first_step)
        states.append(state_hash({**run.state.embedder.state_dict(), **run.state.losses.state_dict()}))
    assert states[0] == states[1]


def test_a_term_that_pulls_at_nothing_has_norm_0():
    weight = torch.nn.Parameter(torch.ones(3))
    terms = {"fixed": LossTerm(torch.tensor(2.0)), "other": LossTerm(torch.nn.Parameter(torch.ones(())) * 3)}
    assert gradient_norms(terms, [weight]) == {"fixed": 0, "other": 0}
    assert gradient_norms({"sum": LossTerm((2 * weight).sum(), 5.0)}, [weight]) == {"sum": pytest.approx(12**0.5)}
    weight.requires_grad_(False)
    assert gradient_norms({"sum": LossTerm((2 * weight).sum())}, [weight]) == {"sum": 0}


def test_an_epoch_that_ends_in_nan_is_told_and_not_saved(tiny, tmp_path):
    def spoil_the_last_step(run, engine):
        @engine.on(Events.ITERATION_COMPLETED(every=engine.state.epoch_length or 6))
        def _spoil():
            if run.state.counters.epoch == 1:
                next(run.state.embedder.parameters()).data.fill_(torch.nan)

    with pytest.raises(UserError, match="hold NaN or infinity after stage 1, epoch 2"):
        train(tiny(), tmp_path / "run", watch=[spoil_the_last_step])
    kept = load_checkpoint(tmp_path / "run" / "last.pt")
    assert kept.epoch == 1
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.embedder.values())


def test_the_running_mean_is_what_is_scored_and_kept(tiny, tmp_path):
    recipe = tiny("optim.ema_decay=0.9", "test.rerank=null")
    runs = []
    train(recipe, tmp_path / "run", watch=[lambda run, _: runs.append(run)])
    run, kept = runs[-1], load_file(tmp_path / "run" / "embedder.safetensors")
    assert (
        state_hash(kept) == state_hash(run.state.ema.module.state_dict()) != state_hash(run.state.embedder.state_dict())
    )
    last = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert state_hash(last["embedder"]) == state_hash(run.state.embedder.state_dict())
    assert int(last["ema"]["n_averaged"]) == 12
    stored = Embeddings.load(tmp_path / "run" / "embeddings" / "market1501.npz")
    alone = embed_tested(load_embedder(tmp_path / "run" / "embedder.safetensors"), run.setup.datasets["market1501"])
    np.testing.assert_allclose(stored.vectors, alone.vectors, rtol=1e-4, atol=1e-5)


def test_a_running_mean_changes_nothing_in_what_is_learnt(tiny, tmp_path):
    states = []
    for name, changes in (("with", ["optim.ema_decay=0.9"]), ("without", [])):
        train(tiny("evaluate=[]", *changes), tmp_path / name)
        states.append(state_hash(load_checkpoint(tmp_path / name / "last.pt").embedder))
    assert states[0] == states[1]


def test_a_running_mean_goes_on_in_the_next_stage_that_keeps_one(tiny, tmp_path):
    run = make_trainer(
        tiny("stages=[{train: [market1501]}, {train: [market1501], name: b}]", "optim.ema_decay=0.9"), tmp_path
    )
    run.open_stage(0)
    next(run.state.ema.parameters()).fill_(7)
    run.state.ema.n_averaged += 5
    run.open_stage(1)
    assert (next(run.state.ema.parameters()) == 7).all()
    assert int(run.state.ema.n_averaged) == 5


def test_the_power_of_a_learned_pooling_has_no_weight_decay(tiny, tmp_path):
    run = make_trainer(tiny("model.pool=gem_learned"), tmp_path / "run")
    run.open_stage(0)
    decay = {id(p): group["weight_decay"] for group in run.state.optimiser.param_groups for p in group["params"]}
    assert [decay[id(p)] for p in run.state.embedder.pool.parameters()] == [0]
    assert decay[id(next(run.state.embedder.backbone.parameters()))] > 0


def test_batch_norms_over_groups_must_divide_the_batch(tiny, tmp_path):
    sentence = "ghost_batch_size is 3, which does not divide the 8 images that each process sees at once"
    with pytest.raises(UserError, match=sentence):
        make_trainer(tiny("engine.ghost_batch_size=3"), tmp_path / "run")
    with pytest.raises(UserError, match="has no effect with batch_norm: synchronised"):
        tiny("engine.ghost_batch_size=4", "engine.batch_norm=synchronised")
    with pytest.raises(UserError, match="this model has no batch norm"):
        make_trainer(tiny(*PLAIN, "engine.ghost_batch_size=4"), tmp_path / "run")


def test_a_run_with_grouped_batch_norms_is_another_one_and_can_be_loaded(tiny, tmp_path):
    found = {}
    for name, changes in (("groups", ["engine.ghost_batch_size=4"]), ("plain", [])):
        train(tiny("evaluate=[]", *changes), tmp_path / name)
        found[name] = load_embedder(tmp_path / name / "embedder.safetensors").state_dict()
    assert list(found["groups"]) == list(found["plain"])
    assert state_hash(found["groups"]) != state_hash(found["plain"])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_backbone_stands_still_and_then_learns(tiny, tmp_path, accumulate):
    states = []

    def watch(run, engine):
        @engine.on(Events.ITERATION_COMPLETED(every=accumulate))
        def _remember():
            methods = (run.state.embedder.backbone, run.state.embedder.neck, run.state.losses)
            states.append([state_hash(method.state_dict()) for method in methods])

    changes = [f"engine.grad_accum_steps={accumulate}", "optim.freeze_backbone_steps=2", "optim.warmup_epochs=0"]
    train(tiny("evaluate=[]", "stages.0.epochs=1", *changes), tmp_path / "run", watch=[watch])
    untouched = state_hash(make_trainer(tiny(), tmp_path / "other").state.embedder.backbone.state_dict())
    backbone, neck, losses = zip(*states, strict=True)
    assert backbone[:2] == (untouched, untouched)
    assert len({untouched, *backbone[2:]}) == len(backbone) - 1
    assert len(set(neck)) == len(set(losses)) == len(states)


def test_a_backbone_that_stands_still_with_nothing_else_to_learn_is_told(tiny, tmp_path):
    with pytest.raises(UserError, match="none of the losses reaches anything that is trained"):
        train(tiny("optim.freeze_backbone_steps=2", "losses.softmax=null"), tmp_path / "run")


@pytest.mark.parametrize("kept", ["train", "freeze_stats", "freeze_all"])
def test_batch_norms_stand_still_as_far_as_the_stage_says(tiny, tmp_path, kept):
    norms, begun = {}, {}

    def watch(run, _engine):
        norms["live"] = batch_norms(run.state.embedder)
        begun["all"] = [{key: value.clone() for key, value in norm.state_dict().items()} for norm in norms["live"]]

    train(tiny("evaluate=[]", "stages.0.epochs=1", f"optim.batch_norm={kept}"), tmp_path / "run", watch=[watch])
    changed = {
        key
        for norm, before in zip(norms["live"], begun["all"], strict=True)
        for key, value in norm.state_dict().items()
        if not torch.equal(value, before[key])
    }
    statistics, rest = {"running_mean", "running_var", "num_batches_tracked"}, {"weight", "bias"}
    assert changed == {"train": statistics | rest, "freeze_stats": rest, "freeze_all": set()}[kept]
    assert all(norm.weight.requires_grad for norm in norms["live"])


def test_still_statistics_are_used(begun):
    run, batches = begun("optim.batch_norm=freeze_stats", "model.neck=bnneck")
    run.state.embedder.neck.running_mean += 1
    run.step(batches[0], count=3)
    assert not run.state.embedder.neck.training
    assert run.state.embedder.backbone.training


def test_instance_norms_go_on_beside_still_batch_norms():
    assert [type(norm).__name__ for norm in batch_norms(SplitNorm(8))] == ["BatchNorm2d"]


def test_a_model_without_batch_norm_cannot_keep_its_statistics(tiny, tmp_path):
    with pytest.raises(UserError, match=r"optim.batch_norm: freeze_all has no effect: this model has no batch norm"):
        make_trainer(tiny(*PLAIN, "optim.batch_norm=freeze_all"), tmp_path / "run")
