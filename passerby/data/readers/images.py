"""Unlabelled images: all image files below a folder, for training without labels."""

from __future__ import annotations

from typing import ClassVar, Literal

from passerby.data.image_files import images_below, why_none
from passerby.data.readers.cameras import read_cameras
from passerby.data.readers.listing import existing_folder, split_of
from passerby.data.readers.named_images import NamedImage, NamedSplits, number_shots
from passerby.data.readers.reader import ReaderSettings
from passerby.errors import UserError
from passerby.types import Dataset, Split


class Images(ReaderSettings):
    """All images below a folder, at any depth; identities are unknown, and all images are for training.

    Cameras are known where at least three in four paths hold one (as in c2 or cam2, of a folder or of a file). Where
    names follow another template, or identities are to be known for a comparison, `kind: folder` reads them by a
    pattern.

    Attributes:
        root: the folder.

    """

    summary: ClassVar[str] = "your own images without names, at any depth: for training without labels"
    is_public: ClassVar[bool] = False

    kind: Literal["images"] = "images"
    root: str

    def read(self, name: str) -> Dataset:
        """See `read_images`."""
        return read_images(self, name)


def read_images(settings: Images, name: str) -> Dataset:
    """Read every image below a folder; notes describe how it was interpreted.

    Raises:
        UserError: no folder, or no image in it.

    """
    folder = existing_folder(settings.root, kind=settings.kind, expected="a folder of images")
    paths = images_below(folder)
    if not paths:
        if next(folder.iterdir(), None) is None:
            raise UserError(f"{settings.kind}: the folder {folder} is empty")
        raise UserError(f"{settings.kind}: no image in {folder} or below it{why_none()}")
    cameras = read_cameras(paths, paths)
    splits = NamedSplits([NamedImage(path, "", cam) for path, cam in zip(paths, cameras.names, strict=True)], [], [])
    train = split_of(number_shots(splits)[0], folder, masks=settings.masks)
    notes = ["Identities are unknown, so all images are for training without labels.", *cameras.notes]
    if not cameras.notes and not any(cameras.names):
        notes.append("No path holds a camera (as in c2 or cam2), so cameras are unknown.")
    return Dataset(name, train, Split.empty(), Split.empty(), tuple(notes))
