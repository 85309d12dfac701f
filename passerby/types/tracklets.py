"""Tracklets: unbroken tracks of one camera, each with its best crops and one vector, and their file format."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from passerby.errors import UserError
from passerby.files import atomic_write
from passerby.npz import read_npz, single
from passerby.types.columns import Bools, Doubles, Floats, Ints, Words, column

TRACKLETS_FILE = "tracklets.npz"
"""The name of the file in the folder that `passerby tracklets` writes."""

ROW_COLUMNS = ("camera", "name", "first", "last", "has_clock", "pid")
CROP_COLUMNS = ("crop_path", "crop_time")
LARGEST_DEVIATION = 1e-3
"""How far the length of a unit vector may be from 1: float32 needs 1e-6, vectors stored as float16 1e-3."""

_DTYPES: dict[str, type] = {
    "camera": np.str_,
    "name": np.str_,
    "first": np.float64,
    "last": np.float64,
    "has_clock": np.bool_,
    "pid": np.int64,
    "crop_path": np.str_,
    "crop_time": np.float64,
}


@dataclass(frozen=True, eq=False)
class Tracklets:
    """One row per tracklet, and one row per crop; the crops of row i are `crop_start[i]:crop_start[i + 1]`.

    Attributes:
        vectors: (N, D) float32 of unit length, the robust mean of the crops' vectors.
        camera: (N,) name of the camera.
        name: (N,) `CLIP/ID`: the clip, and the track within it; different for all tracklets of a camera.
        first, last: (N,) seconds of the first and the last box. Where `has_clock`, of a clock that all cameras share;
            elsewhere from the beginning of the clip, so that only tracklets of one camera and clip compare. NaN = no
            time at all.
        has_clock: (N,) whether `first` and `last` are of the common clock.
        pid: (N,) true identity, -1 = unknown.
        crop_start: (N + 1,) ascending from 0 to M.
        crop_path: (M,) image files, `""` where a crop was not written.
        crop_time: (M,) seconds, as `first`.
        crop_vectors: (M, D) float32 of unit length.
        dataset: name of the site, `""` = unknown.
        model: name and hash of the model that made the vectors, `""` = unknown; unequal stamps do not compare.

    """

    vectors: Floats
    camera: Words
    name: Words
    first: Doubles
    last: Doubles
    has_clock: Bools
    pid: Ints
    crop_start: Ints
    crop_path: Words
    crop_time: Doubles
    crop_vectors: Floats
    dataset: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        for name in ("vectors", "crop_vectors"):
            object.__setattr__(self, name, _unit_vectors(name, getattr(self, name)))
        if self.vectors.shape[1] != self.crop_vectors.shape[1]:
            raise UserError(
                f"'vectors' have {self.vectors.shape[1]} dimensions, 'crop_vectors' {self.crop_vectors.shape[1]}"
            )
        for names, count in ((ROW_COLUMNS, len(self.vectors)), (CROP_COLUMNS, len(self.crop_vectors))):
            for name in names:
                object.__setattr__(self, name, column(name, getattr(self, name), count, _DTYPES[name]))
        start = column("crop_start", self.crop_start, len(self.vectors) + 1, np.int64)
        object.__setattr__(self, "crop_start", start)
        _require_ascending(self.crop_start, len(self.crop_vectors))
        _require_times(self.first, self.last, self.has_clock)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def clip(self) -> Words:
        """(N,) the clip of each tracklet: its name without the track."""
        return np.array([str(name).rpartition("/")[0] for name in self.name], dtype=np.str_)

    @property
    def crop_row(self) -> Ints:
        """(M,) the tracklet of each crop."""
        return np.repeat(np.arange(len(self)), np.diff(self.crop_start))

    def crops(self, row: int) -> slice:
        """Return the rows of a tracklet's crops."""
        return slice(int(self.crop_start[row]), int(self.crop_start[row + 1]))

    def select(self, rows: Bools | Ints) -> Self:
        """Return the tracklets chosen by a mask (N,) or by indices, in that order, with their crops."""
        chosen = np.arange(len(self))[rows]
        counts = np.diff(self.crop_start)[chosen]
        start = np.concatenate([[0], np.cumsum(counts)])
        crops = np.arange(start[-1]) + np.repeat(self.crop_start[chosen] - start[:-1], counts)
        columns = {name: getattr(self, name)[chosen] for name in ("vectors", *ROW_COLUMNS)}
        columns |= {name: getattr(self, name)[crops] for name in ("crop_vectors", *CROP_COLUMNS)}
        return replace(self, crop_start=start, **columns)

    @classmethod
    def join(cls, tables: Sequence[Self]) -> Self:
        """Return the tracklets of several cameras or clips as one table, in the order of the tables.

        Args:
            tables: at least one; the data set is kept where all name the same.

        Raises:
            UserError: no table, vectors of different models or lengths, or one name twice at a camera.

        """
        if not tables:
            raise UserError("no tracklets to join")
        models = sorted({table.model for table in tables})
        if len(models) > 1:
            raise UserError(f"the tracklets are of different models, whose vectors do not compare: {', '.join(models)}")
        dimensions = sorted({table.vectors.shape[1] for table in tables})
        if len(dimensions) > 1:
            raise UserError(f"the tracklets' vectors have different lengths: {', '.join(map(str, dimensions))}")
        datasets = {table.dataset for table in tables}
        ends = np.cumsum([0] + [len(table.crop_vectors) for table in tables])
        start = [table.crop_start[:-1] + end for table, end in zip(tables, ends[:-1], strict=True)]
        names = ("vectors", "crop_vectors", *ROW_COLUMNS, *CROP_COLUMNS)
        columns = {name: np.concatenate([getattr(table, name) for table in tables]) for name in names}
        joined = cls(
            crop_start=np.concatenate([*start, ends[-1:]]),
            dataset=datasets.pop() if len(datasets) == 1 else "",
            model=models[0],
            **columns,
        )
        joined.require_unique()
        return joined

    def require_unique(self) -> None:
        """Refuse two tracklets of one camera that have the same name.

        Raises:
            UserError: there are such.

        """
        both, counts = np.unique(np.stack([self.camera, self.name]), axis=1, return_counts=True)
        if len(self) and counts.max() > 1:
            camera, name = both[:, counts.argmax()]
            raise UserError(
                f"camera {str(camera)!r} has {counts.max()} tracklets {str(name)!r}; is one folder named twice?"
            )

    def save(self, path: str | Path) -> None:
        """Write one uncompressed .npz, atomically; paths of crops are written relative to its folder or absolute."""
        folder = Path(path).parent
        names = ("vectors", "crop_vectors", "crop_start", *ROW_COLUMNS, "crop_time")
        columns: dict[str, npt.ArrayLike] = {name: getattr(self, name) for name in names}
        columns["crop_path"] = np.array([_relative(str(crop), folder) for crop in self.crop_path], dtype=np.str_)
        columns |= {"dataset": np.str_(self.dataset), "model": np.str_(self.model)}
        with atomic_write(path) as file:
            np.savez(file, allow_pickle=False, **columns)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read an .npz of tracklets, or the one in a folder of `passerby tracklets`; never runs code from it.

        Args:
            path: the file or folder; relative paths of crops are returned below its folder.

        Raises:
            UserError: no such file, not an .npz, a missing key, a wrong shape, NaN or infinity.

        """
        path = Path(path)
        path = path / TRACKLETS_FILE if path.is_dir() else path
        if not path.is_file():
            raise UserError(f"no tracklets file {path}; `passerby tracklets` writes it")
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path} is no .npz file, as `passerby tracklets` writes it")
        columns = read_npz(path, kind="a readable .npz of plain arrays")
        names = ("vectors", "crop_vectors", "crop_start", *ROW_COLUMNS, *CROP_COLUMNS)
        missing = [key for key in names if key not in columns]
        if missing:
            raise UserError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(sorted(columns)) or 'nothing'}")
        arrays = {name: columns[name] for name in names}
        try:
            stamps = {name: str(single(columns, name, "")) for name in ("dataset", "model")}
            table = cls(**arrays, **stamps)  # type: ignore[arg-type]  # checked by the class itself
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        paths = [str(path.parent / str(crop)) if str(crop) else "" for crop in table.crop_path]
        return replace(table, crop_path=np.array(paths, dtype=np.str_))


def _relative(crop: str, folder: Path) -> str:
    if not crop:
        return ""
    path, folder = Path(crop).absolute(), folder.absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _unit_vectors(name: str, values: object) -> Floats:
    vectors = np.asarray(values)
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise UserError(f"{name!r} must be a float array of shape (N, D), got {vectors.dtype} {vectors.shape}")
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad = int((~(np.abs(lengths - 1) <= LARGEST_DEVIATION)).sum())  # NaN is bad too
    if bad:
        raise UserError(f"{bad} of {len(vectors)} {name!r} are not of length 1, or hold NaN or infinity")
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _require_ascending(start: Ints, count: int) -> None:
    if start[0] != 0 or start[-1] != count or (np.diff(start) < 0).any():
        raise UserError(f"'crop_start' must ascend from 0 to the number of crops ({count})")


def _require_times(first: Doubles, last: Doubles, has_clock: Bools) -> None:
    if np.isinf(first).any() or np.isinf(last).any() or (np.isnan(first) != np.isnan(last)).any():
        raise UserError("'first' and 'last' must both be seconds, or both NaN where there is no time")
    backwards = int((last < first).sum())
    if backwards:
        raise UserError(f"{backwards} of {len(first)} tracklets end before they begin ('last' is below 'first')")
    if (has_clock & np.isnan(first)).any():
        raise UserError("a tracklet without a time ('first' is NaN) cannot have a clock ('has_clock')")
