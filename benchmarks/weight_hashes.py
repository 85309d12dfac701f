"""Prove that a refactor changes no number: python benchmarks/weight_hashes.py --out NEW.json.

Trains every shipped recipe, reference rows of each family, and a tiny recipe with each method, loss, pooling, neck,
sampler, optimiser and use of foreground masks in turn, for a few steps on drawn people, and writes one SHA-256 of the
final weights for each. The names of tensors are not part of it, so that renamed modules keep their hash.

Run it before and after a refactor on the same machine with the same versions of torch and timm, and compare:
python benchmarks/weight_hashes.py --compare OLD.json NEW.json. Where keys of recipes are renamed, rename them in the
tables of this file too, and leave the names of the runs alone.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import argparse
import hashlib
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.models import register_model
from timm.models.resnet import Bottleneck, ResNet

from passerby.recipe import load_recipe
from passerby.training.session import train

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.models.tiny_clip import ARCHITECTURE, clip_file


@dataclass(frozen=True)
class Tiny:
    """One training run.

    Attributes:
        recipe: a shipped recipe, a reference row, or "tiny" for `TINY`.
        overrides: what makes it small, or what it is there to try.
        stages: how many stages the recipe has, of which each is made short.

    """

    recipe: str
    overrides: Sequence[str] = ()
    stages: int = 1


# ---- keys and values of recipes: the only place to adapt when they are renamed

SMALL = [
    "model.weights=none", "model.backbone=test_resnet", "input.size=[32, 16]",
    "data.sampler.identities=4", "data.sampler.instances=2", "data.augment.pad=2",
    "data.workers=0", "test.every=0", "evaluate=[]", "engine.device=cpu",
    "engine.precision=float32", "engine.channels_last=true", "engine.threads=1",
]  # fmt: skip
SHORT = ["stages.{0}.epochs=2", "stages.{0}.iterations=2"]
DATASET = "{{kind: market1501, root: {root}, masks: {masks}}}"
DATASETS = ("market1501", "dukemtmc", "msmt17", "cuhk_sysu", "cuhk03")
TINY = """
datasets: {{first: {market1501}, second: {dukemtmc}}}
data: {{sampler: {{kind: pk, identities: 4, instances: 2}}, augment: {{jitter: {{}}}}}}
model: {{last_stride: 1}}
optim: {{lr: 1.0e-3, warmup_epochs: 1, schedule: constant}}
stages: [{{train: [first]}}]
"""
TEACHER = Path(__file__).parents[1] / "tests" / "methods" / "teacher.onnx"
TWO = "stages=[{train: [first]}, {train: [second]}]"
UNLABELLED = "stages=[{train: [first]}, {train: [second], labelled: false}]"
BESIDE = "stages=[{train: [second], source: [first], labelled: false}]"
ALONE = "stages.1.losses={softmax: null, triplet: null}"
KMEANS = "cluster: {kind: kmeans, k: 4}"
DBSCAN = "cluster: {kind: dbscan, k1: 6, k2: 2, min_samples: 2}"
BOTTLENECKS = "model.backbone=hashed_bottlenecks"
VIT = ["model.backbone=vit", "model.architecture={width: 16, depth: 2, heads: 2, patch: 8, stride: 6}"]
CLIP = [
    "model.backbone=clip_vit", f"model.architecture={json.dumps(ARCHITECTURE)}", "model.last_stride=2",
    "data.sampler.identities=4", "data.sampler.instances=2",
]  # fmt: skip
CLIP_FILE = "CLIP.safetensors"
"""Stands for the file of a tiny CLIP, which is written for the first run that needs it."""
PROMPTS = [*CLIP, f"method.prompts.text_tower={CLIP_FILE}", "stages.1.train=[market1501]"]

RECIPES = {
    "agw": Tiny("agw", [BOTTLENECKS]),
    "bag_of_tricks": Tiny("bag_of_tricks"),
    "baseline": Tiny("baseline"),
    "demo": Tiny("demo"),
    "lifelong": Tiny("lifelong"),
    "people_small": Tiny("people_small"),
    "sbs": Tiny("sbs", [BOTTLENECKS, "optim.flat_epochs=1"]),
    "small": Tiny("small"),
    "unlabelled": Tiny("unlabelled", [f"method.pseudo={{{KMEANS}}}"]),
    "transreid": Tiny("transreid", VIT),
    "vit": Tiny("vit", ["model.backbone=test_vit"]),
    "clipreid": Tiny("clipreid", PROMPTS, 2),
    "pclclip": Tiny("pclclip", CLIP),
    "lifelong_clip": Tiny("lifelong_clip", CLIP),
}
CODE = ["method.ebll={code: 8, epochs: 100, batch: 16, lr: 0.02, milestones: []}"]
ROWS = {
    "market1501/resnet50-04": Tiny("market1501/resnet50-04"),
    "market1501/resnet50-17": Tiny("market1501/resnet50-17"),
    "market1501/se_ibn_a_resnet101-05": Tiny("market1501/se_ibn_a_resnet101-05"),
    "market1501/ibn_b_resnext101_32x8d-04": Tiny("market1501/ibn_b_resnext101_32x8d-04"),
    "dukemtmc/ibn_a_resnet50-03": Tiny("dukemtmc/ibn_a_resnet50-03"),
    "msmt17/resnet50-01": Tiny("msmt17/resnet50-01"),
    "transreid/dukemtmc-baseline": Tiny("transreid/dukemtmc-baseline", VIT),
    "transreid_ssl/market1501-vit_small": Tiny("transreid_ssl/market1501-vit_small", VIT),
    "pclclip/market1501": Tiny("pclclip/market1501", CLIP),
    "joint/resnet50-01": Tiny("joint/resnet50-01"),
    "ebll/ibn_a_resnet50-13": Tiny("ebll/ibn_a_resnet50-13", CODE, 2),
    "ebll/ibn_a_resnet50-before_pooling_bce": Tiny("ebll/ibn_a_resnet50-before_pooling_bce", CODE, 2),
    "continual/ibn_b_resnet50-average": Tiny("continual/ibn_b_resnet50-average", [], 2),
    "continual/ibn_a_resnet50-joint": Tiny("continual/ibn_a_resnet50-joint"),
    "lwf/ibn_b_resnet50-04": Tiny("lwf/ibn_b_resnet50-04", [], 2),
    "lwf/ibn_b_resnet50-05": Tiny("lwf/ibn_b_resnet50-05", [], 2),
    "lifelong/order_1-lwf": Tiny("lifelong/order_1-lwf", [], 5),
    "lifelong/order_1-lstkc": Tiny("lifelong/order_1-lstkc", [], 5),
    "lifelong/order_2-affinity": Tiny("lifelong/order_2-affinity", [], 5),
    "lifelong/order_1-dask": Tiny(
        "lifelong/order_1-dask", ["method.dask={backbone: test_resnet, weights: none, steps: 2, batch: 2}"], 5
    ),
    "lifelong/without_duke-unlabelled": Tiny(
        "lifelong/without_duke-unlabelled", [f"method.contrast={{{KMEANS}}}"], 4
    ),
    **{
        f"uda/market1501_dukemtmc-{method}": Tiny(
            f"uda/market1501_dukemtmc-{method}", [f"method.{method}={{{KMEANS}}}"], 2
        )
        for method in ("pseudo", "contrast", "mmt", "ssg")
    },
    "uda/market1501_dukemtmc-pplr": Tiny(
        "uda/market1501_dukemtmc-pplr", [f"method.pplr={{{KMEANS}, from_epoch: 1}}", "input.size=[48, 16]"], 2
    ),
    "uda/market1501_dukemtmc-spcl": Tiny("uda/market1501_dukemtmc-spcl", [f"method.spcl={{{DBSCAN}}}"]),
    "uda/market1501_dukemtmc-ssg_dec": Tiny("uda/market1501_dukemtmc-ssg_dec", [f"method.ssg={{{KMEANS}}}"], 2),
    "usl/market1501-pseudo": Tiny("usl/market1501-pseudo", [f"method.pseudo={{{KMEANS}}}"]),
    "usl/dukemtmc-spcl": Tiny("usl/dukemtmc-spcl", [f"method.spcl={{{DBSCAN}}}"]),
}  # fmt: skip
LABELLED = {
    "average": "average: {}",
    "average, adaptive": "average: {alpha: adaptive}",
    "feature": "feature: {}",
    "feature, mse": "feature: {distance: mse}",
    "affinity": "affinity: {}",
    "affinity, rectified": "affinity: {rectified: true}",
    "lwf": "lwf: {ce_dist: 1.0, tr_dist: 1.0}",
    "lwf, heads": "lwf: {heads: 1.0}",
    "ebll": "ebll: {code: 8, epochs: 100, lr: 0.02}",
    "ebll, before pooling": "ebll: {code: 8, epochs: 100, lr: 0.02, place: before_pooling}",
    "ewc": "ewc: {images: 8}",
    "ewc, sampled": "ewc: {images: 8, labels: sampled}",
    "si": "si: {strength: 100.0}",
    "mas": "mas: {images: 8}",
    "replay": "replay: {identities: 3, match: 1.0}",
    "lstkc_pp": "lstkc_pp: {}",
    "prototypes": "prototypes: {}",
    "grow": "grow: {}",
    "grow, means before neck": "grow: {new: means_before_neck}",
    "grow, random": "grow: {new: random}",
    "dkp": "dkp: {}",
    "dkp, transferred": "dkp: {joint: 0.75}, affinity: {images: transferred}, dask: {backbone: test_resnet, steps: 2, "
    "batch: 2}",
    "dask": "dask: {backbone: test_resnet, steps: 2, batch: 2}",
    "distil": f"distil: {{teacher: {TEACHER}, affinity: 1.0, angles: 1.0}}",
    "all that hold": "average: {}, feature: {}, affinity: {}, lwf: {tr_dist: 1.0}, ewc: {images: 8}, si: {}, "
    "mas: {images: 8}, grow: {}",
}
ASSIGNING = {
    "pseudo": f"pseudo: {{{KMEANS}}}",
    "pseudo, dbscan": f"pseudo: {{{DBSCAN}}}",
    "contrast": f"contrast: {{{KMEANS}}}",
    "contrast, hard": f"contrast: {{{KMEANS}, update: hard}}",
    "spcl": f"spcl: {{{DBSCAN}}}",
    "mmt": f"mmt: {{{KMEANS}}}",
    "pplr": f"pplr: {{{KMEANS}, from_epoch: 1}}",
    "ssg": f"ssg: {{{KMEANS}}}",
    "ssg, asked": f"ssg: {{{DBSCAN}, oracle: cluster, oracle_after: 1}}",
    "dec": f"pseudo: {{{KMEANS}}}, dec: {{}}",
    "camera_proxies": f"contrast: {{{KMEANS}}}, camera_proxies: {{from_epoch: 1}}",
    "dec, batch": f"pseudo: {{{KMEANS}}}, dec: {{scope: batch}}",
    "contrast and what holds": f"contrast: {{{KMEANS}}}, average: {{}}, affinity: {{}}, si: {{}}, mas: {{images: 8}}",
}
STRIPES = {"pplr": ["model.stripes=2"], "ssg": ["model.stripes=2"], "ssg, asked": ["model.stripes=2"]}
LOSSES = ("arcface", "cosface", "circle_softmax", "circle", "center")
CHANGES = {
    "as it is": [],
    **{f"loss {name}": [f"losses.{name}={{}}"] for name in LOSSES},
    **{f"triplet {form}": [f"losses.triplet={{form: {form}}}"] for form in ("soft", "weighted", "pull")},
    "triplet after the neck": ["losses.triplet={feature: after_neck, distance: cosine_sq}"],
    "learned weight": ["losses.softmax.weight=learned"],
    "smoothing": ["losses.softmax.smoothing=0.0"],
    **{f"pool {kind}": [f"model.pool={kind}"] for kind in ("max", "avg_max", "gem", "gem_learned")},
    "no neck": ["model.neck=none"],
    "last stride 2": ["model.last_stride=2"],
    "attention": ["model.attention=se", BOTTLENECKS],
    "ibn a": ["model.ibn=a", BOTTLENECKS],
    "ibn b": ["model.ibn=b", BOTTLENECKS],
    "non-local": ["model.non_local=half", BOTTLENECKS],
    "osnet": ["model.backbone=osnet_x0_25", "model.last_stride=2", "input.size=[64, 32]"],
    "sampler pk_cameras": ["data.sampler=pk_cameras"],
    "joint": ["stages=[{train: [first, second]}]"],
    "joint, as many of each set": ["stages=[{train: [first, second]}]", "data.sampler=per_domain"],
    **{f"foreground {use}": [f"foreground={use}"] for use in ("mask", "swap", "pool")},
    "augment": ["data.augment={policy: {kind: rand}, grayscale: 0.3, blur: {}}"],
    "sgd, cosine, ema": ["optim={name: sgd, schedule: cosine, flat_epochs: 1, ema_decay: 0.9}"],
    "adamw, multistep, frozen": ["optim={name: adamw, schedule: multistep, milestones: [1], freeze_backbone_steps: 2}"],
    "batch norm frozen": ["optim.batch_norm=freeze_stats"],
    "accumulate": ["engine.grad_accum_steps=2"],
    "batch norm groups": ["engine.ghost_batch_size=4"],
    "beside": [BESIDE, f"method={{pseudo: {{{KMEANS}}}}}"],
    "beside, norms apart": [BESIDE, f"method={{spcl: {{{DBSCAN}}}}}", "losses={softmax: null, triplet: null}"],
}
LOSS_FREE = ("pseudo", "pseudo, dbscan", "dec", "dec, batch")
TRIED = {
    **{f"tiny, {name}": Tiny("tiny", changes) for name, changes in CHANGES.items()},
    **{f"method {name}": Tiny("tiny", [TWO, f"method={{{value}}}"], 2) for name, value in LABELLED.items()},
    **{
        f"method {name}": Tiny(
            "tiny",
            [UNLABELLED, f"method={{{value}}}", *STRIPES.get(name, []), *([] if name in LOSS_FREE else [ALONE])],
            2,
        )
        for name, value in ASSIGNING.items()
    },
}

# ---- drawn people


@register_model
def hashed_bottlenecks(num_classes: int, **_of_timm: object) -> ResNet:
    """A ResNet-50 in the number of its blocks, of 1/16 the width."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, channels=(4, 8, 16, 32), stem_width=4)


