"""What every loss must hold to; a new one is tested the moment it is listed in `LOSSES`."""

import typing
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passerby.losses.loss import ClassifierLoss, Loss
from passerby.losses.mix import LossMix, LossSettings
from passerby.losses.table import LOSSES
from passerby.settings import build
from passerby.types import Output

DIMENSION, CLASSES = 5, 4
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])


def variants():
    """Every loss as it comes, and with each other word of each of its choices."""
    for name, kind in LOSSES.items():
        yield name, kind()
        for key, field in kind.model_fields.items():
            if typing.get_origin(field.annotation) is typing.Literal:
                for word in typing.get_args(field.annotation):
                    if word != field.default:
                        yield f"{name} {key}={word}", kind(**{key: word})


VARIANTS = dict(variants())
every_loss = pytest.mark.parametrize("name", VARIANTS)


def make(name, *, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    loss = VARIANTS[name].make(dimension=DIMENSION, classes=CLASSES)
    for parameter in loss.parameters():
        torch.nn.init.normal_(parameter)
    return loss.to(dtype).eval()


def output(*, dtype=torch.float32, count=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    vectors = [torch.randn(count, DIMENSION, generator=generator, dtype=dtype, requires_grad=True) for _ in range(2)]
    return Output(*vectors, map=torch.zeros(count, DIMENSION, 1, 1))


def rows(out, order):
    return replace(out, before_neck=out.before_neck[order], after_neck=out.after_neck[order])


@pytest.mark.parametrize("name", LOSSES)
def test_it_is_known_which_vector_it_trains(name):
    assert build(LossSettings, {name: {}}, source="test").features[name] in ("after_neck", "before_neck")


@pytest.mark.parametrize("name", LOSSES)
def test_a_memory_is_moved_by_a_function_of_its_own_and_not_by_the_loss(name):
    loss = make(name).train()
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    loss(output(), LABELS)
    assert all(torch.equal(value, before[key]) for key, value in loss.state_dict().items())
    loss.update_memory(output(), LABELS)
    moved = any(not torch.equal(value, before[key]) for key, value in loss.state_dict().items())
    assert moved == loss.settings.has_memory


@pytest.mark.parametrize("name", LOSSES)
def test_has_a_weight_and_is_found_by_its_name(name):
    assert LOSSES[name]().weight > 0
    chosen = build(LossSettings, {name: {}}, source="test").chosen
    assert list(chosen) == [name]
    mix = LossMix(LossSettings(**chosen), dimension=DIMENSION, classes=CLASSES)
    assert list(mix(output(), LABELS)) == [name]


@pytest.mark.parametrize("name", LOSSES)
def test_the_settings_say_what_the_module_has(name):
    loss = make(name)
    assert isinstance(loss, Loss)
    assert LOSSES[name].has_classifier == isinstance(loss, ClassifierLoss)
    if (rows := loss.identity_rows()) is not None:
        assert rows.shape == (CLASSES, DIMENSION)
        x = torch.randn(len(LABELS), DIMENSION, generator=torch.Generator().manual_seed(3))
        loss.start_rows(x, LABELS)
        nearest = x.reshape(CLASSES, -1, DIMENSION).mean(1) @ torch.nn.functional.normalize(loss.identity_rows()).T
        assert nearest.argmax(1).tolist() == list(range(CLASSES))


@every_loss
def test_is_a_finite_scalar_with_a_gradient(name):
    loss, out = make(name), output()
    value = loss(out, LABELS)
    assert value.shape == ()
    assert torch.isfinite(value)
    value.backward()
    gradients = [v.grad for v in (out.before_neck, out.after_neck) if v.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() for g in gradients)
    assert any(g.any() for g in gradients)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in loss.parameters())


# losses with factors that no gradient flows through; their own tests hold the gradient to account
DETACHED = {"circle", "circle_softmax"}


@pytest.mark.parametrize("name", [name for name in VARIANTS if name.split()[0] not in DETACHED])
def test_gradients_are_those_of_finite_differences(name):
    loss = make(name, dtype=torch.float64)
    out = output(dtype=torch.float64)

    def value(feature, embedding):
        return loss(replace(out, before_neck=feature, after_neck=embedding), LABELS)

    exact = value(out.before_neck, out.after_neck)
    wanted = torch.autograd.grad(exact, [out.before_neck, out.after_neck], allow_unused=True)
    for place, gradient in enumerate(wanted):
        if gradient is None:
            continue
        direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        inputs = [out.before_neck.detach(), out.after_neck.detach()]
        step = 1e-6
        moved = []
        for sign in (1, -1):
            changed = list(inputs)
            changed[place] = inputs[place] + sign * step * direction
            moved.append(value(*changed).item())
        slope = (moved[0] - moved[1]) / (2 * step)
        assert slope == pytest.approx((gradient * direction).sum().item(), rel=1e-3, abs=1e-5)


@every_loss
@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(len(LABELS))))
def test_the_order_in_the_batch_does_not_matter(name, order):
    loss, out = make(name), output()
    torch.testing.assert_close(loss(rows(out, order), LABELS[order]), loss(out, LABELS), rtol=1e-5, atol=1e-5)


@every_loss
@pytest.mark.parametrize("labels", [[1, 1, 1, 1], [2]])
def test_a_batch_of_one_identity_is_finite(name, labels):
    loss, out = make(name), output(count=len(labels))
    value = loss(out, torch.tensor(labels))
    assert torch.isfinite(value)
    value.backward()
    for vectors in (out.before_neck, out.after_neck):
        assert vectors.grad is None or torch.isfinite(vectors.grad).all()


@every_loss
def test_state_round_trip(name):
    loss, other = make(name, seed=0), make(name, seed=1)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(loss(output(), LABELS), other(output(), LABELS))


@every_loss
def test_half_precision_is_computed_in_float32(name):
    out = output()
    half = Output(out.before_neck.bfloat16(), out.after_neck.bfloat16(), out.map)
    wide = Output(half.before_neck.float(), half.after_neck.float(), out.map)
    with torch.autocast("cpu", torch.bfloat16, enabled=False):
        loss = make(name)
        if not list(loss.parameters()):
            assert loss(half, LABELS).dtype == torch.float32
            torch.testing.assert_close(loss(half, LABELS), loss(wide, LABELS))
