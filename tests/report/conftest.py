"""A finished run folder of a few coloured squares, written by hand: nothing is trained here."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from passerby.evaluation import evaluate, scores_json
from passerby.recipe import Recipe, make_recipe
from passerby.training import run_log
from passerby.training.run_log import EpochRecord, GradientNorm, GradientRecord, ScoreRecord, TermRecord
from passerby.types import Embeddings, Rerank

RERANK = Rerank(k1=4, k2=2, weight=0.3)
PEOPLE, CAMERAS = 5, 3


@dataclass(frozen=True)
class Written:
    folder: Path
    images: Path
    embeddings: Embeddings


def plain_recipe(name: str = "plaza", root: str = "nowhere", **changes) -> Recipe:
    data = {
        "datasets": {name: {"kind": "market1501", "root": root}},
        "model": {"backbone": "test_resnet", "last_stride": 1},
        "optim": {"lr": 1e-3, "warmup_epochs": 1, "schedule": "multistep", "milestones": [2]},
        "stages": [{"train": [name], "epochs": 3}],
        "test": {"rerank": {"k1": RERANK.k1, "k2": RERANK.k2}},
    }
    return make_recipe({**data, **changes}, source="the test")


def site_of_squares(images: Path, *, name: str) -> Embeddings:
    """One query per person from camera 0, and two gallery images per person and camera, one of them easily confused."""
    generator = np.random.default_rng(5)
    images.mkdir(parents=True)
    centres = generator.normal(size=(PEOPLE, 8))
    rows = [(pid, 0, "query") for pid in range(PEOPLE)]
    rows += [(pid, cam, "gallery") for pid in range(PEOPLE) for cam in range(CAMERAS) for _ in range(2)]
    rows += [(-1, 1, "gallery")]
    vectors, paths = [], []
    for number, (pid, _, _) in enumerate(rows):
        vectors.append((centres[pid] if pid >= 0 else 0) + generator.normal(size=8) * (0.3 + 0.5 * max(pid, 0)))
        paths.append(str(images / f"{number:03d}.jpg"))
        colour = tuple(int(c) for c in np.random.default_rng(pid + 9).integers(40, 220, 3))
        Image.new("RGB", (16, 32), colour).save(paths[-1])
    pid, cam, role = (np.array(column) for column in zip(*rows, strict=True))
    return Embeddings(np.array(vectors, dtype=np.float32), pid, cam, role, np.array(paths), name, "after_neck")


def write_run(place: Path, *, name: str = "plaza", recipe: Recipe | None = None) -> Written:
    folder = place / "run"
    embeddings = site_of_squares(place / "images", name=name)
    embeddings.save(folder / "embeddings" / f"{name}.npz")
    plain, reranked = evaluate(embeddings), evaluate(embeddings, rerank=RERANK)
    scores = {name: {"plain": scores_json(plain), "reranked": scores_json(reranked)}}
    (folder / "scores.json").write_text(json.dumps(scores))
    recipe = recipe or plain_recipe(name)
    (folder / "recipe.yaml").write_text(recipe.dump())
    (folder / "environment.json").write_text(json.dumps({"passerby": "0.1.0", "command": "passerby train <x> & y"}))
    for number, stage in enumerate(recipe.stages, start=1):
        norms = {"softmax": GradientNorm(7.25, 1.0), "triplet": GradientNorm(0.625, 2.0)}
        run_log.append(folder / "log.jsonl", GradientRecord(number, stage.title, norms))
        for epoch in range(1, stage.epochs + 1):
            terms = {"softmax": TermRecord(3 / epoch, 3 / epoch), "triplet": TermRecord(1 / epoch, 2 / epoch, 2.0)}
            record = EpochRecord(number, stage.title, epoch, stage.epochs, 1e-3, terms, 100.0, 0.9, 10.0)
            run_log.append(folder / "log.jsonl", record)
        share = ScoreRecord(number, stage.epochs, name, plain.mAP, plain.mINP, plain.rank(1))
        run_log.append(folder / "log.jsonl", share)
    return Written(folder, place / "images", embeddings)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A finished run that no test changes."""
    return write_run(tmp_path_factory.mktemp("report"))
