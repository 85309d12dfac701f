"""Classifiers that know the people of all stages."""

import pytest
import torch
from torch.nn import functional as F

from passerby.errors import UserError
from passerby.losses.loss import class_means, classifiers
from passerby.recipe import load_recipe
from passerby.training.checkpoint import load_checkpoint
from passerby.training.trainer import make_trainer
from tests.methods.test_weight_penalty import TWO_SITES


def test_means_are_directions():
    x, labels = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([2, 0, 1] * 3)
    wanted = torch.stack([F.normalize(x[labels == person].mean(dim=0), dim=0) for person in range(3)])
    torch.testing.assert_close(class_means(x, labels), wanted)


@pytest.mark.parametrize("new", ["means", "means_before_neck", "random"])
def test_earlier_people_keep_their_rows(tiny, tmp_path, new):
    run = make_trainer(
        tiny(*TWO_SITES, f"method.grow.new={new}", "losses.cosface.feature=before_neck"), tmp_path / "run"
    )
    run.open_stage(0)
    heads = {name: head.weight.detach().clone() for name, head in classifiers(run.state.losses.losses).items()}
    run.state.methods["grow"].on_stage_end(run.context)
    run.open_stage(1)
    assert (run.state.stage.count_old_classes, run.state.stage.classes, run.state.stage.train.count_identities) == (
        6,
        9,
        3,
    )
    for name, head in classifiers(run.state.losses.losses).items():
        assert head.weight.shape[0] == 9
        assert head.weight.requires_grad
        assert torch.equal(head.weight[3:], heads[name])
        of = {"softmax": "after_neck", "cosface": "before_neck"}[name]
        people = torch.from_numpy(run.state.stage.train.pid)
        means = class_means(run.context.vectors_of(run.state.stage.train, of), people)
        before_neck = class_means(F.normalize(run.context.vectors_of(run.state.stage.train, "before_neck")), people)
        assert torch.equal(head.weight[:3], means) == (new == "means")
        assert torch.equal(head.weight[:3], before_neck) == (new == "means_before_neck")


@pytest.mark.parametrize("alpha", [0.25, 0.75])
def test_rows_of_earlier_people_are_averaged_with_the_weights(tiny, tmp_path, alpha):
    run = make_trainer(tiny(*TWO_SITES, f"method={{average: {{alpha: {alpha}}}, grow: {{}}}}"), tmp_path / "run")
    run.open_stage(0)
    run.state.methods["average"].on_stage_end(run.context)
    run.state.methods["grow"].on_stage_end(run.context)
    run.open_stage(1)
    (head,) = classifiers(run.state.losses.losses).values()
    before = run.state.methods["grow"].known["softmax"].weight.clone()
    with torch.no_grad():
        head.weight += 1
    now = head.weight.detach().clone()
    run.state.methods["average"].on_stage_end(run.context)
    torch.testing.assert_close(head.weight[:3], now[:3])
    torch.testing.assert_close(head.weight[3:], alpha * now[3:] + (1 - alpha) * before)
    run.state.methods["grow"].on_stage_end(run.context)
    assert torch.equal(run.state.methods["grow"].known["softmax"].weight, head.weight)


def test_a_stage_whose_classifier_does_not_grow_keeps_its_rows(tiny, tmp_path):
    recipe = tiny(*TWO_SITES, "method={average: {}, grow: {}}", "stages.1.method={grow: null}")
    run = make_trainer(recipe, tmp_path / "run")
    run.open_stage(0)
    for method in run.state.active_methods:
        method.on_stage_end(run.context)
    run.open_stage(1)
    assert "grow" in run.state.methods
    (head,) = classifiers(run.state.losses.losses).values()
    before = head.weight.detach().clone()
    run.state.methods["average"].on_stage_end(run.context)
    assert torch.equal(head.weight, before)


@pytest.fixture
def grown(tiny, tmp_path):
    """Return what runs stages of 6, 3 and 6 people untrained and gives the classifiers as each begins and ends."""

    def stages(*losses, new="means"):
        legs = ", ".join(
            f"{{train: [{name}], losses: {loss}}}"
            for name, loss in zip(("market1501", "other", "market1501"), losses, strict=True)
        )
        run = make_trainer(
            tiny(f"stages=[{legs}]", "data.sampler.identities=2", "evaluate=[]", f"method.grow.new={new}"), tmp_path
        )
        begun, ended = [], []
        for number in range(3):
            run.open_stage(number)
            heads = classifiers(run.state.losses.losses)
            begun.append({name: head.weight.detach().clone() for name, head in heads.items()})
            for head in heads.values():
                torch.nn.init.normal_(head.weight)
            ended.append({name: head.weight.detach().clone() for name, head in heads.items()})
            run.state.methods["grow"].on_stage_end(run.context)
        return run, begun, ended

    return stages


