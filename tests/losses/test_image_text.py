"""The losses of CLIP-ReID against independent figures, and figures of known mistakes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from passerby.errors import UserError
from passerby.losses.image_text import image_text_loss
from passerby.losses.mix import LossMix, total
from passerby.losses.softmax import SoftmaxSettings, smoothed_cross_entropy
from passerby.losses.triplet import TripletSettings
from passerby.recipe import load_recipe
from passerby.types import Output
from tests.models.tiny_transformers import DATA

ORACLE = json.loads((DATA / "clip_reid_losses.json").read_text())
FIRST, SECOND = ORACLE["stage1"], ORACLE["stage2"]


def doubles(values):
    return torch.tensor(values, dtype=torch.float64)


def test_prompts_against_independent_figures():
    images, labels = doubles(FIRST["image_features"]), torch.tensor(FIRST["labels"])
    texts = doubles(FIRST["text_features_per_id"]).requires_grad_()
    i2t, t2i = image_text_loss(images, texts[labels], labels), image_text_loss(texts[labels], images, labels)
    assert i2t.item() == pytest.approx(FIRST["i2t"], 1e-6)
    assert t2i.item() == pytest.approx(FIRST["t2i"], 1e-6)
    (i2t + t2i).backward()
    np.testing.assert_allclose(texts.grad.numpy(), FIRST["grad_text_features_per_id"], rtol=1e-6, atol=1e-8)


def test_known_mistakes_of_prompts_give_other_figures():
    images, labels = doubles(FIRST["image_features"]), torch.tensor(FIRST["labels"])
    texts = doubles(FIRST["text_features_per_id"])
    units = F.normalize(images), F.normalize(texts[labels])
    normalised = image_text_loss(*units, labels) + image_text_loss(*reversed(units), labels)
    present, columns = labels.unique(return_inverse=True)
    once = F.cross_entropy(images @ texts[present].T, columns)  # one column for each identity
    assert normalised.item() == pytest.approx(FIRST["WRONG_normalised_features"], 1e-6)
    assert once.item() == pytest.approx(FIRST["WRONG_one_column_per_id_i2t"], 1e-6)
    assert abs(normalised.item() - FIRST["loss"]) > 0.1
    assert abs(once.item() - FIRST["i2t"]) > 0.1


def output():
    """Return the output of the oracle, whose necks pass on what they get, and its labels."""
    vectors = [torch.tensor(SECOND[key]) for key in ("f_ln_post", "f_proj", "f_block11")]
    whole = torch.cat(vectors[:2], dim=1)
    return Output(whole, whole, torch.zeros(6, 6, 1, 1), None, vectors[1], vectors[2]), torch.tensor(SECOND["labels"])


def test_the_triplets_of_three_vectors_and_the_classification_by_texts():
    out, labels = output()
    loss = TripletSettings(pieces="projection").make(dimension=11, classes=4)
    assert loss(out, labels).item() == pytest.approx(sum(SECOND["triplets"]), 1e-5)
    after = TripletSettings(pieces="projection", feature="after_neck").make(dimension=11, classes=4)
    assert after(out, labels).item() == pytest.approx(sum(SECOND["triplets"][1:]), 1e-5)
    projected = doubles(SECOND["f_proj"]).requires_grad_()
    value = smoothed_cross_entropy(projected @ doubles(SECOND["text_features_per_id"]).T, labels)
    assert value.item() == pytest.approx(SECOND["i2t_ce"], 1e-6)
    value.backward()
    np.testing.assert_allclose(projected.grad.numpy(), SECOND["grad_f_proj_of_i2t_ce"], rtol=1e-6, atol=1e-8)
    for name in ("WRONG_cosine_logits_i2t_ce", "WRONG_no_smoothing_i2t_ce"):
        assert abs(value.item() - SECOND[name]) > 1e-3


def test_the_classifications_of_both_vectors():
    scores = [torch.tensor(SECOND[key]) for key in ("score", "score_proj")]
    whole = torch.cat(scores, dim=1)
    loss = SoftmaxSettings(pieces="projection", weight=0.25).make(dimension=8, classes=4)
    with torch.no_grad():
        loss.classifier.weight.copy_(torch.eye(4).repeat(1, 2))  # each vector is its own scores
    out = Output(whole, whole, torch.zeros(6, 8, 1, 1), None, scores[1])
    assert loss(out, output()[1]).item() == pytest.approx(sum(SECOND["ce_ls"]), 1e-5)


def test_the_whole_loss_of_the_shipped_recipe():
    (_, images), (out, labels) = load_recipe("clipreid").stages, output()
    score, projected = (torch.tensor(SECOND[key]) for key in ("score", "score_proj"))
    mix = LossMix(images.losses, dimension=9, classes=4)  # 4 numbers, and 5 of the projection
    with torch.no_grad():
        weight = torch.cat([torch.eye(4), torch.eye(4), torch.zeros(4, 1)], dim=1)
        mix.losses["softmax"].classifier.weight.copy_(weight)  # each vector is its own scores
    terms = mix(replace(out, after_neck=torch.cat([score, projected, torch.zeros(6, 1)], dim=1)), labels)
    prompts, texts = images.method.prompts, torch.tensor(SECOND["text_features_per_id"])
    by_texts = smoothed_cross_entropy(out.projected @ texts.T, labels, smoothing=prompts.smoothing)
    assert (total(terms) + prompts.weight * by_texts).item() == pytest.approx(SECOND["total"], 1e-5)


def test_a_model_without_a_projection_is_refused():
    out, labels = output()
    for kind in (SoftmaxSettings, TripletSettings):
        loss = kind(pieces="projection").make(dimension=11, classes=4)
        with pytest.raises(UserError, match="pieces: projection is for CLIP's image towers"):
            loss(Output(out.before_neck, out.after_neck, out.map), labels)
