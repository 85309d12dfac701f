"""Tiny folders of images."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image

MakeImages = Callable[[Path, Iterable[str]], Path]


@pytest.fixture
def make_images() -> MakeImages:
    """Return a function that writes small images, each of another colour, and returns their folder."""
    made = 0

    def make(folder: Path, names: Iterable[str]) -> Path:
        nonlocal made
        for name in names:
            made += 1
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 40), (made % 256, made // 256, 7)).save(path, "PNG")
        return folder

    return make
