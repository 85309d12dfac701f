"""One step: what it does to the weights."""

import numpy as np
import pytest
import torch
from ignite.engine import Events

from passerby.data.loading import ImageStore, Place, training_batches
from passerby.data.samplers import identity_batches
from passerby.errors import UserError
from passerby.losses.mix import total
from passerby.train.checkpoint import load_checkpoint
from passerby.train.loop import train_step
from passerby.train.run import make_run
from passerby.train.session import train

PLAIN = [
    "model.backbone=test_vit", "model.last_stride=2", "model.neck=none", "optim.name=sgd", "optim.lr=0.05",
    "optim.momentum=0", "optim.weight_decay=0", "optim.warmup_epochs=0",
]  # fmt: skip
"""No batch norm and no memory in the optimiser: a step is the rate times the gradient."""


@pytest.fixture
def begun(tiny, tmp_path):
    def begin(*overrides):
        run = make_run(tiny(*PLAIN, *overrides), tmp_path / "run")
        run.open_stage(0)
        stage, data = run.stage.train, run.recipe.data
        plan = identity_batches(stage.pid, np.random.default_rng(0), identities=4, instances=2, count=3)
        store = ImageStore(stage.path, run.recipe.input)
        return run, list(
            training_batches(store, plan, labels=stage.pid, cam=stage.cam, settings=data, place=Place(0, 0, 0))
        )

    return begin


def gradient(run, batches):
    """Return the gradient of the mean loss of some batches, per parameter of the embedder, and leave none behind."""
    run.embedder.train()
    loss = sum(total(run.losses(run.embedder(batch.images), batch.labels)) for batch in batches) / len(batches)
    return torch.autograd.grad(loss, list(run.embedder.parameters()))


def take(run, batches, *, count):
    for batch in batches:
        train_step(run, batch, count=count)
        run.iteration += 1


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_a_step_follows_the_mean_gradient_of_its_batches(begun, accumulate):
    run, batches = begun(f"engine.accumulate={accumulate}")
    before = [p.detach().clone() for p in run.embedder.parameters()]
    wanted = gradient(run, batches[:accumulate])
    take(run, batches[:accumulate], count=3)
    for parameter, old, slope in zip(run.embedder.parameters(), before, wanted, strict=True):
        torch.testing.assert_close(parameter.detach(), old - 0.05 * slope, atol=1e-6, rtol=1e-4)
    assert all(p.grad is None for p in run.embedder.parameters())


def test_nothing_moves_before_enough_batches_are_together(begun):
    run, batches = begun("engine.accumulate=3")
    before = [p.detach().clone() for p in run.embedder.parameters()]
    take(run, batches[:2], count=3)
    assert all(torch.equal(p, old) for p, old in zip(run.embedder.parameters(), before, strict=True))


def test_the_last_batches_of_an_epoch_make_a_step_of_their_own(begun):
    run, batches = begun("engine.accumulate=2")
    take(run, batches[:2], count=3)
    before = [p.detach().clone() for p in run.embedder.parameters()]
    wanted = gradient(run, batches[2:3])
    take(run, batches[2:3], count=3)
    for parameter, old, slope in zip(run.embedder.parameters(), before, wanted, strict=True):
        torch.testing.assert_close(parameter.detach(), old - 0.05 * slope, atol=1e-6, rtol=1e-4)


def test_sums_hold_every_term_as_computed_and_as_added(begun):
    run, batches = begun("losses.triplet.weight=0.5")
    run.embedder.train()
    with torch.no_grad():
        terms = run.losses(run.embedder(batches[0].images), batches[0].labels)
    take(run, batches[:1], count=3)
    for name, factor in (("softmax", 1.0), ("triplet", 0.5)):
        value = float(terms[name].value)
        assert run.sums[name] == pytest.approx([value, factor * value], rel=1e-4)


def test_an_epoch_that_ends_in_nan_is_told_and_not_saved(tiny, tmp_path):
    def spoil_the_last_step(run, engine):
        @engine.on(Events.ITERATION_COMPLETED(every=engine.state.epoch_length or 6))
        def _spoil():
            if run.epoch == 1:
                next(run.embedder.parameters()).data.fill_(torch.nan)

    with pytest.raises(UserError, match="hold NaN or infinity after stage 1, epoch 2"):
        train(tiny(), tmp_path / "run", watch=[spoil_the_last_step])
    kept = load_checkpoint(tmp_path / "run" / "last.pt")
    assert kept.epoch == 1
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.embedder.values())


def test_the_power_of_a_learned_pooling_has_no_weight_decay(tiny, tmp_path):
    run = make_run(tiny("model.pool=gem_learned"), tmp_path / "run")
    run.open_stage(0)
    decay = {id(p): group["weight_decay"] for group in run.optimiser.param_groups for p in group["params"]}
    assert [decay[id(p)] for p in run.embedder.pool.parameters()] == [0]
    assert decay[id(next(run.embedder.backbone.parameters()))] > 0
