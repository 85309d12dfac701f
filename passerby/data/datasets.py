"""The registry table of the kinds of data sets, and the function that opens any of them.

A kind is added by one file in `readers/` and one line in `READERS`. Nothing is ever downloaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated

from passerby.choices import follow_table
from passerby.data.image_files import listing_notes
from passerby.data.naming import folder_name, free_name
from passerby.data.readers.aicity import AICity
from passerby.data.readers.auto import Auto
from passerby.data.readers.ccvid import CCVID
from passerby.data.readers.cuhk01 import CUHK01
from passerby.data.readers.cuhk02 import CUHK02
from passerby.data.readers.cuhk03 import CUHK03
from passerby.data.readers.cuhk_sysu import CuhkSysu
from passerby.data.readers.duke import DukeMTMC
from passerby.data.readers.folder import Folder
from passerby.data.readers.grid import GRID
from passerby.data.readers.ilids import ILIDS
from passerby.data.readers.images import Images
from passerby.data.readers.layout import UNLIKE_PUBLISHED
from passerby.data.readers.ltcc import LTCC
from passerby.data.readers.market import Market1501
from passerby.data.readers.mars import MARS
from passerby.data.readers.msmt import MSMT17
from passerby.data.readers.prcc import PRCC
from passerby.data.readers.prid2011 import PRID2011
from passerby.data.readers.reader import ReaderSettings
from passerby.data.readers.sensereid import SenseReID
from passerby.data.readers.table import Csv
from passerby.data.readers.vehicleid import VehicleID
from passerby.data.readers.veri import VeRi776
from passerby.data.readers.viper import VIPeR
from passerby.data.repeated import repeated_note
from passerby.errors import UserError
from passerby.plugins import load_plugins
from passerby.registry import OneOf, Table
from passerby.types import Dataset, Layout, Split

READERS: Table[ReaderSettings] = Table(
    "kind of data set",
    ReaderSettings,
    {
        "market1501": Market1501,
        "dukemtmc": DukeMTMC,
        "msmt17": MSMT17,
        "cuhk03": CUHK03,
        "cuhk_sysu": CuhkSysu,
        "cuhk01": CUHK01,
        "cuhk02": CUHK02,
        "viper": VIPeR,
        "prid2011": PRID2011,
        "ilids": ILIDS,
        "grid": GRID,
        "sensereid": SenseReID,
        "mars": MARS,
        "veri776": VeRi776,
        "vehicleid": VehicleID,
        "aicity": AICity,
        "prcc": PRCC,
        "ltcc": LTCC,
        "ccvid": CCVID,
        "folder": Folder,
        "images": Images,
        "csv": Csv,
        "auto": Auto,
    },
)
"""All kinds of data sets, in the order of lists."""

follow_table(READERS)

DatasetSettings = Annotated[ReaderSettings, OneOf(READERS)]
"""Settings of any reader, selected by `kind`."""


def dataset_settings(kind: str, root: str, *, masks: str | None = None, pattern: str | None = None) -> DatasetSettings:
    """Return the settings of a kind with its defaults.

    Args:
        kind: one of `READERS`.
        root: the folder with the layout, or its parent; for `csv` the file.
        masks: the folder of the foreground masks; None = `masks` inside or beside the folder.
        pattern: template of the file names, for `auto` and `folder`; None = the names of the kind.

    Raises:
        UserError: an unknown kind, or one that takes no pattern.

    """
    load_plugins()
    reader = READERS.require(kind)
    if pattern is None:
        return reader.model_validate({reader.place_key: root, "masks": masks})
    if kind not in ("auto", "folder") or root.lower().endswith(".csv"):
        subject = f"kind {kind}" if kind not in ("auto", "folder") else "a table"
        raise UserError(
            f"a pattern ({pattern!r}) says how files are named in kind folder; {subject} is read without one"
        )
    return Folder(root=root, masks=masks, pattern=pattern)


def open_dataset(settings: DatasetSettings, name: str | None = None, *, taken: Iterable[str] = ()) -> Dataset:
    """Read the data set that `settings` describe.

    Notes count files that are not readable images, images that are listed more than once, and
    images without a mask where others have one.

    Args:
        settings: settings of a reader.
        name: name in recipes and reports; None = derived from its path, see `passerby.data.naming`.
        taken: names of other data sets, which a derived name avoids.

    Raises:
        UserError: a missing or unexpected folder, or a folder of masks that fits no image.

    """
    with listing_notes() as listed:
        resolved = settings.resolve()
        dataset = resolved.read(name or folder_name(Path(resolved.place)))
    layout = _layout(resolved, dataset)
    if name is None:
        by_itself = resolved.kind if layout is not None and layout.published else dataset.name
        dataset = replace(dataset, name=free_name(by_itself, taken))
    taken_for = (f"{resolved.place} was recognised as kind {resolved.kind}.",) if resolved is not settings else ()
    searched_themselves = dataset.query.path.tolist() == dataset.gallery.path.tolist()  # on purpose
    splits = (dataset.train, dataset.query) if searched_themselves else (dataset.train, dataset.query, dataset.gallery)
    paths = chain.from_iterable(split.path.tolist() for split in splits)
    notes = (*taken_for, *dataset.notes, *listed.sentences, *repeated_note(paths))
    dataset = replace(dataset, layout=layout, notes=notes)
    bare, count = without_mask((dataset.train, dataset.query, dataset.gallery))
    if settings.masks is not None and len(bare) == count:
        raise UserError(
            f"{settings.masks} holds no mask for any of the {count:,} images of {dataset.name}; a mask has the "
            f"relative path of its image and the ending .png, as `passerby segment apply` makes them (first: {bare[0]})"
        )
    if not 0 < len(bare) < count:
        return dataset
    return replace(dataset, notes=(*dataset.notes, f"Without a mask: {len(bare):,} of {count:,} images ({bare[0]})."))


def _layout(settings: ReaderSettings, dataset: Dataset) -> Layout | None:
    """Return the layout of a public data set, and whether its counts are those of the release; None for others."""
    if not settings.is_public:
        return None
    unlike = any(UNLIKE_PUBLISHED in note for note in dataset.notes)
    return Layout(settings.kind, settings.summary.partition(":")[0], not unlike)


def without_mask(splits: Iterable[Split]) -> tuple[list[str], int]:
    """Return the images without a mask of some splits, and the number of all images."""
    bare: list[str] = []
    count = 0
    for split in splits:
        count += len(split)
        bare += split.path.tolist() if split.mask_path is None else split.path[split.mask_path == ""].tolist()
    return bare, count
