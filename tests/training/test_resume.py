"""A run that was stopped, in whatever way and wherever, ends with the same bits as one that was not."""

import json
import random
import signal
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ignite.engine import Events
from safetensors.torch import load_file

from passerby.training import run_log
from passerby.training.checkpoint import load_checkpoint
from passerby.training.scoring import Scoring
from passerby.training.session import Interrupted, train
from tests.conftest import JOINT
from tests.training.alone import train_and_kill
from tests.training.runs import interrupt_after, optimiser_hash, run, run_interrupted, state_hash, weights

TWO_STAGES = (
    "stages=[{train: [market1501], epochs: 1, optim: {lr: 1.0e-3, warmup_epochs: 0, schedule: cosine}},"
    " {train: [market1501], name: again, epochs: 2, losses: {triplet: null}}]"
)

SITES = TWO_STAGES.replace("train: [market1501], name: again", "train: [other]").replace("triplet: null", "triplet: {}")
TWO_SITES = [SITES, "data.sampler.identities=2", "evaluate=[]"]

VARIANTS = {
    "plain": [],
    "accumulated": ["engine.grad_accum_steps=2"],
    "accumulated unevenly": ["engine.grad_accum_steps=4"],
    # At 32x16 the last map is 1x1, where torch 2.15's bf16 gradient of a stride-2 convolution is garbage on a CPU.
    "bf16": ["engine.precision=bf16", "input.size=[64, 32]", "model.last_stride=1"],
    "two stages": [TWO_STAGES],
    "joint": [JOINT, "data.sampler=per_domain"],
    "uncached": ["data.cache=none"],
    "workers": ["data.cache=none", "data.workers=2"],
    "sgd": ["optim.name=sgd", "optim.lr=0.01"],
    "centres": ["losses.center.weight=0.01"],
    "learnt weights": ["losses.softmax.weight=learned", "losses.triplet.weight=learned", "losses.triplet.form=soft"],
    "tokens": ["model.backbone=test_vit", "model.last_stride=2"],
    "running mean": ["optim.ema_decay=0.9"],
    "running mean in two stages": [TWO_STAGES, "stages.0.optim.ema_decay=0.9", "stages.1.optim.ema_decay=0.5"],
    "replay": [*TWO_SITES, "method.replay={identities: 3, ratio: 0.5}"],
    "dark experience": [*TWO_SITES, "method.replay={identities: 3, match: 0.3, choose: random}", "losses.arcface={}"],
    "growing classifiers": [*TWO_SITES, "method={grow: {}, average: {}}"],
    "elastic weights": [*TWO_SITES, "method.ewc={images: 5, labels: sampled, decay: 0.5}"],
    "synapses by path": [*TWO_SITES, "method.si.strength=1"],
    "synapses by length": [*TWO_SITES, "method={mas: {images: 5}, average: {}}"],
    "still norms": [*TWO_SITES, "stages.1.optim.batch_norm=freeze_all"],
    "groups": ["engine.ghost_batch_size=4"],
    "still at first": ["optim.freeze_backbone_steps=3"],
    "still at first, accumulated": ["optim.freeze_backbone_steps=2", "engine.grad_accum_steps=2"],
    "channels first": ["engine.channels_last=false"],
    "backgrounds removed": ["foreground={use: mask, probability: 0.5}"],
    "backgrounds swapped": ["foreground=swap"],
    "backgrounds swapped by workers": ["foreground=swap", "data.cache=none", "data.workers=2"],
    "codes": [TWO_STAGES, "method.ebll={code: 8, epochs: 10, lr: 0.01, batch: 16, task: 1.0}"],
    "codes of maps": [TWO_STAGES, "method.ebll={code: 8, epochs: 10, lr: 0.01, batch: 16, place: before_pooling}"],
    "learnt policy": ["data.augment.policy={kind: rand, operations: 3, magnitude: 12}"],
    "learnt policy by workers": [
        *("data.augment={policy: {kind: auto}, jitter: {hue: 0.1}, blur: {}, grayscale: 0.3}", "data.cache=none"),
        "data.workers=2",
    ],
    "pooled by masks": ["foreground=pool", "model.pool=gem_learned"],
}
FAST = {
    *("plain", "accumulated unevenly", "two stages", "joint", "learnt weights", "running mean in two stages"),
    *("replay", "growing classifiers", "synapses by length", "backgrounds removed", "learnt policy", "codes"),
}
"""All other variants are slow together."""


