"""Soft assignments and their targets against numbers computed elsewhere, and what must hold for any centres."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from passerby.methods.dec import (
    DecSettings,
    dec_loss,
    log_assignment,
    principal_axes,
    reseeded,
    target_distribution,
)
from tests.methods.steps import some

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "dec.json").read_text())


def wide(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("alpha", [1, 2])
def test_equals_the_known_numbers_and_gradients(alpha):
    known = ORACLE[f"alpha{alpha}"]
    z, centres = wide(ORACLE["z"]).requires_grad_(), wide(ORACLE["centers"]).requires_grad_()
    log_q = log_assignment(z, centres, alpha=alpha)
    p = target_distribution(log_q.exp())
    torch.testing.assert_close(log_q.exp(), wide(known["q"]), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(p, wide(known["p"]), rtol=1e-6, atol=1e-9)
    loss = dec_loss(log_q, p)
    assert loss.item() == pytest.approx(known["kl_batchmean"], rel=1e-6)
    assert loss.item() != pytest.approx(known["kl_elementmean_WRONG"], rel=1e-2)
    loss.backward()
    torch.testing.assert_close(z.grad * len(z), wide(known["grad_z_of_sum"]), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(centres.grad * len(z), wide(known["grad_mu_of_sum"]), rtol=1e-5, atol=1e-8)


def test_is_not_the_assignment_that_grows_with_the_distance():
    q = log_assignment(wide(ORACLE["z"]), wide(ORACLE["centers"])).exp()
    assert not torch.allclose(q, wide(ORACLE["ssg_public_code_q_WRONG_SIGN"]), atol=1e-2)
    nearest = torch.cdist(wide(ORACLE["z"]), wide(ORACLE["centers"])).argmin(dim=1)
    assert torch.equal(q.argmax(dim=1), nearest)


def test_targets_are_sharper_and_do_not_fail_where_a_centre_has_nothing():
    q = torch.tensor([[0.7, 0.3, 0.0], [0.4, 0.6, 0.0]])
    p = target_distribution(q)
    assert p[0, 0] > 0.7
    assert p[1, 1] > 0.6
    assert torch.isfinite(p).all()
    torch.testing.assert_close(p.sum(dim=1), torch.ones(2))


def test_half_precision_is_widened():
    z = torch.full((2, 4), 200.0, dtype=torch.float16)
    assert torch.isfinite(log_assignment(z, -z)).all()


def test_every_centre_without_images_gets_another_one():
    z = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    centres = torch.cat([z[:3], torch.full((2, 4), 90.0)])
    found, count = reseeded(centres, z)
    assert count == 2
    assert torch.equal(found[:3], centres[:3])
    assert (torch.bincount(torch.cdist(z, found).argmin(dim=1), minlength=5) > 0).all()
    assert reseeded(found, z)[1] == 0


def test_axes_are_those_of_largest_variance():
    generator = np.random.default_rng(0)
    vectors = (generator.normal(size=(200, 5)) * [1, 9, 1, 5, 1] + 3).astype(np.float32)
    mean, axes = principal_axes(vectors, 2)
    assert np.allclose(mean, vectors.mean(axis=0), atol=1e-4)
    assert np.allclose(np.abs(axes), np.eye(5)[:, [1, 3]], atol=0.1)
    assert np.allclose(axes.T @ axes, np.eye(2), atol=1e-5)


def test_restarts_without_k_are_refused():
    with pytest.raises(ValidationError, match="restarts has no effect without k"):
        DecSettings(restarts=3)


# ---- in a run


@pytest.mark.parametrize("scope", ["dataset", "batch"])
@pytest.mark.parametrize("dimension", ["null", "4"])
def test_every_image_is_drawn_to_the_target_of_its_own_row(unknown, scope, dimension):
    run = unknown(
        f"method={{pseudo: {{cluster: {{kind: kmeans, k: 3}}}}, "
        f"dec: {{scope: {scope}, dimension: {dimension}, alpha: 2.0, scale: 4.0, weight: 3.0}}}}"
    )
    method = run.state.methods["dec"]
    labels = run.state.counters.labels.clone()
    labels[[3, 11]] = -1
    method.on_epoch_start(run.context, labels.numpy())
    all_vectors = F.normalize(torch.from_numpy(run.context.vectors().after_neck))
    mean, axes = torch.zeros(()), torch.eye(all_vectors.shape[1])
    if dimension != "null":
        mean, axes = map(torch.from_numpy, principal_axes(all_vectors[labels >= 0].numpy(), 4))
    z = 4 * (all_vectors - mean) @ axes
    centres = torch.stack([z[labels == label].mean(0) for label in range(3)])
    torch.testing.assert_close(method.centres.detach(), centres, atol=1e-4, rtol=1e-3)
    rows = [20, 3, 1, 14, 9, 11, 6]
    batch = some(run, rows=rows, labels=labels)
    out = run.state.embedder(batch.inputs)
    kept = [row for row in rows if labels[row] >= 0]
    seen = 4 * (F.normalize(out.after_neck[[rows.index(row) for row in kept]]) - mean) @ axes
    log_q = log_assignment(seen, method.centres, alpha=2.0)
    targets = torch.zeros(24, 3)
    targets[labels >= 0] = target_distribution(log_assignment(z[labels >= 0], method.centres, alpha=2.0).exp().detach())
    p = targets[kept] if scope == "dataset" else target_distribution(log_q.detach().exp())
    assert not torch.allclose(p, p.flip(0), atol=0.05)
    term = method.losses(run.context, batch, out)["dec"]
    torch.testing.assert_close(term.value, dec_loss(log_q, p), atol=1e-5, rtol=1e-3)
    assert term.weight == 3.0
