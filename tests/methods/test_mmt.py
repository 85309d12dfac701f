"""Mutual mean teaching against numbers computed elsewhere."""

import copy
import json
from pathlib import Path

import pytest
import torch

from passerby.errors import UserError
from passerby.losses.softmax import smoothed_cross_entropy
from passerby.losses.triplet import triplet_loss
from passerby.methods.mmt import soft_cross_entropy, soft_triplet, warm_decay
from passerby.training.session import train
from passerby.types import Inputs
from tests.methods.steps import shake, some
from tests.training.runs import run, weights

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
    assert [warm_decay(step) for step in (0, 9, 5000)] == [told["step0"], told["step9"], told["step5000"]]


STAGE = (
    "stages=[{train: [other], labelled: false, epochs: 1}]",
    "losses={softmax: null, triplet: null}",
    "evaluate=[]",
)


def mmt(tiny, *changes):
    return tiny(*STAGE, "data.sampler.identities=2", "method.mmt={cluster: {kind: kmeans, k: 3}}", *changes)


def test_the_stage_leaves_the_mean_and_not_the_network_that_learnt(tiny, tmp_path):
    slow, quick = (run(mmt(tiny, f"method.mmt.decay={decay}"), tmp_path / str(decay)) for decay in (0.999, 1e-9))
    assert weights(slow) != weights(quick)
    state = torch.load(slow / "last.pt", weights_only=True)
    left = {name for name in state["methods"] if name.startswith(("mmt.students", "mmt.teachers", "mmt.heads"))}
    assert left == {"mmt.heads._extra_state"}


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
        for network, seen in ((run.state.embedder, first), (run.state.methods["mmt"].students[0], second)):
            network.register_forward_pre_hook(
                lambda net, given, seen=seen: seen.append(given) if net.training else None
            )

    recipe = mmt(tiny, "stages.0.train=[market1501]", f"masks={masks}", "foreground=pool")
    train(recipe, tmp_path / "run", watch=[look])
    (mine,), (theirs,) = first[0], second[0]
    assert torch.equal(mine.images.flip(3), theirs.images)
    assert torch.equal(mine.mask.flip(3), theirs.mask)


def four(method, run):
    """Return both students and both teachers, with the classifier of each, none like another."""
    networks = [run.state.embedder, method.students[0], *method.teachers]
    for seed, module in enumerate([*networks, *method.heads]):
        shake(module, seed=seed)
    return networks


def test_each_network_is_taught_by_the_mean_of_the_other_one(unknown):
    run = unknown("method.mmt={cluster: {kind: kmeans, k: 3}, soft_softmax: 0.4, soft_triplet: 0.7}")
    method = run.state.methods["mmt"]
    networks = four(method, run)
    batch = some(run, rows=range(0, 24, 2), labels=run.state.counters.labels)
    images, labels = (batch.inputs.images, batch.inputs.images.flip(3)), batch.labels
    outs = [network(Inputs.of_images(images[place % 2])) for place, network in enumerate(networks)]
    logits = [head(out.after_neck) for head, out in zip(method.heads, outs, strict=True)]
    terms = method.losses(run.context, batch, outs[0])

    def soft(one, other):
        return soft_cross_entropy(logits[0], logits[one]) + soft_cross_entropy(logits[1], logits[other])

    def mined(one, other):
        feature = [out.before_neck for out in outs]
        return soft_triplet(feature[0], feature[one], labels) + soft_triplet(feature[1], feature[other], labels)

    wanted = {
        "hard labels": (sum(smoothed_cross_entropy(logits[n], labels, smoothing=0.1) for n in (0, 1)), 0.6),
        "soft labels": (soft(3, 2), 0.4),
        "hard triplet": (sum(triplet_loss(outs[n].before_neck, labels, form="soft") for n in (0, 1)), 0.3),
        "soft triplet": (mined(3, 2), 0.7),
    }
    assert terms.keys() == wanted.keys()
    for name, (value, weight) in wanted.items():
        torch.testing.assert_close(terms[name].value, value)
        assert terms[name].weight == pytest.approx(weight)
    assert abs(soft(2, 3) - soft(3, 2)) > 1e-3 < abs(mined(2, 3) - mined(3, 2)), "by its own mean: known to be wrong"
    sum(term.weighted for term in terms.values()).backward()
    assert all(net.neck.weight.grad.abs().max() > 0 for net in networks[:2])
    assert all(p.grad is None for module in (*networks[2:], *method.heads[2:]) for p in module.parameters())


def test_means_go_a_little_of_the_way_to_their_own_networks(unknown):
    run = unknown("method.mmt={cluster: {kind: kmeans, k: 3}, decay: 0.999}")
    method = run.state.methods["mmt"]
    networks = four(method, run)
    pairs = [(0, 2), (1, 3)]
    followed = [(modules[one], modules[two]) for modules in (networks, method.heads) for one, two in pairs]
    before = [[[p.detach().clone() for p in module.parameters()] for module in pair] for pair in followed]
    method.step.fill_(4)
    with torch.no_grad():
        run.state.is_updated = True
        method.after_step(run.context, None, None)
    for (student, mean), (now, earlier) in zip(followed, before, strict=True):
        assert all(torch.equal(p, same) for p, same in zip(student.parameters(), now, strict=True))
        for found, learnt, kept in zip(mean.parameters(), now, earlier, strict=True):
            torch.testing.assert_close(found.detach(), 0.8 * kept + 0.2 * learnt)  # 1 - 1 / (4 + 1) stays
    assert int(method.step) == 5


@pytest.mark.parametrize(("setting", "share"), [("auto", 1 - 32 / 60), ("0.999", 0.999)])
def test_the_decay_follows_the_length_of_the_stage_unless_it_is_set(unknown, setting, share):
    run = unknown(f"method.mmt={{cluster: {{kind: kmeans, k: 3}}, decay: {setting}}}", stage=", iterations: 20")
    assert run.context.stage_batches == 60  # 3 epochs
    method = run.state.methods["mmt"]
    method.step.fill_(5000)
    shake(run.state.embedder)
    learning, mean = run.state.embedder.neck.weight, method.teachers[0].neck.weight
    before = mean.clone()
    with torch.no_grad():
        run.state.is_updated = True
        method.after_step(run.context, None, None)
    assert not torch.equal(before, learning)
    torch.testing.assert_close(mean, share * before + (1 - share) * learning)


def test_what_is_clustered_is_the_mean_of_what_both_means_see(unknown):
    run = unknown("method.mmt={cluster: {kind: kmeans, k: 3}}")
    method = run.state.methods["mmt"]
    four(method, run)
    images = some(run, rows=range(24)).inputs.images
    with torch.no_grad():
        seen = [copy.deepcopy(net).eval()(Inputs.of_images(images)).after_neck for net in method.teachers]
    wanted = sum(torch.nn.functional.normalize(one) for one in seen) / 2
    torch.testing.assert_close(torch.from_numpy(method.vectors_to_cluster(run.context)), wanted, atol=1e-5, rtol=1e-4)
