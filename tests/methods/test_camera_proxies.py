"""Proxies of clusters and cameras in a run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from passerby.errors import UserError
from passerby.losses.camera_proxies import inter_camera_losses, online_losses, reduced
from passerby.losses.loss import class_means
from passerby.methods.camera_proxies import CameraProxiesSettings, number_proxies
from passerby.methods.memory import moved_rows
from tests.methods.steps import some

SETUP = json.loads((Path(__file__).parents[1] / "oracles_data" / "cap_proxy_losses.json").read_text())["setup"]
PSEUDO = "pseudo: {cluster: {kind: kmeans, k: 3}}"


def test_proxies_are_numbered_by_cluster_and_then_by_camera():
    rows = number_proxies(np.array(SETUP["cluster"]), np.array(SETUP["camera"]))
    assert rows.of_image.tolist() == SETUP["proxy_of_image"]
    assert rows.cluster.tolist() == SETUP["proxy_cluster"]
    assert rows.camera.tolist() == SETUP["proxy_camera"]
    unit = F.normalize(torch.tensor(SETUP["features_all"], dtype=torch.float64))
    of_image = torch.from_numpy(rows.of_image)
    means = class_means(unit[of_image >= 0], of_image[of_image >= 0])
    torch.testing.assert_close(means, torch.tensor(SETUP["proxies"], dtype=torch.float64), rtol=1e-6, atol=1e-8)
    assert number_proxies(np.array([0, 0, 1]), np.array([-1, 4, -1])).of_image.tolist() == [-1, 0, -1]


def test_every_batch_is_compared_with_the_proxies_and_then_moves_them(unknown):
    run = unknown(f"method={{{PSEUDO}, camera_proxies: {{momentum: 0.3, weight: 2, inter: 0.5}}}}")
    method, cam = run.state.methods["camera_proxies"], run.state.stage.train.cam
    rows = number_proxies(run.state.counters.labels.numpy(), cam)
    vectors = F.normalize(torch.from_numpy(run.context.vectors().after_neck))
    torch.testing.assert_close(method.proxies, class_means(vectors, torch.from_numpy(rows.of_image)))
    batch = some(run, rows=(0, 5, 9, 14), labels=run.state.counters.labels)
    out, before = run.state.embedder(batch.inputs), method.proxies.clone()
    terms = method.losses(run.context, batch, out)
    seen, places = F.normalize(out.after_neck.detach()), torch.from_numpy(rows.of_image)[batch.index]
    inter = inter_camera_losses(seen, places, before, method.clusters, temperature=0.07)
    online = online_losses(seen, places, before, method.cameras, temperature=0.07)
    for name, losses, weight in (("inter-camera", inter, 1.0), ("online", online, 2.0)):
        torch.testing.assert_close(terms[name].value.detach(), reduced(losses, method.cameras[places]))
        assert terms[name].weight == weight
    assert set(terms) == {"inter-camera", "online"}
    with torch.no_grad():
        method.after_step(run.context, batch, out)
    torch.testing.assert_close(method.proxies, moved_rows(before, out.after_neck.detach(), places, momentum=0.3))
    assert not torch.equal(method.proxies, before)


def test_losses_but_that_within_cameras_wait_for_their_epoch_and_fixed_proxies_stay(unknown):
    run = unknown(f"method={{{PSEUDO}, camera_proxies: {{intra: 1, online: 0, from_epoch: 1, momentum: 1}}}}")
    method, batch = run.state.methods["camera_proxies"], some(run, labels=run.state.counters.labels)
    out, before = run.state.embedder(batch.inputs), method.proxies
    assert set(method.losses(run.context, batch, out)) == {"intra-camera"}
    run.state.counters.epoch = 1
    assert set(method.losses(run.context, batch, out)) == {"intra-camera", "inter-camera"}
    method.after_step(run.context, batch, out)
    assert method.proxies is before


@pytest.mark.parametrize(
    ("cam", "sentence"), [(-1, "no image has a camera number"), (3, "all images are of one camera")]
)
def test_a_stage_without_two_cameras_is_refused(unknown, cam, sentence):
    run = unknown(f"method={{{PSEUDO}, camera_proxies: {{}}}}")
    train = run.state.stage.train
    run.state.stage = replace(run.state.stage, train=replace(train, cam=np.full(len(train), cam)))
    with pytest.raises(UserError, match=f"method.camera_proxies compares cameras, and in .* {sentence}: leave it out"):
        run.state.methods["camera_proxies"].on_stage_start(run.context)


def test_settings_without_an_effect_are_refused(tiny):
    with pytest.raises(ValidationError, match="are all 0"):
        CameraProxiesSettings(inter=0, online=0)
    with pytest.raises(ValidationError, match="positives has no effect"):
        CameraProxiesSettings(online=0, positives=2)
    stage = "stages=[{train: [other], labelled: false, epochs: 3}]"
    alone = ("losses={softmax: null, triplet: null}", "evaluate=[]")
    for number, sentence in ((3, "the stage has 3 epochs"), (1, "leaves the epochs before it without a loss")):
        with pytest.raises(UserError, match=sentence):
            tiny(stage, f"method={{{PSEUDO}, camera_proxies: {{from_epoch: {number}}}}}", *alone)
    tiny(stage, f"method={{{PSEUDO}, camera_proxies: {{from_epoch: 1, intra: 1}}}}", *alone)
