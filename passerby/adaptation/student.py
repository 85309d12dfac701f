"""The recipe that trains a new network on unlabelled images from a model that only has to run, such as an ONNX file.

Two stages on the folder: the student learns from the vectors of the teacher and from their clusters, then from clusters
of its own. The clustering of the teacher's vectors also decides whether the images can be clustered at all and how many
identities a batch has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from passerby.adaptation.clusters import cluster_vectors, clustering_of
from passerby.adaptation.folder import folder_settings
from passerby.adaptation.recipe import EPOCHS, FEWEST_BATCHES, MOST_BATCHES, changed, require_method
from passerby.clustering.algorithms import USUAL
from passerby.data.datasets import DatasetSettings, open_dataset
from passerby.data.naming import folder_name
from passerby.data.samplers.pk import PkSettings
from passerby.device import AUTOMATIC, InferenceSettings
from passerby.errors import UserError
from passerby.methods.table import DEFAULT_CLUSTERING, DISTILLATION, METHODS, PLAIN_CLUSTERING, teacher_input
from passerby.recipe import Recipe
from passerby.scorable import unscorable
from passerby.settings import Plain
from passerby.training.teacher import load_teacher, teacher_vectors
from passerby.types import Dataset

DISTIL_EPOCHS = 20
"""Epochs of the first stage, in which a network without weights learns from the teacher."""
FROM_RANDOM: dict[str, Plain] = {"lr": 3.0e-3, "weight_decay": 1.0e-3}
"""Rate and decay of the first stage of a network without weights, those of the recipe `people_small`."""
VECTORS: dict[str, Plain] = {"neighbours": 4, "cosine": 4.0, "affinity": 1.0}
"""Targets and weights of the vectors of the teacher beside softmax and triplet on its clusters."""


def student_adaptation(
    teacher: Path,
    folder: Path,
    *,
    backbone: str,
    method: str = DEFAULT_CLUSTERING,
    pattern: str | None = None,
    overrides: Sequence[str] = (),
    inference: InferenceSettings = AUTOMATIC,
    say: Callable[[str], None] = lambda _: None,
) -> Recipe:
    """Return the recipe that trains a student on the unlabelled images of a folder.

    Args:
        teacher: an .onnx, OpenVINO .xml or .safetensors file, or a run folder.
        folder: of the images, at any depth.
        backbone: network of the student.
        method: of the pseudo-labels of the second stage, one of `methods`.
        pattern: template of the file names with {camera}, as in `kind: folder`.
        overrides: `key=value`; `stages.0` is the distillation, `stages.1` the pseudo-labels.
        inference: the device of the teacher.
        say: called with notes on the recipe.

    Raises:
        UserError: no teacher or one that cannot teach, no images, an unknown method or setting, or no usable clusters.

    """
    require_method(method)
    settings, name = folder_settings(folder, pattern=pattern), folder_name(folder)
    dataset = open_dataset(settings, name)
    if not len(dataset.train):
        raise UserError(f"{folder} holds no training images; name the folder of the images to adapt to")
    data = _plain_recipe(teacher, settings, dataset, backbone=backbone, method=method)
    recipe, device = changed(data, overrides, folder), inference.torch_device()
    input_settings = teacher_input(recipe.stages[0].method.chosen)
    model = load_teacher(teacher, given=input_settings, device=str(device))
    if len(dataset.query) and len(dataset.gallery):
        if reason := unscorable(dataset, recipe.test.rules):
            say(f"{name}: not tested, since {reason}")
        else:
            data["evaluate"] = [name]
    for note in model.notes:
        say(note)
    _cluster_as_last(data, recipe)
    if recipe.model.weights == "none":
        _first_stage(data)["optim"] = FROM_RANDOM
    vectors = teacher_vectors(model, dataset.train, source=teacher, device=device)
    clusters = cluster_vectors(recipe, vectors, dataset.train)
    say(f"{teacher}: {clusters.count:,} clusters in {len(dataset.train):,} images")
    identities = max(2, min(PkSettings().identities, clusters.count // 2))
    return changed(data, [f"data.sampler.identities={identities}", *overrides], folder)


def _plain_recipe(
    teacher: Path, site: DatasetSettings, dataset: Dataset, *, backbone: str, method: str
) -> dict[str, Plain]:
    """Return the recipe as plain data, without tests."""
    kind, sampler, norm = METHODS[method], PkSettings(), _camera_norm(dataset)
    alone: dict[str, Plain] = {"softmax": None, "triplet": None}
    losses: dict[str, Plain] = {"softmax": {}, "triplet": {}}
    stage: dict[str, Plain] = {"train": [dataset.name], "labelled": False}
    stage["iterations"] = _iterations(dataset, sampler.batch_size)
    return {
        "description": f"{backbone} taught by {teacher} on {dataset.name} without labels",
        "datasets": {dataset.name: site.model_dump(mode="json")},
        "data": {"sampler": sampler.model_dump(mode="json")},
        "model": {"backbone": backbone, "weights": "none", "stripes": kind.needs_stripes},
        "losses": alone if kind.trains_alone else losses,
        "optim": {"schedule": "cosine", "warmup_epochs": 1, "flat_epochs": 0},
        "method": {method: {"cluster": USUAL["dbscan"], "camera_norm": norm}},
        "stages": [
            {
                **stage,
                "name": "distillation",
                "epochs": DISTIL_EPOCHS,
                "losses": losses,
                "method": {
                    method: None,
                    DISTILLATION: {"teacher": str(teacher), "camera_norm": norm, **VECTORS},
                    PLAIN_CLUSTERING: {"embedder": "teacher"},
                },
            },
            {**stage, "name": "pseudo-labels", "epochs": EPOCHS},
        ],
        "evaluate": [],
        "test": {"every": 0},
    }


def _cluster_as_last(data: dict[str, Plain], recipe: Recipe) -> None:
    """Cluster the vectors of the teacher in the first stage of a recipe as those of the student in the last one."""
    _, settings = clustering_of(recipe)
    plain = settings.model_dump(mode="json", include={"cluster", "camera_norm"})
    method = cast("dict[str, dict[str, Plain]]", _first_stage(data)["method"])
    method[PLAIN_CLUSTERING] |= plain


def _first_stage(data: dict[str, Plain]) -> dict[str, Plain]:
    return cast("list[dict[str, Plain]]", data["stages"])[0]


def _camera_norm(dataset: Dataset) -> str:
    return "standardise" if dataset.train.count_cameras > 1 else "none"


def _iterations(dataset: Dataset, batch: int) -> int:
    return int(np.clip(len(dataset.train) // batch, FEWEST_BATCHES, MOST_BATCHES))
