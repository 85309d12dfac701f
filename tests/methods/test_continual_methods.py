"""Codes, importances and herding against numbers computed elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from passerby.methods.autoencoder import Autoencoder, code_distance
from passerby.methods.herding import herd
from passerby.methods.importance import importance_penalty, mean_magnitude, mean_square, path_importance
from passerby.methods.reconstruction import objective

FOLDER = Path(__file__).parents[1] / "oracles_data"
EBLL, WEIGHTS, HERDING = (
    json.loads((FOLDER / f"{name}.json").read_text()) for name in ("ebll", "ewc_si_mas", "herding")
)


def wide(values):
    return torch.tensor(values, dtype=torch.float64)


def known_autoencoder(place="after_pooling", activation="sigmoid"):
    model = Autoencoder(8, 3, place=place, activation=activation).double()
    extra = () if place == "after_pooling" else (1, 1)
    with torch.no_grad():
        for layer, weight, shift in ((model.encoder, "W_enc", "b_enc"), (model.decoder, "W_dec", "b_dec")):
            layer.weight.copy_(wide(EBLL[weight]).reshape(*wide(EBLL[weight]).shape, *extra))
            layer.bias.copy_(wide(EBLL[shift]))
    return model


def test_the_autoencoder_equals_the_known_numbers():
    model, x = known_autoencoder(), wide(EBLL["x"])
    code, reconstruction = model(x)
    torch.testing.assert_close(code, wide(EBLL["code"]), atol=1e-8, rtol=1e-7)
    torch.testing.assert_close(reconstruction, wide(EBLL["recon"]), atol=1e-8, rtol=1e-7)
    error = F.mse_loss(reconstruction, x)
    assert error.item() == pytest.approx(EBLL["ae_mse"])
    assert objective(error, model, "ae", strength=1.0, reduction="sum").item() == pytest.approx(EBLL["ae_mse"])
    for strength, wanted in EBLL["by_lambda"].items():
        for kind in ("l1", "l2"):
            for reduction in ("sum", "mean"):
                found = objective(error, model, f"ae_{kind}", strength=float(strength), reduction=reduction)
                assert found.item() == pytest.approx(wanted[f"ae_{kind}_{reduction}"])


def test_code_distances_equal_the_known_numbers():
    model = known_autoencoder()
    old, new = model.encode(wide(EBLL["x"])), model.encode(wide(EBLL["x_new"]))
    torch.testing.assert_close(new, wide(EBLL["code_new"]), atol=1e-8, rtol=1e-7)
    assert code_distance(old, new).item() == pytest.approx(EBLL["code_mse"])
    assert code_distance(old, new, kind="bce").item() == pytest.approx(EBLL["code_bce_T10"])
    assert code_distance(old, old, kind="bce").item() == pytest.approx(EBLL["code_bce_T10_at_equality"])
    scaled = code_distance(old, new, kind="bce", scale="size_squared").item()
    assert scaled == pytest.approx(300 * EBLL["code_bce_T10"])
    paper = code_distance(old, new).item() * old.shape[1] / 2  # half the sum over a code, the mean over images
    assert paper == pytest.approx(EBLL["paper_code_loss_half_sum_per_sample"])
    linear = known_autoencoder(activation="none")
    old, new = linear.encode(wide(EBLL["x"])), linear.encode(wide(EBLL["x_new"]))
    assert code_distance(old, new, kind="bce").item() == pytest.approx(EBLL["code_bce_T10_linear_code"])


def test_before_pooling_equals_the_known_numbers():
    known = EBLL["conv"]
    model = known_autoencoder("before_pooling")
    featuremap = wide(known["fm"])
    code, reconstruction = model(featuremap)
    torch.testing.assert_close(code, wide(known["code"]), atol=1e-8, rtol=1e-7)
    assert F.mse_loss(reconstruction, featuremap).item() == pytest.approx(known["recon_mse"])
    new = model.encode(wide(known["fm_new"]))
    assert code_distance(code, new).item() == pytest.approx(known["code_mse"])
    assert code_distance(code, new, kind="bce").item() == pytest.approx(known["code_bce_T10_channel_softmax"])
    linear = known_autoencoder("before_pooling", "none").encode(featuremap).mean(dim=(2, 3))
    torch.testing.assert_close(linear, wide(known["linear_code_of_gap"]), atol=1e-8, rtol=1e-7)
    vectors = known_autoencoder(activation="none").encode(featuremap.mean(dim=(2, 3)))
    torch.testing.assert_close(linear, vectors)


def test_bce_of_codes_is_inert_without_its_scale():
    generator = torch.Generator().manual_seed(0)
    old = torch.rand(64, 512, generator=generator)
    norms = {}
    for kind, scale in (("mse", "none"), ("bce", "none"), ("bce", "size_squared")):
        new = (old + 0.1 * torch.randn(64, 512, generator=generator)).requires_grad_()
        code_distance(old, new, kind=kind, scale=scale).backward()
        norms[kind, scale] = new.grad.norm().item()
    assert norms["bce", "none"] < 1e-4 * norms["mse", "none"]
    assert norms["bce", "size_squared"] > 1e-2 * norms["mse", "none"]


def gradients(loss_of):
    weight, x = wide(WEIGHTS["W"]).requires_grad_(), wide(WEIGHTS["X"])
    found = []
    for row, label in zip(x, WEIGHTS["y"], strict=True):
        (gradient,) = torch.autograd.grad(loss_of(row @ weight.T, torch.tensor(label)), weight)
        found.append(gradient)
    return found


def test_the_fisher_information_equals_the_known_numbers():
    fisher = mean_square(gradients(F.cross_entropy))
    torch.testing.assert_close(fisher, wide(WEIGHTS["fisher_empirical_per_sample"]), atol=1e-8, rtol=1e-6)
    assert not torch.allclose(fisher, wide(WEIGHTS["squared_batch_gradient_WRONG"]), rtol=0.1)
    pull = importance_penalty(wide(WEIGHTS["W_new"]), wide(WEIGHTS["W"]), fisher)
    assert pull.item() == pytest.approx(WEIGHTS["ewc_penalty_half_lambda1_empirical"], rel=1e-6)


def test_the_fisher_information_of_labels_drawn_from_the_model_equals_the_known_numbers():
    shares = (wide(WEIGHTS["X"]) @ wide(WEIGHTS["W"]).T).softmax(dim=1)  # (B, C)

    def of(label):  # each gradient as often as the label is drawn
        found = gradients(lambda logits, _: F.cross_entropy(logits, torch.tensor(label)))
        return [share.sqrt() * gradient for share, gradient in zip(shares[:, label], found, strict=True)]

    fisher = sum(mean_square(of(label)) for label in range(3))
    torch.testing.assert_close(fisher, wide(WEIGHTS["fisher_true_label_sampled_expectation"]), atol=1e-8, rtol=1e-6)
    assert not torch.allclose(fisher, wide(WEIGHTS["fisher_empirical_per_sample"]), rtol=0.1)


def test_memory_aware_synapses_equal_the_known_numbers():
    found = mean_magnitude(gradients(lambda logits, _: logits.square().sum()))
    torch.testing.assert_close(found, wide(WEIGHTS["mas_importance_squared_l2_of_output"]), atol=1e-8, rtol=1e-6)


def test_synaptic_intelligence_equals_the_known_numbers():
    known = WEIGHTS["si"]
    weight = wide(WEIGHTS["W"])
    path = torch.zeros_like(weight)
    for _ in range(known["steps"]):
        weight.requires_grad_()
        logits = wide(WEIGHTS["X"]) @ weight.T
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, torch.tensor(WEIGHTS["y"])), weight)
        path += known["lr"] * gradient.square()
        weight = weight.detach() - known["lr"] * gradient
    torch.testing.assert_close(weight, wide(known["W_after"]), atol=1e-8, rtol=1e-6)
    torch.testing.assert_close(path, wide(known["small_omega"]), atol=1e-8, rtol=1e-5)
    importance = path_importance(path, weight - wide(WEIGHTS["W"]), damping=known["xi"])
    torch.testing.assert_close(importance, wide(known["big_omega"]), atol=1e-8, rtol=1e-5)


def test_herding_follows_the_mean():
    features = np.array(HERDING["features"])
    assert herd(features, 4).tolist() == HERDING["selected_in_order"]
    assert herd(features, 4).tolist() != HERDING["nearest_to_mean_is_not_herding"]
    assert herd(features, 2).tolist() == HERDING["selected_in_order"][:2]
    assert sorted(herd(features, 99).tolist()) == list(range(len(features)))
