"""Reading of the folder that a run is adapted to, by its layout."""

from __future__ import annotations

from pathlib import Path

from passerby.data.datasets import DatasetSettings
from passerby.data.image_files import folder_names
from passerby.data.readers.auto import Recognised, layout_of
from passerby.data.readers.folder import Folder
from passerby.data.readers.images import Images
from passerby.data.readers.listing import existing_folder
from passerby.data.readers.roles import role_folders
from passerby.errors import UserError


def folder_settings(folder: Path, *, pattern: str | None = None) -> DatasetSettings:
    """Return the reader settings of a folder: a recognised layout, a pattern, or plain images.

    Raises:
        UserError: there is no such folder.

    """
    place = existing_folder(str(folder), kind="adapt", expected="a folder of images")
    if pattern is not None:
        return Folder(root=str(folder), pattern=pattern, test_share=None if role_folders(place) else 0.0)
    candidates = [place, *(place / name for name in folder_names(place))]
    layouts = [layout_of(candidate) for candidate in candidates]
    recognised = [layout for layout in layouts if layout is not None and _is_whole(layout)]
    if len(recognised) > 1:
        listed = ", ".join(f"{layout.kind} in {layout.place}" for layout in recognised)
        raise UserError(f"adapt: {folder} holds several data sets ({listed}); name one of them")
    return recognised[0] if recognised else Images(root=str(folder))


def _is_whole(settings: Recognised) -> bool:
    """Whether a folder has training, query and gallery images, so that test images must be kept apart."""
    return not isinstance(settings, Folder) or {"query", "gallery"} <= {*role_folders(Path(settings.root))}
