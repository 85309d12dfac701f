"""Every loss, every method and every way of training in two processes on the CPU does what it does in one."""

import json

import pytest
import torch

from tests.training.gathering import CASES, VARIANTS
from tests.training.runs import optimiser_hash, weights
from tests.training.two_processes import compare_with_one, train_in_two

pytestmark = pytest.mark.slow

ALL = {**CASES, **VARIANTS}
UNLIKE_ONE = ("batch norm", "running mean", "mean teachers", "local")
"""Variants with statistics or triplets of each process alone."""
BROKEN_OFF = {"running mean": 3, "mean teachers": 2, "backbone frozen at first": 3}
"""Variants that are also stopped before so many batches are done, and gone on with."""


@pytest.fixture(scope="module")
def two(tiny_file, tmp_path_factory):
    """Train all variants in two processes; return the folder."""
    out = tmp_path_factory.mktemp("two")
    train_in_two(tiny_file, out, ALL, broken_off=BROKEN_OFF)
    return out


@pytest.fixture(scope="module")
def ranks(two):
    return [json.loads((two / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("variant", ALL)
def test_all_processes_end_with_the_same_weights(ranks, variant):
    assert ranks[0][variant] == ranks[1][variant]


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in UNLIKE_ONE])
def test_a_step_of_two_equals_a_step_of_one(two, tiny, tmp_path, variant):
    moved, apart = compare_with_one(two / variant, tiny(*VARIANTS[variant]), tmp_path / "one")
    assert moved > 1e-3
    assert apart < 1e-5
    if variant == "centres":
        together, alone = (
            torch.load(folder / "last.pt", weights_only=True)["losses"]["losses.center.centres"]
            for folder in (two / variant, tmp_path / "one")
        )
        assert float((together - alone).abs().max()) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_two_processes_learn_what_one_does_by_every_loss_and_every_method(two, tiny, tmp_path, case):
    moved, apart = compare_with_one(two / case, tiny(*CASES[case]), tmp_path / "one")
    assert moved > 1e-4
    assert apart < 1e-5


@pytest.mark.parametrize("variant", BROKEN_OFF)
def test_two_processes_go_on_in_the_middle_of_an_epoch_as_if_never_stopped(two, ranks, variant):
    whole, broken = two / variant, two / f"{variant}, broken off"
    assert weights(broken) == weights(whole)
    assert optimiser_hash(broken) == optimiser_hash(whole)
    assert [rank[f"{variant}, stopped"] for rank in ranks] == [True, True]
