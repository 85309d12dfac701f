"""Schedules are functions of the step; settings without effect are refused."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from passerby.optim import OptimSettings, effective_decay, learning_rate_at, make_average, make_optimiser, set_lr

ORACLE = json.loads((Path(__file__).parent / "oracles_data" / "lr_schedule.json").read_text())


@pytest.mark.parametrize("name", ["sbs_cosine_flat", "cosine_no_delay"])
def test_cosine_equals_the_published_schedule(name):
    wanted = ORACLE[name]
    per_epoch, epochs = wanted["iters_per_epoch"], wanted["max_epoch"]
    settings = OptimSettings(
        lr=wanted["base"], schedule="cosine", warmup_epochs=wanted["warmup_iters"] / per_epoch,
        warmup_factor=wanted["warmup_factor"], flat_epochs=wanted["delay_epochs"], min_lr=wanted["eta_min"],
    )  # fmt: skip

    def at(step):
        return learning_rate_at(settings, step, steps_per_epoch=per_epoch, epochs=epochs)

    found = [at(epoch * per_epoch) for epoch in range(epochs)]
    assert found == pytest.approx(wanted["lr_at_first_iter_of_epoch"], rel=1e-6)
    for step, value in wanted["iter_trace"]:
        if step < wanted["warmup_iters"]:
            assert at(step) == pytest.approx(value, rel=1e-6)


def test_multistep_counts_epochs_of_the_stage():
    wanted = ORACLE["bagtricks_multistep"]
    settings = OptimSettings(
        lr=wanted["base"], milestones=(40, 90), warmup_epochs=2000 / 202, warmup_factor=wanted["warmup_factor"]
    )
    found = [learning_rate_at(settings, epoch * 202, steps_per_epoch=202, epochs=120) for epoch in range(120)]
    assert found[:40] == pytest.approx(wanted["lr_at_first_iter_of_epoch"][:40], rel=1e-6)
    assert found[40:90] == pytest.approx([3.5e-5] * 50)  # the published code falls 9 epochs later
    assert found[90:] == pytest.approx([3.5e-6] * 30)
    assert found[99:] == pytest.approx(wanted["lr_at_first_iter_of_epoch"][99:])


@given(
    st.sampled_from(["multistep", "cosine", "constant"]), st.integers(1, 7), st.integers(1, 12), st.floats(0, 15),
    st.floats(0, 15),
)  # fmt: skip
def test_a_rate_stays_between_its_ends(schedule, per_epoch, epochs, warmup, delay):
    settings = OptimSettings(
        lr=1.0, schedule=schedule, warmup_epochs=warmup, warmup_factor=0.1,
        min_lr=0.0 if schedule == "cosine" else 7e-7,
        flat_epochs=delay if schedule == "cosine" else 0,
    )  # fmt: skip
    found = [
        learning_rate_at(settings, step, steps_per_epoch=per_epoch, epochs=epochs) for step in range(per_epoch * epochs)
    ]
    assert all(0 <= value <= 1 + 1e-12 for value in found)
    warm = round(warmup * per_epoch)
    rising = found[: warm if schedule == "constant" else 0]
    assert rising == sorted(rising)
    if not warm:
        assert found[0] == 1.0 or schedule == "cosine"
        assert found == sorted(found, reverse=True)


def test_no_warm_up():
    assert learning_rate_at(OptimSettings(warmup_epochs=0), 0, steps_per_epoch=1, epochs=1) == 3.5e-4


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"schedule": "cosine", "milestones": (5,)}, "milestones has no effect with schedule: cosine"),
        ({"schedule": "constant", "gamma": 0.5}, "gamma has no effect with schedule: constant"),
        ({"flat_epochs": 3}, "flat_epochs has no effect with schedule: multistep"),
        ({"schedule": "constant", "min_lr": 0.0}, "min_lr has no effect with schedule: constant"),
        ({"momentum": 0.5}, "momentum has no effect with name: adam"),
        ({"milestones": (5, 5)}, r"milestones must rise, got \[5, 5\]"),
        ({"milestones": (7, 5)}, "milestones must rise"),
    ],
)
def test_a_setting_without_effect_is_refused(values, told):
    with pytest.raises(ValidationError, match=told):
        OptimSettings(**values)


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_the_optimiser_holds_what_wants_a_gradient(name, kind):
    modules = [nn.Linear(2, 3), nn.BatchNorm1d(3)]
    modules[1].bias.requires_grad_(False)
    optimiser = make_optimiser(
        OptimSettings(name=name, lr=0.5, weight_decay=0.25),
        {f"{n}.{key}": value for n, module in enumerate(modules) for key, value in module.named_parameters()},
    )
    assert type(optimiser) is kind
    (group,) = optimiser.param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in (*modules[0].parameters(), modules[1].weight)}
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
    assert name != "sgd" or group["momentum"] == 0.9
    set_lr(optimiser, 0.125)
    assert group["lr"] == 0.125


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_some_parameters_are_spared_the_decay(name):
    module = nn.Linear(2, 3)
    optimiser = make_optimiser(
        OptimSettings(name=name, weight_decay=0.25), dict(module.named_parameters()), no_weight_decay=[module.bias]
    )
    assert [[id(p) for p in g["params"]] for g in optimiser.param_groups] == [[id(module.weight)], [id(module.bias)]]
    assert [g["weight_decay"] for g in optimiser.param_groups] == [0.25, 0.0]
    set_lr(optimiser, 0.125)
    assert [g["lr"] for g in optimiser.param_groups] == [0.125, 0.125]


def test_a_running_mean_equals_the_slow_loop():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    averaged, wanted = make_average(module, decay=0.3), None
    for step in range(6):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        module(torch.randn(8, 3))
        averaged.update_parameters(module)
        state = {name: value.clone() for name, value in module.state_dict().items()}
        share = min(0.3, (1 + step) / (10 + step))
        wanted = wanted or state
        wanted = {name: share * mean + (1 - share) * state[name] for name, mean in wanted.items()}
        wanted["1.num_batches_tracked"] = state["1.num_batches_tracked"]
    for name, value in averaged.module.state_dict().items():
        torch.testing.assert_close(value, wanted[name])
    assert not any(parameter.requires_grad for parameter in averaged.parameters())
    assert not averaged.module.training


def test_a_running_mean_warms_up():
    shares = [effective_decay(0.999, step) for step in range(20_000)]
    assert shares[0] == 0.1
    assert shares == sorted(shares)
    assert shares[-1] == 0.999
    assert effective_decay(0.05, 0) == 0.05
