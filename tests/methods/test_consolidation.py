"""What holds a model near what it was: the teacher is asked, and the weights are averaged."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from passerby.methods.consolidation import affinity_agreement
from passerby.methods.distillation import affinity, affinity_divergence, feature_gap, rectified_affinity
from tests.methods.steps import some

LSTKC = json.loads((Path(__file__).parents[1] / "oracles_data" / "lstkc.json").read_text())


def both(run, batch):
    """Return what the earlier network and the present one make of a batch; they must not be alike."""
    with torch.no_grad():
        old = run.state.previous_model.embedder(batch.inputs)
    new = run.state.embedder(batch.inputs)
    assert not torch.allclose(old.before_neck, new.before_neck, rtol=0.1)
    return old, new


def told_of(method, run, batch, out):
    (term,) = run.state.methods[method].losses(run.context, batch, out).values()
    return term


@pytest.mark.parametrize("distance", ["cosine", "mse"])
@pytest.mark.parametrize("vector", ["before_neck", "after_neck"])
def test_vectors_are_held_to_those_of_the_teacher(later, distance, vector):
    run = later(f"method.feature={{weight: 3.0, distance: {distance}, feature: {vector}}}")
    batch = some(run)
    old, new = both(run, batch)
    term = told_of("feature", run, batch, new)
    wanted = feature_gap(getattr(old, vector), getattr(new, vector), distance=distance)
    torch.testing.assert_close(term.value, wanted)
    assert wanted > 1e-3
    assert term.weight == 3.0


@pytest.mark.parametrize("rectified", [False, True])
def test_neighbourhoods_are_held_to_those_of_the_teacher(later, rectified):
    run = later(f"method.affinity={{rectified: {str(rectified).lower()}, temperature: 0.2}}")
    batch = some(run, rows=(0, 1, 8, 9, 16, 17), labels=torch.arange(24) % 3)  # people whom no model gets right
    old, new = both(run, batch)
    wanted = affinity(old.before_neck, temperature=0.2)
    if rectified:
        mended = rectified_affinity(wanted, affinity(new.before_neck, temperature=0.2), batch.labels)
        assert not torch.allclose(mended, wanted, rtol=1e-3)
        wanted = mended
    term = told_of("affinity", run, batch, new)
    torch.testing.assert_close(term.value, affinity_divergence(wanted, new.before_neck, temperature=0.2))
    assert term.value > 1e-3


# ---- averages of weights


def known_vectors():
    return (torch.tensor(LSTKC[name], dtype=torch.float64) for name in ("f_old", "f_new"))


def test_the_share_equals_the_known_number_clamped():
    old, new = known_vectors()
    assert LSTKC["alpha_self_pair_masked"] < 0
    assert affinity_agreement(old, new) == 0.0
    assert affinity_agreement(old, old) == 1.0
    assert LSTKC["alpha_temperature_0_01"] > 0.999, "known to be wrong: each image is its own neighbour"


@pytest.mark.parametrize("rows", [5, 1024])
def test_the_share_equals_the_known_number_beside_images_that_stay(rows):
    stay = torch.eye(12, dtype=torch.float64).repeat_interleave(2, dim=0)  # 24 in pairs, far from the 8 that move
    old, new = (F.pad(F.normalize(x), (0, 12)) for x in known_vectors())
    beside = F.pad(stay, (old.shape[1] - 12, 0))
    found = affinity_agreement(torch.cat([old, beside]), torch.cat([new, beside]), rows=rows)
    assert found == pytest.approx((8 * LSTKC["alpha_self_pair_masked"] + 24) / 32, abs=1e-4)


def test_a_share_counts_for_the_new_weights(later):
    run = later("method.average.alpha=0.25")
    run.state.embedder(some(run).inputs)  # its statistics move
    networks = run.state.previous_model.embedder, run.state.embedder
    old, new = ({k: v.clone() for k, v in net.state_dict().items()} for net in networks)
    run.state.methods["average"].on_stage_end(run.context)
    for name, found in run.state.embedder.state_dict().items():
        if found.is_floating_point():
            torch.testing.assert_close(found, 0.25 * new[name] + 0.75 * old[name])
    for name in ("neck.weight", "neck.running_var"):
        assert not torch.allclose(new[name], old[name], rtol=1e-2)


def test_an_adaptive_share_is_the_agreement_of_both_models_on_the_stage(later):
    run, told = later("method.average.alpha=adaptive"), []
    run.context._log = told.append
    with torch.no_grad():
        models = run.state.embedder, run.state.previous_model.embedder
        for parameter, before in zip(*(model.parameters() for model in models), strict=True):
            parameter.copy_(before + 0.3 * (parameter - before))  # near enough for an alpha above 0
    networks = run.state.previous_model.embedder, run.state.embedder
    old, new = ({k: v.clone() for k, v in net.state_dict().items()} for net in networks)
    every = some(run, rows=range(len(run.state.stage.train)))
    with torch.no_grad():
        features = [
            net.eval()(every.inputs).before_neck for net in (run.state.previous_model.embedder, run.state.embedder)
        ]
    run.state.embedder.train()
    run.state.methods["average"].on_stage_end(run.context)
    alpha = told[0].values["alpha"]
    assert alpha == pytest.approx(affinity_agreement(*features), abs=1e-3)
    assert 0.05 < alpha < 0.95
    for name, found in run.state.embedder.state_dict().items():
        if found.is_floating_point():
            torch.testing.assert_close(found, alpha * new[name] + (1 - alpha) * old[name])
