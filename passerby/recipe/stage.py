"""One leg of a run."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from passerby.losses.mix import LossSettings, default_losses
from passerby.methods.clustered import ClusteredSettings
from passerby.methods.pplr import PplrSettings
from passerby.methods.ssg import SsgSettings
from passerby.optim import OptimSettings
from passerby.recipe.method import MethodSettings
from passerby.settings import Settings

Name = Annotated[str, Field(min_length=1)]


PER_STAGE = ("optim", "losses", "method")
"""Keys of the top level that each stage inherits and may change."""


class StageSettings(Settings):
    """One leg of a run; what it leaves out comes from the recipe's own `optim`, `losses` and `method`."""

    train: Annotated[tuple[Name, ...], Field(min_length=1, description="data sets, trained jointly when several")]
    name: str | None = Field(None, description="how the log calls it; default: its data sets")
    labelled: bool = Field(True, description="false: nothing of the people is used, a method assigns labels")
    source: tuple[Name, ...] = Field((), description="labelled data sets that are shown together with unlabelled ones")
    identities: Annotated[int, Field(ge=2)] | None = Field(
        None, description="learn from the first so many people of each data set, by their numbers; null = all"
    )
    epochs: Annotated[int, Field(ge=1)] = 120
    iterations: Annotated[int, Field(ge=1)] | None = Field(
        None, description="batches in an epoch; null = as many as show each image once"
    )
    optim: OptimSettings = OptimSettings()
    losses: LossSettings = Field(default_factory=default_losses)
    method: MethodSettings = MethodSettings()

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.train)) != len(self.train):
            raise ValueError(f"train names a data set twice: {', '.join(self.train)}")
        if self.identities is not None and not self.labelled:
            raise ValueError("identities chooses people by their numbers, which labelled: false does not look at")
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

    @model_validator(mode="after")
    def _known_people(self) -> Self:
        for name in ("ewc", "replay", "grow"):
            if not self.labelled and name in self.method.chosen:
                raise ValueError(f"method.{name} must know who is who, and stage {self.title!r} is unlabelled")
        if "ewc" in self.method.chosen and "softmax" not in self.losses.chosen:
            raise ValueError("method.ewc asks the classifier of losses.softmax, and the stage has no such loss")
        if self.method.lwf is not None and self.method.lwf.heads and "softmax" not in self.losses.chosen:
            raise ValueError("method.lwf.heads keeps the classifier of losses.softmax, and the stage has no such loss")
        return self

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        """Refuse what an unlabelled stage would never come to."""
        for name, chosen in self.method.chosen.items() if not self.labelled else ():
            stop = chosen.stop if isinstance(chosen, ClusteredSettings) else None
            if stop is not None and stop.epochs + 1 >= self.epochs:
                raise ValueError(
                    f"method.{name}.stop has no effect: the stage ends before {stop.epochs} epochs at rest"
                )
        pplr = None if self.labelled else self.method.pplr
        given = pplr is not None and pplr.from_epoch != PplrSettings.model_fields["from_epoch"].default
        if pplr is not None and given and pplr.from_epoch >= self.epochs:
            raise ValueError(f"method.pplr.from_epoch is {pplr.from_epoch}, and the stage has {self.epochs} epochs")
        ssg = None if self.labelled else self.method.ssg
        if ssg is not None and ssg.ask != "none" and ssg.ask_after >= self.epochs:
            raise ValueError(f"method.ssg.ask_after is {ssg.ask_after}, and the stage has {self.epochs} epochs")
        if ssg is not None and not self.source and ssg.source != SsgSettings.model_fields["source"].default:
            raise ValueError("method.ssg.source has no effect: the stage has no source data sets")
        return self

    @model_validator(mode="after")
    def _second_network(self) -> Self:
        if self.method.mmt is None or self.labelled:
            return self
        if self.optim.ema_decay is not None:
            raise ValueError(
                "method.mmt keeps running means of its own and leaves one of them; leave out optim.ema_decay"
            )
        for name in ("freeze_backbone_steps", "batch_norm"):
            if getattr(self.optim, name) != OptimSettings.model_fields[name].default:
                raise ValueError(f"method.mmt trains a second network, which optim.{name} does not reach; leave it out")
        return self

    @property
    def norms_apart(self) -> bool:
        """Whether labelled images beside unlabelled ones have batch norms of their own."""
        return bool(self.source) and self.method.spcl is not None and self.method.spcl.norms == "apart"

    @property
    def shown(self) -> tuple[str, ...]:
        """All data sets that the stage learns from, the unlabelled ones first."""
        return (*self.train, *self.source)

    @property
    def title(self) -> str:
        """The name, or the data sets."""
        return self.name or " + ".join(self.train)
