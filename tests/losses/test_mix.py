"""The sum of losses."""

import torch

from passerby.losses.mix import LossMix, LossSettings, LossTerm, total
from passerby.losses.softmax import SoftmaxSettings
from passerby.losses.triplet import TripletSettings
from passerby.types import Output

BOTH = LossSettings(softmax=SoftmaxSettings(weight=2.0), triplet=TripletSettings(weight=0.5))


def output(count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Output(*(torch.randn(count, 4, generator=generator) for _ in range(2)), map=torch.zeros(count, 4, 1, 1))


def test_terms_are_unweighted_and_the_total_is_not():
    mix = LossMix(BOTH, dimension=4, classes=3)
    terms = mix(output(), torch.tensor([0, 0, 1, 1, 2, 2]))
    assert list(terms) == ["softmax", "triplet"]
    wanted = 2.0 * terms["softmax"].value + 0.5 * terms["triplet"].value
    torch.testing.assert_close(total(terms), wanted)
    assert total({"a": LossTerm(torch.tensor(3.0), 0.5)}).item() == 1.5


def test_images_without_a_label_take_no_part():
    mix, out = LossMix(BOTH, dimension=4, classes=3), output()
    with_unknown = mix(out, torch.tensor([0, 0, -1, 1, 1, -1]))
    kept = torch.tensor([0, 1, 3, 4])
    without = mix(Output(out.before_neck[kept], out.after_neck[kept], out.map), torch.tensor([0, 0, 1, 1]))
    for name in with_unknown:
        torch.testing.assert_close(with_unknown[name].value, without[name].value)
