"""Clusters of the images of a folder: by the source model before adaptation, and by the adapted model after it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from passerby.clustering.algorithms import DbscanSettings
from passerby.clustering.clusters import Clusters, require_usable
from passerby.clustering.doubt import giant_sentence, measure_doubt
from passerby.clustering.quality import against_truth, agreement, silhouette
from passerby.clustering.summary import ClusterSummary
from passerby.data.joining import join, number_cameras
from passerby.device import AUTOMATIC, InferenceSettings
from passerby.encoders import Progress, Trained, load_trained
from passerby.errors import UserError
from passerby.files import atomic_write, reading, write_json
from passerby.inference.embed import View, embed, masked_view
from passerby.methods.clustered import Clustered, ClusteredSettings, k_distance_curve, unit
from passerby.npz import read_npz
from passerby.recipe import Recipe, StageSettings
from passerby.training import run_log
from passerby.training.pseudo_labels import PseudoLabels, labels_file, save_vectors, vectors_file
from passerby.training.run_log import MetricRecord
from passerby.types import Embeddings, Floats, Ints, Split


def cluster_source(
    trained: Trained,
    recipe: Recipe,
    train: Split,
    *,
    inference: InferenceSettings = AUTOMATIC,
    progress: Progress | None = None,
) -> Clusters:
    """Cluster the images by the source model, before the first step, on the device of the recipe.

    Raises:
        UserError: an image that cannot be read, not more images than k1, or clusters that training cannot use.

    """
    _, settings = clustering_of(recipe)
    model = _on_device(trained, inference, recipe)
    method = _make_method(settings, {}, device=model.device)
    view = masked_view(train.masks, recipe.trained_input_mask)
    clusters, _ = method.find(_vectors(model, method, train, view=view, progress=progress), cam=train.cam)
    require_usable(clusters, max_noise_ratio=settings.max_noise_ratio)
    return clusters


def cluster_vectors(recipe: Recipe, vectors: Floats, train: Split) -> Clusters:
    """Cluster images by the vectors (N, D) of another model as the last unlabelled stage of a recipe does.

    Raises:
        UserError: not more images than k1, or clusters that training cannot use.

    """
    _, settings = clustering_of(recipe)
    method = _make_method(settings, {}, device=recipe.engine.device if recipe.engine.device != "auto" else "cpu")
    clusters, _ = method.find(unit(method.evened(vectors, train.cam)), cam=train.cam)
    require_usable(clusters, max_noise_ratio=settings.max_noise_ratio)
    return clusters


def clustering_of(recipe: Recipe) -> tuple[StageSettings, ClusteredSettings]:
    """Return the last unlabelled stage of a recipe and its clustering method."""
    for stage in reversed(recipe.stages):
        for settings in stage.method.chosen.values() if not stage.labelled else ():
            if isinstance(settings, ClusteredSettings):
                return stage, settings
    raise UserError("no identities can be found: no stage is labelled: false with a method that clusters")


def _on_device(trained: Trained, inference: InferenceSettings, recipe: Recipe) -> Trained:
    """Return the model on the device, and in the precision, that a recipe trains in."""
    engine = recipe.engine
    resolved = replace(inference, device=engine.device, precision="auto")
    embedder = trained.embedder.to(resolved.torch_device())
    return replace(trained, embedder=embedder, recipe=recipe, inference=resolved)


def _make_method(settings: ClusteredSettings, bounds: Mapping[str, float], *, device: str) -> Clustered:
    """Return the method with the bounds of an earlier clustering."""
    method = settings.make()
    assert isinstance(method, Clustered)
    method.device = device
    for name, bound in method.bounds.items():
        bound.fill_(bounds.get(name, np.nan))
    return method


def _vectors(trained: Trained, method: Clustered, train: Split, *, view: View, progress: Progress | None) -> Floats:
    """Return the vectors (N, D) of the images as the method compares them."""
    vectors = embed(
        trained.embedder,
        train,
        vector=method.settings.feature,
        batch=trained.inference.batch,
        workers=trained.inference.workers,
        precision=trained.precision,
        progress=progress,
        notify=trained.inference.notify,
        view=view,
    )
    return unit(method.evened(vectors, train.cam))


def find_identities(
    run: Path, *, inference: InferenceSettings = AUTOMATIC, progress: Progress | None = None
) -> ClusterSummary:
    """Cluster the images of a run's last unlabelled stage by its final model; write clusters.csv and clusters.json.

    A stage that clusters the vectors of a teacher keeps these clusters.

    Raises:
        UserError: no finished run, no such stage, or images that have moved.

    """
    trained = load_trained(run, inference=InferenceSettings(device="cpu"))
    trained = _on_device(trained, inference, trained.recipe)
    stage, settings = clustering_of(trained.recipe)
    number = trained.recipe.stages.index(stage) + 1
    datasets = (number_cameras(trained.recipe.open_dataset(name), trained.cameras) for name in stage.train)
    splits = [datasets_of_rows.train for datasets_of_rows in datasets]
    train, origin = join(splits), np.repeat(stage.train, [len(split) for split in splits])
    last = _last_epoch(run, number)
    method = _make_method(settings, last.values, device=trained.device)
    if settings.clusters_teacher:
        vectors = Embeddings.load(vectors_file(run, number)).vectors
    else:
        view = masked_view(train.masks, trained.recipe.trained_input_mask)
        vectors = _vectors(trained, method, train, view=view, progress=progress)
    clusters, graph = method.find(vectors, cam=train.cam)
    cluster = settings.cluster
    doubt = None
    if isinstance(cluster, DbscanSettings) and graph is not None:
        doubt = measure_doubt(cluster, vectors, graph, clusters)
    summary = ClusterSummary(
        site=stage.title,
        images=len(clusters),
        clusters=clusters.count,
        noise=clusters.noise,
        silhouette=None if graph is None or clusters.count < 2 else silhouette(graph, clusters.labels),
        stability=_stability(labels_file(run, number, last.epoch + 1), clusters.labels),
        doubt=doubt,
        giant=giant_sentence(clusters),
        truth=against_truth(clusters.labels, train.pid),
    )
    _write(run, train, clusters, summary)
    hidden = np.ones(len(train), np.bool_)
    curve = k_distance_curve(cluster, graph)
    identities = splits[0].pid if len(splits) == 1 else train.pid
    final = PseudoLabels(
        *(number, last.epoch + 2, clusters.labels, train.path, train.raw_cam, identities, hidden, curve), dataset=origin
    )
    final.save(run)
    save_vectors(run, final, vectors)
    return summary


def _last_epoch(run: Path, stage: int) -> MetricRecord:
    """Return the clustering record of the last epoch of a stage, counted from 1."""
    records = run_log.metrics(run_log.read(run / "log.jsonl"))
    matching = [record for record in records if record.stage == stage and record.method == "clusters"]
    if not matching:
        raise UserError(f"no clustering records in {run}/log.jsonl; rerun adapt into a new folder")
    return matching[-1]


def _stability(file: Path, labels: Ints) -> float | None:
    if not file.is_file():
        return None
    with reading(file, kind := "clusters as a run writes them"):
        before = np.asarray(read_npz(file, kind=kind)["labels"], np.int64)
    earlier = before if before.ndim == 1 else before[:, 0]
    return agreement(earlier[: len(labels)], labels).rand  # source images follow the unlabelled ones


def _write(run: Path, train: Split, clusters: Clusters, summary: ClusterSummary) -> None:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["path", "cluster"])
    table.writerows(zip(train.path.tolist(), clusters.labels.tolist(), strict=True))
    with atomic_write(run / "clusters.csv") as file:
        file.write(text.getvalue().encode())
    write_json(run / "clusters.json", _without_nan({**asdict(summary), "sentences": summary.sentences()}))


def _without_nan(values: dict[str, object]) -> dict[str, object]:
    """Return JSON values with null in place of NaN."""
    plain = {name: _without_nan(value) if isinstance(value, dict) else value for name, value in values.items()}
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in plain.items()}
