"""The adversarial loss of clothes against numbers computed elsewhere, and the order of its two steps."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from passerby.errors import UserError
from passerby.methods.cal import adversarial_clothes_loss, clothes_classes
from passerby.recipe import load_recipe
from passerby.training import run_log
from passerby.training.session import train
from passerby.training.trainer import make_trainer
from passerby.types import Split
from tests.methods.steps import some

KNOWN = json.loads((Path(__file__).parents[1] / "oracles_data" / "cal_clothes.json").read_text())["cal"]
DRESSED = ["stages=[{train: [dressed], epochs: 2}]", "evaluate=[]", "data.sampler.identities=2"]


def known():
    cosines = torch.tensor(KNOWN["cosine_to_clothes_classes"], dtype=torch.float64)
    return cosines, torch.tensor(KNOWN["clothes_label"]), torch.tensor(KNOWN["person_of_clothes_class"])


def test_the_loss_and_its_gradient_equal_the_known_numbers():
    cosines, labels, identities = known()
    cosines.requires_grad_()
    loss = adversarial_clothes_loss(KNOWN["scale"] * cosines, labels, identities, epsilon=KNOWN["epsilon"])
    loss.backward()
    assert loss.item() == pytest.approx(KNOWN["adversarial_loss"], rel=1e-6)
    torch.testing.assert_close(
        cosines.grad, torch.tensor(KNOWN["grad_cos_of_adversarial"], dtype=torch.float64), rtol=1e-5, atol=1e-7
    )
    assert abs(loss.item() - KNOWN["WRONG_plain_ce_with_uniform_positives"]) > 1
    assert F.cross_entropy(16 * cosines, labels).item() == pytest.approx(KNOWN["clothes_classifier_ce"], rel=1e-6)


@pytest.mark.parametrize("epsilon", [0, 1])
def test_all_weight_on_the_worn_or_on_all_clothes(epsilon):
    cosines, labels, identities = known()
    loss = adversarial_clothes_loss(16 * cosines, labels, identities, epsilon=float(epsilon))
    assert loss.item() == pytest.approx(KNOWN[f"epsilon_{epsilon}"], rel=1e-6)


def test_large_logits_and_a_person_alone_are_finite():
    logits = torch.tensor([[500.0, -500.0, 500.0]], requires_grad=True)
    adversarial_clothes_loss(logits, torch.tensor([1]), torch.tensor([0, 0, 1])).backward()
    assert torch.isfinite(logits.grad).all()
    assert adversarial_clothes_loss(logits, torch.tensor([0]), torch.tensor([0, 0, 0])).item() == 0


def test_equal_numbers_of_two_people_are_two_classes_and_unknown_ones_none():
    split = Split(
        np.full(6, ""), np.array([3, 3, 8, 8, 3, -1]), np.zeros(6, int), clothes=np.array([1, 2, 1, -1, 1, 2])
    )
    classes, identities = clothes_classes(split)
    assert classes.tolist() == [0, 1, 2, -1, 0, -1]
    assert identities.tolist() == [3, 3, 8]
    with pytest.raises(UserError, match="no identity of the training images is shown in two known clothes"):
        clothes_classes(replace(split, clothes=np.array([1, 1, 5, 5, 1, -1])))


def begun(tiny, tmp_path, **settings):
    run = make_trainer(tiny(*DRESSED, f"method.cal={json.dumps({'start': 0} | settings)}"), tmp_path / "run")
    run.open_stage(0)
    return run, run.state.methods["cal"]


def test_the_classifier_goes_its_step_first_as_adam_does_and_the_features_follow_the_new_one(tiny, tmp_path):
    run, method = begun(tiny, tmp_path, lr=0.05, weight_decay=0.01, weight=3.0)
    rows = torch.nn.Parameter(method.rows.clone())
    adam = torch.optim.Adam([rows], lr=0.05, weight_decay=0.01)
    classes, identities = clothes_classes(run.state.stage.train)
    for first in range(3):
        batch = some(run, rows=range(first, 48, 7))
        out, labels = run.state.embedder.eval()(batch.inputs), classes[batch.index]
        features = F.normalize(out.after_neck)
        (term,) = method.losses(run.context, batch, out).values()
        before = adversarial_clothes_loss(16 * features @ F.normalize(rows.detach()).T, labels, identities)
        adam.zero_grad()
        F.cross_entropy(16 * features.detach() @ F.normalize(rows).T, labels).backward()
        adam.step()
        torch.testing.assert_close(method.rows, rows.detach(), rtol=1e-4, atol=1e-6)
        after = adversarial_clothes_loss(16 * features @ F.normalize(rows.detach()).T, labels, identities)
        torch.testing.assert_close(term.value, after, rtol=1e-4, atol=1e-5)
        assert abs(after - before) > 1e-3, "the classifier of before is another one"
        assert term.weight == 3.0
        stepped = method.rows.clone()
        term.value.backward()
        assert torch.equal(method.rows, stepped), "the loss of the features does not move the classifier"
        assert any(parameter.grad is not None for parameter in run.state.embedder.parameters())


def test_nothing_is_trained_before_the_start(tiny, tmp_path):
    run, method = begun(tiny, tmp_path, start=1)
    rows, batch = method.rows.clone(), some(run)
    assert method.losses(run.context, batch, run.state.embedder(batch.inputs)) == {}
    assert torch.equal(method.rows, rows)
    run.state.counters.epoch = 1
    assert set(method.losses(run.context, batch, run.state.embedder(batch.inputs))) == {"clothes"}
    assert not torch.equal(method.rows, rows)


def test_a_run_shows_the_loss_from_the_epoch_of_its_start(tiny, tmp_path):
    train(tiny(*DRESSED, "method.cal={start: 1}", "stages.0.iterations=2"), tmp_path / "run")
    first, second = run_log.epochs(run_log.read(tmp_path / "run" / "log.jsonl"))
    assert ("clothes" in first.terms, "clothes" in second.terms) == (False, True)
    assert math.isfinite(second.terms["clothes"].value)


def test_data_without_clothes_and_a_start_after_the_end_are_refused(tiny, tmp_path):
    with pytest.raises(UserError, match=r"method\.cal needs to know the clothes of the training images"):
        train(tiny("method.cal={start: 0}", "evaluate=[]"), tmp_path / "run")
    with pytest.raises(UserError, match=r"method.cal.start is 25, and stage 'dressed' has 2 epochs"):
        tiny(*DRESSED, "method.cal={}")


@pytest.mark.parametrize("name", ["prcc", "ltcc"])
def test_the_rows_have_the_settings_of_the_paper_and_no_figures(name):
    recipe = load_recipe(f"clothes/cal-{name}")
    (stage,), cal = recipe.stages, recipe.stages[0].method.cal
    assert (stage.train, stage.epochs, set(stage.losses.chosen)) == ((name,), 60, {"softmax"})
    assert (recipe.input.size, recipe.model.last_stride) == ((384, 192), 1)
    assert (stage.optim.name, stage.optim.lr, stage.optim.weight_decay, stage.optim.milestones) == (
        "adam", 3.5e-4, 5e-4, (20, 40),
    )  # fmt: skip
    assert (cal.start, cal.scale, cal.epsilon, cal.lr, cal.weight_decay, cal.weight) == (25, 16, 0.1, 3.5e-4, 5e-4, 1)
    assert (stage.data.sampler.identities, stage.data.sampler.instances) == (8, 8)
    assert recipe.test.clothes == "changing"
    assert recipe.reference_results == {}