def draw_datasets(folder: Path) -> dict[str, str]:
    """Draw every data set with its masks, and return how a recipe names each, by name."""
    settings = {}
    for number, name in enumerate(DATASETS):
        root, masks = folder / name, folder / f"{name}-masks"
        draw_people(root, masks, seed=number)
        settings[name] = DATASET.format(root=root, masks=masks)
    return settings


def draw_people(root: Path, masks: Path, *, seed: int) -> None:
    """Draw 10 people, 2 cameras, 4 images each, in the layout of Market-1501; the last 4 people are for tests."""
    generator = np.random.default_rng(seed)
    mask = np.zeros((32, 16), dtype=np.uint8)
    mask[4:30, 4:12] = 255
    for pid in range(1, 11):
        coat, trousers = generator.integers(30, 226, (2, 3))
        for cam in (1, 2):
            for number in range(4):
                test = "query" if number == 0 else "bounding_box_test"
                path = Path("bounding_box_train" if pid <= 6 else test) / f"{pid:04d}_c{cam}s1_{number:06d}_00.png"
                pixels = np.full((32, 16, 3), 100 + 40 * cam)
                left = int(generator.integers(2, 6))
                pixels[4:18, left : left + 8], pixels[18:30, left : left + 8] = coat, trousers
                noisy = np.clip(pixels + generator.integers(-20, 21, pixels.shape), 0, 255).astype(np.uint8)
                for place, image in ((root, Image.fromarray(noisy)), (masks, Image.fromarray(mask))):
                    (place / path).parent.mkdir(parents=True, exist_ok=True)
                    image.save(place / path)