@pytest.fixture(scope="module")
def variant_of(tiny, masks):
    """Make the recipe of a variant; masks are at hand for those that look at them."""

    def make(variant):
        at_hand = [f"masks={masks}", "test.background_bias=off"] if "foreground" in "".join(VARIANTS[variant]) else []
        return tiny(*at_hand, *VARIANTS[variant])

    return make


@pytest.fixture(scope="module")
def whole(variant_of, tmp_path_factory):
    """Train a variant without a stop, once."""
    done = {}

    def get(variant):
        if variant not in done:
            done[variant] = run(variant_of(variant), tmp_path_factory.mktemp("whole") / "run")
        return done[variant]

    return get


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in VARIANTS]
)
def test_stopped_and_resumed_equals_never_stopped(variant_of, whole, tmp_path, variant):
    steps = (2, 3) if two_stages(variant) else (2, 9)  # the second stage counts its own steps
    folder = run_interrupted(variant_of(variant), tmp_path / "run", steps=steps)
    assert weights(folder) == weights(whole(variant))
    assert optimiser_hash(folder) == optimiser_hash(whole(variant))
    one, other = (run_log.epochs(run_log.read(f / "log.jsonl")) for f in (folder, whole(variant)))
    assert [lasting(record) for record in one] == [lasting(record) for record in other]
    first, again = ((f / "log.jsonl").read_text().count('"gradients"') for f in (folder, whole(variant)))
    assert first == again == (2 if two_stages(variant) else 1)


def two_stages(variant):
    return any(change in (TWO_STAGES, SITES) for change in VARIANTS[variant])


def lasting(record):
    """Return what a record says apart from times."""
    return record.stage, record.epoch, record.lr, record.terms, record.drawn


def drop_out(run, _engine):
    """Make the network itself random, as stochastic depth would."""
    run.state.embedder.neck.register_forward_pre_hook(lambda _, given: (torch.nn.functional.dropout(given[0], 0.3),))


def test_what_is_random_in_the_network_goes_on_too(tiny, whole, tmp_path):
    train(tiny(), tmp_path / "whole", watch=[drop_out])
    with pytest.raises(Interrupted):
        train(tiny(), tmp_path / "run", watch=[drop_out, interrupt_after(3)])
    torch.manual_seed(7)
    train(tiny(), tmp_path / "run", start="resume", watch=[drop_out])
    assert weights(tmp_path / "run") == weights(tmp_path / "whole") != weights(whole("plain"))


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(step=st.integers(1, 12))
def test_after_any_step(tiny, whole, tmp_path_factory, step):
    folder = tmp_path_factory.mktemp("any") / "run"
    if step == 12:  # nothing is left to stop
        train(tiny(), folder, watch=[interrupt_after(step)])
    else:
        with pytest.raises(Interrupted, match="everything is saved in"):
            train(tiny(), folder, watch=[interrupt_after(step)])
        train(tiny(), folder, start="resume")
    assert weights(folder) == weights(whole("plain"))
    assert optimiser_hash(folder) == optimiser_hash(whole("plain"))


def test_a_stop_waits_for_the_optimiser_step(tiny, tmp_path):
    with pytest.raises(Interrupted, match="stopped before stage 1, epoch 1, batch 5"):
        train(tiny("engine.grad_accum_steps=4"), tmp_path / "run", watch=[interrupt_after(2)])


def test_a_finished_run_can_be_resumed_without_harm(tiny, whole, tmp_path):
    folder = run(tiny(), tmp_path / "run")
    before = weights(folder)
    train(tiny(), folder, start="resume")
    assert weights(folder) == before


class Stopped(Exception):
    pass


def test_what_ended_before_a_stop_does_not_end_again(tiny, whole, tmp_path, monkeypatch):
    def fail(_session):
        raise Stopped

    recipe = tiny(*VARIANTS["codes"])
    with monkeypatch.context() as patched:
        patched.setattr(Scoring, "after_stage", fail)  # right after the first stage has ended
        with pytest.raises(Stopped):
            train(recipe, tmp_path / "run")
    train(recipe, tmp_path / "run", start="resume")
    assert optimiser_hash(tmp_path / "run") == optimiser_hash(whole("codes"))
    assert (tmp_path / "run" / "log.jsonl").read_text().count('"metrics"') == 2


