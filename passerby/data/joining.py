"""One table of images from several, in which equal numbers of different tables are different identities and cameras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from passerby.types import CameraTable, Dataset, Split
from passerby.types.columns import relabel_apart, relabel_known


def join(splits: list[Split]) -> Split:
    """Concatenate splits; pid, cam, clothes and tracklet become 0..C-1, disjoint between splits, and unknown stays -1.

    `raw_cam` keeps the camera numbers of the data sets, for reports.
    """
    mask_path, counts = None, [len(split) for split in splits]
    if any(split.mask_path is not None for split in splits):
        blank = [np.full(len(split), "") if split.mask_path is None else split.mask_path for split in splits]
        mask_path = np.concatenate(blank)
    return Split(
        path=np.concatenate([split.path for split in splits]),
        pid=relabel_apart([split.pid for split in splits]),
        cam=relabel_apart([split.cam for split in splits]),
        mask_path=mask_path,
        raw_cam=np.concatenate([split.raw_cam for split in splits]),
        cam_row=np.concatenate([split.cam_row for split in splits]),
        clothes=relabel_known([split.clothes for split in splits], counts),
        tracklet=relabel_known([split.tracklet for split in splits], counts),
    )


def number_cameras(dataset: Dataset, table: CameraTable, *, name: str | None = None) -> Dataset:
    """Return a data set whose images have the rows of a camera table, under its own name or the given one."""
    splits = {part: getattr(dataset, part) for part in ("train", "query", "gallery")}
    rows = {part: table.rows(name or dataset.name, split.raw_cam) for part, split in splits.items()}
    return replace(dataset, **{part: replace(split, cam_row=rows[part]) for part, split in splits.items()})
