"""The center loss and the way its centres go, against the published values and against loops."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passerby.losses.center import CenterSettings, center_loss, moved_centres
from passerby.losses.mix import LossMix, LossSettings
from passerby.types import Output
from tests import loss_oracles

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "center_loss.json").read_text())
LABELS = torch.tensor(ORACLE["labels"])


def of(name, dtype=torch.float64):
    return torch.tensor(ORACLE[name], dtype=dtype)


def output(feature, embedding=None):
    return Output(feature, feature if embedding is None else embedding, torch.zeros(len(feature), 3, 1, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_published_value_and_gradients(dtype):
    x, centres = of("x", dtype).requires_grad_(), of("centers", dtype).requires_grad_()
    loss = center_loss(x, LABELS, centres)
    assert loss.item() == pytest.approx(ORACLE["torch_mean_sq"], rel=1e-6)
    assert loss.item() != pytest.approx(ORACLE["wen_half_sum"], rel=1e-2)
    loss.backward()
    torch.testing.assert_close(x.grad, of("torch_grad_x", dtype), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(centres.grad, of("torch_grad_centers", dtype), atol=1e-6, rtol=1e-5)


def test_the_centres_go_the_published_way():
    moved = moved_centres(of("x"), LABELS, of("centers"), rate=0.5)
    torch.testing.assert_close(moved, of("bot_centers_after_sgd_lr05"), atol=1e-7, rtol=1e-6)
    assert not torch.allclose(moved, of("wen_centers_after"), atol=1e-2)
    assert torch.equal(moved[3], of("centers")[3])  # nobody of this identity was there


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.floats(0.1, 1), st.integers(0, 999))
def test_equals_the_loop(labels, rate, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(labels), 3, generator=generator, dtype=torch.float64)
    centres = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    loss, moved = loss_oracles.center(x.tolist(), labels, centres.tolist(), rate=rate)
    given_labels = torch.tensor(labels)
    assert center_loss(x, given_labels, centres).item() == pytest.approx(loss)
    found = moved_centres(x, given_labels, centres, rate=rate)
    torch.testing.assert_close(found, torch.tensor(moved, dtype=torch.float64))


def test_gradients_are_exact():
    x = of("x").requires_grad_()
    assert torch.autograd.gradcheck(lambda v: center_loss(v, LABELS, of("centers")), x)


def test_each_training_batch_moves_the_centres_and_no_other():
    loss = CenterSettings().make(dimension=3, classes=4).double()
    loss.load_state_dict({"centres": of("centers")})
    x = of("x").requires_grad_()
    mix = LossMix(LossSettings(center=CenterSettings()), dimension=3, classes=4)
    loss = mix.losses["center"] = loss
    mix.eval()(output(x), LABELS)
    assert torch.equal(loss.state_dict()["centres"], of("centers"))
    value = mix.train()(output(x), LABELS)["center"].value
    torch.testing.assert_close(loss.state_dict()["centres"], of("bot_centers_after_sgd_lr05"), atol=1e-7, rtol=1e-6)
    assert value.item() == pytest.approx(ORACLE["torch_mean_sq"])  # against the centres before the batch
    value.backward()
    torch.testing.assert_close(x.grad, of("torch_grad_x"), atol=1e-7, rtol=1e-6)
    assert not loss.centres.requires_grad
    assert not list(loss.parameters())  # nothing for the run's optimiser, nor for its weight decay


def test_centres_come_to_the_means():
    loss = CenterSettings().make(dimension=3, classes=4).double()
    for _ in range(200):
        loss.update_memory(output(of("x")), LABELS)
    means = torch.stack([of("x")[label == LABELS].mean(dim=0) for label in range(3)])
    torch.testing.assert_close(loss.centres[:3], means)


@pytest.mark.parametrize("feature", ["before_neck", "after_neck"])
def test_the_settings_choose_the_vector_and_the_rate(feature):
    loss = CenterSettings(feature=feature, lr=0.25).make(dimension=3, classes=4)
    out, before = output(torch.ones(6, 3), torch.full((6, 3), 2.0)), loss.centres.clone()
    assert loss(out, LABELS) == center_loss(getattr(out, feature), LABELS, before)
    loss.update_memory(out, LABELS)
    assert torch.equal(loss.centres, moved_centres(getattr(out, feature), LABELS, before, rate=0.25))


def test_the_images_of_all_processes_move_the_centres_and_only_known_ones():
    mix, out = LossMix(LossSettings(center=CenterSettings()), dimension=3, classes=4), output(of("x").float())
    before, unknown = mix.losses["center"].centres.clone(), LABELS.clone()
    unknown[0] = -1
    terms = mix(output(torch.ones(2, 3)), torch.tensor([3, 3]), joint=(out, unknown))
    assert torch.equal(terms["center"].value, center_loss(torch.ones(2, 3), torch.tensor([3, 3]), before))
    after = moved_centres(out.before_neck[1:], LABELS[1:], before)
    assert torch.equal(mix.losses["center"].centres, after)
