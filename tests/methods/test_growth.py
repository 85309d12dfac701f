"""Classifiers that know the people of all stages."""

import pytest
import torch
from torch.nn import functional as F

from passerby.errors import UserError
from passerby.losses.softmax import classifiers
from passerby.methods.growth import class_means, vectors
from passerby.recipe import load_recipe
from passerby.train.setup import make_run
from tests.methods.test_anchors import TWO_SITES


def test_means_are_directions():
    x, labels = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([2, 0, 1] * 3)
    wanted = torch.stack([F.normalize(x[labels == person].mean(dim=0), dim=0) for person in range(3)])
    torch.testing.assert_close(class_means(x, labels), wanted)


@pytest.mark.parametrize("new", ["means", "random"])
def test_earlier_people_keep_their_rows(tiny, tmp_path, new):
    run = make_run(tiny(*TWO_SITES, f"method.grow.new={new}", "losses.cosface.feature=feature"), tmp_path / "run")
    run.open_stage(0)
    heads = {name: head.weight.detach().clone() for name, head in classifiers(run.losses.losses).items()}
    run.parts["grow"].end(run, run.stage)
    run.open_stage(1)
    assert (run.stage.absent, run.stage.classes, run.stage.train.count_identities) == (6, 9, 3)
    for name, head in classifiers(run.losses.losses).items():
        assert head.weight.shape[0] == 9
        assert head.weight.requires_grad
        assert torch.equal(head.weight[3:], heads[name])
        of = {"softmax": "embedding", "cosface": "feature"}[name]
        means = class_means(vectors(run, run.stage.train, of=of), torch.from_numpy(run.stage.train.pid))
        assert torch.equal(head.weight[:3], means) == (new == "means")


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_rows_of_earlier_people_are_averaged_with_the_weights(tiny, tmp_path, share):
    run = make_run(tiny(*TWO_SITES, f"method={{average: {{share: {share}}}, grow: {{}}}}"), tmp_path / "run")
    run.open_stage(0)
    run.parts["average"].end(run, run.stage)
    run.parts["grow"].end(run, run.stage)
    run.open_stage(1)
    (head,) = classifiers(run.losses.losses).values()
    before = run.parts["grow"].known["softmax"].clone()
    with torch.no_grad():
        head.weight += 1
    now = head.weight.detach().clone()
    run.parts["average"].end(run, run.stage)
    torch.testing.assert_close(head.weight[:3], now[:3])
    torch.testing.assert_close(head.weight[3:], share * now[3:] + (1 - share) * before)
    run.parts["grow"].end(run, run.stage)
    assert torch.equal(run.parts["grow"].known["softmax"], head.weight)


def test_a_stage_whose_classifier_does_not_grow_keeps_its_rows(tiny, tmp_path):
    run = make_run(tiny(*TWO_SITES, "method={average: {}, grow: {}}", "stages.1.method={grow: null}"), tmp_path / "run")
    run.open_stage(0)
    for part in run.speaking_parts:
        part.end(run, run.stage)
    run.open_stage(1)
    assert "grow" in run.parts
    (head,) = classifiers(run.losses.losses).values()
    before = head.weight.detach().clone()
    run.parts["average"].end(run, run.stage)
    assert torch.equal(head.weight, before)


def test_two_keepers_of_earlier_people_are_refused(tiny):
    with pytest.raises(UserError, match=r"method.grow and method.replay both keep earlier people"):
        tiny("method={grow: {}, replay: {}}")


def test_lstkc_with_its_growing_head_is_that_of_the_paper():
    stage = load_recipe("lifelong/order_1-lstkc").stages[1]
    assert list(stage.method.chosen) == ["average", "affinity", "grow"]
    assert (stage.method.average.share, stage.method.affinity.rectified) == ("adaptive", True)
    assert (stage.losses.triplet.form, stage.losses.triplet.distance) == ("soft", "euclidean_norm")
