"""Part-based pseudo-label refinement against numbers computed elsewhere."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from torch.nn import functional as F

from passerby.distances.camera_norm import normalise_cameras
from passerby.errors import UserError
from passerby.losses.camera_proxies import other_camera_losses
from passerby.losses.loss import class_means
from passerby.losses.triplet import triplet_loss
from passerby.methods.camera_proxies import number_proxies
from passerby.methods.clustered import unit
from passerby.methods.pplr import cross_agreement, refined_by_parts, smoothed_by_agreement
from passerby.training.session import train
from tests.methods.steps import some

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "pplr.json").read_text())
LABELS = torch.tensor(ORACLE["targets"])


def wide(name):
    return torch.tensor(ORACLE[name], dtype=torch.float64)


def parts():
    return wide("logits_parts_BxCxP").transpose(1, 2)


def test_both_losses_equal_the_known_numbers():
    worth = wide("cross_agreement_BxP")
    assert smoothed_by_agreement(parts()[:, 0], LABELS, worth[:, 0]).item() == pytest.approx(ORACLE["aals_part0"])
    found = refined_by_parts(wide("logits_global"), parts(), LABELS, worth, trust=0.5)
    assert found.item() == pytest.approx(ORACLE["pglr_beta05"])


def test_full_trust_is_plain_cross_entropy():
    logits = wide("logits_global")
    plain = torch.nn.functional.cross_entropy(logits, LABELS).item()
    assert refined_by_parts(logits, parts(), LABELS, wide("cross_agreement_BxP"), trust=1.0).item() == pytest.approx(
        plain
    )
    assert smoothed_by_agreement(logits, LABELS, torch.ones(4, dtype=torch.float64)).item() == pytest.approx(plain)


def test_agreement_is_the_overlap_of_neighbours():
    angles = np.array([0.0, 0.1, 0.2, 3.0, 3.1, 3.2])
    whole = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert cross_agreement(whole, whole, neighbours=3).tolist() == [1.0] * 6
    swapped = whole[[3, 1, 2, 0, 4, 5]]  # the first image of either group seems to be of the other
    assert cross_agreement(whole, swapped, neighbours=3).tolist() == pytest.approx([0.2, 0.5, 0.5, 0.2, 0.5, 0.5])


def pplr(tiny, *changes):
    return tiny(
        "stages=[{train: [other], labelled: false, epochs: 1}]", "losses={softmax: null, triplet: null}",
        "evaluate=[]", "data.sampler.identities=2", "method.pplr={cluster: {kind: kmeans, k: 3}}", *changes,
    )  # fmt: skip


def test_without_stripes_it_is_refused(tiny, tmp_path):
    with pytest.raises(UserError, match=r"set model\.stripes to 3, not null"):
        train(pplr(tiny), tmp_path / "run")


def test_classifiers_begin_at_the_means_of_what_they_will_see(tiny, tmp_path):
    seen = []

    def look(run, engine):
        @engine.on(Events.ITERATION_STARTED(once=1))
        def _note():
            method, rows = run.state.methods["pplr"], run.state.counters.labels == 0
            stripe = torch.from_numpy(run.context.vectors().stripes[:, 1])
            normed = torch.nn.functional.normalize(method.necks[1].eval()(stripe))
            method.necks[1].train()
            mean = torch.nn.functional.normalize(normed[rows].mean(0), dim=0)
            seen.append((method.heads[2].weight[0].detach().clone(), mean.detach()))
            seen.append((method.necks[1].running_mean.clone(), stripe.mean(0)))

    train(pplr(tiny, "model.stripes=2"), tmp_path / "run", watch=[look])
    for mine, wanted in seen:
        assert torch.allclose(mine, wanted, atol=1e-5)
    assert len(seen) == 2


def test_labels_of_stripes_are_smoothed_from_the_epoch_on_that_is_told(unknown):
    run = unknown(
        "method.pplr={cluster: {kind: kmeans, k: 3}, from_epoch: 1, neighbours: 4, trust: 0.3}", "model.stripes=2"
    )
    method = run.state.methods["pplr"]
    batch = some(run, rows=(22, 3, 8, 17, 5, 12), labels=run.state.counters.labels)
    out, labels = run.state.embedder(batch.inputs), batch.labels
    worth = method.agreement[[22, 3, 8, 17, 5, 12]]
    whole = method.heads[0](out.after_neck)
    stripes = torch.stack([method.heads[n + 1](method.necks[n](out.stripes[:, n])) for n in (0, 1)], dim=1)
    told = refined_by_parts(whole, stripes, labels, worth, trust=0.3)
    plain = torch.stack([torch.nn.functional.cross_entropy(stripes[:, n], labels) for n in (0, 1)]).mean()
    smoothed = torch.stack([smoothed_by_agreement(stripes[:, n], labels, worth[:, n]) for n in (0, 1)]).mean()
    assert abs(plain - smoothed) > 1e-2
    for epoch, wanted in ((0, plain), (1, smoothed), (2, smoothed)):
        run.state.counters.epoch = epoch
        terms = method.losses(run.context, batch, out)
        torch.testing.assert_close(terms["stripes"].value, wanted)
        torch.testing.assert_close(terms["whole"].value, told)
        torch.testing.assert_close(
            terms["soft-margin triplet"].value, triplet_loss(out.before_neck, labels, form="soft")
        )


def test_agreement_compares_the_vectors_that_are_clustered_with_normalised_stripes(unknown):
    run = unknown(
        "method.pplr={cluster: {kind: kmeans, k: 3}, neighbours: 4, camera_norm: standardise}", "model.stripes=2"
    )
    method, vectors = run.state.methods["pplr"], run.context.vectors()
    cam = run.context.stage.train.cam
    assert len(np.unique(cam)) > 1

    def without_cameras(each):
        return unit(normalise_cameras(each, cam, how="standardise"))

    whole = without_cameras(vectors.after_neck)
    normed = [
        neck.eval()(torch.from_numpy(vectors.stripes[:, place])).detach().numpy()
        for place, neck in enumerate(method.necks)
    ]
    expected = [cross_agreement(whole, without_cameras(each), neighbours=4) for each in normed]
    torch.testing.assert_close(method.agreement, torch.from_numpy(np.stack(expected, axis=1)))
    assert not torch.equal(method.agreement[:, 0], method.agreement[:, 1])


CAMERAS = "method.pplr={cluster: {kind: kmeans, k: 3}, neighbours: 4, camera_weight: 0.5}"


def test_whole_images_and_stripes_are_compared_with_proxies_of_other_cameras(unknown):
    run = unknown(CAMERAS, "model.stripes=2")
    method, vectors, labels = run.state.methods["pplr"], run.context.vectors(), run.state.counters.labels
    rows = number_proxies(labels.numpy(), run.context.stage.train.cam)
    of_image = torch.from_numpy(rows.of_image)
    stripes = [neck.eval()(torch.from_numpy(vectors.stripes[:, n])).detach() for n, neck in enumerate(method.necks)]
    inputs = [F.normalize(each) for each in (torch.from_numpy(vectors.after_neck), *stripes)]
    proxies = [class_means(each, of_image) for each in inputs]
    torch.testing.assert_close(method.proxies, torch.stack(proxies))
    method.necks.train()
    batch = some(run, rows=(22, 3, 8, 17, 5, 12), labels=labels)
    out = run.state.embedder(batch.inputs)
    term = method.losses(run.context, batch, out)["other cameras"]
    seen = [out.after_neck, *(neck(out.stripes[:, n]) for n, neck in enumerate(method.necks))]
    columns = (torch.from_numpy(rows.cluster), torch.from_numpy(rows.camera))
    whole, first, second = (
        other_camera_losses(F.normalize(each), of_image[batch.index], proxy, *columns, temperature=0.07).mean()
        for each, proxy in zip(seen, proxies, strict=True)
    )
    torch.testing.assert_close(term.value, whole + (first + second) / 2)
    assert term.weight == 0.5
    assert term.value.item() > 0


def test_images_of_unknown_camera_have_no_part_in_the_camera_loss(unknown):
    run = unknown(CAMERAS, "model.stripes=2")
    method, train = run.state.methods["pplr"], run.state.stage.train
    cam = np.where(np.arange(len(train)) < 12, train.cam, -1)
    run.state.stage = replace(run.state.stage, train=replace(train, cam=cam))
    method.on_epoch_start(run.context, run.state.counters.labels.numpy())
    assert (method.of_image >= 0).tolist() == [True] * 12 + [False] * 12
    batch = some(run, rows=(13, 22, 17, 14), labels=run.state.counters.labels)
    terms = method.losses(run.context, batch, run.state.embedder(batch.inputs))
    assert terms["other cameras"].value.item() == 0
    run.state.stage = replace(run.state.stage, train=replace(train, cam=np.full(len(train), 3)))
    with pytest.raises(
        UserError, match=r"method\.pplr\.camera_weight compares cameras, and in .* one camera: leave it out"
    ):
        method.on_stage_start(run.context)


def test_necks_of_stripes_begin_at_the_statistics_of_the_stripes_once(unknown):
    run = unknown("method.pplr={cluster: {kind: kmeans, k: 3}, neighbours: 4}", "model.stripes=2")
    method, found = run.state.methods["pplr"], torch.from_numpy(run.context.vectors().stripes)
    for place, neck in enumerate(method.necks):
        torch.testing.assert_close(neck.running_mean, found[:, place].mean(dim=0))
    before = [neck.running_mean.clone() for neck in method.necks]
    run.state.embedder.backbone.apply(
        lambda module: [p.data.mul_(1.1) for p in module.parameters(recurse=False)] and None
    )
    method.on_epoch_start(run.context, run.state.counters.labels.numpy())
    assert all(torch.equal(neck.running_mean, mean) for neck, mean in zip(method.necks, before, strict=True))
