"""Every kind of data set that can be read, as one union of settings, and the function that opens any of them.

A kind is added by one file in `readers/` (its settings and its function), one word in the union and one case below.
Nothing is ever downloaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, assert_never

from pydantic import Field, TypeAdapter

from passerby.data.image_files import listing_notes
from passerby.data.naming import folder_name, free_name
from passerby.data.readers.auto import Auto, recognise
from passerby.data.readers.cuhk01 import CUHK01, read_cuhk01
from passerby.data.readers.cuhk02 import CUHK02, read_cuhk02
from passerby.data.readers.cuhk03 import CUHK03, read_cuhk03
from passerby.data.readers.cuhk_sysu import CuhkSysu, read_cuhk_sysu
from passerby.data.readers.duke import DukeMTMC, read_dukemtmc
from passerby.data.readers.folder import Folder, read_folder
from passerby.data.readers.grid import GRID, read_grid
from passerby.data.readers.ilids import ILIDS, read_ilids
from passerby.data.readers.images import Images, read_images
from passerby.data.readers.layout import UNLIKE_PUBLISHED
from passerby.data.readers.market import Market1501, read_market1501
from passerby.data.readers.mars import MARS, read_mars
from passerby.data.readers.msmt import MSMT17, read_msmt17
from passerby.data.readers.prid2011 import PRID2011, read_prid2011
from passerby.data.readers.sensereid import SenseReID, read_sensereid
from passerby.data.readers.table import Csv, read_csv
from passerby.data.readers.vehicleid import VehicleID, read_vehicleid
from passerby.data.readers.veri import VeRi776, read_veri776
from passerby.data.readers.viper import VIPeR, read_viper
from passerby.errors import UserError, did_you_mean
from passerby.types import Dataset, Layout, Split

Known = (
    Market1501
    | DukeMTMC
    | MSMT17
    | CUHK03
    | CuhkSysu
    | CUHK01
    | CUHK02
    | VIPeR
    | PRID2011
    | ILIDS
    | GRID
    | SenseReID
    | MARS
    | VeRi776
    | VehicleID
    | Folder
    | Images
    | Csv
)
"""Data sets of a kind that is named."""

DatasetSettings = Annotated[Known | Auto, Field(discriminator="kind")]
"""Any data set, told by its `kind`."""

PRIVATE = ("folder", "images", "csv", "auto")
"""Kinds that are no layout of a public data set."""

ANY: TypeAdapter[DatasetSettings] = TypeAdapter(DatasetSettings)
"""Builds the settings of whichever kind from plain data."""

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "market1501": "Market-1501: 1,501 people, 6 cameras, 32,217 images",
        "dukemtmc": "DukeMTMC-reID: 1,812 people, 8 cameras, 36,411 images (withdrawn by its authors)",
        "msmt17": "MSMT17 V1 or V2: 4,101 people, 15 cameras, 126,441 images",
        "cuhk03": "CUHK03-NP: 1,467 people, 2 cameras, 14,097 detected or 14,096 labelled boxes",
        "cuhk_sysu": "CUHK-SYSU cut for lifelong re-identification: 5,532 people to train and 2,900 to test on",
        "cuhk01": "CUHK01: 971 people, 2 views, 3,884 images",
        "cuhk02": "CUHK02: 1,816 people, 5 pairs of views, 7,264 images",
        "viper": "VIPeR: 632 people, 2 views, 1,264 images",
        "prid2011": "PRID 2011, single-shot: 200 people in 2 views among 749",
        "ilids": "i-LIDS: 119 people, 476 images",
        "grid": "GRID: 250 people, 8 cameras, 1,275 images",
        "sensereid": "SenseReID, for testing only: 1,717 people, 4,428 images",
        "mars": "MARS: 1,261 people, 6 cameras, 1,191,003 images of tracklets",
        "veri776": "VeRi-776: 776 vehicles, 20 cameras, 51,035 images",
        "vehicleid": "VehicleID: 26,267 vehicles, no cameras, 221,763 images",
        "folder": "your own images: divided or not, one folder per person or facts in the file names",
        "images": "your own images without names, at any depth: for training without labels",
        "csv": "your own table of images: path, pid, and where known cam, role, frame, mask",
        "auto": "whichever of the first four, MARS, VeRi-776, VehicleID, a folder or a table lies there",
    }
)
"""What can be read, one line each, for lists."""


def dataset_settings(kind: str, root: str, *, masks: str | None = None, pattern: str | None = None) -> DatasetSettings:
    """Return the settings of a kind with its defaults.

    Args:
        kind: one of `KINDS`.
        root: the folder that has the layout, or the one above it; for `csv` the file.
        masks: the folder of the foreground masks; None = `masks` inside or beside the folder.
        pattern: template of the file names, which makes a `folder` of `auto`; None = the names of the kind.

    Raises:
        UserError: the kind is not known, or its names follow no pattern.

    """
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS) or f"; known: {', '.join(KINDS)}"
        raise UserError(f"kind of data set {kind!r} is not known{hint}")
    if pattern is None:
        return ANY.validate_python({"kind": kind, "path" if kind == "csv" else "root": root, "masks": masks})
    if kind not in ("auto", "folder") or root.lower().endswith(".csv"):
        what = f"kind {kind}" if kind not in ("auto", "folder") else "a table"
        raise UserError(f"a pattern ({pattern!r}) says how files are named in kind folder; {what} is read without one")
    return Folder(root=root, masks=masks, pattern=pattern)


def open_dataset(settings: DatasetSettings, name: str | None = None, *, taken: Iterable[str] = ()) -> Dataset:
    """Read the data set that `settings` describe.

    Notes say what its folders hold besides images that can be read, and when only some images have a mask.

    Args:
        settings: one of the kinds.
        name: how recipes and reports are to call it; None = after its place, see `passerby.data.naming`.
        taken: names that other data sets have, for one that is called after its place.

    Raises:
        UserError: it is not there or not as expected, or the folder of masks that was given fits no image.

    """
    with listing_notes() as listed:
        known = recognise(settings) if isinstance(settings, Auto) else settings
        place = known.path if isinstance(known, Csv) else known.root
        dataset = _read(known, name or folder_name(Path(place)))
    layout = _layout(known, dataset)
    if name is None:
        by_itself = known.kind if layout is not None and layout.published else dataset.name
        dataset = replace(dataset, name=free_name(by_itself, taken))
    taken_for = (f"{place} was taken for kind {known.kind}.",) if known is not settings else ()
    dataset = replace(dataset, layout=layout, notes=(*taken_for, *dataset.notes, *listed.sentences))
    bare, count = without_mask((dataset.train, dataset.query, dataset.gallery))
    if settings.masks is not None and len(bare) == count:
        raise UserError(
            f"{settings.masks} holds no mask for any of the {count:,} images of {dataset.name}; a mask has the "
            f"relative path of its image and the ending .png, as `passerby segment apply` makes them (first: {bare[0]})"
        )
    if not 0 < len(bare) < count:
        return dataset
    return replace(dataset, notes=(*dataset.notes, f"Without a mask: {len(bare):,} of {count:,} images ({bare[0]})."))


def _layout(settings: Known, dataset: Dataset) -> Layout | None:
    """Return the layout of a public data set; notes say where its counts are not those of the release."""
    if settings.kind in PRIVATE:
        return None
    unlike = any(UNLIKE_PUBLISHED in note for note in dataset.notes)
    return Layout(settings.kind, KINDS[settings.kind].partition(":")[0], not unlike)


def without_mask(splits: Iterable[Split]) -> tuple[list[str], int]:
    """Return the images of some splits that have no mask, and how many images there are in all."""
    bare: list[str] = []
    count = 0
    for split in splits:
        count += len(split)
        bare += split.path.tolist() if split.mask_path is None else split.path[split.mask_path == ""].tolist()
    return bare, count


def _read(settings: Known, name: str) -> Dataset:
    match settings:
        case Market1501():
            return read_market1501(settings, name)
        case DukeMTMC():
            return read_dukemtmc(settings, name)
        case MSMT17():
            return read_msmt17(settings, name)
        case CUHK03():
            return read_cuhk03(settings, name)
        case CuhkSysu():
            return read_cuhk_sysu(settings, name)
        case CUHK01():
            return read_cuhk01(settings, name)
        case CUHK02():
            return read_cuhk02(settings, name)
        case VIPeR():
            return read_viper(settings, name)
        case PRID2011():
            return read_prid2011(settings, name)
        case ILIDS():
            return read_ilids(settings, name)
        case GRID():
            return read_grid(settings, name)
        case SenseReID():
            return read_sensereid(settings, name)
        case MARS():
            return read_mars(settings, name)
        case VeRi776():
            return read_veri776(settings, name)
        case VehicleID():
            return read_vehicleid(settings, name)
        case Folder():
            return read_folder(settings, name)
        case Images():
            return read_images(settings, name)
        case Csv():
            return read_csv(settings, name)
        case _:
            assert_never(settings)
