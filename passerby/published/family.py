"""Base class of a family of published models: how its files are recognised and what they become here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import Tensor

from passerby.inputs import InputSettings
from passerby.models.embedder import ModelSettings
from passerby.published.tensors import FileTensors
from passerby.settings import Settings
from passerby.types import NO_CAMERAS, CameraTable, VectorName

if TYPE_CHECKING:
    from passerby.models.clip_text import ClipTextTower


class NoChoices(Settings):
    """Settings of a family whose files say everything."""


@dataclass(frozen=True)
class Imported:
    """A published model in the terms of this program.

    Attributes:
        model: network and neck; `weights` stays "none".
        input: size, interpolation, colour and normalisation as in the published test.
        state: the tensors of `Embedder(model, input)` by name; counters of batches may be left out.
        vector: which of its vectors is the published one.
        notes: sentences that a person must see.
        cameras: those of the training images, for a network that uses cameras.
        distance: by which the published scores compare vectors.
        text_tower: encoder of texts in the space of projected images, if the file has one.
        idle: names of settings that have no effect on this file.

    """

    model: ModelSettings
    input: InputSettings
    state: dict[str, Tensor]
    vector: VectorName
    notes: tuple[str, ...] = ()
    cameras: CameraTable = NO_CAMERAS
    distance: Literal["cosine", "euclidean"] = "cosine"
    text_tower: ClipTextTower | None = None
    idle: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PublishedScore:
    """A score as the authors publish it; it was not measured here.

    Attributes:
        model: which of their models.
        dataset: what it was tested on.
        mean_ap: mAP in percent.
        rank1: rank-1 in percent.

    """

    model: str
    dataset: str
    mean_ap: float
    rank1: float

    def __str__(self) -> str:
        """Both figures in a few words."""
        return f"{self.model}, {self.dataset}: mAP {self.mean_ap:.1f}, rank-1 {self.rank1:.1f}"


class PublishedFamily:
    """Base of a family: facts for a person, and two functions that are given the tensors of a file.

    A subclass sets the class variables and overrides `recognises` and `convert`.
    """

    summary: ClassVar[str]
    """The models of the family, in a few words."""
    code_licence: ClassVar[str]
    """Licence of the published code, as published."""
    weights_licence: ClassVar[str]
    """Licence of the published weights, as published."""
    sizes: ClassVar[str]
    """(H, W) of the images that the published models expect."""
    download: ClassVar[str]
    """Which file to download, and from where."""
    scores: ClassVar[tuple[PublishedScore, ...]] = ()
    settings_class: ClassVar[type[Settings]] = NoChoices
    """Settings of what is no key of the files, with the published defaults."""
    without_influence: ClassVar[tuple[str, ...]] = ()
    """Regular expressions of names, in full, of tensors that do not touch the tested vector."""

    plain_start: ClassVar[bool] = False
    """Whether its files, as a start of training, are fitted to the backbone as they are, without `convert`."""

    @classmethod
    def recognises(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason why tensors are those of the family ("it has base.layer1 and bottleneck"), or None.

        Args:
            tensors: those of a file, without wrappers and leading `module.`; some may be missing or broken.

        """
        raise NotImplementedError

    @classmethod
    def accepts(cls, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the reason why a file can be of the family when a person says so, or None.

        By default that of `recognises`; families with one layout of tensors override it, for files that are guessed to
        be of another one.

        Args:
            tensors: those of a file, without wrappers and leading `module.`; some may be missing or broken.

        """
        return cls.recognises(tensors)

    @classmethod
    def convert(cls, tensors: FileTensors, settings: Settings, *, size: tuple[int, int] | None) -> Imported:
        """Return the model of a file; every tensor that it uses is taken from `tensors`.

        Args:
            tensors: those of a file that `recognises` accepts.
            settings: an instance of `settings_class`.
            size: (H, W) of the images that a person asks for; None = as published.

        Raises:
            UserError: tensors that are missing, or of shapes that do not belong together.

        """
        raise NotImplementedError
