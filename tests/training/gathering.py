"""Recipes of every loss, method and way of training, of which two processes must learn what one does."""

import json

from passerby.losses.mix import LossSettings
from passerby.recipe import MethodSettings
from tests.conftest import JOINT
from tests.methods.steps import TEACHER
from tests.models.tiny_clip import two_stages

SGD = ["optim.name=sgd", "optim.lr=0.01", "optim.warmup_epochs=0", "evaluate=[]", "data.sampler.identities=2"]
NO_NORM = ["model.backbone=test_vit", "model.last_stride=2", "model.neck=none", *SGD]
STILL_NORMS = ["optim.batch_norm=freeze_stats", *SGD]
"""Of a network with maps, which stripes are cut from; its statistics are those of each process otherwise."""
ALONE = "losses={softmax: null, triplet: null}"
KMEANS = {"cluster": {"kind": "kmeans", "k": 3}}
LATER = "stages=[{train: [market1501], epochs: 1, iterations: 1}, {train: [other], epochs: 1, iterations: 3}]"
CAL = "method={cal: {start: 0, lr: 0.1, weight: 5.0}}"
UNKNOWN = "stages=[{train: [other], epochs: 1, iterations: 3, labelled: false}]"
BESIDE = "stages=[{train: [other], epochs: 1, iterations: 3, labelled: false, source: [market1501]}]"


def later(*overrides, network=NO_NORM, **method):
    return [*network, LATER, f"method={json.dumps(method)}", *overrides]


def unknown(*overrides, network=NO_NORM, stage=UNKNOWN, **method):
    return [*network, stage, ALONE, f"method={json.dumps(method)}", *overrides]


def alone(name, **settings):
    losses = dict.fromkeys(("softmax", "triplet")) | {name: settings}
    return [*NO_NORM, "stages.0.epochs=1", "stages.0.iterations=3", f"losses={json.dumps(losses)}"]


LOSSES = {
    **{name: alone(name) for name in LossSettings.model_fields if name != "center"},
    "center": [*NO_NORM, "stages.0.epochs=1", "stages.0.iterations=3", "losses.center.weight=0.05"],
    **{f"triplet {form}": alone("triplet", form=form) for form in ("soft", "weighted", "pull")},
    "learned weight": [*NO_NORM, "stages.0.epochs=1", "stages.0.iterations=3", "losses.softmax.weight=learned"],
}
METHODS = {
    "average": later(average={}),
    "feature": later(feature={"weight": 5.0}),
    "affinity": later(affinity={"weight": 20.0}),
    "affinity rectified": later(affinity={"weight": 20.0, "rectified": True}),
    "lstkc_pp": later(lstkc_pp={"weight": 20.0}),
    "lwf": later(lwf={"ce_dist": 5.0, "scale": "squared", "heads": 1.0}),
    "lwf triplets": later(lwf={"tr_dist": 5.0}),
    "ebll": later(network=STILL_NORMS, ebll={"code": 8, "epochs": 30, "lr": 0.02, "weight": 10.0}),
    "ewc": later(ewc={"images": 2}),
    "si": later(si={"strength": 10.0}),
    "mas": later(mas={"images": 2}),
    "replay": later(replay={"identities": 3, "match": 3.0}),
    "grow": later(grow={}),
    "dkp": later(dkp={"triplet": 5.0, "relation": 5.0}),
    "dask": later(dask={"backbone": "test_resnet", "steps": 1, "batch": 2}),
    "cal": [*NO_NORM, "stages=[{train: [dressed], epochs: 1, iterations: 3}]", CAL],
    "distil": unknown(distil={"teacher": TEACHER}),
    "distil relations": unknown(
        distil={"teacher": TEACHER, "cosine": 0, "distances": 5.0, "angles": 5.0, "affinity": 5.0}
    ),
    "prompts": [*SGD, *two_stages(), "model.neck=none"],
    "prototypes": [*NO_NORM, "stages.0.epochs=1", "stages.0.iterations=3", ALONE, "method={prototypes: {}}"],
    "pseudo": [*NO_NORM, UNKNOWN, f"method={json.dumps({'pseudo': KMEANS})}"],
    "contrast": unknown(contrast=KMEANS),
    "spcl": unknown(spcl={"cluster": {"k1": 6, "k2": 2, "min_samples": 2}}),
    "spcl beside": unknown(
        "data.sampler.identities=4",
        stage=BESIDE,
        spcl={"cluster": {"k1": 6, "k2": 2, "min_samples": 2}, "batch_norm": "shared"},
    ),
    "mmt": unknown(mmt=KMEANS),
    "pplr": unknown("model.stripes=2", network=STILL_NORMS, pplr=KMEANS),
    "ssg": unknown("model.stripes=2", network=STILL_NORMS, ssg=KMEANS),
    "dec": unknown("data.sampler.identities=4", stage=BESIDE, pseudo=KMEANS, dec={}),
    "dec of a batch": unknown(pseudo=KMEANS, dec={"scope": "batch"}),
    "camera_proxies": unknown(pseudo=KMEANS, camera_proxies={"intra": 1.0, "other": 0.5}),
}
CASES = {
    **LOSSES,
    **METHODS,
    "no gradient": [*STILL_NORMS, "stages.0.epochs=1", "stages.0.iterations=3", "losses.softmax=null"],
}

