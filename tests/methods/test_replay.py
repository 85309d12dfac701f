"""The memory: who is in it, how it comes back, and what it costs."""

import numpy as np
import pytest
import torch

from passerby.data.loading import plain_batches
from passerby.errors import UserError
from passerby.losses.loss import classifiers
from passerby.methods.herding import herd
from passerby.methods.replay import choose, match_gap
from passerby.training import run_log
from passerby.training.session import train
from passerby.training.trainer import make_trainer
from passerby.types import Batch, Inputs
from tests.methods.test_weight_penalty import TWO_SITES

FEATURES = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def test_images_are_chosen_by_direction():
    scaled = FEATURES * np.arange(1, 7, dtype=np.float32)[:, None]
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    assert choose(scaled, 3, rng).tolist() == herd(unit, 3).tolist()
    far = choose(scaled, 2, rng, by="far")
    assert sorted(far.tolist()) == sorted(np.argsort(unit @ unit.mean(axis=0))[:2].tolist())
    drawn = [tuple(choose(scaled, 2, np.random.default_rng(seed), by="random")) for seed in range(20)]
    assert len(set(drawn)) > 5
    assert len(choose(scaled, 99, rng, by="random")) == len(choose(scaled, 99, rng)) == 6


def test_the_gap_is_of_remembered_images_alone():
    now = torch.tensor([[1.0, 1.0], [2.0, 0.0], [5.0, 5.0]], requires_grad=True)
    stored, place = torch.tensor([[0.0, 0.0], [2.0, 2.0]]), torch.tensor([-3, 1, 2])
    gap = match_gap(now, stored, place)
    assert gap.item() == pytest.approx(2.0)  # (0 + 4) / 2 of the one image whose vector is stored
    gap.backward()
    assert now.grad.abs().sum(dim=1).tolist() == [0, 2, 0]
    assert match_gap(now, stored, torch.tensor([-1, -1, 7])).item() == 0


@pytest.fixture
def second(tiny, tmp_path):
    """Open the second stage of a run whose first one left a memory."""

    def begin(*overrides):
        run = make_trainer(tiny(*TWO_SITES, *overrides), tmp_path / "run")
        run.open_stage(0)
        for head in classifiers(run.state.losses.losses).values():
            torch.nn.init.normal_(head.weight)
        heads = {name: head.weight.detach().clone() for name, head in classifiers(run.state.losses.losses).items()}
        run.state.methods["replay"].on_stage_end(run.context)
        run.open_stage(1)
        return run, heads

    return begin


def test_the_memory_joins_the_images_and_keeps_its_classifiers(second):
    run, heads = second("method.replay={identities: 4, instances: 3}", "losses.arcface={}")
    method, stage, new = run.state.methods["replay"], run.state.stage, run.setup.stages[1].train
    assert len(method.rows) == 12
    assert stage.sources == ("other", "memory")
    assert stage.train.path[: len(new)].tolist() == new.path.tolist()
    assert stage.train.path[len(new) :].tolist() == run.setup.stages[0].train.path[method.rows.numpy()].tolist()
    assert set(stage.train.pid[len(new) :]) == {3, 4, 5, 6}
    assert not set(stage.train.cam[len(new) :]) & set(new.cam)
    then, now = run.setup.stages[0].train.pid[method.rows.numpy()], stage.train.pid[len(new) :]
    people = np.unique(then)
    assert people[now - 3].tolist() == then.tolist()
    for name, head in classifiers(run.state.losses.losses).items():
        assert head.weight.shape[0] == 7
        assert torch.equal(head.weight[3:], heads[name][torch.from_numpy(people)])


def test_people_of_the_memory_keep_their_centres(second):
    run, _ = second("method.replay={identities: 4}", "losses.center={}")
    method, centres = run.state.methods["replay"], run.state.losses.losses["center"].centres
    assert torch.equal(centres[3:], method.known["center"].weight)
    assert len(centres) == 7
    learnt = centres.clone()
    method.on_stage_end(run.context)
    assert torch.equal(method.known["center"].weight[:4], learnt[3:])


def test_a_third_stage_has_both_memories(second):
    run, _ = second(
        "method.replay={identities: 2}", "stages=[{train: [market1501]}, {train: [other]}, {train: [other]}]"
    )
    with torch.no_grad():
        classifiers(run.state.losses.losses)["softmax"].weight.normal_()
    learnt = classifiers(run.state.losses.losses)["softmax"].weight.detach().clone()
    run.state.methods["replay"].on_stage_end(run.context)
    method = run.state.methods["replay"]
    assert method.stages.tolist() == [0] * 4 + [1] * 4
    newest = np.unique(run.setup.stages[1].train.pid[method.rows[4:].numpy()])
    run.open_stage(2)
    assert run.state.stage.train.count_identities == 3 + 2 + 2
    wanted = torch.cat([learnt[3:5], learnt[torch.from_numpy(newest)]])
    assert torch.equal(classifiers(run.state.losses.losses)["softmax"].weight[3:], wanted)
    assert run.state.stage.train.path[run.state.stage.is_new].tolist() == run.setup.stages[2].train.path.tolist()


