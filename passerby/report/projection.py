"""A t-SNE projection of features, coloured by identity, camera or data set.

Only neighbourhoods have a meaning in such a figure: distances between far groups, sizes of groups and empty space have
none. Camera bias, which a figure can only suggest, is therefore measured as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from passerby.distances.pairwise import Metric, pairwise
from passerby.distances.units import unit_rows
from passerby.errors import UserError
from passerby.report.palette import mark_of, style
from passerby.types import UNKNOWN, Bools, Doubles, Embeddings, Floats, Ints, Words

Colouring = Literal["identity", "camera", "dataset", "cluster"]

FEWEST, MOST = 10, 3000
NAMED_PEOPLE = 12  # as many as differ in shape alone
_SEED = 0


@dataclass(frozen=True, eq=False)
class Projection:
    """Projected images with their columns.

    Attributes:
        xy: (N, 2) positions by t-SNE.
        pid, cam, dataset: (N,) identity, camera and name of the data set.
        vectors: (N, D) projected vectors, of unit length where the distance is cosine.
        count_all: number of images before sampling.
        cluster: (N,) cluster, -1 = none; None where there are no clusters.

    """

    xy: Doubles
    pid: Ints
    cam: Ints
    dataset: Words
    vectors: Floats
    count_all: int
    cluster: Ints | None = None

    def __len__(self) -> int:
        return len(self.pid)


def choose_identities(pid: Ints, *, most: int, generator: np.random.Generator) -> Ints:
    """Return ascending rows of randomly drawn identities, whole ones, `most` rows at most; a part of a larger one.

    >>> choose_identities(np.array([7, 8, 8, 7, 9]), most=3, generator=np.random.default_rng(1))
    array([0, 3])
    """
    if len(pid) <= most:
        return np.arange(len(pid))
    identities, number = np.unique(pid, return_inverse=True)
    order = generator.permutation(len(identities))
    sizes = np.bincount(number)[order]
    sampled = order[np.cumsum(sizes) <= most]
    if not len(sampled):
        return np.flatnonzero(number == order[0])[:most]
    return np.flatnonzero(np.isin(number, sampled))


def project(tables: Sequence[Embeddings], *, most: int = MOST, distance: Metric = "cosine") -> Projection:
    """Project the images of one or more data sets by t-SNE; the same vectors give the same projection.

    Args:
        tables: vectors of one model; images of unknown identity are not drawn.
        most: number of images, drawn by whole identities, an equal share for each data set.
        distance: `cosine` normalises the vectors before.

    Raises:
        UserError: fewer than 10 images of known identity, or vectors of different lengths.

    Reference: van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008; started from the principal
    components, after Kobak and Berens, Nature Communications 2019.

    """
    if len({table.vectors.shape[1] for table in tables}) > 1:
        raise UserError("vectors of different lengths cannot be drawn in one figure; they are of different models")
    generator = np.random.default_rng(_SEED)
    labelled = [table.select(table.pid != UNKNOWN) for table in tables]
    sampled = [
        table.select(choose_identities(table.pid, most=most // len(tables), generator=generator)) for table in labelled
    ]
    count = sum(map(len, sampled))
    if count < FEWEST:
        raise UserError(f"t-SNE needs at least {FEWEST} images of known identity, got {count}")
    vectors = _compared(np.concatenate([table.vectors for table in sampled]), distance)
    return Projection(
        xy=_on_a_plane(vectors),
        pid=np.concatenate([table.pid for table in sampled]),
        cam=np.concatenate([table.cam for table in sampled]),
        dataset=np.repeat([table.dataset or "vectors" for table in sampled], list(map(len, sampled))),
        vectors=vectors,
        count_all=sum(map(len, labelled)),
    )


def project_clusters(
    table: Embeddings, clusters: Ints, *, most: int = MOST, datasets: Words | None = None
) -> Projection:
    """Project clustered images by cosine distance, as `project`; identities need not be known.

    Args:
        table: vectors of the images.
        clusters: (N,) cluster of each, -1 = none.
        most: images in all, drawn by whole clusters; of those in none, an equal share.
        datasets: (N,) the data sets that the images are from; None = that of the table.

    Raises:
        UserError: fewer than 10 images, or all alike.

    """
    if len(table) < FEWEST:
        raise UserError(f"t-SNE needs at least {FEWEST} images, got {len(table)}")
    rows = _choose_clusters(clusters, most=most)
    sampled = table.select(rows)
    vectors = _compared(sampled.vectors, "cosine")
    names = np.full(len(sampled), table.dataset or "vectors") if datasets is None else datasets[rows]
    xy = _on_a_plane(vectors)
    return Projection(xy, sampled.pid, sampled.cam, names, vectors, count_all=len(table), cluster=clusters[rows])


def _choose_clusters(clusters: Ints, *, most: int) -> Ints:
    """Return ascending rows of whole clusters and of as large a share of the images in none, `most` at most."""
    generator, share = np.random.default_rng(_SEED), min(1.0, most / len(clusters))
    inside, outside = np.flatnonzero(clusters >= 0), np.flatnonzero(clusters < 0)
    noise_rows = generator.choice(outside, int(share * len(outside)), replace=False)
    cluster_rows = choose_identities(clusters[inside], most=most - len(noise_rows), generator=generator)
    return np.sort(np.concatenate([inside[cluster_rows], noise_rows]))


def _compared(vectors: Floats, distance: Metric) -> Floats:
    """Return vectors whose Euclidean neighbours are those by the distance."""
    if distance == "cosine":
        vectors = unit_rows(vectors)
    if not np.ptp(vectors, axis=0).any():
        raise UserError("all vectors are the same, so there is nothing to draw")
    return vectors


def _on_a_plane(vectors: Floats) -> Doubles:
    plane = TSNE(init="pca", perplexity=min(30.0, (len(vectors) - 1) / 3), random_state=_SEED)
    with threadpool_limits(1):  # other threads give another picture, and on a busy machine they take ten times longer
        return np.asarray(plane.fit_transform(vectors), np.float64)


def features_figure(projection: Projection, *, colour: Colouring = "identity") -> Figure:
    """Draw a projection; groups differ in colour and in shape, with a legend below.

    Args:
        projection: made by `project`.
        colour: `identity` names 12 people drawn at random from those seen by more than one camera, and leaves the
            others grey; `camera` and `dataset` name all; `cluster` names the 12 largest, and crosses are in none.

    """
    groups = _groups(projection, colour)
    with style():
        figure = Figure(figsize=(4.8, 4.9), layout="constrained", facecolor="white")
        panel = figure.subplots()
        unnamed = ~np.any([rows for _, rows in groups], axis=0) if groups else np.ones(len(projection), np.bool_)
        for label, rows, marker in _unnamed(projection, unnamed, colour):
            panel.plot(*projection.xy[rows].T, marker, color="#b5b5b5", markersize=3, label=label)
        for number, (name, rows) in enumerate(groups):
            _draw_group(panel, projection.xy[rows], number=number, name=name, large=colour in ("identity", "cluster"))
        panel.set(xticks=[], yticks=[], aspect="equal")
        panel.grid(visible=False)
        panel.spines[:].set_visible(False)
        panel.set_title(f"{_TITLES[colour]}: {_extent(projection, colour)}", fontweight="normal", fontsize=9)
        figure.legend(
            loc="outside lower left", ncols=_columns(groups), handlelength=1.0, columnspacing=1.2, fontsize=8.5
        )
    return figure


_TITLES: dict[Colouring, str] = {
    "identity": "By person",
    "camera": "By camera",
    "dataset": "By data set",
    "cluster": "By cluster",
}


def _unnamed(projection: Projection, unnamed: Bools, colour: Colouring) -> Iterator[tuple[str, Bools, str]]:
    """Yield words, rows (N,) and marker of the points that belong to no named group, where there are some."""
    groups = [(_others(projection, unnamed, colour), unnamed, ".")]
    if colour == "cluster" and projection.cluster is not None:
        outside = projection.cluster < 0
        groups = [
            (_others(projection, unnamed & ~outside, colour), unnamed & ~outside, "."),
            ("in no cluster", outside, "x"),
        ]
    yield from (each for each in groups if each[1].any())


def _others(projection: Projection, unnamed: Bools, colour: Colouring) -> str:
    if colour == "cluster" and projection.cluster is not None:
        return f"other clusters ({len(np.unique(projection.cluster[unnamed]))})"
    return "of unknown camera" if colour == "camera" else f"other people ({_people(projection, unnamed)})"


def _columns(groups: Sequence[tuple[str, Bools]]) -> int:
    """Return the number of legend columns for names of this length."""
    return max(1, min(4, 64 // (6 + max((len(name) for name, _ in groups), default=20))))


def _extent(projection: Projection, colour: Colouring) -> str:
    everyone = np.ones(len(projection), np.bool_)
    of = f" of {projection.count_all:,}" if projection.count_all > len(projection) else ""
    images = f"{len(projection):,}{of} images"
    if projection.cluster is not None and colour != "identity":
        return f"{images}, {len(np.unique(projection.cluster[projection.cluster >= 0])):,} clusters"
    return f"{images}, {_people(projection, everyone):,} people"


def _people(projection: Projection, rows: Bools) -> int:
    rows = rows & (projection.pid != UNKNOWN)
    return len(set(zip(projection.dataset[rows], projection.pid[rows], strict=True)))


def _groups(projection: Projection, colour: Colouring) -> list[tuple[str, Bools]]:
    """Return the groups that are named, with their rows (N,)."""
    has_several = len(np.unique(projection.dataset)) > 1
    if colour == "cluster":
        return _largest_clusters(projection)
    if colour == "dataset":
        return [(str(name), projection.dataset == name) for name in np.unique(projection.dataset)]
    values, word = (projection.cam, "camera") if colour == "camera" else (projection.pid, "person")
    is_known = values != UNKNOWN
    keys = sorted(set(zip(projection.dataset[is_known].tolist(), values[is_known].tolist(), strict=True)))
    if colour == "identity":
        keys = _shown_identities(projection, keys)
    return [
        (
            f"{dataset}, {word} {value}" if has_several else f"{word} {value}",
            (projection.dataset == dataset) & (values == value),
        )
        for dataset, value in keys
    ]


def _largest_clusters(projection: Projection) -> list[tuple[str, Bools]]:
    """Return the largest clusters with their rows."""
    if projection.cluster is None:
        raise UserError("there are no clusters to colour by; they are of runs with an unlabelled stage")
    names, sizes = np.unique(projection.cluster[projection.cluster >= 0], return_counts=True)
    largest = sorted(names[np.argsort(-sizes, kind="stable")][:NAMED_PEOPLE].tolist())
    return [(f"cluster {name}", projection.cluster == name) for name in largest]


def _shown_identities(projection: Projection, keys: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    def count_cameras(dataset: str, pid: int) -> int:
        return len(np.unique(projection.cam[(projection.dataset == dataset) & (projection.pid == pid)]))

    counts = np.array([count_cameras(*key) for key in keys])
    order = np.random.default_rng(_SEED).permutation(len(keys))
    order = order[np.argsort(counts[order] < 2, kind="stable")]
    return sorted(keys[number] for number in order[:NAMED_PEOPLE])


def _draw_group(panel: Axes, xy: Doubles, *, number: int, name: str, large: bool) -> None:
    colour, marker, filled = mark_of(number)
    panel.plot(
        *xy.T,
        linestyle="none",
        marker=marker,
        color=colour,
        markerfacecolor=colour if filled else "white",
        markersize=5.5 if large else 3.6,
        markeredgewidth=0.9,
        label=name.replace("$", r"\$"),
        gid=name,
    )


@dataclass(frozen=True)
class CameraPull:
    """Camera bias of the features; fractions in [0, 1].

    Attributes:
        observed: images whose nearest image of another person is from their own camera.
        expected: the same, were the nearest one any image of another person.

    """

    observed: float
    expected: float

    def __str__(self) -> str:
        """One sentence for a reader."""
        return (
            f"For {100 * self.observed:.0f} % of the images the nearest image of another person is from the same "
            f"camera; if cameras played no part, it would be {100 * self.expected:.0f} %."
        )


def camera_pull(projection: Projection, *, device: str = "cpu") -> CameraPull | None:
    """Count over the projected vectors (not the points) how often the nearest other person is of the same camera.

    Args:
        projection: made by `project`.
        device: where distances are computed.

    Returns:
        None where there is no choice: a single camera, or a single person.

    """
    is_other = (projection.pid[:, None] != projection.pid) | (
        projection.dataset[:, None] != projection.dataset
    )  # (N, N)
    same_camera = (projection.cam[:, None] == projection.cam) & (projection.dataset[:, None] == projection.dataset)
    usable = is_other.any(axis=1)
    if not usable.any() or bool(same_camera.all()):
        return None
    nearest = np.zeros(len(projection), np.int64)
    for start, block in pairwise(projection.vectors, projection.vectors, metric="euclidean", device=device).blocks():
        rows = slice(start, start + len(block))
        nearest[rows] = np.where(is_other[rows], block.cpu().numpy(), np.inf).argmin(axis=1)
    observed = same_camera[np.arange(len(projection)), nearest]
    expected = (same_camera & is_other).sum(axis=1) / np.maximum(is_other.sum(axis=1), 1)
    return CameraPull(float(observed[usable].mean()), float(expected[usable].mean()))
