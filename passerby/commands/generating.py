"""Function behind `passerby data make`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from passerby.console import bar
from passerby.data.synthetic.clips import FrameFiles, make_clips
from passerby.data.synthetic.layout import SiteSize
from passerby.data.synthetic.site import make_site
from passerby.data.synthetic.visits import ClipSize
from passerby.errors import UserError


@dataclass(frozen=True)
class ImageOptions:
    """Options that only images have; None = the default."""

    train_people: int | None = None
    test_people: int | None = None
    images: int | None = None


@dataclass(frozen=True)
class ClipOptions:
    """Options that only clips have; None = the default."""

    people: int | None = None
    cameras: int | None = None
    seconds: float | None = None
    frames: FrameFiles | None = None


def generate(
    folder: Path,
    kind: Literal["images", "video"],
    site: str,
    seed: int,
    of_images: ImageOptions,
    of_clips: ClipOptions,
    *,
    console: Console,
) -> Path:
    """Generate images or clips and return their folder.

    Raises:
        UserError: an option of the other kind, or a request that is not possible.

    """
    without_effect = of_clips if kind == "images" else of_images
    extra = [f"--{name.replace('_', '-')}" for name, value in asdict(without_effect).items() if value is not None]
    if extra:
        other = "video" if kind == "images" else "images"
        raise UserError(f"{', '.join(extra)} has no effect on --kind {kind}; it belongs to --kind {other}")
    with bar("drawing people", console) as progress:
        if kind == "video":
            values = {name: value for name, value in asdict(of_clips).items() if name != "frames" and value is not None}
            frames = of_clips.frames or "images"
            return make_clips(
                folder, site, seed=seed, size=replace(ClipSize(), **values), frames=frames, progress=progress
            )
        standard = SiteSize()
        size = SiteSize(
            _or(of_images.train_people, standard.count_train),
            _or(of_images.test_people, standard.count_test),
            _or(of_images.images, standard.images_per_identity),
        )
        return make_site(folder, site, seed=seed, size=size, progress=progress)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
