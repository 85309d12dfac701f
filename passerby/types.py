"""The tables that everything speaks: frozen dataclasses of parallel arrays.

Columns, not lists of tuples: filters are one line, loader workers share the memory, and the same table travels from the
folder to the features to the report. Nothing here imports torch at run time, so reading a folder stays quick.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeVar, cast, get_args

import numpy as np
import numpy.typing as npt

from passerby.errors import UserError, first_line
from passerby.files import atomic_write

if TYPE_CHECKING:
    import torch
    from _typeshed import DataclassInstance

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Words = npt.NDArray[np.str_]

Pixels = Literal["whole", "foreground", "background", "weighted"]
"""What a model is shown of an image: all of it, the person alone, all but the person (what is hidden has the mean
colour), or all of it with the pooling weighted by the mask of the person."""

T = TypeVar("T", bound="DataclassInstance")

UNKNOWN = -1
"""The pid of an image whose identity nobody knows."""

Cameras = Literal["standard", "ignore"]
"""`standard`: a gallery image of the same identity *and* camera is left out; `ignore`: cameras play no part."""

Queries = Literal["single", "multi"]
"""`single`: every query is one image; `multi`: it is the mean of all images of its identity and camera."""


def pixels_word(word: str) -> Pixels:
    """Return a word as one of `Pixels`, or raise `UserError`."""
    for known in get_args(Pixels):
        if word == known:
            return cast("Pixels", known)
    raise UserError(f"pixels {word!r} is not known; allowed: {', '.join(get_args(Pixels))}")


def _column(name: str, values: object, count: int, dtype: type) -> npt.NDArray[np.generic]:
    array = np.asarray(values)
    if array.size == 0:
        array = array.astype(dtype)
    if dtype is np.int64 and not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"column {name!r} must hold whole numbers, got {array.dtype}")
    array = array.astype(dtype, copy=False)
    if array.shape != (count,):
        raise UserError(f"column {name!r} has shape {array.shape}, expected ({count},)")
    return array


@dataclass(frozen=True, eq=False)
class Split:
    """A list of images with what is known of each.

    Attributes:
        path: (N,) file names.
        pid: (N,) identity numbers, `-1` = unknown.
        cam: (N,) camera numbers, `-1` = unknown.
        frame: (N,) frame numbers, or None.
        mask_path: (N,) foreground masks (`""` = none for this image), or None.

    """

    path: Words
    pid: Ints
    cam: Ints
    frame: Ints | None = None
    mask_path: Words | None = None

    def __post_init__(self) -> None:
        count = len(self.path)
        for name in (column.name for column in fields(self)):
            value = getattr(self, name)
            if value is not None:
                dtype = np.str_ if name in ("path", "mask_path") else np.int64
                object.__setattr__(self, name, _column(name, value, count, dtype))

    def __len__(self) -> int:
        return len(self.path)

    def select(self, rows: Bools | Ints) -> Split:
        """Return the rows chosen by a mask (N,) or by indices, in that order."""
        return _rows_of(self, tuple(field.name for field in fields(self)), rows)

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
    def empty(cls) -> Split:
        """Return a split without images."""
        return cls(np.empty(0, np.str_), np.empty(0, np.int64), np.empty(0, np.int64))


def _rows_of(table: T, columns: tuple[str, ...], rows: Bools | Ints) -> T:
    """Return a copy of a table of which every named column that is present keeps only `rows`."""
    present = {name: value for name in columns if (value := getattr(table, name)) is not None}
    return replace(table, **{name: value[rows] for name, value in present.items()})


@dataclass(frozen=True, eq=False)
class Dataset:
    """One site: what to train on, what to search for, and where to search.

    Attributes:
        name: how recipes and reports call it.
        train, query, gallery: the three splits; each may be empty.
        notes: sentences a person must see when the set is used ("MSMT17 V1, train list only").

    """

    name: str
    train: Split
    query: Split
    gallery: Split
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Batch:
    """What one training step gets.

    Attributes:
        images: (B, 3, H, W) uint8, colour order and size as the model's input settings say.
        labels: (B,) or (B, V) int64, 0..C-1, one column per label view; -1 = left out.
        cam: (B,) int64.
        index: (B,) int64 rows of the stage's training split.
        mask: (B, 1, H, W) uint8 in {0, 1}, 1 = person, or None; in a training step only where it weights the pooling.

    """

    images: torch.Tensor
    labels: torch.Tensor
    cam: torch.Tensor
    index: torch.Tensor
    mask: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class Output:
    """What an embedder returns.

    Attributes:
        feature: (B, D) pooled, before the neck.
        embedding: (B, D) after the neck.
        parts: (B, P, D) one row per stripe, or None.
        map: (B, C, h, w) the backbone's last map.

    """

    feature: torch.Tensor
    embedding: torch.Tensor
    map: torch.Tensor
    parts: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors with the columns of the images they came from; everything after training takes this and nothing else.

    Attributes:
        vectors: (N, D) float32, finite.
        pid, cam: (N,) as in `Split`.
        role: (N,) `"query"`, `"gallery"` or `""`.
        path: (N,) file names, or None when another program made the vectors.
        dataset: the name of the site, `""` when unknown.
        feature: which feature of the model this is (`"embedding"`, `"feature"`), `""` when unknown.
        flip: whether each vector is the mean of the image's and its mirror image's.
        pixels: what the model was shown of the images.

    """

    vectors: Floats
    pid: Ints
    cam: Ints
    role: Words
    path: Words | None = None
    dataset: str = ""
    feature: str = ""
    flip: bool = False
    pixels: Pixels = "whole"

    def __post_init__(self) -> None:
        vectors = np.asarray(self.vectors)
        if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
            raise UserError(f"'vectors' must be a float array of shape (N, D), got {vectors.dtype} {vectors.shape}")
        with np.errstate(over="ignore"):  # too large for float32 is told in the sentence below
            vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        bad = int((~np.isfinite(vectors).all(axis=1)).sum())
        if bad:
            raise UserError(f"{bad} of {len(vectors)} vectors hold NaN or infinity")
        object.__setattr__(self, "vectors", vectors)
        for name, dtype in (("pid", np.int64), ("cam", np.int64), ("role", np.str_), ("path", np.str_)):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _column(name, value, len(vectors), dtype))
        pixels_word(self.pixels)
        unknown = sorted(set(np.unique(self.role)) - {"query", "gallery", ""})
        if unknown:
            raise UserError(f"role {str(unknown[0])!r} is not known; allowed: 'query', 'gallery'")

    def __len__(self) -> int:
        return len(self.vectors)

    def select(self, rows: Bools | Ints) -> Self:
        """Return the rows chosen by a mask (N,) or by indices, in that order."""
        return _rows_of(self, ("vectors", "pid", "cam", "role", "path"), rows)

    @property
    def query(self) -> Self:
        """The rows to search for."""
        return self.select(self.role == "query")

    @property
    def gallery(self) -> Self:
        """The rows to search in."""
        return self.select(self.role == "gallery")

    def save(self, path: str | Path) -> None:
        """Write one uncompressed .npz (the evaluation file format), atomically."""
        columns: dict[str, npt.ArrayLike] = {name: getattr(self, name) for name in ("vectors", "pid", "cam", "role")}
        columns |= {name: np.str_(getattr(self, name)) for name in ("dataset", "feature", "pixels")}
        columns["flip"] = np.bool_(self.flip)
        if self.path is not None:
            columns["path"] = self.path
        with atomic_write(path) as file:
            np.savez(file, allow_pickle=False, **columns)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read an .npz with `vectors`, `pid`, `cam`, `role` and optionally `path`; never runs code from it.

        Raises:
            UserError: no such file, not an .npz, a missing key, a wrong shape, NaN or infinity.

        """
        path = Path(path)
        if not path.is_file():
            raise UserError(f"no embeddings file {path}")
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                columns = {key: archive[key] for key in archive.files}
        except Exception as error:  # numpy, zipfile and zlib raise a dozen kinds for a damaged or a foreign file
            raise UserError(f"{path} is not a readable .npz of plain arrays ({first_line(error)})") from error
        missing = [key for key in ("vectors", "pid", "cam", "role") if key not in columns]
        if missing:
            raise UserError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(sorted(columns)) or 'nothing'}")
        try:
            return cls(
                vectors=columns["vectors"],
                pid=columns["pid"],
                cam=columns["cam"],
                role=columns["role"],
                path=columns.get("path"),
                dataset=str(columns.get("dataset", "")),
                feature=str(columns.get("feature", "")),
                flip=bool(columns.get("flip", False)),
                pixels=pixels_word(str(columns.get("pixels", "whole"))),
            )
        except UserError as error:
            raise UserError(f"{path}: {error}") from error

    @property
    def fingerprint(self) -> str:
        """Hash of which images are compared: file names (or rows), identities, cameras and roles; 16 hex digits."""
        digest = hashlib.sha256()
        names = self.path if self.path is not None else np.arange(len(self)).astype(np.str_)
        for name, pid, cam, role in zip(names, self.pid, self.cam, self.role, strict=True):
            digest.update(f"{Path(str(name)).name}|{pid}|{cam}|{role}\n".encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Rerank:
    """Parameters of k-reciprocal re-ranking (Zhong et al., CVPR 2017).

    Attributes:
        k1: neighbours that may be reciprocal, >= 1.
        k2: neighbours averaged in the query expansion, >= 1.
        weight: share of the original distance in the result, in [0, 1] (the paper's lambda).

    """

    k1: int = 20
    k2: int = 6
    weight: float = 0.3

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1 or not 0 <= self.weight <= 1:
            raise UserError(
                f"re-ranking needs k1 >= 1, k2 >= 1 and weight in [0, 1], got k1={self.k1}, k2={self.k2}, "
                f"weight={self.weight}"
            )


@dataclass(frozen=True)
class Protocol:
    """How scores were produced; two scores may be compared only when this agrees.

    Attributes:
        dataset: name of the site.
        files: `Embeddings.fingerprint` of what was compared.
        count_query, count_gallery: images that took part.
        cameras: whether same-camera matches are left out.
        distance: what ordered the gallery.
        feature: which feature of the model was tested.
        rerank: re-ranking parameters, or None.
        ap_rule: how average precision is summed.
        flip: whether vectors are means over the image and its mirror image.
        queries: see `Queries`.
        pixels: what the model was shown of the images.

    """

    dataset: str
    files: str
    count_query: int
    count_gallery: int
    cameras: Cameras
    distance: Literal["cosine", "euclidean"]
    feature: str
    rerank: Rerank | None = None
    ap_rule: str = "mean precision at hits"
    flip: bool = False
    queries: Queries = "single"
    pixels: Pixels = "whole"

    def require_like(self, other: Protocol, *, apart_from: tuple[str, ...] = ()) -> None:
        """Raise `UserError` naming what differs, unless the two protocols agree apart from the named fields."""
        names = [field.name for field in fields(self) if field.name not in apart_from]
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in names]
        differing = [f"{name} ({mine} and {theirs})" for name, mine, theirs in pairs if mine != theirs]
        if differing:
            raise UserError(f"these scores cannot be compared: they differ in {', '.join(differing)}")


@dataclass(frozen=True, eq=False)
class Scores:
    """What an evaluation found; all figures are shares in [0, 1].

    Attributes:
        mAP: mean over valid queries of the average precision.
        mINP: mean over valid queries of (matches / rank of the last match).
        cmc: (K,) cumulative matching characteristic, `cmc[k - 1]` = share of valid queries with a match in the first k.
        ap: (Q,) average precision per query, NaN where the query is not valid.
        valid: (Q,) whether a query has any match it may find.
        fpr, tpr: (F,) true-positive rate of the pair verification at fixed false-positive rates.
        protocol: how they were produced.

    """

    mAP: float
    mINP: float
    cmc: Doubles
    ap: Doubles
    valid: Bools
    fpr: Doubles
    tpr: Doubles
    protocol: Protocol

    def rank(self, k: int) -> float:
        """Share of valid queries whose first match is among the first k; a short gallery counts as its full length."""
        return float(self.cmc[min(k, len(self.cmc)) - 1])


@dataclass(frozen=True, eq=False)
class Stage:
    """One leg of a run.

    Attributes:
        name: shown in the journal and the report.
        train: the images to learn from; pids are relabelled 0..C-1 unless unlabelled.
        labelled: whether the pids may be used.
        epochs: how often the images are seen, >= 1.
        sources: the data sets that `train` was joined from, by name; default: one, called as the stage.
        origin: (N,) which of the sources each image comes from, 0..len(sources)-1; default: the first.
        recalled: share of the people of each batch, in [0, 1), that come from the last of the sources, which then holds
            images of earlier stages and does not count for the length of an epoch; 0 = there is no such source.
        absent: how many people of earlier stages classifiers are to know beside those of `train`, >= 0.
        truth: (N,) who is really in each image where `train` does not tell, -1 = unknown; for measuring, and for a
            method that asks for labels; default: the pids of `train`.
        iterations: batches in an epoch, >= 1; None = new images by the size of a batch.

    """

    name: str
    train: Split
    labelled: bool
    epochs: int
    sources: tuple[str, ...] = ()
    origin: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    recalled: float = 0.0
    absent: int = 0
    truth: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    iterations: int | None = None

    def __post_init__(self) -> None:
        if not self.sources:
            object.__setattr__(self, "sources", (self.name,))
            object.__setattr__(self, "origin", np.zeros(len(self.train), np.int64))
        object.__setattr__(self, "origin", _column("origin", self.origin, len(self.train), np.int64))
        if not np.isin(self.origin, np.arange(len(self.sources))).all():
            raise UserError(f"column 'origin' must hold 0..{len(self.sources) - 1}, the numbers of the sources")
        truth = self.truth if len(self.truth) else self.train.pid
        object.__setattr__(self, "truth", _column("truth", truth, len(self.train), np.int64))

    @property
    def classes(self) -> int:
        """Number of people whom a classifier of the stage must know."""
        return self.train.count_identities + self.absent

    @property
    def fresh(self) -> Bools:
        """(N,) which images are new, and not shown again from an earlier stage."""
        last: Bools = self.origin == len(self.sources) - 1
        return ~last if self.recalled else np.ones(len(self.train), bool)