# ---- runs


def overrides(run: Tiny, datasets: dict[str, str]) -> list[str]:
    """Return what makes a run small; what the run names itself comes last."""
    short = [text.format(number) for number in range(run.stages) for text in SHORT]
    named = ", ".join(f"{name}: {value}" for name, value in datasets.items())
    where = [] if run.recipe == "tiny" else [f"datasets={{{named}}}"]
    first = [text for text in run.overrides if text.startswith("stages=")]
    trained = ["stages.0.train=[market1501]"] if run.recipe in RECIPES else []
    further = [text for text in run.overrides if text not in first]
    texts = [*where, *SMALL, *first, *trained, *short, *further]
    return [text.replace(CLIP_FILE, clip_file()) if CLIP_FILE in text else text for text in texts]


def hash_weights(path: Path) -> str:
    """Hash the tensors of a file, ordered by shape and then by bytes, without their names."""
    tensors = [(tuple(tensor.shape), tensor.contiguous().numpy().tobytes()) for tensor in load_file(path).values()]
    digest = hashlib.sha256()
    for shape, data in sorted(tensors):
        digest.update(repr(shape).encode() + data)
    return digest.hexdigest()


def hash_run(run: Tiny, datasets: dict[str, str], folder: Path) -> str:
    """Train a run and return the hash of its final weights."""
    tiny = folder.parent / "tiny.yaml"
    tiny.write_text(TINY.format_map(datasets))
    train(load_recipe(str(tiny) if run.recipe == "tiny" else run.recipe, overrides(run, datasets)), folder)
    return hash_weights(folder / "embedder.safetensors")