def test_a_run_counts_its_memory_and_draws_its_share(tiny, tmp_path):
    recipe = tiny(*TWO_SITES, "data.sampler.identities=3", "method.replay={identities: 3, ratio: 0.34, choose: far}")
    train(recipe, tmp_path / "run")
    records = run_log.read(tmp_path / "run" / "log.jsonl")
    first, last = (record for record in records if isinstance(record, run_log.MetricRecord))
    assert (first.values["stored images"], last.values["stored images"]) == (6, 12)
    assert first.values["bytes of image files"] > 6 * 100
    drawn = run_log.epochs(records)[-1].drawn
    assert list(drawn) == ["other", "memory"]
    assert drawn["memory"].images * 2 == drawn["other"].images  # 1 of 3 people
    assert drawn["memory"].batches == 24 // 6  # only new images make an epoch longer


def test_what_is_stored_is_matched_and_only_that(second):
    run, _ = second("method.replay={identities: 2, match: 0.3}")
    method = run.state.methods["replay"]
    assert method.stored.shape == (4, run.state.embedder.dimension)
    assert sum(method.memory_footprint().values()) > method.stored.nbytes
    rows = torch.tensor([0, len(run.setup.stages[1].train)])
    run.state.embedder.eval()
    (images,) = plain_batches(run.state.stage.train.path[rows.numpy()], run.state.embedder.input, size=2)
    out = run.state.embedder(Inputs.of_images(images))
    batch = Batch(Inputs.of_images(images), torch.zeros(2), rows)
    assert method.losses(run.context, batch, out)["match"].value.item() == pytest.approx(0, abs=1e-8)
    assert method.losses(run.context, batch, out)["match"].weight == 0.3


def test_stages_without_stored_vectors_get_them_later(second):
    run, _ = second("method.replay={identities: 2}", "stages.1.method.replay.match=0.3")
    method = run.state.methods["replay"]
    assert method.losses(run.context, None, None) == {}
    method.on_stage_end(run.context)
    assert len(method.stored) == len(method.rows) == 8


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["method.replay={}", "stages=[{train: [market1501], labelled: false}]"], "method.replay needs known id"),
        (["method.ewc={}", "losses.softmax=null"], "method.ewc needs losses.softmax"),
        (["method.replay.choose=hering"], "method.replay.choose is 'hering', allowed"),
        (["method.replay.ratio=1"], "method.replay.ratio is 1"),
        (
            [
                "stages=[{train: [market1501, other]}]", "data.sampler=per_domain", "method.replay.ratio=0.3",
            ],
            "divides the 3 identities of a batch",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_told(tiny, changes, told):
    with pytest.raises(UserError, match=told):
        tiny(*changes)


@pytest.mark.parametrize("middle", ["{softmax: null}", "{softmax: null, arcface: {}}"])
def test_people_of_the_memory_keep_rows_over_a_stage_with_other_losses(second, middle):
    """Two stages of 2 remembered people each, the second without the classifier of the first."""
    run, heads = second(
        "method.replay={identities: 2}",
        f"stages=[{{train: [market1501]}}, {{train: [other], losses: {middle}}}, {{train: [other]}}]",
    )
    first = run.state.methods["replay"].known["softmax"].weight.clone()
    assert all((heads["softmax"] == row).all(dim=1).any() for row in first)
    now = {name: head.weight.detach().clone() for name, head in classifiers(run.state.losses.losses).items()}
    if "arcface" in now:
        torch.testing.assert_close(now["arcface"][3:], torch.nn.functional.normalize(first))
    method = run.state.methods["replay"]
    method.on_stage_end(run.context)
    newest = torch.from_numpy(np.unique(run.setup.stages[1].train.pid[method.rows[4:].numpy()]))
    run.open_stage(2)
    rows = classifiers(run.state.losses.losses)["softmax"].weight
    assert len(rows) == 3 + 2 + 2
    assert torch.equal(rows[3:5], first)
    if "arcface" in now:
        torch.testing.assert_close(rows[5:], torch.nn.functional.normalize(now["arcface"][newest]))
    else:
        assert rows[5:].norm(dim=1).max() < 0.1  # as a new classifier begins, like those of new people