NO_BATCH_NORM = ["model.backbone=test_vit", "model.last_stride=2", "model.neck=none", "stages.0.epochs=1"]
UNLABELLED = ["stages=[{train: [market1501], labelled: false, epochs: 1}]", "losses={softmax: null, triplet: null}"]
VARIANTS = {
    "gathered": [*NO_BATCH_NORM, "optim.name=sgd", "optim.lr=0.05", "optim.warmup_epochs=0"],
    "accumulated": [
        *NO_BATCH_NORM,
        "optim.name=sgd",
        "optim.lr=0.05",
        "optim.warmup_epochs=0",
        "engine.grad_accum_steps=2",
    ],
    "joint": [*NO_BATCH_NORM, JOINT, "data.sampler=per_domain", "optim.name=sgd", "optim.lr=0.05"],
    "backbone frozen at first": [
        *NO_BATCH_NORM,
        "optim.name=sgd",
        "optim.lr=0.05",
        "optim.freeze_backbone_steps=3",
    ],
    "backbone frozen in a stage": [
        *NO_BATCH_NORM,
        "optim.name=sgd",
        "optim.lr=0.05",
        "stages=[{train: [market1501], epochs: 1, freeze: ['backbone.*']}, {train: [market1501], epochs: 1}]",
    ],
    "batch norm": ["test.every=1"],
    "running mean": ["optim.ema_decay=0.8", "stages.0.epochs=1"],
    "clusters": [
        *UNLABELLED,
        *NO_BATCH_NORM,
        "optim.name=sgd",
        "optim.lr=0.05",
        "method.contrast={cluster: {kind: kmeans, k: 5}}",
    ],
    "images": [
        *UNLABELLED,
        *NO_BATCH_NORM,
        "optim.name=sgd",
        "optim.lr=0.05",
        "method.spcl={cluster: {eps: 0.6, k1: 6, k2: 2}}",
    ],
    "mean teachers": [UNLABELLED[0], "method.mmt={cluster: {kind: kmeans, k: 5}}", "evaluate=[]"],
    "local": ["engine.mining=local", "stages.0.epochs=1"],
    "centres": [
        *NO_BATCH_NORM,
        "optim.name=sgd",
        "optim.lr=0.05",
        "engine.mining=local",
        "losses={triplet: null, center: {weight: 0.05}}",
    ],
}
"""Ways of training: gathering, accumulating, freezing, pseudo-labels, local mining."""


def names_of_parts():
    """Methods of methods that have a case."""
    return {name.split()[0] for name in METHODS}


assert names_of_parts() == set(MethodSettings.model_fields)