@pytest.mark.parametrize("new", ["means", "random"])
def test_a_stage_without_a_classifier_loses_nobody(grown, new):
    run, begun, ended = grown("{}", "{softmax: null}", "{}", new=new)
    assert begun[1] == {}
    rows = begun[2]["softmax"]
    assert len(rows) == 6 + 3 + 6
    assert torch.equal(rows[9:], ended[0]["softmax"])
    means = class_means(
        run.context.vectors_of(run.setup.stages[1].train, "after_neck"),
        torch.from_numpy(run.setup.stages[1].train.pid),
    )
    assert torch.allclose(rows[6:9], means) == (new == "means")
    assert rows[6:9].norm(dim=1).max() < (1.1 if new == "means" else 0.1)


def test_a_stage_with_another_classifier_gets_the_directions_of_the_earlier_rows(grown):
    _, begun, ended = grown("{}", "{softmax: null, arcface: {}}", "{}")
    torch.testing.assert_close(begun[1]["arcface"][3:], F.normalize(ended[0]["softmax"]))
    rows = begun[2]["softmax"]
    assert len(rows) == 6 + 3 + 6
    assert torch.equal(rows[9:], ended[0]["softmax"])  # its own, not what arcface made of them
    torch.testing.assert_close(rows[6:9], F.normalize(ended[1]["arcface"][:3]))


def test_rows_of_another_space_are_not_adopted(grown):
    run, begun, ended = grown("{}", "{softmax: null, arcface: {feature: before_neck}}", "{arcface: {}, softmax: null}")
    assert begun[1]["arcface"][3:].norm(dim=1).max() < 0.5  # as a new classifier begins
    rows = begun[2]["arcface"]
    torch.testing.assert_close(rows[9:], F.normalize(ended[0]["softmax"]))
    assert run.state.methods["grow"].known["arcface"].space == "after_neck"


def test_a_first_stage_without_a_classifier_is_no_obstacle(grown):
    _, begun, ended = grown("{softmax: null}", "{}", "{arcface: {}}")
    assert len(begun[1]["softmax"]) == 3
    assert torch.equal(begun[2]["softmax"][6:], ended[1]["softmax"])
    torch.testing.assert_close(begun[2]["arcface"][6:], F.normalize(ended[1]["softmax"]))


def test_rows_survive_a_checkpoint_in_the_stage_without_a_classifier(tiny, tmp_path):
    three = "stages=[{train: [market1501]}, {train: [other], losses: {softmax: null}}, {train: [market1501]}]"
    recipe = tiny(three, "data.sampler.identities=2", "evaluate=[]", "method.grow={}")
    run = make_trainer(recipe, tmp_path)
    run.open_stage(0)
    run.state.methods["grow"].on_stage_end(run.context)
    run.open_stage(1)
    run.save()
    again = make_trainer(recipe, tmp_path)
    again.restore(load_checkpoint(tmp_path / "last.pt"))
    before, after = (one.state.methods["grow"].known["softmax"] for one in (run, again))
    assert torch.equal(before.weight, after.weight)
    assert before.space == after.space
    again.state.methods["grow"].on_stage_end(again.context)
    again.open_stage(2)
    assert again.state.stage.classes == 6 + 3 + 6


def test_two_keepers_of_earlier_people_are_refused(tiny):
    with pytest.raises(UserError, match=r"method.grow and method.replay exclude each other"):
        tiny("method={grow: {}, replay: {}}")


def test_lstkc_with_its_growing_head_is_that_of_the_paper():
    stage = load_recipe("lifelong/order_1-lstkc").stages[1]
    assert list(stage.method.chosen) == ["average", "affinity", "grow"]
    assert (stage.method.average.alpha, stage.method.affinity.rectified) == ("adaptive", True)
    assert (stage.losses.triplet.form, stage.losses.triplet.distance) == ("soft", "euclidean_norm")
