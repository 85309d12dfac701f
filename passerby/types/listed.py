"""The images that are to be embedded, with the columns of their table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from passerby.types.columns import Bools, Floats, Ints, Words, rows_of
from passerby.types.embeddings import Embeddings


@dataclass(frozen=True, eq=False)
class ListedImages:
    """Images that are to be embedded.

    Attributes:
        path: (N,) files.
        pid, cam: (N,) as in `Embeddings`.
        role: (N,) `"query"`, `"gallery"` or `""`.
        cam_row: (N,) rows of the cameras of the model, -1 = unknown.
        dataset: the name of the data set, `""` when unknown.

    """

    path: Words
    pid: Ints
    cam: Ints
    role: Words
    cam_row: Ints
    dataset: str = ""

    def __len__(self) -> int:
        return len(self.path)

    def select(self, rows: Bools | Ints) -> Self:
        """Return the rows chosen by a mask (N,) or by indices, in that order."""
        return rows_of(self, ("path", "pid", "cam", "role", "cam_row"), rows)

    def table(self, vectors: Floats, rows: Ints, *, feature: str = "", flip: bool = False) -> Embeddings:
        """Return the table of vectors (M, D) of `rows` (M,)."""
        part = self.select(rows)
        return Embeddings(vectors, part.pid, part.cam, part.role, part.path, self.dataset, feature=feature, flip=flip)
