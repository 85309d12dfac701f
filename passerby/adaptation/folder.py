"""Reading of the folder that a run is adapted to, by its layout."""

from __future__ import annotations

from pathlib import Path

from passerby.data.datasets import DatasetSettings
from passerby.data.readers.auto import Recognised, layout_of
from passerby.data.readers.folder import Folder
from passerby.data.readers.images import Images
from passerby.data.readers.listing import existing_folder, folder_names
from passerby.data.readers.roles import role_folders
from passerby.errors import UserError


def site_settings(folder: Path, *, pattern: str | None = None) -> DatasetSettings:
    """Return the reader settings of a folder: a recognised layout, a pattern, or plain images.

    Raises:
        UserError: there is no such folder.

    """
    place = existing_folder(str(folder), kind="adapt", expected="a folder of images")
    if pattern is not None:
        return Folder(root=str(folder), pattern=pattern, test_share=None if role_folders(place) else 0.0)
    places = [place, *(place / name for name in folder_names(place))]
    known = [found for one in places if (found := layout_of(one)) is not None and _is_whole(found)]
    if len(known) > 1:
        listed = ", ".join(f"{found.kind} in {found.place}" for found in known)
        raise UserError(f"adapt: {folder} holds several data sets ({listed}); name one of them")
    return known[0] if known else Images(root=str(folder))


def _is_whole(found: Recognised) -> bool:
    """Whether a folder has training, query and gallery images, so that test images must be kept apart."""
    return not isinstance(found, Folder) or {"query", "gallery"} <= {*role_folders(Path(found.root))}
