"""The clusterings of an unlabelled stage, read from the run folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from passerby.clustering.algorithms import DbscanSettings
from passerby.device import AUTOMATIC, InferenceSettings
from passerby.distances.camera_norm import normalise_cameras
from passerby.encoders import load_trained, require_maskless
from passerby.errors import UserError
from passerby.files import read_json
from passerby.inference.embed import embed
from passerby.methods.clustered import ClusteredSettings
from passerby.report.folder import RunFolder
from passerby.training import run_log
from passerby.training.pseudo_labels import PseudoLabels, read_pseudo_labels, vectors_file
from passerby.training.run_log import MetricRecord
from passerby.types import UNKNOWN, Embeddings, Split, Words


@dataclass(frozen=True, eq=False)
class Clusterings:
    """The clusterings of a run's last unlabelled stage.

    Attributes:
        groupings: the clusters of each epoch and, after `passerby adapt`, of the final model.
        metrics: the clustering metrics of each epoch and, after `passerby adapt`, of the final model.
        table: the vectors of the last grouping, None where they are not kept.
        nearest: the k of the k-distances, None where there is no radius.
        by_teacher: whether the vectors are those of a teacher.

    """

    groupings: list[PseudoLabels]
    metrics: list[MetricRecord]
    table: Embeddings | None
    nearest: int | None
    by_teacher: bool = False

    @property
    def last(self) -> PseudoLabels:
        """The latest grouping."""
        return self.groupings[-1]

    @property
    def eps(self) -> float | None:
        """The radius of the stage."""
        return self.metrics[-1].values.get("eps") if self.metrics else None

    @property
    def datasets(self) -> Words | None:
        """(M,) the data sets that the clustered images are from; None = a single one."""
        return None if self.last.dataset is None else self.last.dataset[self.last.hidden]

    @property
    def known_identities(self) -> int:
        """The number of true identities of the images, as far as known."""
        truth = self.last.truth[self.last.hidden]
        return len(np.unique(truth[truth != UNKNOWN]))


def read_clusterings(run: RunFolder) -> Clusterings | None:
    """Read the clusterings of a run's last unlabelled stage; None without any."""
    pseudo_labels = read_pseudo_labels(run.path)
    if not pseudo_labels:
        return None
    stage = pseudo_labels[-1].stage
    of_stage = [epoch_labels for epoch_labels in pseudo_labels if epoch_labels.stage == stage]
    metrics = [r for r in run_log.metrics(run.records) if r.stage == stage and r.method == "clusters"]
    metrics += _final_metrics(run.path, of_stage[-1], metrics)
    path = vectors_file(run.path, stage)
    table = Embeddings.load(path) if path.is_file() else None
    if table is not None and len(table) != int(of_stage[-1].hidden.sum()):
        table = None
    chosen = run.recipe.stages[stage - 1].method.chosen.values()
    settings = [method for method in chosen if isinstance(method, ClusteredSettings)]
    nearest = (method.cluster.min_samples for method in settings if isinstance(method.cluster, DbscanSettings))
    by_teacher = any(method.clusters_teacher for method in settings)
    return Clusterings(of_stage, metrics, table, next(nearest, None), by_teacher=by_teacher)


def _final_metrics(folder: Path, final: PseudoLabels, metrics: list[MetricRecord]) -> list[MetricRecord]:
    """Return the clustering metrics that `passerby adapt` wrote after the last epoch; empty without any."""
    if not metrics or final.learnt <= metrics[-1].epoch or not (folder / "clusters.json").is_file():
        return []
    entry = read_json(folder / "clusters.json")
    entry = entry if isinstance(entry, dict) else {}
    truth = entry.get("truth")
    truth_figures = truth if isinstance(truth, dict) else {}
    figures = {
        "people": entry.get("clusters", entry.get("people")),  # `people` in files of earlier versions
        "share in no cluster": entry.get("noise"),
        "eps": metrics[-1].values.get("eps"),
        "silhouette": entry.get("silhouette"),
        "agreement with the epoch before": entry.get("stability"),
        "adjusted Rand index": truth_figures.get("rand"),
        "purity": truth_figures.get("purity"),
        "pairwise F": truth_figures.get("f"),
    }
    values = {name: float(value) for name, value in figures.items() if isinstance(value, int | float)}
    if not {"people", "share in no cluster"} <= values.keys():
        return []
    return [MetricRecord(final.stage, final.learnt, "clusters", values)]


def require_clusterings(run: RunFolder) -> Clusterings:
    """Return the clusterings of a run, or raise `UserError`."""
    clusterings = read_clusterings(run)
    if clusterings is None:
        raise UserError(f"{run.path} has no clusters: no stage with labelled: false has started")
    return clusterings


def with_vectors(run: RunFolder, clusterings: Clusterings, *, inference: InferenceSettings = AUTOMATIC) -> Clusterings:
    """Return clusterings with vectors: those of the run folder or, without any, of the final model.

    Args:
        run: the run.
        clusterings: read from it.
        inference: how the model is run.

    Raises:
        UserError: neither the vectors nor the final model and the images are there.

    """
    if clusterings.table is not None:
        return clusterings
    last, stage = clusterings.last, run.recipe.stages[clusterings.last.stage - 1]
    settings = next(each for each in stage.method.chosen.values() if isinstance(each, ClusteredSettings))
    split = Split(last.path, last.truth, last.cam).select(last.hidden)
    try:
        trained = load_trained(run.path, inference=inference)
        require_maskless(trained)
        vectors = embed(
            trained.embedder,
            split,
            vector=settings.feature,
            batch=inference.batch,
            workers=inference.workers,
            precision=trained.precision,
            notify=inference.notify,
        )
    except UserError as error:
        raise UserError(
            f"{run.path} does not hold the vectors of the clustered images, and they cannot be embedded again: {error}"
        ) from error
    vectors = normalise_cameras(vectors, split.cam, how=settings.camera_norm)
    table = Embeddings(vectors, split.pid, split.cam, np.full(len(split), ""), split.path)
    return replace(clusterings, table=table)
