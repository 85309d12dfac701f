"""Label-smoothed cross-entropy."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passerby.losses.softmax import SoftmaxSettings, smoothed_cross_entropy
from passerby.types import Output
from tests import loss_oracles

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "label_smooth_ce.json").read_text())


@pytest.mark.parametrize(("smoothing", "name"), [(0.1, "szegedy_bot_torch"), (0.0, "hard")])
def test_equals_the_published_formula(smoothing, name):
    logits, labels = torch.tensor(ORACLE["logits"]), torch.tensor(ORACLE["targets"])
    assert smoothed_cross_entropy(logits, labels, smoothing=smoothing).item() == pytest.approx(ORACLE[name], abs=1e-6)


@given(st.integers(1, 5), st.integers(1, 6), st.floats(0, 0.99), st.integers(0, 1000))
def test_equals_the_loop(count, classes, smoothing, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(count, classes, generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    wanted = loss_oracles.smoothed_cross_entropy(logits.tolist(), labels.tolist(), smoothing=smoothing)
    assert smoothed_cross_entropy(logits, labels, smoothing=smoothing).item() == pytest.approx(
        wanted, rel=1e-4, abs=1e-5
    )


def test_is_computed_in_float32():
    logits = torch.tensor([[300.0, 0.0]], dtype=torch.bfloat16)
    assert smoothed_cross_entropy(logits, torch.tensor([0])).dtype == torch.float32


@pytest.mark.parametrize("feature", ["after_neck", "before_neck"])
def test_the_classifier_sees_what_the_settings_say(feature):
    loss = SoftmaxSettings(feature=feature, smoothing=0.0).make(dimension=3, classes=2)
    assert loss.classifier.bias is None
    assert loss.classifier.weight.std() < 0.01
    out = Output(torch.full((2, 3), 1.0), torch.full((2, 3), 2.0), torch.zeros(2, 3, 1, 1))
    logits = (1.0 if feature == "before_neck" else 2.0) * loss.classifier.weight.sum(dim=1).expand(2, -1)
    labels = torch.tensor([0, 1])
    torch.testing.assert_close(loss(out, labels), torch.nn.functional.cross_entropy(logits, labels))
