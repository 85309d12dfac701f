"""Results of clustering a set of vectors: count, stability, and accuracy where identities are known."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from passerby.clustering.algorithms import (
    AnyClustering,
    DbscanSettings,
    HdbscanSettings,
    KmeansSettings,
    LinkageSettings,
)
from passerby.clustering.clusters import Clusters, require_usable
from passerby.clustering.doubt import giant_sentence
from passerby.clustering.graph import jaccard_neighbours
from passerby.clustering.quality import Agreement, Truth, against_truth, agreement, silhouette
from passerby.distances.camera_norm import normalise_cameras
from passerby.distances.sparse import SparseRows
from passerby.distances.units import unit_rows
from passerby.errors import UserError
from passerby.files import atomic_write
from passerby.types import UNKNOWN, CameraNorm, Embeddings, Floats, Ints

STEP = 1 / 30
"""By which share the radius is moved to see whether clusters stay: 0.6 to 0.58 and 0.62, the steps of SpCL."""


@dataclass(frozen=True)
class Moved:
    """Agreement of the clusters with those under one slightly changed setting.

    Attributes:
        change: the setting, as `key=value`.
        agreement: with the clusters that were found.

    """

    change: str
    agreement: Agreement


@dataclass(frozen=True, eq=False)
class Findings:
    """Results of a clustering.

    Attributes:
        clusters: the clusters.
        silhouette: mean over the images in clusters, in [-1, 1]; see `silhouettes`.
        moved: how much the clusters change with the settings.
        truth: how well they meet the identities, None where none is known.
        one_camera: how many clusters hold images of one camera only, None where fewer than two cameras are known.

    """

    clusters: Clusters
    silhouette: float
    moved: tuple[Moved, ...]
    truth: Truth | None
    one_camera: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return plain values; undefined ones are null."""
        found = self.clusters
        return {
            "images": len(found),
            "clusters": found.count,
            "noise": found.noise,
            "eps": found.eps,
            "threshold": found.threshold,
            "sizes": found.sizes.tolist(),
            "warning": giant_sentence(found),
            "silhouette": self.silhouette,
            "moved": [asdict(moved) for moved in self.moved],
            "one_camera": self.one_camera,
            "truth": self.truth and {key: _or_none(value) for key, value in asdict(self.truth).items()},
        }


def find_clusters(
    table: Embeddings, settings: AnyClustering, *, camera_norm: CameraNorm | None = None, device: str = "cpu"
) -> Findings:
    """Cluster all images of a table, and measure how good the clusters are.

    Args:
        table: the vectors.
        settings: of the algorithm.
        camera_norm: what is taken out of the vectors of each camera; None = the usual one, see `usual_camera_norm`.
        device: where matrix products and nearest neighbours are computed.

    Raises:
        UserError: too few images, fewer than two clusters, hardly anything but noise, or no camera known.

    """
    how = usual_camera_norm(table, settings) if camera_norm is None else camera_norm
    vectors = _compared(table, how, unit=how == "auto" or isinstance(settings, LinkageSettings))
    graph = graph_for(vectors, settings, cam=table.cam, device=device)
    clusters = settings.fit(vectors, graph, device=device)
    require_usable(clusters)
    return Findings(
        clusters=clusters,
        silhouette=silhouette(graph, clusters.labels),
        moved=tuple(_moved(vectors, graph, settings, clusters, device=device)),
        truth=against_truth(clusters.labels, table.pid),
        one_camera=_of_one_camera(clusters, table.cam),
    )


def usual_camera_norm(table: Embeddings, settings: AnyClustering) -> CameraNorm:
    """Return the camera norm of an algorithm where none is given: of average linkage with two known cameras `auto`.

    Args:
        table: of the images.
        settings: of the algorithm; all but average linkage compare vectors as they are.

    """
    several = len(np.unique(table.cam[table.cam != UNKNOWN])) > 1
    return "auto" if several and isinstance(settings, LinkageSettings) else "none"


def _compared(table: Embeddings, camera_norm: CameraNorm, *, unit: bool) -> Floats:
    """Return the vectors (N, D) without the effects of cameras, brought to unit length before where asked for."""
    if camera_norm == "none":
        return table.vectors
    if (table.cam == UNKNOWN).all():
        raise UserError(
            f"camera norm {camera_norm!r} needs cameras, and the table has none; embed files whose names hold them, or "
            "set it to none"
        )
    vectors = unit_rows(table.vectors) if unit else table.vectors
    return normalise_cameras(vectors, table.cam, how=camera_norm)


