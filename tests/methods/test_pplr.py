"""Part-based pseudo-label refinement against numbers computed elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from passerby.errors import UserError
from passerby.methods.pplr import cross_agreement, refined_by_parts, smoothed_by_agreement
from passerby.train.session import train

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "pplr.json").read_text())
LABELS = torch.tensor(ORACLE["targets"])


def wide(name):
    return torch.tensor(ORACLE[name], dtype=torch.float64)


def parts():
    return wide("logits_parts_BxCxP").transpose(1, 2)


def test_both_losses_equal_the_known_numbers():
    worth = wide("cross_agreement_BxP")
    assert smoothed_by_agreement(parts()[:, 0], LABELS, worth[:, 0]).item() == pytest.approx(ORACLE["aals_part0"])
    found = refined_by_parts(wide("logits_global"), parts(), LABELS, worth, trust=0.5)
    assert found.item() == pytest.approx(ORACLE["pglr_beta05"])


def test_full_trust_is_plain_cross_entropy():
    logits = wide("logits_global")
    plain = torch.nn.functional.cross_entropy(logits, LABELS).item()
    assert refined_by_parts(logits, parts(), LABELS, wide("cross_agreement_BxP"), trust=1.0).item() == pytest.approx(
        plain
    )
    assert smoothed_by_agreement(logits, LABELS, torch.ones(4, dtype=torch.float64)).item() == pytest.approx(plain)


def test_agreement_is_the_overlap_of_neighbours():
    angles = np.array([0.0, 0.1, 0.2, 3.0, 3.1, 3.2])
    whole = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert cross_agreement(whole, whole, neighbours=3).tolist() == [1.0] * 6
    swapped = whole[[3, 1, 2, 0, 4, 5]]  # the first image of either group seems to be of the other
    assert cross_agreement(whole, swapped, neighbours=3).tolist() == pytest.approx([0.2, 0.5, 0.5, 0.2, 0.5, 0.5])


def test_without_stripes_it_is_refused(tiny, tmp_path):
    recipe = tiny(
        "stages=[{train: [other], labelled: false}]", "losses={softmax: null, triplet: null}", "evaluate=[]",
        "data.identities=2", "method.pplr={cluster: {kind: kmeans, k: 3}}",
    )  # fmt: skip
    with pytest.raises(UserError, match=r"the model has none; set model\.stripes=3"):
        train(recipe, tmp_path / "run")
