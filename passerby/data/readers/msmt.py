"""MSMT17 (Wei et al., "Person Transfer GAN to Bridge Domain Gap", CVPR 2018), both versions.

V1 keeps its images in `train` and `test`; V2, with faces made unreadable, in `mask_train_v2` and `mask_test_v2` (these
are images, not masks). Four lists name the files. The camera is the third field of a file name, and the identities of
the test lists start again at 0: they are numbered on from the training identities, so that a number means one person.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from passerby.data.readers.layout import Published, count_note
from passerby.data.readers.listing import Shot, locate, split_of
from passerby.data.readers.numbers import whole_number
from passerby.data.readers.reader import ReaderSettings
from passerby.errors import UserError
from passerby.files import reading
from passerby.types import Dataset

FOLDERS = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}
LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
EXPECTED = f"{', '.join(LISTS)} and the folders train and test (V1) or mask_train_v2 and mask_test_v2 (V2)"
PUBLISHED = {
    "train": Published("MSMT17 (train list only)", 30_248, 11_659, 82_161),
    "train+val": Published("MSMT17 (train and val lists)", 32_621, 11_659, 82_161),
}


class MSMT17(ReaderSettings):
    """MSMT17 as released, in the folder `MSMT17_V1` or `MSMT17_V2`.

    Attributes:
        split: which lists to train on; most published scores use `train`, some transformers and unsupervised
            methods `train+val`, and the two do not compare.

    """

    summary: ClassVar[str] = "MSMT17 V1 or V2: 4,101 identities, 15 cameras, 126,441 images"

    kind: Literal["msmt17"] = "msmt17"
    root: str
    split: Literal["train", "train+val"] = "train"

    def read(self, name: str) -> Dataset:
        """See `read_msmt17`."""
        return read_msmt17(self, name)


def msmt_version(folder: Path) -> Literal["V1", "V2"] | None:
    """Return the version that lies in `folder`, None when it is not an MSMT17."""
    if not all((folder / name).is_file() for name in LISTS):
        return None
    if all((folder / inner).is_dir() for inner in FOLDERS["V2"]):
        return "V2"
    return "V1" if all((folder / inner).is_dir() for inner in FOLDERS["V1"]) else None


def read_msmt17(settings: MSMT17, name: str) -> Dataset:
    """Read MSMT17; a note names the version and the lists.

    Raises:
        UserError: the lists or folders are not there, or a line of a list is not `path number`.

    """
    folder = locate(
        settings.root, kind=settings.kind, holds=lambda path: msmt_version(path) is not None, expected=EXPECTED
    )
    version = msmt_version(folder) or "V1"
    inner_train, inner_test = FOLDERS[version]
    train, val = (_read_list(folder / list_name, inner_train, first_pid=0) for list_name in LISTS[:2])
    first_pid = 1 + max((shot.pid for shot in (*train, *val)), default=-1)
    query, gallery = (_read_list(folder / list_name, inner_test, first_pid=first_pid) for list_name in LISTS[2:])
    if settings.split == "train+val":
        train = [*train, *val]
    which = "train list only" if settings.split == "train" else "train and val lists"
    notes = (
        f"MSMT17 {version}, {which}.",
        f"Test identities are numbered on from {first_pid}, because the lists of the data set start again at 0.",
        *count_note(folder, PUBLISHED[settings.split], (len(train), len(query), len(gallery))),
    )
    train_split, query_split, gallery_split = (
        split_of(shots, folder, masks=settings.masks) for shots in (train, query, gallery)
    )
    return Dataset(name, train_split, query_split, gallery_split, notes)


def _read_list(file: Path, inner: str, *, first_pid: int) -> list[Shot]:
    shots: list[Shot] = []
    with reading(file, "a list of images in UTF-8"):
        lines = file.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        path, _, pid = line.strip().rpartition(" ")
        parts = path.rpartition("/")[2].partition(".")[0].split("_")
        identity = whole_number(pid)
        cam = whole_number(parts[2]) if len(parts) > 2 else None
        if identity is None or cam is None:
            raise UserError(f"{file}, line {number}: {line!r} is not like '0000/0000_000_01_0303morning_0008_0.jpg 0'")
        frame = whole_number(parts[4]) if len(parts) > 4 else None
        shots.append(Shot(f"{inner}/{path}", first_pid + identity, cam, frame))
    return shots
