"""Losses against camera proxies: values and gradients computed elsewhere, and the definition written as loops."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from passerby.losses.camera_proxies import (
    contrast_with_hardest,
    inter_camera_losses,
    intra_camera_losses,
    online_losses,
    online_positives,
    other_camera_losses,
    reduced,
)
from passerby.methods.memory import moved_rows

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "cap_proxy_losses.json").read_text())
SETUP, CAP, O2CAP, PPLR = (ORACLE[name] for name in ("setup", "cap", "o2cap", "pplr_inter_camera"))
PROXIES, VECTORS = (torch.tensor(rows, dtype=torch.float64) for rows in (SETUP["proxies"], CAP["batch_features"]))
CLUSTERS, CAMERAS = torch.tensor(SETUP["proxy_cluster"]), torch.tensor(SETUP["proxy_camera"])
ROWS = torch.tensor(SETUP["proxy_of_image"])[CAP["batch_rows"]]
TAU = CAP["tau"]


def intra(vectors):
    return intra_camera_losses(vectors, ROWS, PROXIES, CAMERAS, temperature=TAU)


def inter(vectors, negatives=3):
    return inter_camera_losses(vectors, ROWS, PROXIES, CLUSTERS, temperature=TAU, negatives=negatives)


def total(losses):
    return reduced(losses, CAMERAS[ROWS])


def close(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-7)


def test_cap_equals_the_known_numbers_and_gradients():
    vectors = VECTORS.clone().requires_grad_()
    close(intra(vectors).detach(), CAP["intra_per_image"])
    close(inter(vectors).detach(), CAP["inter_per_image"])
    loss = total(intra(vectors)) + 0.5 * total(inter(vectors))
    loss.backward()
    close(total(intra(vectors)).detach(), CAP["total_before_epoch_5"])
    close(loss.detach(), CAP["total_from_epoch_5"])
    close(vectors.grad, CAP["grad_batch_features_of_total"])
    whole = intra(vectors).mean() + 0.5 * inter(vectors).mean()
    assert whole.item() == pytest.approx(CAP["WRONG_mean_over_batch_total"], rel=1e-6), "the other reduction"
    assert whole.item() == pytest.approx(
        sum(
            w * reduced(x, CAMERAS[ROWS], reduction="batch").item()
            for w, x in ((1, intra(vectors)), (0.5, inter(vectors)))
        )
    )


def test_positives_do_not_fill_up_too_few_negatives():
    found = total(inter(VECTORS, negatives=50)).item()
    assert found == pytest.approx(CAP["n_neg_50_exact_inter_loss"], rel=1e-6)
    assert found != pytest.approx(CAP["WRONG_n_neg_50_positives_counted_as_negatives"], rel=1e-2)


def test_proxies_move_to_the_known_place():
    close(moved_rows(PROXIES, VECTORS, ROWS, momentum=0.2).double(), CAP["proxies_after_momentum0.2"])


def test_the_online_term_equals_the_known_numbers():
    w, count = O2CAP["balance_w"], O2CAP["pos_k"]
    similarity = w * VECTORS @ PROXIES.T + (1 - w) * PROXIES[ROWS] @ PROXIES.T
    chosen = online_positives(similarity, CAMERAS, count=count)
    assert [sorted(torch.nonzero(row).flatten().tolist()) for row in chosen] == O2CAP["online_positives"]
    vectors = VECTORS.clone().requires_grad_()
    found = online_losses(
        vectors, ROWS, PROXIES, CAMERAS, temperature=TAU, positives=count, negatives=O2CAP["n_neg"], balance=w
    )
    close(found.detach(), O2CAP["online_per_image"])
    close((total(found) + total(inter(vectors))).detach(), O2CAP["total"])
    close((found.mean() + inter(vectors).mean()).detach(), O2CAP["tmgf_style_mean_over_batch"])
    assert torch.autograd.gradcheck(lambda x: intra(x) + inter(x), (VECTORS.clone().requires_grad_(),))


@pytest.mark.parametrize(("negatives", "expected"), [(3, "loss"), (50, "n_neg_50_exact")])
def test_the_term_of_other_cameras_equals_the_known_number(negatives, expected):
    found = other_camera_losses(VECTORS, ROWS, PROXIES, CLUSTERS, CAMERAS, temperature=TAU, negatives=negatives)
    assert found.mean().item() == pytest.approx(PPLR[expected], rel=1e-6)
    assert found.mean().item() != pytest.approx(PPLR["WRONG_n_neg_50_public"], rel=1e-2)
    assert int((found > 0).sum()) == PPLR["images_with_a_positive"]


def test_a_cluster_of_one_camera_has_no_proxy_in_other_cameras():
    vectors = F.normalize(torch.randn(3, 5, dtype=torch.float64)).requires_grad_()
    clusters, cameras = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1])
    found = other_camera_losses(vectors, torch.arange(3), PROXIES[:3], clusters, cameras, temperature=TAU)
    found.sum().backward()
    assert found.tolist() == [0, 0, 0]
    assert vectors.grad.abs().max() == 0


def test_a_single_cluster_has_positives_alone():
    logits = torch.tensor([[1.0, 3.0]])
    positive = torch.ones(1, 2, dtype=torch.bool)
    found = contrast_with_hardest(logits, positive, ~positive, negatives=5)
    assert found.item() == pytest.approx(-logits.log_softmax(dim=1).mean().item())
