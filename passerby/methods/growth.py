"""Classifiers that grow: people of earlier stages keep their rows although none of their images is there any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.extract import shown
from passerby.losses.softmax import SoftmaxSettings, adopt_rows, classifiers
from passerby.methods.part import Part, RunState
from passerby.settings import Settings
from passerby.types import Split, Stage

Vector = Literal["feature", "embedding"]


def class_means(x: Tensor, labels: Tensor) -> Tensor:
    """Return the direction of the mean of each person's vectors, (C, D) of unit length.

    Args:
        x: (N, D).
        labels: (N,) int64, all of 0..C-1.

    >>> class_means(torch.tensor([[1.0, 0.0], [5.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0, 1]))
    tensor([[1., 0.],
            [0., 1.]])
    """
    sums = x.new_zeros(int(labels.max()) + 1, x.shape[1]).index_add(0, labels, x)
    return F.normalize(sums)


class GrowSettings(Settings):
    """One classifier over the people of all stages so far."""

    new: Literal["means", "random"] = Field(
        "means", description="where the rows of new people begin, from the second stage on: at their mean vectors"
    )

    def make(self) -> Grow:
        """Build the part."""
        return Grow(self)


class Grow(Part):
    """Classifiers with the new people first and all earlier ones after them.

    Reference: Xu et al., "LSTKC: Long Short-Term Knowledge Consolidation for Lifelong Person Re-identification",
    AAAI 2024 (published code).

    """

    settings: GrowSettings

    def __init__(self, settings: GrowSettings) -> None:
        super().__init__()
        self.settings = settings
        self.known = nn.ParameterDict()  # of each loss with a classifier (C, D): the rows of all people so far

    @property
    def hollow(self) -> bool:
        """Without earlier people nothing grows."""
        return not len(self.known)

    def make_room(self, run: RunState, state: Mapping[str, Tensor]) -> None:
        """Make as many rows as the checkpoint has."""
        self.known = make_rows(state)

    def widen(self, run: RunState, stage: Stage) -> Stage:
        """Ask for classifiers that know the earlier people too."""
        return replace(stage, absent=max((len(rows) for rows in self.known.values()), default=0))

    def begin(self, run: RunState, stage: Stage) -> None:
        """Give earlier people their rows, and new ones a beginning."""
        heads = classifiers(run.losses.losses)
        for name in [name for name in heads if name in self.known]:
            if self.settings.new == "means":
                of = cast("SoftmaxSettings", run.losses.losses[name].settings).feature
                means = class_means(vectors(run, stage.train, of=of), torch.from_numpy(stage.train.pid).to(run.device))
                adopt_rows(heads[name].weight, torch.cat([means, self.known[name]]))
            else:
                adopt_rows(heads[name].weight, self.known[name])

    def blend_earlier(self, run: RunState, *, share: float) -> None:
        """Set the rows of earlier people to share x now + (1 - share) x before the stage; new people keep theirs."""
        for name, head in classifiers(run.losses.losses).items():
            if name in self.known:
                with torch.no_grad():
                    head.weight[-len(self.known[name]) :].lerp_(self.known[name], 1 - share)

    def end(self, run: RunState, stage: Stage) -> None:
        """Keep all rows."""
        heads = classifiers(run.losses.losses)
        self.known = nn.ParameterDict({name: still(head.weight.detach().clone()) for name, head in heads.items()})


def make_rows(state: Mapping[str, Tensor]) -> nn.ParameterDict:
    """Return room for the rows that the state of a part holds as `known`."""
    mine = {name.removeprefix("known."): value for name, value in state.items() if name.startswith("known.")}
    return nn.ParameterDict({name: still(torch.empty_like(value)) for name, value in mine.items()})


def still(tensor: Tensor) -> nn.Parameter:
    """Return a parameter that does not learn."""
    return nn.Parameter(tensor, requires_grad=False)


def vectors(run: RunState, split: Split, *, of: Literal["feature", "embedding"]) -> Tensor:
    """Return what the present model makes of images without augmentation, (N, D) float32."""
    was_training = run.embedder.training
    run.embedder.eval()
    with torch.no_grad(), run.autocast():
        batches = shown(split.path, run.view(split), run.embedder, size=64)
        found = [getattr(run.embedder(images.to(run.device), mask), of).float() for images, mask in batches]
    run.embedder.train(was_training)
    return torch.cat(found)
