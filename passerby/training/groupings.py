"""Who is who in an unlabelled stage, epoch by epoch, as a run keeps it for people and pictures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passerby.clustering.algorithms import numbered
from passerby.clustering.precomputed import NOISE
from passerby.files import atomic_write, reading
from passerby.npz import read_npz
from passerby.types import Bools, Embeddings, Floats, Ints, Words

_NAME = re.compile(r"stage-(\d+)-epoch-(\d+)")


@dataclass(frozen=True, eq=False)
class Grouping:
    """Who was taken for one person at the start of an epoch, or in the end.

    Attributes:
        stage, epoch: from 1; the model had learnt for one epoch less.
        labels: (N,) or (N, V) as they were trained on, -1 = left out.
        path, cam: (N,) the images, with cameras as their data sets number them.
        truth: (N,) who is in them, -1 = unknown; of a single data set by its own numbers.
        hidden: (N,) whose people the stage was not told.
        curve: (M,) ascending distances of the clustered images to their k-th nearest; None without a radius.
        site: (N,) the data sets that the images are from; None = a single one.

    """

    stage: int
    epoch: int
    labels: Ints
    path: Words
    cam: Ints
    truth: Ints
    hidden: Bools
    curve: Floats | None = None
    site: Words | None = None

    @property
    def clusters(self) -> Ints:
        """(M,) clusters of the unknown images, 0..K-1; -1 also for an image that is alone in its own."""
        people = (self.labels if self.labels.ndim == 1 else self.labels[:, 0])[self.hidden]
        _, place, sizes = np.unique(people, return_inverse=True, return_counts=True)
        return numbered(np.where(sizes[place] > 1, people, NOISE))

    @property
    def learnt(self) -> int:
        """How many epochs the model had learnt for."""
        return self.epoch - 1

    def save(self, folder: Path) -> None:
        """Write it into a run folder."""
        columns = {name: getattr(self, name) for name in ("labels", "path", "cam", "truth", "hidden", "curve", "site")}
        with atomic_write(labels_file(folder, self.stage, self.epoch)) as file:
            np.savez(file, allow_pickle=False, **{name: value for name, value in columns.items() if value is not None})


def labels_file(folder: Path, stage: int, epoch: int) -> Path:
    """Return where a run keeps the labels of one epoch of an unlabelled stage, both from 1."""
    return folder / "clusters" / f"stage-{stage}-epoch-{epoch:03d}.npz"


def vectors_file(folder: Path, stage: int) -> Path:
    """Return where a run keeps what was clustered last in an unlabelled stage, as an evaluation file."""
    return folder / "clusters" / f"stage-{stage}-vectors.npz"


def save_vectors(folder: Path, grouping: Grouping, vectors: Floats) -> None:
    """Keep the vectors (M, D) of the clustered images, in place of those of an earlier epoch."""
    hidden = grouping.hidden
    blank = np.full(int(hidden.sum()), "")
    table = Embeddings(vectors, grouping.truth[hidden], grouping.cam[hidden], blank, grouping.path[hidden])
    table.save(vectors_file(folder, grouping.stage))


def read_groupings(folder: Path) -> list[Grouping]:
    """Read all that a run keeps, in order; an empty list where it has no unlabelled stage.

    Raises:
        UserError: a file that is not what a run writes.

    """
    files = [(found, path) for path in (folder / "clusters").glob("*.npz") if (found := _NAME.fullmatch(path.stem))]
    return [_read(path, int(found[1]), int(found[2])) for found, path in sorted(files, key=lambda pair: pair[1])]


def _read(path: Path, stage: int, epoch: int) -> Grouping:
    with reading(path, kind := "clusters as a run writes them"):
        columns = read_npz(path, kind=kind)
        hidden = columns.pop("hidden", np.ones(len(columns["path"]), np.bool_))
        return Grouping(stage, epoch, hidden=hidden, **columns)
