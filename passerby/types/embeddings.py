"""Vectors with the labels of their images, and the file format of evaluation."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, cast, get_args

import numpy as np
import numpy.typing as npt

from passerby.errors import UserError
from passerby.files import atomic_write
from passerby.npz import read_npz, single
from passerby.types.columns import Bools, Floats, Ints, Words, column, read_member, rows_of
from passerby.types.vectors import present_name

InputMask = Literal["none", "foreground", "background", "weighted"]
"""How the person mask is applied to an image: not at all, to hide the background, to hide the person (what is hidden
has the mean colour), or to weight the pooling over the whole image."""


def read_input_mask(value: str) -> InputMask:
    """Return the member of `InputMask` that a file names; files of earlier versions call `none` by the word `whole`.

    Raises:
        UserError: no such member.

    """
    value = "none" if value == "whole" else value
    return cast("InputMask", read_member("input_mask", value, get_args(InputMask)))


Unit = Literal["image", "tracklet"]
"""What a row is: one image, or a tracklet with the mean of the vectors of its images."""


def read_unit(value: str) -> Unit:
    """Return the member of `Unit` that a file names.

    Raises:
        UserError: no such member.

    """
    return cast("Unit", read_member("unit", value, get_args(Unit)))


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors with the columns of the images they came from; everything after training takes this and nothing else.

    Attributes:
        vectors: (N, D) float32, finite.
        pid, cam: (N,) as in `Split`.
        role: (N,) `"query"`, `"gallery"` or `""`.
        path: (N,) file names, or None when another program made the vectors.
        clothes, tracklet: (N,) as in `Split`, or None.
        dataset: the name of the site, `""` when unknown.
        feature: which vector of the model this is (`"after_neck"`, `"before_neck"`), `""` when unknown.
        flip: whether each vector is the mean of the image's and its mirror image's.
        input_mask: how the person mask was applied to the images.
        model: name and hash of the model that made the vectors, `""` = unknown.
        unit: what a row is; the path of a tracklet is that of its first image.

    """

    vectors: Floats
    pid: Ints
    cam: Ints
    role: Words
    path: Words | None = None
    dataset: str = ""
    feature: str = ""
    flip: bool = False
    input_mask: InputMask = "none"
    model: str = ""
    clothes: Ints | None = None
    tracklet: Ints | None = None
    unit: Unit = "image"

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
        for name, dtype in (
            ("pid", np.int64),
            ("cam", np.int64),
            ("role", np.str_),
            ("path", np.str_),
            ("clothes", np.int64),
            ("tracklet", np.int64),
        ):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, column(name, value, len(vectors), dtype))
        object.__setattr__(self, "input_mask", read_input_mask(self.input_mask))
        object.__setattr__(self, "unit", read_unit(self.unit))
        unknown = sorted(set(np.unique(self.role)) - {"query", "gallery", ""})
        if unknown:
            raise UserError(f"role {str(unknown[0])!r} is not known; allowed: 'query', 'gallery'")

    def __len__(self) -> int:
        return len(self.vectors)

    def select(self, rows: Bools | Ints) -> Self:
        """Return the rows chosen by a mask (N,) or by indices, in that order."""
        return rows_of(self, ("vectors", "pid", "cam", "role", "path", "clothes", "tracklet"), rows)

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
        words = ("dataset", "feature", "input_mask", "model", "unit")
        columns |= {name: np.str_(getattr(self, name)) for name in words}
        columns["flip"] = np.bool_(self.flip)
        for name in ("path", "clothes", "tracklet"):
            if getattr(self, name) is not None:
                columns[name] = getattr(self, name)
        with atomic_write(path) as file:
            np.savez(file, allow_pickle=False, **columns)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read an .npz with `vectors`, `pid`, `cam`, `role`, optionally others; never runs code from it.

        A folder of Parquet parts, as `passerby embed --ray` writes it, is read too.

        Raises:
            UserError: no such file, not an .npz, a missing key, a wrong shape, NaN or infinity; an unfinished folder.

        """
        path = Path(path)
        if path.is_dir():
            from passerby.types.parts import read_parts

            return cls(**read_parts(path)[0])
        if not path.is_file():
            raise UserError(f"no embeddings file {path}")
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path} is no .npz file, as `passerby embed` writes it")
        columns = read_npz(path, kind="a readable .npz of plain arrays")
        missing = [key for key in ("vectors", "pid", "cam", "role") if key not in columns]
        if missing:
            raise UserError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(sorted(columns)) or 'nothing'}")
        former = "input_mask" if "input_mask" in columns else "pixels"
        try:
            return cls(
                vectors=columns["vectors"],
                pid=columns["pid"],
                cam=columns["cam"],
                role=columns["role"],
                path=columns.get("path"),
                clothes=columns.get("clothes"),
                tracklet=columns.get("tracklet"),
                dataset=str(single(columns, "dataset", "")),
                feature=present_name(str(single(columns, "feature", ""))),
                flip=bool(single(columns, "flip", False)),
                input_mask=read_input_mask(str(single(columns, former, "none"))),
                model=str(single(columns, "model", "")),
                unit=read_unit(str(single(columns, "unit", "image"))),
            )
        except UserError as error:
            raise UserError(f"{path}: {error}") from error

    @property
    def fingerprint(self) -> str:
        """Hash of which images are compared: file names (or rows), identities, cameras and roles; 16 hex digits."""
        digest = hashlib.sha256()
        names = self.path if self.path is not None else np.arange(len(self)).astype(np.str_)
        for name, pid, cam, role in zip(names, self.pid, self.cam, self.role, strict=True):
            line = f"{Path(str(name)).name}|{pid}|{cam}|{role}\n"
            digest.update(line.encode(errors="surrogatepass"))  # a name need not be text
        return digest.hexdigest()[:16]
