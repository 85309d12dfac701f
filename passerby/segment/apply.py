"""Masks for every image below a folder, as files that the readers of data sets find."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from passerby.data.ahead import ahead, reading_threads
from passerby.data.decoding import Pixels, decode
from passerby.data.image_files import images_below
from passerby.data.loading import prepare
from passerby.data.readers.listing import existing_folder
from passerby.device import FittingBatch
from passerby.errors import UserError
from passerby.segment.network import Segmenter

_READ_AHEAD = 8


def apply_segmenter(
    segmenter: Segmenter,
    folder: str,
    out: Path,
    *,
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write a mask, 1 bit and as large as its image, for every image below a folder.

    Args:
        segmenter: in `eval` mode, on its device.
        folder: of the images.
        out: where the masks go, each at the relative path of its image with the ending .png; new or empty.
        batch: images at a time; halved where they do not fit into the memory of the device.
        progress: called with (images done, all images).

    Returns:
        How many masks were written.

    Raises:
        UserError: no image, an unreadable one, two that would share a mask, or `out` is not empty or cannot be written.

    """
    root = existing_folder(folder, kind="segment", expected="images")
    names = images_below(root)
    if not names:
        raise UserError(f"segment: no image below {root}")
    places = _places(names)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"segment: {out} holds something already; masks are written to a new or an empty folder")
    fitting = FittingBatch()
    images = ahead(lambda name: decode(root / name), names, workers=reading_threads(), depth=_READ_AHEAD)
    for start in range(0, len(names), batch):
        chunk = names[start : start + batch]
        masks = predict(segmenter, list(islice(images, batch)), fitting)
        for name, mask in zip(chunk, masks, strict=True):
            _write(out / places[name], mask)
        if progress is not None:
            progress(start + len(chunk), len(names))
    return len(names)


def predict(segmenter: Segmenter, images: list[Pixels], fitting: FittingBatch | None = None) -> list[Pixels]:
    """Return a mask (H, W) uint8 of 0 and 1 for each image (H, W, 3), in its own size."""
    batch = torch.stack([prepare(pixels, segmenter.settings.input) for pixels in images])
    device = next(segmenter.parameters()).device
    with torch.inference_mode():
        logits = (fitting or FittingBatch()).run(lambda part: segmenter(batch[part].to(device)).cpu(), len(batch))
    sizes = [pixels.shape[:2] for pixels in images]
    full = (
        nn.functional.interpolate(logit[None], size=size, mode="bilinear", align_corners=False)
        for logit, size in zip(logits, sizes, strict=True)
    )
    return [(mask[0, 0] > 0).numpy().astype(np.uint8) for mask in full]


def _places(names: list[str]) -> dict[str, str]:
    targets = {name: str(Path(name).with_suffix(".png")) for name in names}
    owner: dict[str, str] = {}
    for name, target in targets.items():
        if target in owner:
            raise UserError(f"segment: {owner[target]} and {name} would share the mask {target}; rename one of them")
        owner[target] = name
    return targets


def _write(path: Path, mask: Pixels) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 * mask).convert("1").save(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
