"""LSTKC++ against numbers computed elsewhere, and which model is trained, teaches and is fused in which stage."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from passerby.errors import UserError
from passerby.evaluation import evaluate
from passerby.methods.consolidation import affinity_agreement, interpolate_weights, neighbour_agreement
from passerby.methods.distillation import affinity, affinity_divergence, complementary_affinity
from passerby.methods.identity_rows import IdentityRows, RowStore
from passerby.methods.lstkc_pp import SHARES, training_map
from passerby.training import run_log
from passerby.training.session import Interrupted, train
from passerby.training.trainer import make_trainer
from passerby.types import Embeddings, Split
from tests.methods.steps import shake, some
from tests.training.runs import interrupt_after, optimiser_hash, weights

KNOWN = json.loads((Path(__file__).parents[1] / "oracles_data" / "lstkc_pp.json").read_text())
RELATIONS, ALPHA = KNOWN["rectified_relations"], KNOWN["fusion_alpha"]


def wide(values):
    return torch.tensor(values, dtype=torch.float64)


def known_affinities():
    return [affinity(wide(RELATIONS[f"f_{name}_old"])) for name in ("short_term", "long_term")]


# ---- numbers


def test_the_target_of_two_teachers_and_its_gradient_equal_the_known_numbers():
    labels, new = torch.tensor(RELATIONS["labels"]), wide(RELATIONS["f_new"]).requires_grad_()
    target = complementary_affinity(*known_affinities(), labels)
    torch.testing.assert_close(target, wide(RELATIONS["dual_target"]), rtol=1e-6, atol=1e-12)
    loss = affinity_divergence(target, new)
    loss.backward()
    assert loss.item() == pytest.approx(RELATIONS["dual_loss"], rel=1e-6)
    torch.testing.assert_close(new.grad, wide(RELATIONS["grad_f_new_of_dual_loss"]), rtol=1e-5, atol=1e-9)
    for name in ("WRONG_average_of_two_targets", "WRONG_reversed_kl", "plain_kl_to_short"):
        assert abs(loss.item() - RELATIONS[name]) > 0.01


def test_a_single_teacher_is_one_that_counts_twice():
    labels, new = torch.tensor(RELATIONS["labels"]), wide(RELATIONS["f_new"])
    short, long = known_affinities()
    target = complementary_affinity(short, short, labels)
    torch.testing.assert_close(target, wide(RELATIONS["single_teacher_target_short"]), rtol=1e-6, atol=1e-12)
    for teacher, name in ((short, "short"), (long, "long")):
        loss = affinity_divergence(complementary_affinity(teacher, teacher, labels), new)
        assert loss.item() == pytest.approx(RELATIONS[f"single_teacher_loss_{name}"], rel=1e-6)


@pytest.mark.parametrize("rows", [3, 1024])
def test_alpha_equals_the_known_numbers(rows):
    new, old, other = (wide(ALPHA[name]) for name in ("features_new", "features_old", "unrelated_model"))
    cases = [(old, 400, "alpha_s400"), (old, 10, "alpha_s10"), (other, 400, "alpha_unrelated_s400")]
    for earlier, scale, name in [*cases, (new, 400, "identical_models_s400")]:
        assert neighbour_agreement(earlier, new, scale=scale, rows=rows) == pytest.approx(ALPHA[name], rel=1e-4)
    assert ALPHA["WRONG_self_included_s400"] != pytest.approx(ALPHA["alpha_s400"], rel=0.1)
    assert affinity_agreement(old, new) == 0.0  # LSTKC's is below 0 here


def test_weights_statistics_and_shared_rows_are_fused_as_known():
    known = KNOWN["fusion"]

    def network(values):
        net = nn.Module()
        net.w = nn.Parameter(torch.tensor(values["w"]))
        net.register_buffer("running_mean", torch.tensor(values["running_mean"]))
        net.register_buffer("num_batches_tracked", torch.tensor(len(values["classifier"])))
        return net

    new, old = network(known["new"]), network(known["old"])
    interpolate_weights(new, old, alpha=known["alpha"])
    torch.testing.assert_close(new.w.detach(), torch.tensor(known["fused"]["w"]))
    torch.testing.assert_close(new.running_mean, torch.tensor(known["fused"]["running_mean"]))
    assert int(new.num_batches_tracked) == len(known["new"]["classifier"]), "counters are copied"
    shared = len(known["old"]["classifier"])
    rows = torch.tensor(known["new"]["classifier"]).roll(-shared, 0)  # new identities come first here
    stored = IdentityRows(torch.tensor(known["old"]["classifier"]), "after_neck")
    rows[-shared:] = rows[-shared:].lerp(stored.weight, 1 - known["alpha"])
    torch.testing.assert_close(rows.roll(shared, 0), torch.tensor(known["fused"]["classifier"]))


def some_vectors(*, cam, seed=0, count=24):
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(count, 5)).astype(np.float32)
    pid, path = generator.integers(0, 5, count), np.array([f"{row}.jpg" for row in range(count)])
    return vectors, Split(path, pid, np.asarray(cam(generator, count)))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_the_map_of_training_images_is_that_of_each_searched_in_all(distance):
    vectors, train_split = some_vectors(cam=lambda generator, count: generator.integers(0, 3, count))
    both = Embeddings(
        np.concatenate([vectors] * 2), np.tile(train_split.pid, 2), np.tile(train_split.cam, 2),
        np.repeat(["query", "gallery"], len(vectors)),
    )  # fmt: skip
    wanted = evaluate(both, distance=distance, verification=False).mAP
    assert training_map(vectors, train_split, distance=distance) == pytest.approx(wanted, rel=1e-9)
    assert 0.1 < wanted < 0.9


@pytest.mark.parametrize("cam", [-1, 0], ids=["unknown cameras", "one camera"])
def test_without_another_camera_all_other_images_match(cam):
    vectors, train_split = some_vectors(cam=lambda _, count: np.full(count, cam))
    both = Embeddings(
        np.concatenate([vectors] * 2), np.tile(train_split.pid, 2), np.full(2 * len(vectors), -1),
        np.repeat(["query", "gallery"], len(vectors)), np.tile(train_split.path, 2),
    )  # fmt: skip
    wanted = evaluate(both, distance="cosine", cameras="ignore", verification=False).mAP
    assert training_map(vectors, train_split, distance="cosine") == pytest.approx(wanted, rel=1e-9)


# ---- stages

STAGES = f"stages=[{', '.join(f'{{train: [{name}], epochs: 1}}' for name in ('market1501', 'other') * 2)}]"
FEW = ["evaluate=[]", "data.sampler.identities=2"]
METHOD = "method={lstkc_pp: {scale: 30.0}, grow: {}}"


FEW_SHARES = (0.0, 0.2, 0.5, 0.8, 1.0)
"""Instead of all, for the time that the test takes."""


def test_eleven_weights_are_tried():
    assert tuple(number / 10 for number in range(11)) == SHARES


def copied(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def mixed(first, second, share):
    """Return share x first + (1 - share) x second of two states, counters as in the first."""
    return {
        name: share * value + (1 - share) * second[name] if value.is_floating_point() else value
        for name, value in first.items()
    }


def require_equal(state, wanted):
    for name, value in wanted.items():
        torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-6, msg=name)


def best_share(run, long, short):
    """Return the weight of the mixture with the best mAP on the training images, by the evaluation of test images."""
    maps = []
    for share in FEW_SHARES:
        model = copy.deepcopy(run.state.embedder)
        model.load_state_dict(mixed(long, short, share))
        split = run.state.stage.train
        vectors = run.context.vectors_of(split, "before_neck", model=model.eval()).numpy()
        roles = np.repeat(["query", "gallery"], len(split))
        both = Embeddings(np.concatenate([vectors] * 2), np.tile(split.pid, 2), np.tile(split.cam, 2), roles)
        maps.append(evaluate(both, distance="euclidean", verification=False).mAP)
    assert max(maps) > min(maps)
    return FEW_SHARES[int(np.argmax(maps))]


def test_each_stage_is_trained_taught_and_fused_by_the_models_of_the_table(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("passerby.methods.lstkc_pp.SHARES", FEW_SHARES)
    run = make_trainer(tiny(STAGES, METHOD, *FEW), tmp_path / "run")
    run.save, metrics = (lambda: None), []
    run.context._log = metrics.append
    trained, fused, long, rows, shares = [], [], None, [], []
    for stage in range(4):
        run.open_stage(stage)
        method, model = run.state.methods["lstkc_pp"], run.state.embedder
        if stage:
            require_equal(model.state_dict(), fused[-1])  # training goes on from I
            require_equal(method.short.embedder.state_dict(), trained[-1])  # N of the stage before teaches
        assert (method.long is None) == (stage < 2)
        if stage >= 2:
            require_equal(method.long.embedder.state_dict(), long)
            require_both_teachers(run, method)
        shuffle_labels(run)
        shake(model, seed=stage, by=0.2)
        model.train()(some(run, rows=(0, 5, 9, 14)).inputs)  # its statistics move
        shake(run.state.losses, seed=stage)
        trained.append(copied(model))
        rows.append(run.state.losses.losses["softmax"].classifier.weight.detach().clone())
        run.state.counters.epoch = 1
        run.end_stage()
        if stage == 0:
            fused.append(trained[0])
            long_rows = rows[0]
            continue
        values = metrics[-1].values
        if stage == 1:
            long = trained[0]
            assert "b" not in values
        else:
            model_now = copied(model)
            share = best_share(run, long, trained[-2])
            assert values["b"] == share
            shares.append(share)
            long = mixed(long, trained[-2], share)
            long_rows = share * long_rows + (1 - share) * rows[-2][-len(long_rows) :]
            require_equal(model.state_dict(), model_now)
        alpha = values["alpha"]
        assert 0.01 < alpha < 0.99
        fused.append(mixed(trained[-1], long, alpha))
        require_equal(model.state_dict(), fused[-1])
        weight = run.state.losses.losses["softmax"].classifier.weight.detach()
        wanted = rows[-1].clone()
        wanted[-len(long_rows) :] = alpha * wanted[-len(long_rows) :] + (1 - alpha) * long_rows
        torch.testing.assert_close(weight, wanted, rtol=1e-5, atol=1e-6)
        assert len(weight) > len(long_rows)
    assert any(0 < share < 1 for share in shares), "a mixture of both teachers is tried"


def shuffle_labels(run):
    """Give the images of the stage identities that no model tells apart, so that the mAP depends on the weights."""
    train_split = run.state.stage.train
    pid = np.random.default_rng(run.state.counters.stage).permutation(train_split.pid)
    run.state.show(replace(run.state.stage, train=replace(train_split, pid=pid)))


def require_both_teachers(run, method):
    """Require the loss of both teachers, which must differ from that of either."""
    batch = some(run, rows=(0, 1, 8, 9, 16, 17), labels=torch.arange(len(run.state.stage.train)) % 3)
    out = run.state.embedder.eval()(batch.inputs)
    with torch.no_grad():
        short, long = (affinity(each.embedder(batch.inputs).before_neck) for each in (method.short, method.long))
    (term,) = method.losses(run.context, batch, out).values()
    both, *single = (
        affinity_divergence(complementary_affinity(*pair, batch.labels), out.before_neck)
        for pair in ((short, long), (short, short), (long, long))
    )
    torch.testing.assert_close(term.value, both)
    assert all(abs(each - both) > 1e-5 for each in single)


def test_alpha_is_the_agreement_of_the_trained_model_and_the_long_term_teacher(later):
    run, metrics = later("method.lstkc_pp.scale=30"), []
    run.context._log = metrics.append
    split, method = run.state.stage.train, run.state.methods["lstkc_pp"]
    vectors = [
        run.context.vectors_of(split, "before_neck", model=model.eval())
        for model in (method.short.embedder, run.state.embedder)
    ]
    method.on_stage_end(run.context)
    assert metrics[0].values == {"alpha": pytest.approx(neighbour_agreement(*vectors, scale=30.0), rel=1e-5)}


def test_rows_without_state_start_at_those_of_the_expanding_classifier(tiny, tmp_path):
    train(tiny("stages=[{train: [market1501], epochs: 1}]", "method={grow: {}}", *FEW), tmp_path / "first")
    run = make_trainer(
        tiny("stages=[{train: [other], epochs: 1}]", METHOD, f"init_from={tmp_path / 'first'}", *FEW),
        tmp_path / "run",
    )
    run.open_stage(0)
    method = run.state.methods["lstkc_pp"]
    require_equal(method.short.embedder.state_dict(), copied(run.state.embedder))
    (name,) = method.short_rows
    assert torch.equal(method.short_rows[name].weight, run.state.methods["grow"].known[name].weight)
    assert isinstance(method.short_rows, RowStore)


def test_a_run_broken_off_where_both_teachers_are_there_goes_on_bit_for_bit(tiny, tmp_path):
    short = [f"stages.{number}.iterations={count}" for number, count in enumerate((1, 1, 3))]
    three = STAGES.replace(", {train: [other], epochs: 1}]", "]")
    recipe = tiny(three, METHOD, *FEW, *short)
    train(recipe, tmp_path / "whole")
    stages = []

    def note(run, _):
        stages.append(run.state.counters.stage)

    def third(run, engine):
        if run.state.counters.stage == 2:
            interrupt_after(2)(run, engine)

    with pytest.raises(Interrupted, match="stage 3, epoch 1, batch 3"):
        train(recipe, tmp_path / "broken", watch=[third])
    train(recipe, tmp_path / "broken", start="resume", watch=[note])
    assert stages == [2]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert (weights(broken), optimiser_hash(broken)) == (weights(whole), optimiser_hash(whole))
    both = [run_log.metrics(run_log.read(folder / "log.jsonl")) for folder in (whole, broken)]
    assert both[0] == both[1]
    assert [set(record.values) for record in both[0] if record.method == "lstkc_pp"] == [
        {"alpha"}, {"alpha", "b", "training mAP of b"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([STAGES, "method={lstkc_pp: {}, average: {}}"], "method.lstkc_pp and method.average exclude each other"),
        (
            [STAGES.replace("epochs: 1", "epochs: 1, method: {lstkc_pp: {}}", 1).replace(
                "epochs: 1}]", "epochs: 1, method: {lstkc_pp: {}}}]")],
            "method.lstkc_pp teaches each stage by the model of the stage before, and stage 2 of 4 leaves it out",
        ),
        (
            ["stages=[{train: [market1501], epochs: 1}, {train: [other], epochs: 1, labelled: false}]",
             "method={lstkc_pp: {}, contrast: {}}"],
            "method.lstkc_pp needs known identities, and stage 'other' is unlabelled",
        ),
        (["method.lstkc_pp={}"], "method.lstkc_pp needs an earlier stage and has no effect here: the recipe has one"),
    ],
)  # fmt: skip
def test_stages_that_do_not_fit_are_refused(tiny, overrides, message):
    with pytest.raises(UserError, match=message):
        tiny(*overrides)
