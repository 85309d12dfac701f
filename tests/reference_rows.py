"""The reference rows as the tables have them, and what compares resolved recipes."""

import functools
from dataclasses import dataclass, field
from pathlib import Path

from passerby.recipe import load_recipe
from tests.conftest import copy_marked

LEARNED = {"losses.softmax.weight": "learned"}
SE, A, B = {"model.attention": "se"}, {"model.ibn": "a"}, {"model.ibn": "b"}
THREE = ["market1501", "dukemtmc", "msmt17"]
BEFORE_POOLING = {"method.ebll.place": "before_pooling"}
ARCFACE = {"weight": 1.0, "scale": 64.0, "smoothing": 0.0, "feature": "after_neck", "margin": 0.5, "beyond": "monotone"}

EBLL = {
    "place": "after_pooling", "code": 512, "activation": "sigmoid", "kernel": 1,
    "autoencoders": ["ae", "ae_l1", "ae_l2"], "strength": 0.01, "reduction": "sum", "task": 0.0, "epochs": 150,
    "batch": 128, "lr": 3.5e-4, "milestones": [40, 70], "weight": 1.0, "distance": "mse", "temperature": 10.0,
    "scale": "none",
}  # fmt: skip
TR_DIST = {
    "ce_dist": 0.0, "tr_dist": 1.0, "heads": 0.0, "temperature": 10.0, "scale": "none", "margin": 0.3,
    "heads_temperature": 2.0, "feature": "after_neck",
}  # fmt: skip
THEN_DUKE = {
    "stages.1.train": ["dukemtmc"], "stages.1.optim.lr": 3.5e-5, "stages.1.losses.softmax.weight": 1.0,
    "stages.1.method.lwf": TR_DIST, "stages.1.method.ebll.epochs": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What a row says: its parent, all that differs, and the figures (mAP, rank-1, and where given mean)."""

    parent: str
    differs: dict[str, object]
    figures: dict[str, tuple[float, ...]] = field(default_factory=dict)
    reranked: tuple[float, float] | None = None
    losses: tuple[float, ...] = ()


def market(parent, differs, *figures, reranked=None):
    return Row(f"market1501/{parent}", differs, {"market1501": figures}, reranked)


def code(parent, differs, *figures, losses):
    return Row(parent, differs, {"market1501": figures}, losses=losses)


def held(parent, differs, before, after):
    return Row(f"ebll/ibn_a_resnet50-{parent}", differs, {"market1501": (before,), "dukemtmc": (after,)})


ROWS = {
    "market1501/resnet50-01": Row(
        "baseline", {"stages.0.train": ["market1501"]}, {"market1501": (85.8, 94.2, 90.10)}
    ),
    "market1501/resnet50-02": market("resnet50-01", {}, 85.8, 94.2, 90.10, reranked=(94.2, 95.0)),
    "market1501/resnet50-03": market("resnet50-01", {"data.sampler.identities": 32}, 85.0, 93.8, 89.97),
    "market1501/resnet50-04": market("resnet50-01", {"losses.arcface": ARCFACE}, 70.9, 89.2, 81.01),
    "market1501/resnet50-05": market("resnet50-01", {"losses.triplet.weight": 2.0}, 86.5, 94.1, 90.30),
    "market1501/resnet50-07": market("resnet50-01", {"losses.triplet.weight": 10.0}, 84.4, 92.6, 88.50),
    "market1501/resnet50-08": market("resnet50-01", {"losses.triplet.weight": 5.0}, 85.6, 93.9, 89.70),
    "market1501/resnet50-09": market("resnet50-01", LEARNED, 86.7, 93.9, 90.36),
    "market1501/se_resnet50-11": market("resnet50-09", SE, 86.2, 93.6, 89.94),
    "market1501/ibn_a_resnet50-12": market("resnet50-09", A, 88.3, 95.0, 91.68, reranked=(94.4, 95.6)),
    "market1501/ibn_b_resnet50-13": market("resnet50-09", B, 83.6, 92.8, 88.17),
    "market1501/se_ibn_a_resnet50-14": market("resnet50-09", SE | A, 87.9, 94.5, 91.21),
    "market1501/se_ibn_b_resnet50-15": market("resnet50-09", SE | B, 82.6, 92.6, 87.63),
    "market1501/resnet50-16": market("resnet50-09", {"losses.triplet.weight": 2.0}, 86.5, 93.9, 90.18),
    "market1501/resnet50-17": market("resnet50-16", {"losses.triplet.form": "pull"}, 86.2, 94.3, 90.26),
    "market1501/resnet101-01": market(
        "resnet50-01", {"model.backbone": "resnet101.tv_in1k", **LEARNED}, 87.7, 94.6, 91.15
    ),
    "market1501/se_resnet101-02": market("resnet101-01", SE, 87.5, 94.3, 90.98),
    "market1501/ibn_a_resnet101-03": market("resnet101-01", A, 88.6, 95.0, 91.77, reranked=(94.5, 95.8)),
    "market1501/ibn_b_resnet101-04": market("resnet101-01", B, 83.6, 92.8, 88.22),
    "market1501/se_ibn_a_resnet101-05": market("resnet101-01", SE | A, 88.6, 94.8, 91.70),
    "market1501/se_ibn_b_resnet101-06": market("resnet101-01", SE | B, 83.7, 93.5, 88.57),
    "market1501/resnext101_32x8d-01": market(
        "resnet50-01", {"model.backbone": "resnext101_32x8d.tv_in1k", **LEARNED}, 88.6, 95.0, 91.81
    ),
    "market1501/se_resnext101_32x8d-02": market("resnext101_32x8d-01", SE, 88.3, 95.0, 91.66),
    "market1501/ibn_a_resnext101_32x8d-03": market("resnext101_32x8d-01", A, 89.0, 95.3, 92.16, reranked=(94.5, 95.7)),
    "market1501/ibn_b_resnext101_32x8d-04": market("resnext101_32x8d-01", B, 84.1, 93.1, 88.61),
    "market1501/se_ibn_a_resnext101_32x8d-05": market("resnext101_32x8d-01", SE | A, 88.6, 95.3, 91.98),
    "market1501/se_ibn_b_resnext101_32x8d-06": market("resnext101_32x8d-01", SE | B, 83.4, 92.7, 88.29),
    "dukemtmc/resnet50-01": Row("baseline", {"stages.0.train": ["dukemtmc"]}, {"dukemtmc": (76.4, 86.7)}),
    "dukemtmc/ibn_a_resnet50-02": Row("dukemtmc/resnet50-01", A | LEARNED, {"dukemtmc": (75.4, 86.0)}),
    "dukemtmc/ibn_a_resnet50-03": Row("dukemtmc/ibn_a_resnet50-02", {"engine.seed": 1}, {"dukemtmc": (76.8, 87.9)}),
    "msmt17/resnet50-01": Row("baseline", {"stages.0.train": ["msmt17"], **LEARNED}, {"msmt17": (46.2, 64.8)}),
    "msmt17/ibn_a_resnet50-02": Row(
        "baseline", {"stages.0.train": ["msmt17"], **A, **LEARNED}, {"msmt17": (51.4, 69.8)}
    ),
    "joint/resnet50-01": Row(
        "baseline",
        {"stages.0.train": THREE, "stages.0.epochs": 520},
        {"market1501": (86.8, 94.6), "dukemtmc": (78.6, 88.0), "msmt17": (48.9, 67.5)},
    ),
    "joint/ibn_a_resnet50-02": Row(
        "baseline", {"stages.0.train": THREE, "stages.0.epochs": 540, **A, **LEARNED}, {}
    ),
    "ebll/ibn_a_resnet50-19": code(
        "market1501/ibn_a_resnet50-12", {"method.ebll": EBLL}, 88.1, 94.9, losses=(0.0010, 0.0104, 0.0014)
    ),
    "ebll/ibn_a_resnet50-18": code(
        "ebll/ibn_a_resnet50-19", {"method.ebll.code": 1024}, 88.0, 95.0, losses=(0.0010, 0.0194, 0.0014)
    ),
    "ebll/ibn_a_resnet50-20": code(
        "ebll/ibn_a_resnet50-18", {"method.ebll.strength": 0.1}, 87.7, 94.7, losses=(0.0029, 0.6125, 0.1796)
    ),
    "ebll/ibn_a_resnet50-21": code(
        "ebll/ibn_a_resnet50-18", {"method.ebll.strength": 0.05}, 88.0, 94.6, losses=(0.0010, 0.0915, 0.0014)
    ),
    "ebll/ibn_a_resnet50-06": held(
        "19", {"method.ebll.autoencoders": ["ae"], "method.ebll.distance": "bce", **THEN_DUKE}, 42.0, 72.8
    ),
    "ebll/ibn_a_resnet50-07": held("06", {"method.ebll.autoencoders": ["ae_l1"]}, 41.8, 72.9),
    "ebll/ibn_a_resnet50-08": held("06", {"method.ebll.autoencoders": ["ae_l2"]}, 41.6, 73.0),
    "ebll/ibn_a_resnet50-09": held("06", {"method.ebll.autoencoders": ["ae", "ae_l1", "ae_l2"]}, 41.8, 72.7),
    "ebll/ibn_a_resnet50-10": held("06", {"method.ebll.distance": "mse"}, 41.9, 72.9),
    "ebll/ibn_a_resnet50-11": held("10", {"method.ebll.autoencoders": ["ae_l1"]}, 42.4, 72.7),
    "ebll/ibn_a_resnet50-12": held("10", {"method.ebll.autoencoders": ["ae_l2"]}, 42.9, 72.8),
    "ebll/ibn_a_resnet50-13": held("10", {"method.ebll.autoencoders": ["ae", "ae_l1", "ae_l2"]}, 43.2, 72.6),
    "ebll/ibn_a_resnet50-before_pooling": Row("ebll/ibn_a_resnet50-19", BEFORE_POOLING),
    "ebll/ibn_a_resnet50-before_pooling_bce": Row("ebll/ibn_a_resnet50-09", BEFORE_POOLING),
    "ebll/ibn_a_resnet50-before_pooling_mse": Row("ebll/ibn_a_resnet50-13", BEFORE_POOLING),
}  # fmt: skip
"""The tables, row by row. Two rows that are one run twice differ in the seed."""

BASELINE = {
    "input.size": [256, 128], "data.sampler.identities": 16, "data.sampler.instances": 4, "data.augment.flip": 0.5,
    "data.augment.pad": 10, "data.augment.erase.probability": 0.5, "data.augment.jitter": None,
    "model.backbone": "resnet50.tv_in1k", "model.weights": "pretrained", "model.last_stride": 1, "model.neck": "bnneck",
    "model.ibn": "none", "model.attention": "none", "model.non_local": "none", "model.pool": "avg",
    "losses.softmax.smoothing": 0.1, "losses.softmax.weight": 1.0, "losses.triplet.margin": 0.3,
    "losses.triplet.form": "hard", "losses.triplet.weight": 1.0, "losses.arcface": None, "losses.center": None,
    "optim.name": "adam", "optim.lr": 3.5e-4, "optim.weight_decay": 5e-4, "optim.schedule": "multistep",
    "optim.warmup_epochs": 10.0, "optim.warmup_factor": 0.01, "optim.milestones": [40, 70], "optim.gamma": 0.1,
    "stages.0.epochs": 150,
}  # fmt: skip


@functools.cache
def resolved(name):
    """Return the resolved recipe without its description, reference row and reference results."""
    data = load_recipe(name).model_dump(mode="json")
    return {key: value for key, value in data.items() if key not in ("description", "reference", "reference_results")}


def with_stages(differs, *, count=1):
    """Add the places that the stages take over from their recipe."""
    shared = {path: value for path, value in differs.items() if path.startswith(("losses.", "method.", "data."))}
    return {f"stages.{number}.{path}": value for number in range(count) for path, value in shared.items()} | differs


def at(data, path):
    for key in path.split("."):
        data = data[int(key) if isinstance(data, list) else key]
    return data


def differences(before, after, path=""):
    """Every place in which two resolved recipes differ, with what stands there afterwards."""
    if isinstance(before, dict) and isinstance(after, dict):
        assert before.keys() == after.keys()
        found = [differences(before[key], after[key], f"{path}.{key}") for key in before]
        return {place: value for part in found for place, value in part.items()}
    if path == ".stages":  # a stage that was added is compared with the last of those before
        pairs = [(before[min(number, len(before) - 1)], stage) for number, stage in enumerate(after)]
        found = [differences(old, new, f".stages.{number}") for number, (old, new) in enumerate(pairs)]
        return {place: value for part in found for place, value in part.items()}
    return {} if before == after else {path[1:]: after}


def as_duke(site: Path, folder: Path) -> Path:
    """Copy a site in the layout of Market-1501 into that of DukeMTMC-reID."""
    for path in sorted(site.rglob("*.jpg")):
        pid, cam, number, _ = path.stem.split("_")
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        copy_marked(path, folder / path.parent.name / f"{pid}_c{cam[1]}_f{number}.jpg")
    return folder


def as_msmt(site: Path, folder: Path) -> Path:
    """Copy a site in the layout of Market-1501 into that of MSMT17."""
    parts = {"train": "bounding_box_train", "val": "", "query": "query", "gallery": "bounding_box_test"}
    for part, source in parts.items():
        inner, lines = "train" if part in ("train", "val") else "test", []
        for path in sorted((site / source).glob("*.jpg")) if source else []:
            pid, cam, number, _ = path.stem.split("_")
            name = f"{pid}/{pid}_{number[-3:]}_{cam[1:].split('s')[0]:0>2}_{path.parent.name}.jpg"
            (folder / inner / pid).mkdir(parents=True, exist_ok=True)
            copy_marked(path, folder / inner / name)
            lines.append(f"{name} {int(pid) - (1 if inner == 'train' else 7)}\n")
        (folder / f"list_{part}.txt").write_text("".join(lines))
    return folder