def compare(old: Path, new: Path) -> int:
    """Print the runs that differ between two files; return 1 when there are any."""
    before, after = json.loads(old.read_text()), json.loads(new.read_text())
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            missing = [str(path) for path, found in ((old, before), (new, after)) if name not in found]
            print(f"{name}: {f'not in {missing[0]}' if missing else 'differs'}")
    same = sum(before[name] == after.get(name) for name in before)
    print(f"{same} of {len({*before, *after})} equal")
    return int(before != after)


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the hashes to this JSON file")
    parser.add_argument("--only", default="", help="run those whose names contain this text")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"), help="compare two files instead")
    chosen = parser.parse_args()
    if chosen.compare:
        return compare(*chosen.compare)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    runs = {name: run for name, run in {**RECIPES, **ROWS, **TRIED}.items() if chosen.only in name}
    hashes = {"versions": f"torch {torch.__version__}, timm {timm.__version__}"}
    with tempfile.TemporaryDirectory() as folder:
        datasets = draw_datasets(Path(folder))
        for number, (name, run) in enumerate(runs.items()):
            began = time.perf_counter()
            try:
                hashes[name] = hash_run(run, datasets, Path(folder) / f"run-{number}")
            except Exception as error:  # the others are wanted all the same
                hashes[name] = f"failed: {type(error).__name__}: {error}"
            print(f"{name}: {hashes[name]} ({time.perf_counter() - began:.1f} s)", flush=True)
    if chosen.out:
        chosen.out.write_text(json.dumps(hashes, indent=1))
    return int(any(value.startswith("failed") for value in hashes.values()))


if __name__ == "__main__":
    raise SystemExit(main())
