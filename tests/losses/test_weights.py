"""Learnt weights of losses."""

import json
import math
from pathlib import Path

import pytest
import torch

from passerby.errors import UserError
from passerby.losses.mix import LossMix, LossSettings, LossTerm, total
from passerby.losses.softmax import SoftmaxSettings
from passerby.losses.triplet import TripletSettings
from passerby.losses.weights import LIMIT, learned_share
from passerby.settings import build, dump_yaml, parse_yaml
from passerby.types import Output

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "kendall_weights.json").read_text())
LOSSES = torch.tensor(ORACLE["losses"], dtype=torch.float64)
BOTH = LossSettings(softmax=SoftmaxSettings(weight="learned"), triplet=TripletSettings(weight=0.5))


def output(count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Output(*(torch.randn(count, 4, generator=generator) for _ in range(2)), map=torch.zeros(count, 4, 1, 1))


LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def test_equals_the_published_form_and_its_gradients():
    s = torch.tensor(ORACLE["s_log_var"], dtype=torch.float64, requires_grad=True)
    value = sum(learned_share(loss, each) for loss, each in zip(LOSSES, s, strict=True))
    assert value.item() == pytest.approx(ORACLE["paper_classification"], abs=1e-7)
    assert value.item() != pytest.approx(ORACLE["fairmot"], abs=1e-2)  # half of it all, which is another optimum
    value.backward()
    torch.testing.assert_close(s.grad.tolist(), ORACLE["grads_classification_form"], atol=1e-7, rtol=1e-6)


def test_has_its_optimum_where_the_weight_is_half_of_one_over_the_loss():
    s = torch.tensor(ORACLE["optimum_s_classification_form"], dtype=torch.float64, requires_grad=True)
    learned_share(LOSSES, s).sum().backward()
    torch.testing.assert_close(s.grad, torch.zeros(2, dtype=torch.float64), atol=1e-7, rtol=0)
    torch.testing.assert_close((-s).exp().detach(), 1 / (2 * LOSSES), atol=1e-7, rtol=1e-6)


def test_begins_as_a_weight_of_one_and_learns():
    mix, out = LossMix(BOTH, dimension=4, classes=3), output()
    assert [tuple(p.shape) for p in mix.no_weight_decay] == [()]
    terms = mix(out, LABELS)
    assert [terms[name].weight for name in ("softmax", "triplet")] == [1.0, 0.5]
    torch.testing.assert_close(total(terms), terms["softmax"].value + 0.5 * terms["triplet"].value)
    total(terms).backward()
    (s,) = mix.no_weight_decay
    assert s.grad.item() == pytest.approx(0.5 - terms["softmax"].value.item(), abs=1e-6)
    with torch.no_grad():
        s.fill_(0.75)
    terms = mix(out, LABELS)
    assert terms["softmax"].weight == pytest.approx(math.exp(-0.75))
    wanted = math.exp(-0.75) * terms["softmax"].value.item() + 0.375
    assert terms["softmax"].weighted.item() == pytest.approx(wanted)


@pytest.mark.parametrize("sign", [1, -1])
def test_stays_in_its_limits_and_comes_back(sign):
    mix = LossMix(BOTH, dimension=4, classes=3)
    (s,) = mix.no_weight_decay
    with torch.no_grad():
        s.fill_(sign * 9.0)
    total(mix(output(), LABELS)).backward()
    assert s.item() == sign * LIMIT
    assert s.grad.item() * sign > 0  # down again from the upper limit, up again from the lower


def test_fixed_weights_learn_nothing():
    mix = LossMix(LossSettings(triplet=TripletSettings()), dimension=4, classes=3)
    assert not list(mix.parameters())
    assert not mix.state_dict()
    assert LossTerm(torch.tensor(3.0), 0.5).weighted.item() == 1.5


def test_a_recipe_says_learned():
    for word in ("learned", 0, 2.5):
        built = build(LossSettings, {"triplet": {"weight": word}}, source="test")
        assert built.triplet.weight == word
        assert (
            build(LossSettings, parse_yaml(dump_yaml(built.model_dump(mode="json")), source="test"), source="test")
            == built
        )


@pytest.mark.parametrize(
    ("weight", "told"),
    [
        (-1, "triplet.weight: got -1, allowed: a number of at least 0, or 'learned'$"),
        (True, "triplet.weight: got True"),
        ("learnt", "got 'learnt', allowed: .*; did you mean 'learned'[?]"),
    ],
)
def test_another_weight_is_told(weight, told):
    with pytest.raises(UserError, match=told):
        build(LossSettings, {"triplet": {"weight": weight}}, source="losses")
