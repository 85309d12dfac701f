"""Unsupervised domain adaptation: the recipe that adapts a run to unlabelled images, and its predicted identities.

Before anything is written the source model looks at the folder and groups it once: what cannot work is refused there,
and batches are made as small as the people who were found.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import numpy as np

from passerby.clustering.algorithms import USUAL, Clusters, DbscanSettings, require_usable
from passerby.clustering.doubt import giant_sentence, measure_doubt
from passerby.clustering.people import FoundPeople
from passerby.clustering.quality import against_truth, agreement, silhouette
from passerby.data.datasets import DatasetSettings, open_dataset, without_mask
from passerby.data.joining import join
from passerby.data.naming import folder_name
from passerby.data.readers.auto import Recognised, layout_of
from passerby.data.readers.folder import Folder
from passerby.data.readers.images import Images
from passerby.data.readers.listing import existing_folder, folder_names
from passerby.data.readers.roles import role_folders
from passerby.encoders import Progress, Trained, load_trained
from passerby.errors import UserError, did_you_mean
from passerby.extract import View, extract, masked_view
from passerby.files import atomic_write, reading, write_json
from passerby.inference import AUTOMATIC, InferenceSettings
from passerby.methods.clustered import Clustered, ClusteredSettings, unit
from passerby.methods.table import DEFAULT_CLUSTERING, METHODS
from passerby.npz import read_npz
from passerby.optim import OptimSettings
from passerby.recipe import Recipe, StageSettings, make_recipe
from passerby.scorable import require_scorable, unscorable
from passerby.settings import Plain, override, parse_yaml
from passerby.train import run_log
from passerby.train.groupings import Grouping, labels_file, save_vectors
from passerby.train.run_log import MetricRecord
from passerby.train.stages import require_masks
from passerby.train.start import read_start
from passerby.types import Dataset, Floats, Ints, Split

EPOCHS = 12
FEWEST_BATCHES, MOST_BATCHES = 20, 400


def methods() -> list[str]:
    """Return the names of the methods that cluster, the default first."""
    found = [name for name, kind in METHODS.items() if issubclass(kind, ClusteredSettings)]
    return sorted(found, key=lambda name: name != DEFAULT_CLUSTERING)


# ---- the recipe


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

    A folder in the layout of a public data set gives its training images, without their labels, and is tested on.

    Args:
        source: folder of the finished run.
        folder: of the images, at any depth.
        method: one of `methods`.
        pattern: how file names tell cameras, as in `kind: folder`.
        overrides: `key=value`.
        inference: how the source model looks at them; on the device of the recipe (engine.device) in any case.
        progress: called with (images done, of how many) while the source model looks at them.
        say: called with what a person should know of the recipe.

    Raises:
        UserError: no finished run, no images, fewer than k1, an unknown method or setting, or nobody to be found.

    """
    if method not in methods():
        known = ", ".join(methods())
        raise UserError(f"--method {method}: it is one of {known}{did_you_mean(method, methods())}")
    trained = _finished(source)
    site, name = site_settings(folder, pattern=pattern), folder_name(folder)
    dataset = open_dataset(site, name)
    if not len(dataset.train):
        raise UserError(f"{folder} holds no training images; name the folder of the images that are to be learnt from")
    data = _plain_recipe(trained.recipe, source, site, dataset, method=method)
    recipe = _changed(data, overrides, folder)
    if recipe.foreground.use == "none" and trained.recipe.foreground.use != "none":
        say(
            f"{source} was trained with foreground: {trained.recipe.foreground.use}, and masks of {folder} are "
            "missing, so whole images are learnt from; `passerby segment apply` makes masks"
        )
    if (reason := _untested(dataset, trained.recipe)) and not recipe.tested:
        say(f"{name}: not tested, since {reason}")
    for tested in recipe.tested:
        require_scorable(recipe.open_dataset(tested), cameras=recipe.test.cameras, queries=recipe.test.queries)
    read_start(source, recipe)  # refuses another network or input size before anything is looked at
    if recipe.foreground.use != "none":
        require_masks(dataset.train, name)
    found = first_look(trained, recipe, dataset.train, inference=inference, progress=progress)
    if any(change.partition("=")[0] in ("data", "data.identities") for change in overrides):
        return recipe
    people = max(2, min(trained.recipe.data.identities, found.count // 2))
    return _changed(data, [f"data.identities={people}", *overrides], folder)


def _finished(source: Path) -> Trained:
    if not (source / "recipe.yaml").is_file():
        raise UserError(f"{source} is no run; name the folder of a finished run, as `passerby train` writes it")
    return load_trained(source, inference=InferenceSettings(device="cpu"))


def _changed(data: dict[str, Plain], overrides: Sequence[str], folder: Path) -> Recipe:
    for assignment in overrides:
        data = override(data, assignment)
    return make_recipe(data, source=f"the recipe for {folder}")


def site_settings(folder: Path, *, pattern: str | None = None) -> DatasetSettings:
    """Return the reader settings of a folder: a recognised layout, a pattern, or plain images.

    Raises:
        UserError: there is no such folder.

    """
    place = existing_folder(str(folder), kind="adapt", expected="a folder of images")
    if pattern is not None:
        return Folder(root=str(folder), pattern=pattern, test_share=None if role_folders(place) else 0.0)
    places = [place, *(place / name for name in folder_names(place))]
    known = [found for one in places if (found := layout_of(one)) is not None and _is_whole(found)]
    if len(known) > 1:
        listed = ", ".join(f"{found.kind} in {found.place}" for found in known)
        raise UserError(f"adapt: {folder} holds several data sets ({listed}); name one of them")
    return known[0] if known else Images(root=str(folder))


def _is_whole(found: Recognised) -> bool:
    """Whether a folder has training, query and gallery images, so that test images must be kept apart."""
    return not isinstance(found, Folder) or {"query", "gallery"} <= {*role_folders(Path(found.root))}


def require_adaptation(recipe: Recipe, source: Path, folder: Path, *, out: Path) -> Recipe:
    """Return the recipe of a run in `out` to resume, if it adapts this source to this folder.

    A source or a folder that is no longer where it was may have moved: the recipe that is returned says where they are.
    Whether the images are the same is found by their fingerprint when the run goes on.

    Raises:
        UserError: it adapts something else that is still there.

    """
    (name, *_), begun = recipe.stages[-1].train, Path(str(recipe.init_from))
    site = Path(recipe.dataset(name).place)
    same_source = begun.resolve() == source.resolve()
    same_folder = folder.resolve() in (site.resolve(), site.resolve().parent)
    if (not same_source and begun.exists()) or (not same_folder and site.exists()):
        raise UserError(f"{out} adapts {begun} to {site}; go on with these, or choose another --out")
    moved = {} if same_source else {"init_from": str(source)}
    if not same_folder:
        key = recipe.dataset(name).place_key
        inner = folder / site.name
        moved[f"datasets.{name}.{key}"] = str(inner if inner.exists() else folder)
    data = cast("dict[str, Plain]", recipe.model_dump(mode="json"))
    for path, value in moved.items():
        data = override(data, f"{path}={json.dumps(value)}")
    return make_recipe(data, source=f"the recipe of {out}")


def _plain_recipe(
    earlier: Recipe, source: Path, site: DatasetSettings, dataset: Dataset, *, method: str
) -> dict[str, Plain]:
    """Return the recipe as plain data: network and input settings of the source, the rest chosen for the folder."""
    kept = parse_yaml(earlier.dump(), source=str(source))
    assert isinstance(kept, dict)
    data, model, engine = (cast("dict[str, Plain]", kept[name]) for name in ("data", "model", "engine"))
    batch = earlier.data.identities * earlier.data.instances
    iterations = int(np.clip(len(dataset.train) // batch, FEWEST_BATCHES, MOST_BATCHES))
    cameras = "standardise" if dataset.train.count_cameras > 1 else "ignore"
    kind = METHODS[method]
    tested = len(dataset.query) and len(dataset.gallery) and not _untested(dataset, earlier)
    return {
        "description": f"{source} adapted to {dataset.name} without labels",
        "datasets": {dataset.name: site.model_dump(mode="json")},
        "input": kept["input"],
        "data": {**data, "sampling": "identities"},
        "foreground": {} if without_mask((dataset.train, dataset.query, dataset.gallery))[0] else kept["foreground"],
        "model": {**model, "weights": "none", "stripes": kind.needs_stripes},
        "losses": dict.fromkeys(("softmax", "triplet"), None if kind.trains_alone else {}),
        "optim": _optim(earlier.stages[-1].optim),
        "method": {method: {"cluster": USUAL["dbscan"], "cameras": cameras}},
        "init_from": str(source),
        "stages": [{"train": [dataset.name], "labelled": False, "epochs": EPOCHS, "iterations": iterations}],
        "evaluate": [dataset.name] if tested else [],
        "test": {**cast("dict[str, Plain]", kept["test"]), "every": 0, "input_mask": "auto", "background_bias": "off"},
        "engine": {name: engine[name] for name in ("seed", "device", "precision", "channels_last", "threads")},
    }


def _untested(dataset: Dataset, earlier: Recipe) -> str:
    """Return the reason why a folder cannot be evaluated by the protocol of the source, or `""`."""
    if not (len(dataset.query) and len(dataset.gallery)):
        return ""
    return unscorable(dataset, cameras=earlier.test.cameras, queries=earlier.test.queries)


def _optim(earlier: OptimSettings) -> dict[str, Plain]:
    """Return optimiser settings with a third of the source's learning rate, decaying to 0."""
    kept = {name: getattr(earlier, name) for name in ("name", "weight_decay", "momentum")}
    return {**kept, "lr": earlier.lr / 3, "schedule": "cosine", "warmup_epochs": 1, "flat_epochs": 0}


# ---- looking and grouping


def first_look(
    trained: Trained,
    recipe: Recipe,
    train: Split,
    *,
    inference: InferenceSettings = AUTOMATIC,
    progress: Progress | None = None,
) -> Clusters:
    """Cluster the images by the source model, before the first step, on the device of the recipe.

    Raises:
        UserError: an image that cannot be read, not more images than k1, or clusters of which nothing can be learnt.

    """
    _, chosen = _how(recipe)
    seeing = _on_device(trained, inference, recipe)
    method = _part(chosen, {}, device=seeing.device)
    view = masked_view(train.masks, recipe.trained_input_mask)
    clusters, _ = method.find(_vectors(seeing, method, train, view=view, progress=progress))
    require_usable(clusters, outliers=chosen.outliers)
    return clusters


def _how(recipe: Recipe) -> tuple[StageSettings, ClusteredSettings]:
    """Return the last unlabelled stage of a recipe and its clustering method."""
    for stage in reversed(recipe.stages):
        for chosen in stage.method.chosen.values() if not stage.labelled else ():
            if isinstance(chosen, ClusteredSettings):
                return stage, chosen
    raise UserError("nobody can be found: no stage of the recipe is labelled: false with a method that clusters")


def _on_device(trained: Trained, inference: InferenceSettings, recipe: Recipe) -> Trained:
    """Return the model on the device, and in the precision, that a recipe trains in."""
    engine = recipe.engine
    chosen = replace(inference, device=engine.device, precision="auto")
    embedder = trained.embedder.to(chosen.torch_device())
    return replace(trained, embedder=embedder, recipe=recipe, inference=chosen)


def _part(chosen: ClusteredSettings, told: Mapping[str, float], *, device: str) -> Clustered:
    """Return the method with the bounds of an earlier clustering."""
    method = chosen.make()
    assert isinstance(method, Clustered)
    method.device = device
    for name, bound in method.bounds.items():
        bound.fill_(told.get(name, np.nan))
    return method


def _vectors(trained: Trained, method: Clustered, train: Split, *, view: View, progress: Progress | None) -> Floats:
    """Return the vectors (N, D) of the images as the method compares them."""
    found = extract(
        trained.embedder,
        train.path,
        feature=method.settings.feature,
        batch=trained.inference.batch,
        workers=trained.inference.workers,
        precision=trained.precision,
        progress=progress,
        notify=trained.inference.notify,
        view=view,
    )
    return unit(method.evened(found, train.cam))


def find_people(
    run: Path, *, inference: InferenceSettings = AUTOMATIC, progress: Progress | None = None
) -> FoundPeople:
    """Cluster the images of a run's last unlabelled stage by its final model; write clusters.csv and clusters.json.

    Raises:
        UserError: no finished run, no such stage, or images that have moved.

    """
    trained = load_trained(run, inference=InferenceSettings(device="cpu"))
    trained = _on_device(trained, inference, trained.recipe)
    stage, chosen = _how(trained.recipe)
    number = trained.recipe.stages.index(stage) + 1
    splits = [trained.recipe.open_dataset(name).train for name in stage.train]
    train, site = join(splits), np.repeat(stage.train, [len(split) for split in splits])
    last = _last_epoch(run, number)
    method = _part(chosen, last.values, device=trained.device)
    view = masked_view(train.masks, trained.recipe.trained_input_mask)
    vectors = _vectors(trained, method, train, view=view, progress=progress)
    clusters, graph = method.find(vectors)
    cluster = chosen.cluster
    doubt = None
    if isinstance(cluster, DbscanSettings) and graph is not None:
        doubt = measure_doubt(cluster, vectors, graph, clusters)
    found = FoundPeople(
        site=stage.title,
        images=len(clusters),
        people=clusters.count,
        noise=clusters.noise,
        silhouette=None if graph is None or clusters.count < 2 else silhouette(graph, clusters.labels),
        stability=_stability(labels_file(run, number, last.epoch + 1), clusters.labels),
        doubt=doubt,
        giant=giant_sentence(clusters),
        truth=against_truth(clusters.labels, train.pid),
    )
    _write(run, train, clusters, found)
    hidden = np.ones(len(train), np.bool_)
    curve = method.evidence().get("curve")
    people = splits[0].pid if len(splits) == 1 else train.pid
    final = Grouping(
        *(number, last.epoch + 2, clusters.labels, train.path, train.told_cam, people, hidden, curve), site=site
    )
    final.save(run)
    save_vectors(run, final, vectors)
    return found


def _last_epoch(run: Path, stage: int) -> MetricRecord:
    """Return the clustering record of the last epoch of a stage, counted from 1."""
    records = run_log.metrics(run_log.read(run / "log.jsonl"))
    found = [record for record in records if record.stage == stage and record.part == "clusters"]
    if not found:
        raise UserError(f"no clustering records in {run}/log.jsonl; rerun adapt into a new folder")
    return found[-1]


def _stability(file: Path, labels: Ints) -> float | None:
    if not file.is_file():
        return None
    with reading(file, kind := "clusters as a run writes them"):
        before = np.asarray(read_npz(file, kind=kind)["labels"], np.int64)
    people = before if before.ndim == 1 else before[:, 0]
    return agreement(people[: len(labels)], labels).rand  # what is beside stands after the unlabelled images


def _write(run: Path, train: Split, clusters: Clusters, found: FoundPeople) -> None:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["path", "cluster"])
    table.writerows(zip(train.path.tolist(), clusters.labels.tolist(), strict=True))
    with atomic_write(run / "clusters.csv") as file:
        file.write(text.getvalue().encode())
    write_json(run / "clusters.json", _without_nan({**asdict(found), "sentences": found.sentences()}))


def _without_nan(values: dict[str, object]) -> dict[str, object]:
    """Return JSON values with null in place of NaN."""
    plain = {name: _without_nan(value) if isinstance(value, dict) else value for name, value in values.items()}
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in plain.items()}
