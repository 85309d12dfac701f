"""Rows of a gallery in files for other programs and other galleries: Parquet and .npz."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from passerby.errors import UserError
from passerby.files import atomic_write, reading
from passerby.gallery.gallery import Gallery
from passerby.gallery.rows import GalleryRows, Where
from passerby.npz import read_npz, single
from passerby.types.parts import require_pyarrow

BATCH = 20_000
"""Rows that are exported at a time."""

KIND = "passerby gallery"
"""The text under which a file names itself."""
TEXTS = ("path", "camera", "tracklet", "identity", "attributes")
SIDES = ("x1", "y1", "x2", "y2")
ENDINGS = (".parquet", ".npz")


def require_export_ending(path: Path) -> None:
    """Refuse the name of a file that is neither Parquet nor .npz.

    Raises:
        UserError: another ending.

    """
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"{path} ends in neither of {' and '.join(ENDINGS)}, which say the kind of the export")


def write_export(path: Path, batches: Iterable[GalleryRows], *, model: str) -> int:
    """Write rows with all their columns, by the ending of the name, atomically, and return their number.

    Args:
        path: ends in `.parquet`, of which one batch is in memory at a time, or in `.npz`.
        batches: at least one.
        model: stamp of the model of the vectors.

    Raises:
        UserError: another ending, pyarrow is not installed, or the file cannot be written.

    """
    require_export_ending(path)
    return (_write_parquet if path.suffix.lower() == ".parquet" else _write_npz)(path, batches, model)


def _write_npz(path: Path, batches: Iterable[GalleryRows], model: str) -> int:
    rows = GalleryRows.join(list(batches))
    columns = {name: getattr(rows, name) for name in ("vectors", "time", "box", "id", *TEXTS)}
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, **columns, model=np.str_(model), kind=np.str_(KIND))
    return len(rows)


def _write_parquet(path: Path, batches: Iterable[GalleryRows], model: str) -> int:
    arrow = require_pyarrow("gallery")
    count = 0
    with atomic_write(path) as file:
        writer = None
        for rows in batches:
            table = _to_arrow(arrow, rows).replace_schema_metadata({"kind": KIND, "model": model})
            writer = writer or arrow.parquet.ParquetWriter(file, table.schema)
            writer.write_table(table)
            count += len(rows)
        assert writer is not None
        writer.close()
    return count


def _to_arrow(arrow: Any, rows: GalleryRows) -> Any:
    vectors = arrow.FixedSizeListArray.from_arrays(arrow.array(rows.vectors.ravel()), rows.vectors.shape[1])
    sides = {name: arrow.array(rows.box[:, side].copy(), from_pandas=True) for side, name in enumerate(SIDES)}
    thumbnails = [each or None for each in rows.thumbnails or (b"",) * len(rows)]
    columns = {
        "id": arrow.array(rows.id),
        **{name: arrow.array(getattr(rows, name).tolist(), arrow.string()) for name in TEXTS},
        "time": arrow.array(rows.time, from_pandas=True),  # NaN becomes null
        **sides,
        "vector": vectors,
        "thumbnail": arrow.array(thumbnails, arrow.binary()),
    }
    return arrow.table(columns)


def read_export(path: Path) -> tuple[GalleryRows, str]:
    """Return the rows of a Parquet file or .npz that a gallery was exported to, without ids, and the model's stamp.

    A Parquet file of another program needs a column `vector`; each other column of an export may be left out.

    Raises:
        UserError: a file that cannot be read, that lacks the vectors, or needs pyarrow, which is not installed.

    """
    return _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_npz(path)


def is_export(arrays: dict[str, Any]) -> bool:
    """Whether the arrays of an .npz are those of an export."""
    return single(arrays, "kind", "") == KIND


def _read_npz(path: Path) -> tuple[GalleryRows, str]:
    arrays = read_npz(path, kind="a readable .npz of plain arrays")
    missing = [name for name in ("vectors", "time", "box", *TEXTS) if name not in arrays]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}, so it is no export of a gallery")
    columns = {name: arrays[name] for name in ("vectors", "time", "box", *TEXTS)}
    return _rows(path, columns), str(single(arrays, "model", ""))


def _read_parquet(path: Path) -> tuple[GalleryRows, str]:
    arrow = require_pyarrow("gallery")
    with reading(path, "a readable Parquet file"):
        table = arrow.parquet.ParquetFile(path).read()
        if "vector" not in table.column_names:
            raise UserError(f"{path} has no column 'vector'; it has {', '.join(table.column_names)}")
        numbers = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        columns: dict[str, Any] = {"vectors": np.asarray(numbers, np.float32).reshape(len(table), -1)}
        for name in (name for name in TEXTS if name in table.column_names):
            missing = "{}" if name == "attributes" else ""
            columns[name] = np.array([each or missing for each in table[name].to_pylist()], np.str_)
        if "time" in table.column_names:
            columns["time"] = np.array(table["time"].to_pylist(), np.float64)  # null becomes NaN
        if set(SIDES) <= set(table.column_names):
            sides = [np.array(table[name].to_pylist(), np.float32) for name in SIDES]
            columns["box"] = np.stack(sides, axis=1)
        if "thumbnail" in table.column_names and table["thumbnail"].null_count < len(table):
            columns["thumbnails"] = tuple(each or b"" for each in table["thumbnail"].to_pylist())
        model = (table.schema.metadata or {}).get(b"model", b"").decode()
    return _rows(path, columns), model


def _rows(path: Path, columns: dict[str, Any]) -> GalleryRows:
    try:
        return GalleryRows(**columns)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def batches_of(gallery: Gallery, where: Where) -> Iterator[GalleryRows]:
    """Yield the chosen rows of a gallery by ascending id, at least one batch."""
    after = -1
    while True:
        rows = gallery.list(where, limit=BATCH, after=after)
        if len(rows) or after < 0:
            yield rows
        if len(rows) < BATCH:
            return
        after = int(rows.id[-1])
