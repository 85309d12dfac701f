"""Detection of the kind of a data set from the layout of its folder."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from passerby.data.image_files import folder_names, images_below
from passerby.data.readers import cuhk03, duke, market, veri
from passerby.data.readers.aicity import AICity, is_aicity
from passerby.data.readers.cuhk03 import CUHK03
from passerby.data.readers.duke import DukeMTMC
from passerby.data.readers.folder import Folder
from passerby.data.readers.layout import first_name, holds_three_folders
from passerby.data.readers.listing import existing_folder
from passerby.data.readers.market import Market1501
from passerby.data.readers.mars import MARS, is_mars
from passerby.data.readers.msmt import MSMT17, msmt_version
from passerby.data.readers.reader import ReaderSettings
from passerby.data.readers.roles import role_folders
from passerby.data.readers.table import Csv
from passerby.data.readers.vehicleid import VehicleID, is_vehicleid
from passerby.data.readers.veri import VeRi776
from passerby.errors import UserError

LOOKED_FOR = (
    "Market-1501 or DukeMTMC-reID (bounding_box_train, query, bounding_box_test), MSMT17 (list_train.txt and its kin), "
    "CUHK03-NP (labeled, detected), VeRi-776 (image_train, image_query, image_test), VehicleID (image, "
    "train_test_split), AI City (image_train, train_label.xml), MARS (bbox_train, bbox_test), "
    "folders train, query and gallery, one folder per person, images named like "
    "0001_c2_000151.jpg, or a .csv file"
)

Recognised = Market1501 | DukeMTMC | MSMT17 | CUHK03 | VeRi776 | VehicleID | AICity | MARS | Folder | Csv


class Auto(ReaderSettings):
    """Any folder or CSV file that one of the other kinds reads with its own defaults.

    Attributes:
        root: the folder that has the layout, the one above it, or a CSV file.

    """

    summary: ClassVar[str] = (
        "whichever of the first four, MARS, VeRi-776, VehicleID, AI City, a folder or a table lies there"
    )
    is_public: ClassVar[bool] = False

    kind: Literal["auto"] = "auto"
    root: str

    def resolve(self) -> ReaderSettings:
        """See `recognise`."""
        return recognise(self)


def recognise(settings: Auto) -> Recognised:
    """Return the settings of the kind that lies at `root` or one level below, with the masks of `settings`.

    Raises:
        UserError: nothing known is there, or several data sets are.

    """
    return _recognise(settings).model_copy(update={"masks": settings.masks})


def _recognise(settings: Auto) -> Recognised:
    if settings.root.lower().endswith(".csv"):
        return Csv(path=settings.root)
    if not Path(settings.root).expanduser().exists():
        raise UserError(
            f"auto: {settings.root} does not exist; expected one of {LOOKED_FOR} there; the folder of your images is "
            "named by --data FOLDER or root=FOLDER"
        )
    root = existing_folder(settings.root, kind=settings.kind, expected=f"one of {LOOKED_FOR}")
    layout = layout_of(root)
    if layout is not None:
        return layout
    inner = folder_names(root)
    below = {name: found for name in inner if (found := layout_of(root / name)) is not None}
    if len(below) > 1:
        listed = ", ".join(f"{name} ({found.kind})" for name, found in below.items())
        raise UserError(f"auto: several data sets lie in {root}: {listed}; give one of them as root")
    if below:
        return next(iter(below.values()))
    if images_below(root):
        return Folder(root=settings.root)
    raise UserError(f"auto: nothing known in {root}; looked for {LOOKED_FOR}")


def layout_of(folder: Path) -> Recognised | None:
    """Return the settings for a folder whose sub-folders or lists match a known layout, else None.

    The three folders of Market-1501 hold three data sets; the first file name tells which.
    """
    root = str(folder)
    if msmt_version(folder) is not None:
        return MSMT17(root=root)
    for boxes, inner in cuhk03.FOLDERS.items():
        if holds_three_folders(folder / inner):
            return CUHK03(root=root) if boxes == "detected" else CUHK03(root=root, boxes="labelled")
    if holds_three_folders(folder):
        first = first_name(folder)
        if market.NAMING.regex.match(first):
            return Market1501(root=root)
        if duke.NAMING.regex.match(first):
            return DukeMTMC(root=root)
    if veri.NEST.lies_in(folder):
        return VeRi776(root=root)
    if is_vehicleid(folder):
        return VehicleID(root=root)
    if is_aicity(folder):
        return AICity(root=root)
    if is_mars(folder):
        return MARS(root=root)
    return Folder(root=root) if role_folders(folder) else None
