"""The recipe that adapts a finished run to a folder of unlabelled images.

Before anything is written, the source model clusters the folder once: unusable clusters are refused, and the number of
identities in a batch is limited to half the number of clusters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from passerby.adaptation.clusters import cluster_source
from passerby.adaptation.folder import folder_settings
from passerby.clustering.algorithms import USUAL
from passerby.data.datasets import DatasetSettings, open_dataset, without_mask
from passerby.data.naming import folder_name
from passerby.data.samplers.pk import PkSettings
from passerby.data.samplers.sampler import GroupSamplerSettings
from passerby.device import AUTOMATIC, InferenceSettings
from passerby.encoders import Progress, Trained, load_trained
from passerby.encoders.loading import GRAPHS
from passerby.errors import UserError, did_you_mean
from passerby.methods.clustered import ClusteredSettings
from passerby.methods.table import DEFAULT_CLUSTERING, METHODS
from passerby.optim import OptimSettings
from passerby.plugins import require_used
from passerby.recipe import Recipe, make_recipe, recipe_from_text
from passerby.scorable import require_scorable, unscorable
from passerby.settings import Plain, override, parse_yaml
from passerby.training.checkpoint import load_checkpoint
from passerby.training.init_from import read_initial_state
from passerby.training.stages import require_masks
from passerby.types import Dataset

EPOCHS = 12
FEWEST_BATCHES, MOST_BATCHES = 20, 400


def methods() -> list[str]:
    """Return the names of the methods that cluster, the default first."""
    names = [name for name, kind in METHODS.items() if issubclass(kind, ClusteredSettings)]
    return sorted(names, key=lambda name: name != DEFAULT_CLUSTERING)


def require_method(name: str) -> None:
    """Raise `UserError` for a name that is none of `methods`."""
    if name not in methods():
        raise UserError(f"--method {name}: it is one of {', '.join(methods())}{did_you_mean(name, methods())}")


def adaptation(
    source: Path,
    folder: Path,
    *,
    method: str = DEFAULT_CLUSTERING,
    pattern: str | None = None,
    overrides: Sequence[str] = (),
    inference: InferenceSettings = AUTOMATIC,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Recipe:
    """Return the recipe that adapts a finished run to the unlabelled images of a folder.

    Of a folder in the layout of a public data set, the training images are used without labels, and the rest for tests.

    Args:
        source: folder of the finished run.
        folder: of the images, at any depth.
        method: one of `methods`.
        pattern: template of the file names with {camera}, as in `kind: folder`.
        overrides: `key=value`.
        inference: settings of embedding by the source model, on the device of the recipe (engine.device).
        progress: called with (images done, all images) during embedding.
        say: called with notes on the recipe.

    Raises:
        UserError: no finished run, no images, fewer than k1, an unknown method or setting, or no usable clusters.

    """
    require_method(method)
    trained = _finished(source)
    settings, name = folder_settings(folder, pattern=pattern), folder_name(folder)
    dataset = open_dataset(settings, name)
    if not len(dataset.train):
        raise UserError(f"{folder} holds no training images; name the folder of the images to adapt to")
    data = _plain_recipe(trained.recipe, source, settings, dataset, method=method)
    recipe = changed(data, overrides, folder)
    if recipe.foreground.use == "none" and trained.recipe.stages[-1].foreground.use != "none":
        say(
            f"{source} was trained with foreground: {trained.recipe.stages[-1].foreground.use}, and masks of {folder} "
            "are missing, so training uses whole images; `passerby segment apply` makes masks"
        )
    if (reason := _untested(dataset, trained.recipe)) and not recipe.tested:
        say(f"{name}: not tested, since {reason}")
    for tested in recipe.tested:
        require_scorable(recipe.open_dataset(tested), recipe.test.rules)
    read_initial_state(source, recipe)  # refuses another network or input size before anything is embedded
    if recipe.foreground.use != "none":
        require_masks(dataset.train, name)
    clusters = cluster_source(trained, recipe, dataset.train, inference=inference, progress=progress)
    if any(change.partition("=")[0] in ("data", "data.sampler.identities") for change in overrides):
        return recipe
    identities = max(2, min(_groups(trained.recipe).identities, clusters.count // 2))
    return changed(data, [f"data.sampler.identities={identities}", *overrides], folder)


def _groups(earlier: Recipe) -> GroupSamplerSettings:
    """Return a sampler that draws groups of images from one data set as the last stage of a run did."""
    sampler = earlier.stages[-1].data.sampler.for_one_dataset()
    return sampler if isinstance(sampler, GroupSamplerSettings) else PkSettings()


def _finished(source: Path) -> Trained:
    if source.suffix.lower() in GRAPHS:
        raise UserError(
            f"{source} is a graph, which can be run and not trained: add --backbone resnet18 (or another network), "
            "which learns from its vectors, or start from a run folder or a .safetensors"
        )
    if not source.is_file() and not (source / "recipe.yaml").is_file():
        raise UserError(
            f"{source} is not a run; name the folder of a finished run, as `passerby train` writes it, or a model file "
            "(.safetensors), as `passerby import` writes it"
        )
    return load_trained(source, inference=InferenceSettings(device="cpu"))


def changed(data: dict[str, Plain], overrides: Sequence[str], folder: Path) -> Recipe:
    """Return a recipe of plain data with overrides, which is for the images of a folder."""
    for assignment in overrides:
        data = override(data, assignment)
    return make_recipe(data, source=f"the recipe for {folder}")


def resumed_adaptation(source: Path, folder: Path, out: Path, *, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of the run in `out`, which adapts this source to this folder; see `require_adaptation`.

    Raises:
        UserError: no run in `out`, an override with a mistake, or another source or folder.

    """
    require_used(out)
    file = out / "last.pt"
    recipe = recipe_from_text(load_checkpoint(file).recipe, overrides, source=str(file))
    return require_adaptation(recipe, source, folder, out=out)