def test_a_run_killed_before_its_first_epoch_can_be_resumed(tiny, whole, tmp_path):
    def fail(_run, engine):
        @engine.on(Events.ITERATION_STARTED)
        def _raise():
            raise Stopped

    with pytest.raises(Stopped):
        train(tiny(), tmp_path / "run", watch=[fail])
    train(tiny(), tmp_path / "run", start="resume")
    assert weights(tmp_path / "run") == weights(whole("plain"))


def test_the_best_epoch_is_remembered_over_a_stop(tiny, tmp_path):
    from passerby.training.run_log import ScoreRecord

    recipe = tiny("test.every=1", "test.keep_best=true")
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "run", watch=[interrupt_after(7)])
    (tmp_path / "run" / "best-on-test.safetensors").write_bytes(b"kept")
    run_log.append(tmp_path / "run" / "log.jsonl", ScoreRecord(1, 1, "market1501", 2.0, 1.0, 1.0))
    train(recipe, tmp_path / "run", start="resume")
    assert (tmp_path / "run" / "best-on-test.safetensors").read_bytes() == b"kept"


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_saves_and_the_handlers_are_put_back(tiny, tmp_path, number):
    before = [signal.getsignal(each) for each in SIGNALS]
    with pytest.raises(Interrupted):
        train(tiny(), tmp_path / "run", watch=[interrupt_after(2, number)])
    assert [signal.getsignal(each) for each in SIGNALS] == before
    assert load_checkpoint(tmp_path / "run" / "last.pt").iteration == 2


def test_a_hang_up_that_is_to_be_ignored_is(tiny, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        train(tiny("stages.0.epochs=1", "evaluate=[]"), tmp_path / "run", watch=[interrupt_after(2, signal.SIGHUP)])
    finally:
        signal.signal(signal.SIGHUP, before)
    assert load_checkpoint(tmp_path / "run" / "last.pt").epoch == 1


@pytest.mark.parametrize("augment", ["{}", "{policy: {kind: trivial}, jitter: {hue: 0.1}, blur: {}, grayscale: 0.3}"])
def test_killed_at_any_moment_and_resumed(tiny, tiny_file, tmp_path, augment):
    changes, folder = ("stages.0.epochs=4", "evaluate=[]", f"data.augment={augment}"), tmp_path / "killed"
    train_and_kill(tiny_file, changes, folder, when=lambda: lines_of(folder) > 0, pause=float(torch.rand(())) * 0.2)
    assert not (folder / "scores.json").exists()
    assert torch.load(folder / "last.pt", weights_only=True)["epoch"] < 4
    train(tiny(*changes), folder, start="resume")
    assert weights(folder) == weights(run(tiny(*changes), tmp_path / "whole"))
    assert [r.epoch for r in run_log.epochs(run_log.read(folder / "log.jsonl"))] == [1, 2, 3, 4]


THREE_STAGES = (
    "stages=[{train: [market1501], epochs: 2}, {train: [other], epochs: 2},"
    " {train: [market1501], name: again, epochs: 2}]",
    "data.sampler.identities=3",
    "test.rerank=null",
    "method={lwf: {tr_dist: 1.0, heads: 1.0}, average: {}}",
)


def test_three_stages_killed_at_random_moments_end_with_the_same_scores(tiny, tiny_file, tmp_path):
    whole = run(tiny(*THREE_STAGES), tmp_path / "whole")
    folder, moments = tmp_path / "killed", random.Random(0)
    length = lines_of(whole)
    for _ in range(3):
        wanted = lines_of(folder) + moments.randint(1, length // 2)
        late = partial(lambda lines: lines_of(folder) >= lines, wanted)
        train_and_kill(tiny_file, THREE_STAGES, folder, when=late, pause=moments.random() * 0.1)
    assert not (folder / "scores.json").exists()
    train(tiny(*THREE_STAGES), folder, start="resume")
    assert weights(folder) == weights(whole)
    assert state_hash(load_file(folder / "stage-2.safetensors")) == state_hash(load_file(whole / "stage-2.safetensors"))
    assert (folder / "scores.json").read_text() == (whole / "scores.json").read_text()
    one, other = (json.loads((f / "continual_metrics.json").read_text()) for f in (folder, whole))
    for key in ("stages", "mAP", "rank1", "earlier_gallery"):
        assert one[key] == other[key]
    held = [[cost["memory_footprint"] for cost in each["cost"]] for each in (one, other)]
    assert held[0] == held[1]


def lines_of(folder):
    """Count the lines of a run's log."""
    log_file = folder / "log.jsonl"
    return log_file.read_text().count("\n") if log_file.exists() else 0
