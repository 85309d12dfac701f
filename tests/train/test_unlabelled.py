"""Stages without labels: who is who is found anew in every epoch, and a run may be broken off anywhere."""

import json

import numpy as np
import pytest
import torch

from passerby.errors import UserError
from passerby.train import journal
from passerby.train.session import train
from tests.train.runs import optimiser_hash, run, run_interrupted, weights

TARGET = "stages=[{train: [market1501], epochs: 1}, {train: [other], labelled: false, epochs: 2}]"
CLUSTER = "{kind: dbscan, eps: 0.01, min_samples: 2, k1: 8, k2: 3}"
SMALL = ("evaluate=[]", "data.identities=2")


def recipe_of(tiny, method, *more):
    return tiny(TARGET, f"method={{{method}}}", *SMALL, *more)


@pytest.mark.parametrize("name", ["pseudo", "contrast"])
def test_broken_off_anywhere_ends_alike(tiny, tmp_path, name):
    recipe = recipe_of(tiny, f"{name}: {{cluster: {CLUSTER}}}")
    whole = run(recipe, tmp_path / "whole")
    torch.manual_seed(3)
    broken = run_interrupted(recipe, tmp_path / "broken", steps=[2, 5])
    assert weights(broken) == weights(whole)
    assert optimiser_hash(broken) == optimiser_hash(whole)
