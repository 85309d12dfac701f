"""Losses on a global and several local features, against independent figures."""

import json
from pathlib import Path

import pytest
import torch

from passerby.errors import UserError
from passerby.losses.pieces import balance, cut
from passerby.losses.softmax import SoftmaxSettings
from passerby.losses.triplet import TripletSettings
from passerby.types import Output

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "sie_jpm.json").read_text())["jpm_loss"]
LABELS = torch.tensor(ORACLE["labels"])


def output(before, after=None):
    """Return an output whose local features are divided by their number before the neck, as the jigsaw module's are."""
    first, *others = torch.tensor(before)
    whole = torch.cat([first, *(local / len(others) for local in others)], dim=1)
    return Output(whole, whole if after is None else after, torch.zeros(len(whole), 1, 1, 1))


def test_the_triplet_loss_of_global_and_local_features():
    loss = TripletSettings(form="soft", pieces=5).make(dimension=20, classes=3)
    assert loss(output(ORACLE["feats_global_then_4_parts"]), LABELS).item() == pytest.approx(
        ORACLE["triplet_loss"], 1e-6
    )


def test_the_classification_of_global_and_local_features():
    scores = torch.tensor(ORACLE["scores_global_then_4_parts"])  # (5, B, C)
    count = scores.shape[2]
    loss = SoftmaxSettings(smoothing=0, pieces=5).make(dimension=5 * count, classes=count)
    with torch.no_grad():
        loss.classifier.weight.copy_(torch.eye(count).repeat(1, 5))  # each piece is its own scores
    after = torch.cat(list(scores), dim=1)
    value = loss(output(ORACLE["feats_global_then_4_parts"], after), LABELS)
    assert value.item() == pytest.approx(ORACLE["id_loss"], 1e-6)
    torch.testing.assert_close(loss.logits(output(ORACLE["feats_global_then_4_parts"], after)), scores.sum(0))


def test_the_balance_is_not_a_mean_over_all():
    each = [a + b for a, b in zip(ORACLE["ce_each"], ORACLE["soft_triplet_each"], strict=True)]
    found = balance([torch.tensor(value) for value in each]).item()
    assert found == pytest.approx(ORACLE["total"], 1e-6)
    assert found == pytest.approx(ORACLE["total_paper_weights_1_plus_mean"] / 2, 1e-6)
    assert found != pytest.approx(ORACLE["WRONG_mean_over_5"], 1e-3)


def test_one_piece_is_the_whole_vector():
    out = output(ORACLE["feats_global_then_4_parts"])
    assert torch.equal(cut(out, "before_neck", 1)[0], out.before_neck)


@pytest.mark.parametrize("kind", [SoftmaxSettings, TripletSettings])
def test_a_vector_that_cannot_be_cut_is_told(kind):
    with pytest.raises(
        UserError, match=r"losses\.\w+\.pieces: a feature of 16 numbers cannot be cut into 5 equal pieces"
    ):
        kind(pieces=5).make(dimension=16, classes=3)
