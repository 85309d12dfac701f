"""Autoencoders that learn vectors: what they explain, when their code collapses, and what each image is shown as."""

import pytest
import torch
from torch.nn import functional as F

from passerby.methods.autoencoder import Autoencoder
from passerby.methods.reconstruction import (
    COLLAPSED,
    AutoencoderTraining,
    FeatureSource,
    fit_autoencoders,
    measure,
    objective,
)


class Given(FeatureSource):
    """Vectors or maps that are already there: (2, N, ...), as they are and mirrored."""

    def __init__(self, kept):
        self.stored, self.split, self.device = kept, range(kept.shape[1]), torch.device("cpu")


def features(count=200, dimension=16, rank=4):
    generator = torch.Generator().manual_seed(0)
    known = torch.randn(count, rank, generator=generator) @ torch.randn(rank, dimension, generator=generator)
    known = known / 10
    return Given(torch.stack([known, known + 0.01 * torch.randn(count, dimension, generator=generator)]))


def squared(x, reconstruction, _rows):
    return F.mse_loss(reconstruction, x)


def learnt(material, *, loss=squared, epochs=40, seed=0, **shape):
    torch.manual_seed(3)
    autoencoder = Autoencoder(material.stored.shape[2], shape.pop("code", 4), **shape)
    fit_autoencoders([AutoencoderTraining(autoencoder, loss)], material, epochs=epochs, batch=32, lr=0.02, seed=seed)
    return autoencoder


def test_an_autoencoder_learns_what_has_no_more_dimensions_than_its_code():
    fit = measure(learnt(features(), activation="none"), features())
    assert fit.explained > 0.98
    assert fit.error == pytest.approx((1 - fit.explained) * fit.variance)
    fewer = measure(learnt(features(), activation="none", code=2), features())
    assert 0.2 < fewer.explained < 0.95


def test_the_fit_equals_what_whole_tables_give():
    material, autoencoder = features(count=150), learnt(features(count=150), epochs=3)
    everything = material.stored.flatten(0, 1)
    code, reconstruction = autoencoder(everything)
    fit = measure(autoencoder, material)
    assert fit.error == pytest.approx((reconstruction - everything).square().mean().item(), rel=1e-4)
    assert fit.variance == pytest.approx(everything.var(dim=0, correction=0).mean().item(), rel=1e-4)
    assert fit.code_variance == pytest.approx(code.var(dim=0, correction=0).mean().item(), rel=1e-4)


def test_the_mean_explains_nothing_and_has_no_code():
    material, autoencoder = features(), Autoencoder(16, 4)
    with torch.no_grad():
        for parameter in autoencoder.parameters():
            parameter.zero_()
        autoencoder.decoder.bias.copy_(material.stored.flatten(0, 1).mean(dim=0))
    fit = measure(autoencoder, material)
    assert fit.explained == pytest.approx(0, abs=1e-5)
    assert fit.code_variance == fit.liveliness == 0


def test_whether_a_code_lives_does_not_depend_on_its_unit_nor_on_that_of_the_features():
    autoencoder = learnt(features(), activation="none")
    fit = measure(autoencoder, features())
    with torch.no_grad():
        autoencoder.encoder.weight.mul_(1e-3)
        autoencoder.encoder.bias.mul_(1e-3)
        autoencoder.decoder.weight.mul_(1e3)
    small = measure(autoencoder, features())
    assert small.code_variance < 1e-4
    assert small.liveliness == pytest.approx(fit.liveliness, rel=1e-3)
    assert fit.liveliness == pytest.approx(1, abs=0.05)
    with torch.no_grad():
        autoencoder.encoder.weight.mul_(1e3)
        autoencoder.decoder.bias.mul_(1e-3)
        autoencoder.encoder.bias.mul_(1e-3)
        autoencoder.decoder.weight.mul_(1e-3)
    tiny = measure(autoencoder, Given(features().stored / 1e3))
    assert tiny.variance < 1e-6
    assert tiny.liveliness == pytest.approx(fit.liveliness, rel=1e-3)


@pytest.mark.parametrize("loss", ["ae_l1", "ae_l2"])
def test_a_penalty_that_is_a_sum_collapses_the_code_and_a_mean_does_not(loss):
    def penalised(reduction):
        autoencoder = Autoencoder(16, 4)

        def value(x, reconstruction, _rows):
            return objective(F.mse_loss(reconstruction, x), autoencoder, loss, strength=0.1, reduction=reduction)

        fit_autoencoders([AutoencoderTraining(autoencoder, value)], features(), epochs=20, batch=32, lr=0.02, seed=0)
        return measure(autoencoder, features())

    assert penalised("sum").code_variance < 1e-4
    assert penalised("sum").liveliness < COLLAPSED
    assert penalised("mean").code_variance > 1e-3
    assert penalised("mean").liveliness > COLLAPSED


def test_learning_is_a_function_of_its_seed():
    one, again, other = (learnt(features(), epochs=2, seed=seed).encoder.weight for seed in (5, 5, 6))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_each_image_is_seen_as_it_is_or_mirrored_and_as_often_as_the_epochs_say():
    seen = []

    def note(x, reconstruction, rows):
        seen.extend(zip(rows.tolist(), (x[:, 0] > 0).tolist(), strict=True))
        return F.mse_loss(reconstruction, x)

    material = Given(torch.stack([-torch.ones(50, 3), torch.ones(50, 3)]))
    learnt(material, loss=note, epochs=4, code=2)
    assert sorted(row for row, _ in seen) == sorted(list(range(50)) * 4)
    assert 60 < sum(mirrored for _, mirrored in seen) < 140
    assert len({tuple(seen[50 * n : 50 * n + 50]) for n in range(4)}) == 4


@pytest.mark.parametrize("milestones", [(), (10, 15)])
def test_the_rate_of_an_autoencoder_falls_at_its_milestones(milestones):
    """An l1 penalty pulls weights to and fro by an amount that goes with the rate."""
    torch.manual_seed(0)
    autoencoder = Autoencoder(16, 4)

    def value(x, reconstruction, _rows):
        return objective(F.mse_loss(reconstruction, x), autoencoder, "ae_l1", strength=1.0, reduction="sum")

    fit_autoencoders(
        [AutoencoderTraining(autoencoder, value)],
        features(),
        epochs=60,
        batch=32,
        lr=0.02,
        seed=0,
        milestones=milestones,
    )
    mean = autoencoder.penalty("l1", reduction="mean").item()
    assert (mean < 2e-4) == bool(milestones)