def _of_one_camera(clusters: Clusters, cam: Ints) -> int | None:
    """Return how many clusters hold images of one camera only, or None where fewer than two cameras are known."""
    if len(np.unique(cam[cam != UNKNOWN])) < 2:
        return None
    seen = np.unique(np.stack([clusters.labels, cam])[:, clusters.labels >= 0], axis=1)
    return int((np.bincount(seen[0]) == 1).sum())


def graph_for(vectors: Floats, settings: AnyClustering, *, cam: Ints | None = None, device: str = "cpu") -> SparseRows:
    """Return the graph of the settings, for those without one the usual graph, for the measures of quality."""
    if isinstance(settings, KmeansSettings | LinkageSettings):
        return jaccard_neighbours(vectors, k1=max(1, min(30, len(vectors) - 1)), device=device)
    return settings.neighbours(vectors, cam=cam, device=device)


def describe_clusters(found: Findings) -> str:
    """Return a summary of the results in a few lines."""
    return "\n".join(_lines(found))


def write_clusters(path: Path, table: Embeddings, clusters: Clusters) -> None:
    """Write `path,cluster` for every image, -1 = in no cluster; rows by number where the table has no file names."""
    names = np.arange(len(table)).astype(np.str_) if table.path is None else table.path
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row" if table.path is None else "path", "cluster"])
    writer.writerows(zip(names.tolist(), clusters.labels.tolist(), strict=True))
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def _moved(
    vectors: Floats, graph: SparseRows, settings: AnyClustering, clusters: Clusters, *, device: str
) -> Iterator[Moved]:
    """Cluster again with one setting a little different: the radius, the density or the seed."""
    if isinstance(settings, DbscanSettings):
        assert clusters.eps is not None
        for eps in (clusters.eps * (1 - STEP), min(clusters.eps * (1 + STEP), 0.999)):
            again = settings.fit(vectors, graph, eps=eps)
            yield Moved(f"eps={eps:.3g}", agreement(clusters.labels, again.labels))
        return
    if isinstance(settings, LinkageSettings):
        assert clusters.threshold is not None
        for threshold in (clusters.threshold * (1 - STEP), min(clusters.threshold * (1 + STEP), 1.999)):
            again = settings.model_copy(update={"threshold": threshold}).fit(vectors, graph, device=device)
            yield Moved(f"threshold={threshold:.3g}", agreement(clusters.labels, again.labels))
        return
    field = "min_samples" if isinstance(settings, HdbscanSettings) else "seed"
    value = getattr(settings, field) + 1
    again = settings.model_copy(update={field: value}).fit(vectors, graph, device=device)
    yield Moved(f"{field}={value}", agreement(clusters.labels, again.labels))


def _lines(found: Findings) -> Iterator[str]:
    clusters, truth = found.clusters, found.truth
    radius = "" if clusters.eps is None else f"; eps {clusters.eps:.4g}"
    radius += "" if clusters.threshold is None else f"; threshold {clusters.threshold:.4g}"
    yield f"{clusters.count} clusters of {len(clusters)} images; {100 * clusters.noise:.1f} % in no cluster{radius}"
    sizes = clusters.sizes
    yield f"images per cluster: smallest {sizes.min()}, median {np.median(sizes):g}, largest {sizes.max()}"
    few = "; few images are in clusters at all, so it means little" if clusters.noise > 0.5 else ""
    if warning := giant_sentence(clusters):
        yield f"warning: {warning}"
    yield f"silhouette {found.silhouette:.3f} (1 = far from all others, below 0 = nearer to another cluster){few}"
    if found.one_camera is not None:
        advice = (
            "; --camera-norm standardise removes light and background" if 2 * found.one_camera > clusters.count else ""
        )
        yield f"clusters of one camera only: {found.one_camera} of {clusters.count}{advice}"
    for moved in found.moved:
        same = moved.agreement
        yield f"with {moved.change} instead: adjusted Rand index {same.rand:.3f}, mean overlap (IoU) {same.iou:.3f}"
    if truth is not None:
        yield f"against {truth.identities} known identities of {truth.images} images:"
        yield f"  adjusted Rand index {truth.rand:.3f}, NMI {truth.nmi:.3f}, purity {truth.purity:.3f}"
        yield f"  pairs: precision {truth.precision:.3f}, recall {truth.recall:.3f}, F {truth.f:.3f}"


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
