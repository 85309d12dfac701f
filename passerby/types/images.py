"""Columns of labelled images, and data sets of them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

import numpy as np

from passerby.types.columns import UNKNOWN, Bools, Ints, Words, column, rows_of

SplitName = Literal["train", "query", "gallery"]


@dataclass(frozen=True, eq=False)
class Split:
    """A list of images with their labels.

    Attributes:
        path: (N,) file names.
        pid: (N,) identity numbers, `-1` = unknown.
        cam: (N,) camera numbers, `-1` = unknown.
        frame: (N,) frame numbers, or None.
        mask_path: (N,) foreground masks (`""` = none for this image), or None.
        raw_cam: (N,) camera numbers of the data set, where `cam` was renumbered; empty = those of `cam`.
        cam_row: (N,) rows of the camera table of the model, `-1` = not in it; empty = all unknown.
        clothes: (N,) numbers of clothes, each worn by one identity, `-1` = unknown; None = nothing is known of clothes.
        tracklet: (N,) numbers of tracklets, each of one identity and camera, `-1` = unknown; None = no tracklets.

    """

    path: Words
    pid: Ints
    cam: Ints
    frame: Ints | None = None
    mask_path: Words | None = None
    raw_cam: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    cam_row: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    clothes: Ints | None = None
    tracklet: Ints | None = None

    def __post_init__(self) -> None:
        count = len(self.path)
        if not len(self.raw_cam):
            object.__setattr__(self, "raw_cam", self.cam)
        if not len(self.cam_row):
            object.__setattr__(self, "cam_row", np.full(count, UNKNOWN))
        for name in (each.name for each in fields(self)):
            value = getattr(self, name)
            if value is not None:
                dtype = np.str_ if name in ("path", "mask_path") else np.int64
                object.__setattr__(self, name, column(name, value, count, dtype))

    def __len__(self) -> int:
        return len(self.path)

    def select(self, rows: Bools | Ints) -> Split:
        """Return the rows chosen by a mask (N,) or by indices, in that order."""
        return rows_of(self, tuple(field.name for field in fields(self)), rows)

    @property
    def masks(self) -> Words:
        """(N,) foreground masks, `""` where there is none."""
        return np.full(len(self), "") if self.mask_path is None else self.mask_path

    @property
    def count_identities(self) -> int:
        """Number of known identities."""
        return len(np.unique(self.pid[self.pid != UNKNOWN]))

    @property
    def count_cameras(self) -> int:
        """Number of known cameras."""
        return len(np.unique(self.cam[self.cam != UNKNOWN]))

    @classmethod
    def of_paths(cls, path: Words) -> Split:
        """Return images of which nothing but the file is known."""
        return cls(path, np.full(len(path), UNKNOWN), np.full(len(path), UNKNOWN))

    @classmethod
    def empty(cls) -> Split:
        """Return a split without images."""
        return cls(np.empty(0, np.str_), np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True)
class Layout:
    """Folder and file-name layout of a public data set.

    Attributes:
        kind: as recipes call it, such as `"market1501"`.
        title: as people call it, such as `"Market-1501"`.
        published: whether the counts are those of the release, so that scores compare with published ones.

    """

    kind: str
    title: str
    published: bool


@dataclass(frozen=True, eq=False)
class Dataset:
    """One data set: training, query and gallery images.

    Attributes:
        name: how recipes and reports call it.
        train, query, gallery: the three splits; each may be empty.
        notes: sentences a person must see when the set is used ("MSMT17 V1, train list only").
        layout: of the public data set whose layout it has; None = a layout of its own.

    """

    name: str
    train: Split
    query: Split
    gallery: Split
    notes: tuple[str, ...] = ()
    layout: Layout | None = None

    @property
    def title(self) -> str:
        """The name, with the layout beside it unless it is the released data set itself."""
        shown = self.layout is not None and not self.layout.published
        return f"{self.name} ({self.layout.title} layout)" if self.layout and shown else self.name
