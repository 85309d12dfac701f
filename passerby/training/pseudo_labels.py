"""Files of the pseudo-labels of unlabelled stages, one per epoch, for reports and analysis."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passerby.clustering.clusters import numbered
from passerby.clustering.precomputed import NOISE
from passerby.files import atomic_write, reading
from passerby.npz import read_npz
from passerby.types import Bools, Embeddings, Floats, Ints, Words

_NAME = re.compile(r"stage-(\d+)-epoch-(\d+)")


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Pseudo-labels of the training images at the start of an epoch, or of the final model.

    Attributes:
        stage, epoch: from 1; the model was trained for one epoch less.
        labels: (N,) or (N, V) labels of the epoch, -1 = left out.
        path, cam: (N,) the images, with cameras as numbered by their data sets.
        truth: (N,) annotated identities, -1 = unknown; of a single data set by its own numbers.
        hidden: (N,) whether the image is unlabelled in this stage.
        curve: (M,) ascending distances of the clustered images to their k-th nearest neighbour; None without a radius.
        dataset: (N,) names of the data sets of the images; None = a single one.

    """

    stage: int
    epoch: int
    labels: Ints
    path: Words
    cam: Ints
    truth: Ints
    hidden: Bools
    curve: Floats | None = None
    dataset: Words | None = None

    @property
    def clusters(self) -> Ints:
        """(M,) clusters of the unlabelled images, 0..K-1; -1 = none, or a cluster of one image."""
        identities = (self.labels if self.labels.ndim == 1 else self.labels[:, 0])[self.hidden]
        _, inverse, sizes = np.unique(identities, return_inverse=True, return_counts=True)
        return numbered(np.where(sizes[inverse] > 1, identities, NOISE))

    @property
    def learnt(self) -> int:
        """Number of epochs that the model was trained for."""
        return self.epoch - 1

    def save(self, folder: Path) -> None:
        """Write the file into a run folder."""
        names = ("labels", "path", "cam", "truth", "hidden", "curve", "dataset")
        columns = {name: getattr(self, name) for name in names}
        with atomic_write(labels_file(folder, self.stage, self.epoch)) as file:
            np.savez(file, allow_pickle=False, **{name: value for name, value in columns.items() if value is not None})


def labels_file(folder: Path, stage: int, epoch: int) -> Path:
    """Return the file of the pseudo-labels of an epoch, stage and epoch from 1."""
    return folder / "clusters" / f"stage-{stage}-epoch-{epoch:03d}.npz"


def vectors_file(folder: Path, stage: int) -> Path:
    """Return the file of the vectors that were clustered last in an unlabelled stage, an embeddings file."""
    return folder / "clusters" / f"stage-{stage}-vectors.npz"


def save_vectors(folder: Path, labels: PseudoLabels, vectors: Floats) -> None:
    """Write the vectors (M, D) of the clustered images, replacing those of an earlier epoch."""
    hidden = labels.hidden
    blank = np.full(int(hidden.sum()), "")
    table = Embeddings(vectors, labels.truth[hidden], labels.cam[hidden], blank, labels.path[hidden])
    table.save(vectors_file(folder, labels.stage))


def read_pseudo_labels(folder: Path) -> list[PseudoLabels]:
    """Return the pseudo-labels of a run in the order of epochs; an empty list without unlabelled stages.

    Raises:
        UserError: a file of another format.

    """
    files = [(match, path) for path in (folder / "clusters").glob("*.npz") if (match := _NAME.fullmatch(path.stem))]
    return [_read(path, int(match[1]), int(match[2])) for match, path in sorted(files, key=lambda pair: pair[1])]


def _read(path: Path, stage: int, epoch: int) -> PseudoLabels:
    with reading(path, kind := "clusters as a run writes them"):
        columns = read_npz(path, kind=kind)
        if "site" in columns:  # the name in version 0.1
            columns["dataset"] = columns.pop("site")
        hidden = columns.pop("hidden", np.ones(len(columns["path"]), np.bool_))
        return PseudoLabels(stage, epoch, hidden=hidden, **columns)