def require_adaptation(recipe: Recipe, source: Path, folder: Path, *, out: Path) -> Recipe:
    """Return the recipe of a run in `out` to resume, if it adapts this source to this folder.

    A missing source or folder may have moved: the returned recipe has the new paths. The fingerprint of the images is
    checked when the run is resumed.

    Raises:
        UserError: it adapts another source, or to another folder, that still exists.

    """
    (name, *_), source_key = recipe.stages[-1].train, _source_key(recipe)
    present_source = Path(str(source_of(recipe)))
    present_folder = Path(recipe.dataset(name).place)
    same_source = present_source.resolve() == source.resolve()
    same_folder = folder.resolve() in (present_folder.resolve(), present_folder.resolve().parent)
    if (not same_source and present_source.exists()) or (not same_folder and present_folder.exists()):
        raise UserError(f"{out} adapts {present_source} to {present_folder}; name these, or choose another --out")
    paths = {} if same_source else {source_key: str(source)}
    if not same_folder:
        key = recipe.dataset(name).place_key
        inner = folder / present_folder.name
        paths[f"datasets.{name}.{key}"] = str(inner if inner.exists() else folder)
    data = cast("dict[str, Plain]", recipe.model_dump(mode="json"))
    for path, value in paths.items():
        data = override(data, f"{path}={json.dumps(value)}")
    return make_recipe(data, source=f"the recipe of {out}")


def _source_key(recipe: Recipe) -> str:
    """Return the key of the model that is adapted: init_from, or the file of a method of the first stage."""
    methods_of_first = recipe.stages[0].method.chosen if recipe.init_from is None else {}
    keys = (f"stages.0.method.{name}.{file}" for name, settings in methods_of_first.items() for file in settings.files)
    return next(keys, "init_from")


def source_of(recipe: Recipe) -> str | None:
    """Return the path of the model that a run adapts or learns from; None without one."""
    key = _source_key(recipe)
    if key == "init_from":
        return recipe.init_from
    *_, name, file = key.split(".")
    return str(getattr(recipe.stages[0].method.chosen[name], file))


def _plain_recipe(
    earlier: Recipe, source: Path, site: DatasetSettings, dataset: Dataset, *, method: str
) -> dict[str, Plain]:
    """Return the recipe as plain data: network and input settings of the source, the rest fitted to the folder."""
    source_recipe = parse_yaml(earlier.dump(), source=str(source))
    assert isinstance(source_recipe, dict)
    model, engine = (cast("dict[str, Plain]", source_recipe[name]) for name in ("model", "engine"))
    last = earlier.stages[-1]
    data, foreground = last.data.model_dump(mode="json"), last.foreground.model_dump(mode="json")
    sampler = _groups(earlier)
    iterations = int(np.clip(len(dataset.train) // sampler.batch_size, FEWEST_BATCHES, MOST_BATCHES))
    camera_norm = "standardise" if dataset.train.count_cameras > 1 else "none"
    kind = METHODS[method]
    tested = len(dataset.query) and len(dataset.gallery) and not _untested(dataset, earlier)
    return {
        "description": f"{source} adapted to {dataset.name} without labels",
        "datasets": {dataset.name: site.model_dump(mode="json")},
        "input": source_recipe["input"],
        "data": {**data, "sampler": sampler.model_dump(mode="json")},
        "foreground": {} if without_mask((dataset.train, dataset.query, dataset.gallery))[0] else foreground,
        "model": {**model, "weights": "none", "stripes": kind.needs_stripes},
        "losses": dict.fromkeys(("softmax", "triplet"), None if kind.trains_alone else {}),
        "optim": _optim(last.optim),
        "method": {method: {"cluster": USUAL["dbscan"], "camera_norm": camera_norm}},
        "init_from": str(source),
        "stages": [{"train": [dataset.name], "labelled": False, "epochs": EPOCHS, "iterations": iterations}],
        "evaluate": [dataset.name] if tested else [],
        "test": {
            **cast("dict[str, Plain]", source_recipe["test"]),
            "every": 0,
            "input_mask": "auto",
            "background_bias": "off",
        },
        "engine": {name: engine[name] for name in ("seed", "device", "precision", "channels_last", "threads")},
    }


def _untested(dataset: Dataset, earlier: Recipe) -> str:
    """Return the reason why a folder cannot be evaluated by the protocol of the source, or `""`."""
    if not (len(dataset.query) and len(dataset.gallery)):
        return ""
    return unscorable(dataset, earlier.test.rules)


def _optim(earlier: OptimSettings) -> dict[str, Plain]:
    """Return optimiser settings with a third of the source's learning rate, decaying to 0."""
    copied = {name: getattr(earlier, name) for name in ("name", "weight_decay", "momentum")}
    return {**copied, "lr": earlier.lr / 3, "schedule": "cosine", "warmup_epochs": 1, "flat_epochs": 0}
