"""Mutual mean teaching against numbers computed elsewhere."""

import json
from pathlib import Path

import pytest
import torch

from passerby.errors import UserError
from passerby.losses.triplet import triplet_loss
from passerby.methods.mmt import kept_of_mean, soft_cross_entropy, soft_triplet
from passerby.train.session import train
from tests.train.runs import run, weights

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "mmt.json").read_text())
LABELS = torch.tensor(ORACLE["labels"])


def wide(name):
    return torch.tensor(ORACLE[name], dtype=torch.float64)


def test_the_soft_triplet_and_its_gradient_equal_the_known_numbers():
    student = wide("student_feat").requires_grad_()
    loss = soft_triplet(student, wide("mean_teacher_of_other_net_feat"), LABELS)
    loss.backward()
    assert loss.item() == pytest.approx(ORACLE["soft_triplet"], rel=1e-6)
    assert torch.allclose(student.grad, wide("soft_triplet_grad"), atol=1e-6)


def test_the_softmax_triplet_and_the_soft_cross_entropy_equal_the_known_numbers():
    hard = triplet_loss(wide("student_feat"), LABELS, form="soft")
    assert hard.item() == pytest.approx(ORACLE["hard_softmax_triplet_margin0"], rel=1e-6)
    found = soft_cross_entropy(wide("logits_student"), wide("logits_teacher"))
    assert found.item() == pytest.approx(ORACLE["soft_ce"], rel=1e-5)


def test_the_order_of_images_does_not_count():
    order = torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(1))
    student, teacher = wide("student_feat"), wide("mean_teacher_of_other_net_feat")
    shuffled = soft_triplet(student[order], teacher[order], LABELS[order])
    assert shuffled.item() == pytest.approx(ORACLE["soft_triplet"], rel=1e-6)


def test_a_teacher_moves_as_published():
    told = ORACLE["ema"]
    assert [kept_of_mean(step) for step in (0, 9, 5000)] == [told["step0"], told["step9"], told["step5000"]]


STAGE = (
    "stages=[{train: [other], labelled: false, epochs: 1}]",
    "losses={softmax: null, triplet: null}",
    "evaluate=[]",
)


def mmt(tiny, *changes):
    return tiny(*STAGE, "data.identities=2", "method.mmt={cluster: {kind: kmeans, k: 3}}", *changes)


def test_the_stage_leaves_the_mean_and_not_the_network_that_learnt(tiny, tmp_path):
    slow, quick = (run(mmt(tiny, f"method.mmt.decay={decay}"), tmp_path / str(decay)) for decay in (0.999, 1e-9))
    assert weights(slow) != weights(quick)
    state = torch.load(slow / "last.pt", weights_only=True)
    assert not [name for name in state["parts"] if name.startswith(("mmt.students", "mmt.teachers", "mmt.heads"))]


def test_the_second_network_may_begin_in_another_run(tiny, tmp_path):
    other = run(tiny("stages.0.epochs=1", "evaluate=[]", "engine.seed=5"), tmp_path / "other")
    alike, apart = (
        run(mmt(tiny, *more), tmp_path / name) for name, more in (("a", []), ("b", [f"method.mmt.second={other}"]))
    )
    assert weights(alike) != weights(apart)


def test_a_second_network_that_sees_otherwise_is_refused(tiny, tmp_path):
    other = run(tiny("stages.0.epochs=1", "evaluate=[]", "input.size=[48, 16]"), tmp_path / "other")
    with pytest.raises(
        UserError, match=r"method.mmt.second: .* images with input.size \[48, 16\], this recipe has \[32, 16\]"
    ):
        train(mmt(tiny, f"method.mmt.second={other}"), tmp_path / "run")


def test_the_second_network_sees_the_mirror_image_and_its_mask(tiny, masks, tmp_path):
    first, second = [], []

    def look(run, _engine):
        for network, seen in ((run.embedder, first), (run.parts["mmt"].students[0], second)):
            network.register_forward_pre_hook(
                lambda net, given, seen=seen: seen.append(given) if net.training else None
            )

    recipe = mmt(tiny, "stages.0.train=[market1501]", f"masks={masks}", "foreground=pool")
    train(recipe, tmp_path / "run", watch=[look])
    for mine, theirs in zip(first[0], second[0], strict=True):
        assert torch.equal(mine.flip(3), theirs)
    assert len(first[0]) == 2
