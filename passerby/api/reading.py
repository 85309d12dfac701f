"""Read a data set from a folder."""

from __future__ import annotations

from pathlib import Path

from passerby.data.datasets import dataset_settings, open_dataset
from passerby.types import Dataset


def read_dataset(
    path: str | Path,
    *,
    kind: str = "auto",
    name: str | None = None,
    masks: str | Path | None = None,
    pattern: str | None = None,
) -> Dataset:
    """Read the training, query and gallery images of a folder; pixels are not read.

    Args:
        path: the folder with the layout, or the one above it; a file for CSV tables.
        kind: a layout, for example `market1501` or `folder`; `auto` recognises it.
        name: of the data set in tables and reports; None = after its folder.
        masks: folder of the foreground masks; None = `masks` inside or beside the folder.
        pattern: template of the file names, for example `{pid}_c{cam}_{}`; see the guide on folders.

    Raises:
        UserError: no such folder, an unknown kind, or files that do not fit it.

    """
    settings = dataset_settings(kind, str(path), masks=None if masks is None else str(masks), pattern=pattern)
    return open_dataset(settings, name)
