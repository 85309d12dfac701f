"""Gradients are averaged over processes exactly, also where some processes have none."""

import json

import pytest
import torch
from torch import nn

from passerby.training.averaging import GradientAveraging
from tests.training.two_processes import in_two

NAMES = ("large", "both", "second", "nobody", "first")


def average_in_two(rank, _recipe, _out):
    """Return the gradients that some backward passes leave, and how many messages the first one takes."""
    parameters = {name: nn.Parameter(torch.zeros(2**20 if name == "large" else 2)) for name in NAMES}
    averaging = GradientAveraging()
    found = {}

    def backward(name, *, backward="averages", look=False, **factors):
        def compute():
            return torch.stack([factor * parameters[key].sum() for key, factor in factors.items()]).sum()

        loss = averaging.loss(compute, parameters.values(), backward=backward)
        if look:
            torch.autograd.grad(loss, [parameters["both"]], retain_graph=True)
        loss.backward()
        found[name] = {key: None if p.grad is None else p.grad[0].item() for key, p in parameters.items()}

    def clear():
        for parameter in parameters.values():
            parameter.grad = None

    backward("one step", both=rank + 1, large=rank, **({"second": 1} if rank else {"first": 4}))
    found["messages"] = len(averaging._wrapper._get_ddp_logging_data()["bucket_sizes"].split(","))
    clear()
    backward("looked at before", look=True, both=rank + 1, large=rank, **({"second": 1} if rank else {"first": 4}))
    clear()
    backward("added", backward="accumulates", both=rank + 1, **({} if rank else {"first": 4}))
    backward("added and averaged", both=rank + 1, **({"second": 1} if rank else {}))
    clear()
    wrapper = averaging._wrapper
    backward("again", both=rank)
    found["kept"] = averaging._wrapper is wrapper
    clear()
    parameters["both"].requires_grad_(False)
    backward("frozen", both=rank + 1, large=rank)
    parameters["both"].requires_grad_(True)
    clear()
    backward("free again", both=rank + 1)
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    out = tmp_path_factory.mktemp("averaged")
    in_two(average_in_two, out, out)
    return [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(2)]


NONE = dict.fromkeys(NAMES)
STEP = NONE | {"both": 1.5, "second": 0.5, "first": 2.0, "large": 0.5}


@pytest.mark.parametrize(
    ("case", "gradients"),
    {
        "one step": STEP,
        "looked at before": STEP,
        "added and averaged": NONE | {"both": 3.0, "second": 0.5, "first": 2.0},
        "again": NONE | {"both": 0.5},
        "frozen": NONE | {"large": 0.5},
        "free again": NONE | {"both": 1.5},
    }.items(),
)
def test_gradients_are_the_mean_over_processes_and_none_where_no_process_has_one(ranks, case, gradients):
    assert ranks[0][case] == ranks[1][case] == gradients


def test_gradients_only_add_up_before_the_last_batch_of_a_step(ranks):
    assert ranks[0]["added"] == NONE | {"both": 1.0, "first": 4.0}
    assert ranks[1]["added"] == NONE | {"both": 2.0}


def test_a_wrapper_is_kept_while_the_same_parameters_learn(ranks):
    assert ranks[0]["kept"]


def test_gradients_travel_in_several_messages_so_that_the_first_go_before_the_last_is_known(ranks):
    assert ranks[0]["messages"] == 2


def test_one_process_computes_without_a_wrapper():
    parameter = nn.Parameter(torch.ones(2))
    GradientAveraging().loss(parameter.sum, [parameter], backward="averages").backward()
    assert parameter.grad.tolist() == [1.0, 1.0]
