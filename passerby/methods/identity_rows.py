"""Rows of classifiers and centres, one per identity, kept for later stages whose losses may be others.

Each set of rows is stored with its space. A later loss of the same name and space gets the rows as they were; another
classifier of the same space gets their directions, with unit length, since each loss has another scale of rows. Rows
of another space are not comparable and stay unused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.losses.loss import Loss, identity_rows

Space = Literal["after_neck", "before_neck", "centres_after_neck", "centres_before_neck"]
"""The vector that rows are compared with, for classifiers and for centres."""


class IdentityRows(nn.Module):
    """The rows (I, D) of one loss.

    Args:
        weight: (I, D).
        space: see `Space`.
        is_known: (I,) booleans, False = no loss has learned that row; default: all are known.

    """

    is_known: Tensor

    def __init__(self, weight: Tensor, space: Space, is_known: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        known = torch.ones(len(weight), dtype=torch.bool, device=weight.device) if is_known is None else is_known
        self.register_buffer("is_known", known)
        self.space = space

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def directions(self) -> Self:
        """The same rows with unit length."""
        return type(self)(F.normalize(self.weight), self.space, self.is_known)

    def select(self, rows: Tensor) -> Self:
        """Return some of the rows, by index or mask."""
        return type(self)(self.weight[rows], self.space, self.is_known[rows])

    def copy_to(self, target: Tensor) -> None:
        """Set the last rows of a target (C, D), I <= C, in place; rows that are not known stay as they are there."""
        with torch.no_grad():
            last = target[len(target) - len(self) :]  # a view
            last[self.is_known] = self.weight[self.is_known].to(last)


class RowStore(nn.ModuleDict):
    """The rows of each loss that a stage so far had, by the name of the loss; all have equally many rows."""

    @property
    def count(self) -> int:
        """Number of identities with a row."""
        return max((len(rows) for rows in self._all.values()), default=0)

    @property
    def _all(self) -> dict[str, IdentityRows]:
        return {name: cast("IdentityRows", rows) for name, rows in self.items()}

    def rows_for(self, name: str, space: Space) -> IdentityRows | None:
        """Return the rows for a loss of a name and space: its stored rows, the directions of another's, or None."""
        same_space = {key: rows for key, rows in self._all.items() if rows.space == space}
        if name in same_space:
            return same_space[name]
        return next((rows.directions for rows in same_space.values()), None)

    def adopt(self, losses: nn.ModuleDict) -> None:
        """Set the last rows of each classifier and of the centres to the stored rows of earlier identities."""
        for name, target in identity_rows(losses).items():
            if (rows := self.rows_for(name, space_of(losses[name]))) is not None:
                rows.copy_to(target)

    def interpolate(self, losses: nn.ModuleDict, *, alpha: float) -> None:
        """Set the last rows of each classifier and of the centres to alpha x present + (1 - alpha) x stored."""
        for name, target in identity_rows(losses).items():
            if (rows := self.rows_for(name, space_of(losses[name]))) is not None:
                now = target[len(target) - len(rows) :]
                IdentityRows(now.lerp(rows.weight, 1 - alpha), rows.space, rows.is_known).copy_to(target)

    def renewed(self, losses: nn.ModuleDict, *, identities: Tensor, is_earlier: Tensor) -> RowStore:
        """Return the store after a stage.

        A loss of the stage gives its rows. A loss that only earlier stages had keeps the rows of the earlier
        identities; those of the new ones are the directions of another classifier of the stage that has the same space,
        or are marked as not known.

        Args:
            losses: of the stage that ends.
            identities: (I,) which rows of these losses to keep, in order.
            is_earlier: (I,) which of them are the stored identities, in the order of the store.

        """
        present = {
            name: IdentityRows(rows[identities], space_of(losses[name])) for name, rows in identity_rows(losses).items()
        }
        stage = RowStore(present)
        absent = {name: rows for name, rows in self._all.items() if name not in present}
        return RowStore(
            present | {name: _extended(name, rows, stage, is_earlier=is_earlier) for name, rows in absent.items()}
        )

    def get_extra_state(self) -> dict[str, tuple[int, int, Space]]:
        """Return of each loss how many rows there are, their length, and their space."""
        return {name: (*rows.weight.shape, rows.space) for name, rows in self._all.items()}

    def set_extra_state(self, state: Mapping[str, tuple[int, int, Space]]) -> None:
        """Build rows without values, which the rest of the state gives."""
        self.clear()
        for name, (count, dimension, space) in state.items():
            self[name] = IdentityRows(torch.empty(count, dimension, device="meta"), space)


def _extended(name: str, earlier: IdentityRows, stage: RowStore, *, is_earlier: Tensor) -> IdentityRows:
    weight = earlier.weight.new_zeros(len(is_earlier), earlier.weight.shape[1])
    is_known = torch.zeros_like(is_earlier)
    weight[is_earlier], is_known[is_earlier] = earlier.weight, earlier.is_known
    if (other := stage.rows_for(name, earlier.space)) is not None:
        new = other.select(~is_earlier)
        weight[~is_earlier], is_known[~is_earlier] = new.weight, new.is_known
    return IdentityRows(weight, earlier.space, is_known)


def space_of(loss: nn.Module) -> Space:
    """Return the space of the classifier or the centres of a loss."""
    settings = cast("Loss", loss).settings
    is_after = settings.feature == "after_neck"
    if settings.has_classifier:
        return "after_neck" if is_after else "before_neck"
    return "centres_after_neck" if is_after else "centres_before_neck"
