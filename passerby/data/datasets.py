"""Every kind of data set that can be read, as one union of settings, and the function that opens any of them.

A kind is added by one file in `readers/` (its settings and its function), one word in the union and one case below.
Nothing is ever downloaded.
"""

from __future__ import annotations

from typing import Annotated, assert_never

from pydantic import Field

from passerby.data.readers.cuhk03 import CUHK03, read_cuhk03
from passerby.data.readers.duke import DukeMTMC, read_dukemtmc
from passerby.data.readers.folder import Folder, read_folder
from passerby.data.readers.market import Market1501, read_market1501
from passerby.data.readers.msmt import MSMT17, read_msmt17
from passerby.types import Dataset

DatasetSettings = Annotated[Market1501 | DukeMTMC | MSMT17 | CUHK03 | Folder, Field(discriminator="kind")]
"""Any data set, told by its `kind`."""


def open_dataset(settings: DatasetSettings, name: str) -> Dataset:
    """Read the data set that `settings` describe.

    Args:
        settings: one of the kinds.
        name: how recipes and reports are to call it.

    Raises:
        UserError: it is not there or not as expected.

    """
    match settings:
        case Market1501():
            return read_market1501(settings, name)
        case DukeMTMC():
            return read_dukemtmc(settings, name)
        case MSMT17():
            return read_msmt17(settings, name)
        case CUHK03():
            return read_cuhk03(settings, name)
        case Folder():
            return read_folder(settings, name)
        case _:
            assert_never(settings)
