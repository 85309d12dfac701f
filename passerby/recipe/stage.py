"""A stage of a run."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from passerby.data.foreground import ForegroundSettings
from passerby.data.loading import DataSettings
from passerby.data.samplers.sampler import GroupSamplerSettings
from passerby.losses.mix import LossSettings, default_losses
from passerby.methods.settings import BaseMethodSettings
from passerby.optim import OptimSettings
from passerby.recipe.method import MethodSettings
from passerby.settings import Settings
from passerby.types import InputMask

Name = Annotated[str, Field(min_length=1)]


NamePattern = Annotated[str, Field(pattern=r"^!?[^!]+$")]
"""A pattern of names, or one that takes names out again."""

PER_STAGE = ("data", "foreground", "optim", "losses", "method", "freeze")
"""Keys of the top level that each stage inherits and may change."""


class StageSettings(Settings):
    """A stage of a run; settings that it leaves out come from the same keys of the recipe's top level."""

    train: Annotated[tuple[Name, ...], Field(min_length=1, description="data sets, trained jointly when several")]
    name: str | None = Field(None, description="name of the stage in the log; default: its data sets")
    labelled: bool = Field(True, description="false: identities are not used, a method assigns pseudo-labels")
    source: tuple[Name, ...] = Field(
        (), description="labelled data sets that are trained on together with the unlabelled ones"
    )
    identities: Annotated[int, Field(ge=2)] | None = Field(
        None, description="number of identities of each data set to train on, those with the lowest numbers; null = all"
    )
    epochs: Annotated[int, Field(ge=1)] = 120
    iterations: Annotated[int, Field(ge=1)] | None = Field(
        None, description="batches per epoch; null = so many that each image is drawn once"
    )
    data: DataSettings = DataSettings()
    foreground: ForegroundSettings = ForegroundSettings()
    optim: OptimSettings = OptimSettings()
    losses: LossSettings = Field(default_factory=default_losses)
    method: MethodSettings = MethodSettings()
    freeze: tuple[NamePattern, ...] = Field(
        (), description="patterns of names of parameters that are frozen in this stage, as in the recipe"
    )

    @model_validator(mode="after")
    def _frozen_first(self) -> Self:
        if self.freeze and self.freeze[0].startswith("!"):
            raise ValueError(
                f"freeze begins with {self.freeze[0]!r}, which excludes names from an empty list; put '*' before it"
            )
        return self

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.train)) != len(self.train):
            raise ValueError(f"train names a data set twice: {', '.join(self.train)}")
        if self.identities is not None and not self.labelled:
            raise ValueError("identities has no effect with labelled: false, which uses no identities")
        return self

    @model_validator(mode="after")
    def _beside(self) -> Self:
        if self.source and self.labelled:
            raise ValueError(
                "source shows labelled data sets together with unlabelled ones; with labelled: true use train"
            )
        if both := [name for name in self.source if name in self.train]:
            raise ValueError(f"{both[0]!r} is both in train, without labels, and in source, with them")
        return self

    @property
    def active(self) -> dict[str, BaseMethodSettings]:
        """The methods that are active in the stage: without those that assign labels where it is labelled."""
        methods = self.method.chosen
        return {name: method for name, method in methods.items() if method.is_active(labelled=self.labelled)}

    @property
    def reads_images(self) -> bool:
        """Whether the model is shown images in a step; else methods learn from what they embedded before."""
        return bool(self.losses.chosen) or any(method.reads_images for method in self.active.values())

    @property
    def has_pseudo_labels(self) -> bool:
        """Whether a method assigns labels to the images of the stage."""
        return any(method.assigns_labels for method in self.active.values())

    @model_validator(mode="after")
    def _moved_masks(self) -> Self:
        if self.foreground.use != "none" and self.data.augment.policy is not None:
            raise ValueError(
                "data.augment.policy turns and shears images and would leave the masks of foreground.use: "
                f"{self.foreground.use} behind; leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        sampler = self.data.sampler
        for name in self.losses.of_pairs:
            if not isinstance(sampler, GroupSamplerSettings):
                raise ValueError(
                    f"losses.{name} compares images of an identity, and data.sampler: {sampler.kind} draws any images; "
                    f"set data.sampler to pk, or losses.{name} to null"
                )
            if sampler.instances == 1:
                raise ValueError(
                    f"losses.{name} compares images of an identity, and data.sampler.instances: 1 draws one image of "
                    "each into a batch, so it would always be 0; set data.sampler.instances to 2 or more, or "
                    f"losses.{name} to null"
                )
        return self

    @property
    def input_mask(self) -> InputMask:
        """Mask of the training images, apart from augmentation and changes of random images."""
        if self.foreground.use == "pool":
            return "weighted"
        return "foreground" if self.foreground.use == "mask" and self.foreground.chance == 1 else "none"

    @property
    def shown(self) -> tuple[str, ...]:
        """All data sets that the stage trains on, the unlabelled ones first."""
        return (*self.train, *self.source)

    @property
    def title(self) -> str:
        """The name, or the data sets."""
        return self.name or " + ".join(self.train)
