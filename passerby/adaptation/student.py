"""The recipe that trains a new network on unlabelled images from a model that only has to run, such as an ONNX file.

The student learns the vectors of the teacher and their clusters. Where a method is named, a second stage follows, in
which the student learns clusters of its own vectors. The clustering of the teacher's vectors also decides whether the
images can be clustered at all and how many identities a batch has.
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
from passerby.methods.table import DISTILLATION, METHODS, PLAIN_CLUSTERING, teacher_input
from passerby.recipe import Recipe
from passerby.scorable import unscorable
from passerby.settings import Plain
from passerby.training.teacher import load_teacher, teacher_vectors
from passerby.types import Dataset

DISTIL_EPOCHS = 20
"""Epochs in which a network without weights learns from the teacher."""
IDENTITIES = 8
"""Largest number of identities in a batch."""
FROM_RANDOM: dict[str, Plain] = {"lr": 3.0e-3, "weight_decay": 1.0e-3}
"""Rate and decay of a network without weights, those of the recipe `people_small`."""
VECTORS: dict[str, Plain] = {"neighbours": 4, "cosine": 4.0, "affinity": 1.0}
"""Targets and weights of the vectors of the teacher beside softmax and triplet on its clusters."""
HEIGHT_PER_PAD = 25.6
"""Height of an image over the width of the border that augmentation adds, 10 pixels at 256."""


def student_adaptation(
    teacher: Path,
    folder: Path,
    *,
    backbone: str,
    method: str | None = None,
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
        method: of the pseudo-labels of a second stage, one of `methods`; None = no second stage.
        pattern: template of the file names with {camera}, as in `kind: folder`.
        overrides: `key=value`; `stages.0` is the distillation, `stages.1` the stage of the method.
        inference: the device of the teacher.
        say: called with notes on the recipe.

    Raises:
        UserError: no teacher or one that cannot teach, no images, an unknown method or setting, or no usable clusters.

    """
    if method is not None:
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
    if method is not None:
        _cluster_as_last(data, recipe)
    vectors = teacher_vectors(model, dataset.train, source=teacher, device=device)
    clusters = cluster_vectors(recipe, vectors, dataset.train)
    say(f"{teacher}: {clusters.count:,} clusters in {len(dataset.train):,} images")
    identities = max(2, min(IDENTITIES, clusters.count // 2))
    fitted = [f"data.sampler.identities={identities}"]
    fitted.append(f"data.augment.pad={round(recipe.input.size[0] / HEIGHT_PER_PAD)}")
    if recipe.model.weights == "none":
        place = "optim" if method is None else "stages.0.optim"
        fitted += [f"{place}.{name}={value}" for name, value in FROM_RANDOM.items()]
    return changed(data, [*fitted, *overrides], folder)


def _plain_recipe(
    teacher: Path, site: DatasetSettings, dataset: Dataset, *, backbone: str, method: str | None
) -> dict[str, Plain]:
    """Return the recipe as plain data, without tests."""
    sampler, norm = PkSettings(identities=IDENTITIES), _camera_norm(dataset)
    clustering: dict[str, Plain] = {"cluster": USUAL["dbscan"], "camera_norm": norm}
    losses: dict[str, Plain] = {"softmax": {}, "triplet": {}}
    stage: dict[str, Plain] = {"train": [dataset.name], "labelled": False}
    stage["iterations"] = _iterations(dataset, sampler.batch_size)
    taught: dict[str, Plain] = {
        DISTILLATION: {"teacher": str(teacher), "camera_norm": norm, **VECTORS},
        PLAIN_CLUSTERING: {**clustering, "embedder": "teacher"},
    }
    first: dict[str, Plain] = {**stage, "epochs": DISTIL_EPOCHS}
    data: dict[str, Plain] = {
        "description": f"{backbone} taught by {teacher} on {dataset.name} without labels",
        "datasets": {dataset.name: site.model_dump(mode="json")},
        "data": {"sampler": sampler.model_dump(mode="json"), "augment": {"jitter": {}, "erase": None}},
        "model": {"backbone": backbone, "weights": "none"},
        "losses": losses,
        "optim": {"schedule": "cosine", "warmup_epochs": 1, "flat_epochs": 0},
        "method": taught,
        "stages": [first],
        "evaluate": [],
        "test": {"every": 0},
    }
    if method is not None:
        kind = METHODS[method]
        data["model"] = {"backbone": backbone, "weights": "none", "stripes": kind.needs_stripes}
        data["losses"] = {"softmax": None, "triplet": None} if kind.trains_alone else losses
        data["method"] = {method: clustering}
        first = {**first, "name": "distillation", "losses": losses, "method": {method: None, **taught}}
        data["stages"] = [first, {**stage, "name": "pseudo-labels", "epochs": EPOCHS}]
    return data


def _cluster_as_last(data: dict[str, Plain], recipe: Recipe) -> None:
    """Cluster the vectors of the teacher in the first stage of a recipe as those of the student in the last one."""
    _, settings = clustering_of(recipe)
    plain = settings.model_dump(mode="json", include={"cluster", "camera_norm"})
    first = cast("list[dict[str, dict[str, dict[str, Plain]]]]", data["stages"])[0]
    first["method"][PLAIN_CLUSTERING] |= plain
    first["method"][DISTILLATION]["camera_norm"] = plain["camera_norm"]


def _camera_norm(dataset: Dataset) -> str:
    return "standardise" if dataset.train.count_cameras > 1 else "none"


def _iterations(dataset: Dataset, batch: int) -> int:
    return int(np.clip(len(dataset.train) // batch, FEWEST_BATCHES, MOST_BATCHES))
