"""The meaning of folder names: a role (train, query ...), a camera, or an identity."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from passerby.data.image_files import folder_names
from passerby.data.readers.cameras import camera_of_folder
from passerby.errors import UserError

WORDS = {
    "train": ("train", "training", "trainset"),
    "query": ("query", "queries", "probe", "probes"),
    "gallery": ("gallery", "galleries"),
    "test": ("test", "testing", "testset"),
    "val": ("val", "valid", "validation", "dev", "eval"),
}
READ = ("train", "query", "gallery", "test")
"""The roles that are read where a folder has any of them; `val` is not."""

CONTAINERS = (
    *("data", "dataset", "datasets", "images", "image", "imgs", "img", "pictures", "photos", "crops", "crop", "boxes"),
    *("bounding", "box", "bbox", "set", "jpg", "jpeg", "png"),
)
"""Names of folders that only hold others, and words that stand beside a role, as in `bounding_box_train`."""

_FOLD = re.compile(
    r"(?:fold|split|part|set|subset|batch|session|day|night|seq|sequence|scene|video|clip|run|zip|folder|dir)[-_ ]?\d*"
)


def role_of(name: str) -> str:
    """Return the role of the images in a folder of this name, or `""`.

    >>> [role_of(name) for name in ("image_train", "Query", "bounding_box_test", "probe", "anna")]
    ['train', 'query', 'gallery', 'query', '']
    """
    if name.lower() == "bounding_box_test":
        return "gallery"
    words = [word for word in _words(name) if word not in CONTAINERS]
    return next((role for role, known in WORDS.items() if len(words) == 1 and words[0] in known), "")


def _words(name: str) -> list[str]:
    return re.split(r"[-_ .]+", name.lower())


def is_container(name: str) -> bool:
    """Whether a folder of this name only holds others, as `images` does."""
    return all(word in CONTAINERS for word in _words(name))


def looks_like_fold(name: str) -> bool:
    """Whether a name is rather that of a part of a data set than that of an identity.

    >>> [looks_like_fold(name) for name in ("fold2", "train_v2", "day-1", "0001", "anna")]
    [True, True, True, False, False]
    """
    roles = {word for words in WORDS.values() for word in words}
    return _FOLD.fullmatch(name.lower()) is not None or any(word in roles for word in _words(name))


@dataclass(frozen=True, slots=True)
class PathParts:
    """Role, camera and other folders in the path of an image.

    Attributes:
        path: of the image, below the folder of the data set.
        name: the file alone.
        role: what the image is for, by the innermost folder with a role; `""` = none.
        camera: the folder of its camera, `""` = none.
        others: the other folders, from the outside; one of them may be the identity.

    """

    path: str
    name: str
    role: str
    camera: str
    others: tuple[str, ...]


def path_parts(path: str) -> PathParts:
    """Return role, camera and other folders in the path of an image.

    >>> place = path_parts("gallery/cam01/anna/7.jpg")
    >>> place.role, place.camera, place.others
    ('gallery', 'cam01', ('anna',))
    """
    *folders, name = path.split("/")
    roles = [role for folder in folders if (role := role_of(folder))]
    cameras = [folder for folder in folders if camera_of_folder(folder)]
    others = [f for f in folders if not role_of(f) and not camera_of_folder(f) and not is_container(f)]
    return PathParts(path, name, roles[-1] if roles else "", cameras[-1] if cameras else "", tuple(others))


def role_folders(folder: Path) -> dict[str, str]:
    """Return the sub-folder of each role (`train`, `query`, `gallery`, `test`); empty without any.

    Raises:
        UserError: two sub-folders for the same purpose.

    """
    folders: dict[str, str] = {}
    for name in folder_names(folder):
        role = role_of(name)
        if role in folders:
            raise UserError(f"folder: {folder} holds both {folders[role]} and {name}; keep one")
        if role in READ:
            folders[role] = name
    return {role: folders[role] for role in READ if role in folders}


def role_places(folder: Path, inner: str = "") -> list[tuple[str, str]]:
    """Return each role with the path of its folder; `test/query` is a query, whatever `test` is.

    Raises:
        UserError: two sub-folders for the same purpose.

    """
    places: list[tuple[str, str]] = []
    for role, name in role_folders(folder / inner).items():
        path = f"{inner}/{name}" if inner else name
        places += role_places(folder, path) or [(role, path)]
    return places


def not_read(paths: Iterable[str]) -> list[str]:
    """Return the outermost folders of paths, or the paths themselves where they lie in none."""
    return list(dict.fromkeys(path.partition("/")[0] for path in paths))
