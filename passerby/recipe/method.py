"""All methods, and the settings of those that a stage has."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from passerby.methods.consolidation import AffinitySettings, AverageSettings, FeatureSettings
from passerby.methods.contrast import ContrastSettings
from passerby.methods.dask import DaskSettings
from passerby.methods.dec import DecSettings
from passerby.methods.ebll import EbllSettings
from passerby.methods.growth import GrowSettings
from passerby.methods.lwf import LwfSettings
from passerby.methods.mmt import MmtSettings
from passerby.methods.pplr import PplrSettings
from passerby.methods.pseudo import PseudoSettings
from passerby.methods.replay import ReplaySettings
from passerby.methods.spcl import SpclSettings
from passerby.methods.ssg import SsgSettings
from passerby.methods.weight_penalty import EwcSettings, MasSettings, SiSettings
from passerby.settings import Settings

AnyMethod = (
    AverageSettings
    | FeatureSettings
    | AffinitySettings
    | LwfSettings
    | EbllSettings
    | EwcSettings
    | SiSettings
    | MasSettings
    | ReplaySettings
    | GrowSettings
    | DaskSettings
    | PseudoSettings
    | ContrastSettings
    | SpclSettings
    | MmtSettings
    | PplrSettings
    | SsgSettings
    | DecSettings
)
"""The settings of any method."""


class MethodSettings(Settings):
    """The methods of a stage, by name, in the order in which they are called."""

    average: AverageSettings | None = None
    feature: FeatureSettings | None = None
    affinity: AffinitySettings | None = None
    lwf: LwfSettings | None = None
    ebll: EbllSettings | None = None
    ewc: EwcSettings | None = None
    si: SiSettings | None = None
    mas: MasSettings | None = None
    replay: ReplaySettings | None = None
    grow: GrowSettings | None = None
    dask: DaskSettings | None = None  # after those whose previous model sees the batch itself, once
    pseudo: PseudoSettings | None = None
    contrast: ContrastSettings | None = None
    spcl: SpclSettings | None = None
    mmt: MmtSettings | None = None
    pplr: PplrSettings | None = None
    ssg: SsgSettings | None = None
    dec: DecSettings | None = None

    @model_validator(mode="after")
    def _one_keeps_people(self) -> Self:
        if self.replay is not None and self.grow is not None:
            raise ValueError("method.grow and method.replay both keep earlier people in the classifiers; leave one out")
        return self

    @model_validator(mode="after")
    def _one_makes_labels(self) -> Self:
        makers = [name for name, chosen in self.chosen.items() if chosen.make().assigns_labels]
        if len(makers) > 1:
            raise ValueError(f"method.{makers[0]} and method.{makers[1]} both make labels; leave one out")
        return self

    @property
    def chosen(self) -> dict[str, AnyMethod]:
        """The methods that are present, by name, in the order of the class."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
