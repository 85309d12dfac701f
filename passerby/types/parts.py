"""A table of vectors as a folder of Parquet files, its parts, that several processes write.

Each part is renamed to its name when it is complete. `table.json` lists all parts in order before the first one is
written, so a folder with a missing part is recognised as unfinished.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from passerby.errors import UserError
from passerby.files import atomic_write, read_json, reading, write_json

if TYPE_CHECKING:
    from passerby.types.embeddings import Embeddings

TABLE_FILE = "table.json"
FORMAT = 1
COLUMNS = ("path", "pid", "cam", "role")


@dataclass(frozen=True)
class PartsList:
    """The content of `table.json`.

    Attributes:
        settings: what the vectors depend on: model, engine, precision, images, ...
        count: N, images of all parts, those left out included.
        parts: names of the files, in the order of their rows.

    """

    settings: Mapping[str, str | bool]
    count: int
    parts: tuple[str, ...]

    def save(self, folder: Path) -> None:
        """Write `table.json`, atomically."""
        value = {"format": FORMAT, "settings": dict(self.settings), "images": self.count, "parts": list(self.parts)}
        write_json(folder / TABLE_FILE, value)

    @classmethod
    def load(cls, folder: Path) -> PartsList:
        """Read `table.json`.

        Raises:
            UserError: it is missing, damaged, or of a newer format.

        """
        file = folder / TABLE_FILE
        if not file.is_file():
            raise UserError(f"{folder} holds no table of vectors (no {TABLE_FILE}); `passerby embed --ray` writes one")
        value = read_json(file)
        with reading(file, "a list of parts"):
            assert isinstance(value, dict)
            if value["format"] != FORMAT:
                raise UserError(f"{file} has format {value['format']}, and this version of passerby reads {FORMAT}")
            names = tuple(str(name) for name in value["parts"])
            assert all(Path(name).name == name for name in names)
            return cls(dict(value["settings"]), int(value["images"]), names)

    def missing(self, folder: Path) -> list[str]:
        """Return the names of the parts that are not in the folder."""
        return [name for name in self.parts if not (folder / name).is_file()]


def require_pyarrow(extra: str = "ray") -> Any:
    """Return `pyarrow` with `pyarrow.parquet`.

    Args:
        extra: of passerby, with which it is installed for the purpose.

    Raises:
        UserError: it is not installed.

    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            f"Parquet files need a package that is not installed: pip install 'passerby[{extra}]'"
        ) from error
    return pyarrow


def write_part(path: Path, table: Embeddings, left_out: list[str]) -> None:
    """Write one part, atomically.

    Args:
        path: the file.
        table: its rows; none where no image could be read.
        left_out: a sentence for each image that could not be read.

    Raises:
        UserError: pyarrow is not installed, or the file cannot be written.

    """
    arrow = require_pyarrow()
    vectors = arrow.FixedSizeListArray.from_arrays(
        arrow.array(table.vectors.ravel(), arrow.float32()), max(table.vectors.shape[1], 1)
    )
    assert table.path is not None
    columns = {
        "path": arrow.array(table.path.tolist(), arrow.string()),
        "pid": arrow.array(table.pid),
        "cam": arrow.array(table.cam),
        "role": arrow.array(table.role.tolist(), arrow.string()),
        "vector": vectors,
    }
    rows = arrow.table(columns).replace_schema_metadata({"left_out": json.dumps(left_out)})
    with atomic_write(path) as file:
        arrow.parquet.write_table(rows, file, compression="none", use_dictionary=["role"])


def read_part(path: Path) -> tuple[dict[str, np.ndarray[Any, Any]], list[str]]:
    """Return the columns of one part, `vectors` (M, D) among them, and the sentences on images left out.

    Raises:
        UserError: pyarrow is not installed, or the file is damaged or no part.

    """
    arrow = require_pyarrow()
    with reading(path, "a readable part of a table of vectors"):
        rows = arrow.parquet.ParquetFile(path).read()
        vector = rows["vector"].combine_chunks()
        flat = vector.flatten().to_numpy()
        columns = {name: rows[name].to_numpy() for name in COLUMNS}
        columns["vectors"] = flat.reshape(len(rows), vector.type.list_size)
        return columns, list(json.loads(rows.schema.metadata[b"left_out"]))


def count_parts(folder: Path) -> tuple[int, int, list[str]]:
    """Return the number of vectors of a finished table, their dimensions, and a sentence for each image left out.

    Raises:
        UserError: as for `read_part`.

    """
    arrow = require_pyarrow()
    rows, dimension, left_out = 0, 0, list[str]()
    for name in PartsList.load(folder).parts:
        with reading(folder / name, "a readable part of a table of vectors"):
            file = arrow.parquet.ParquetFile(folder / name)
            if file.metadata.num_rows:
                rows += file.metadata.num_rows
                dimension = file.schema_arrow.field("vector").type.list_size
            left_out += json.loads(file.schema_arrow.metadata[b"left_out"])
    return rows, dimension, left_out


def read_parts(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the columns and settings of the whole table as `Embeddings` takes them, and the images left out.

    Raises:
        UserError: the table is unfinished or damaged, holds no vector, or pyarrow is not installed.

    """
    listed = PartsList.load(folder)
    if missing := listed.missing(folder):
        raise UserError(
            f"{folder} is not finished: {len(missing):,} of {len(listed.parts):,} parts are missing; run the command "
            "that writes it again, which makes only these"
        )
    parts = [read_part(folder / name) for name in listed.parts]
    left_out = [sentence for _, sentences in parts for sentence in sentences]
    filled = [columns for columns, _ in parts if len(columns["path"])]
    if sum(len(columns["path"]) for columns in filled) + len(left_out) != listed.count:
        raise UserError(f"the parts in {folder} do not hold the {listed.count:,} images that {TABLE_FILE} lists")
    if not filled:
        raise UserError(f"none of {listed.count:,} images can be read; see them with `passerby data check`")
    columns = {name: np.concatenate([part[name] for part in filled]) for name in filled[0]}
    stamps = ("dataset", "feature", "flip", "input_mask", "model")
    return columns | {name: listed.settings[name] for name in stamps if name in listed.settings}, left_out
