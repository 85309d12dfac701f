"""Measure students of a model that only runs: python benchmarks/distil_table.py SITES TEACHER OUT.

SITES is as for `continual_table.py`; TEACHER is any model that `passerby embed` runs. Each student starts from random
weights and learns on the training images of plaza: from labels; or without them from the plain vectors of the teacher,
from vectors without cameras and single images, from these and then pseudo-labels, or from these and the clusters of the
teacher at once. All are tested on plaza and campus, and so is the teacher. Runs that are finished are not repeated; a
run that was broken off goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sites import SITES, finished, folder_name, last_scores, line, once, over_seeds, overrides

from passerby.data.datasets import dataset_settings, open_dataset
from passerby.encoders import embed_dataset, load_model
from passerby.evaluation import evaluate

TESTED = ("plaza", "campus")
STUDENTS = {
    "ResNet-10, 64 x 32": [],
    "ResNet-18, 128 x 64": ["model.backbone=resnet18", "input.size=[128, 64]"],
    "OSNet x0.25, 256 x 128": [
        "model.backbone=osnet_x0_25",
        "model.last_stride=2",
        "model.ibn=none",
        "input.size=[256, 128]",
    ],
}
CLUSTERS = {"cluster": {"kind": "dbscan", "eps": 0.5, "k1": 15, "k2": 4}, "camera_norm": "standardise"}
NO_LOSSES = {"softmax": None, "triplet": None}
TARGETS = {"camera_norm": "standardise", "neighbours": 4}
ROWS = ("labels", "plain teacher", "teacher", "teacher, then pseudo-labels", "teacher and its clusters")


def stages(row: str, teacher: Path, *, epochs: int) -> list[dict[str, object]]:
    """Return the stages of a row, whose first one has so many epochs."""
    if row == "labels":
        return [{"train": ["plaza"], "epochs": epochs}]
    plaza = {"train": ["plaza"], "labelled": False}
    distil = {"teacher": str(teacher), **({} if row == "plain teacher" else TARGETS)}
    if row == "teacher and its clusters":
        pseudo = {**CLUSTERS, "embedder": "teacher"}
        return [{**plaza, "epochs": epochs, "method": {"distil": {**distil, "cosine": 4.0}, "pseudo": pseudo}}]
    plaza["losses"] = NO_LOSSES
    shuffled = {"sampler": {"kind": "shuffle", "size": 32}}
    first = {**plaza, "name": "distillation", "epochs": epochs, "data": shuffled}
    first["method"] = {"distil": {**distil, "affinity": 1.0}}
    second = {**plaza, "name": "pseudo-labels", "epochs": 12, "iterations": 40, "optim": {"lr": 1.0e-3}}
    second["method"] = {"contrast": CLUSTERS}
    return [first, second] if row == "teacher, then pseudo-labels" else [first]


def run_row(student: str, row: str, sites: Path, teacher: Path, out: Path, *, seed: int, epochs: int) -> None:
    """Do one run of the table."""
    listed = f"stages={json.dumps(stages(row, teacher, epochs=epochs))}"
    changes = [*STUDENTS[student], listed, f"evaluate={json.dumps(TESTED)}"]
    once(out / f"seed-{seed}" / folder_name(f"{student} {row}"), [*overrides(sites, seed), *changes])


def teacher_scores(teacher: Path, sites: Path) -> list[float]:
    """Return the mAP in percent of the teacher on each site that is tested."""
    model = load_model(teacher)
    sets = [open_dataset(dataset_settings(SITES[name], str(sites / name))) for name in TESTED]
    return [100 * evaluate(embed_dataset(model, dataset)).mAP for dataset in sets]


def table(out: Path, teacher: list[float]) -> str:
    """Return what there is as Markdown: mAP on each site, by student and what it learnt from."""
    lines = [line("student", "learns from", "seeds", *TESTED), "|---|---|---|---|---|"]
    lines.append(line("the teacher itself", "", "", *(f"{value:.1f}" for value in teacher)))
    for student in STUDENTS:
        for row in ROWS:
            scores = [last_scores(run) for run in finished(out, folder_name(f"{student} {row}"))]
            if scores:
                cells = (over_seeds([each[name] for each in scores]) for name in TESTED)
                lines.append(line(student, row, str(len(scores)), *cells))
    return "\n".join(lines)


def main() -> None:
    """Read the command line, run, and print the table so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sites", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--students", nargs="+", choices=[*STUDENTS], default=[*STUDENTS])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=[*ROWS])
    parser.add_argument("--epochs", type=int, default=20, help="of labels, and of the teacher")
    given = parser.parse_args()
    sites, teacher = given.sites.resolve(), given.teacher.resolve()
    scores = teacher_scores(teacher, sites)
    for seed in given.seeds:
        for student in given.students:
            for row in given.rows:
                run_row(student, row, sites, teacher, given.out, seed=seed, epochs=given.epochs)
                print(table(given.out, scores), flush=True)
    print(table(given.out, scores))


if __name__ == "__main__":
    main()
