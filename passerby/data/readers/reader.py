"""Base class of the settings of a kind of data set, which also read it."""

from __future__ import annotations

from typing import ClassVar

from passerby.settings import Settings
from passerby.types import Dataset


class ReaderSettings(Settings):
    """Base of the settings of a kind of data set.

    A subclass gives `kind` its name (`kind: Literal["name"] = "name"`), has the field that `place_key` names, and sets
    `summary`.

    Attributes:
        kind: the name in recipes and on the command line.
        masks: folder of foreground masks, one .png at the relative path of each image; None = `masks` inside or beside
            the folder.

    """

    kind: str
    masks: str | None = None

    summary: ClassVar[str]
    """The data that can be read, in one line that begins with a title and a colon."""

    is_public: ClassVar[bool] = True
    """Whether the kind is the layout of one public data set, whose counts are known."""

    place_key: ClassVar[str] = "root"
    """The field with the folder or the file that is read."""

    @property
    def place(self) -> str:
        """The folder or the file that is read."""
        return str(getattr(self, self.place_key))

    def resolve(self) -> ReaderSettings:
        """Return the settings of the kind that lies at the place, for a kind that stands for several.

        Raises:
            UserError: nothing known is there.

        """
        return self

    def read(self, name: str) -> Dataset:
        """Read the data set.

        Args:
            name: how recipes and reports call it.

        Raises:
            UserError: it is not there or not as expected.

        """
        raise NotImplementedError
