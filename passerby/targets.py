"""What is shipped by name: recipes, and targets, which are rows of tables with the figures that a recipe aims at.

A target is a recipe, or another target, with overrides as a person types them. Its figures are goals and never results:
nobody measured them with passerby. Nothing heavy is imported here, so that lists come at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import Field

from passerby.errors import UserError, did_you_mean
from passerby.settings import Plain, Settings, build, read_mapping

GOALS_NOTE = "Goals are figures to aim at, not measured by passerby."
"""Stands wherever goals are shown."""

Percent = Annotated[float, Field(ge=0, le=100)]
Points = Annotated[float, Field(ge=-100, le=100)]
Loss = Annotated[float, Field(ge=0)]


class Figures(Settings):
    """What is known of one ranking, in percent."""

    mAP: Percent
    rank1: Percent


class Goal(Settings):
    """The figures to aim at on one data set, in percent, as far as a table has them; `mean` is that of the two.

    The losses of an autoencoder (`ae`, `ae_l1`, `ae_l2`) are numbers as they are, and lower is better.
    """

    mAP: Percent
    rank1: Percent | None = None
    forgetting: Points | None = Field(
        None, description="change of the mAP from the stage that learnt the set to the last; negative = lost"
    )
    mean: Percent | None = None
    reranked: Figures | None = Field(None, description="with k-reciprocal re-ranking")
    ae: Loss | None = Field(None, description="error of the reconstruction by the code that the set leaves")
    ae_l1: Loss | None = Field(None, description="ae with the penalty on the sizes of the weights")
    ae_l2: Loss | None = Field(None, description="ae with the penalty on the squares of the weights")

    @property
    def losses(self) -> dict[str, float]:
        """The losses of an autoencoder that are aimed at, by name."""
        found = {"ae": self.ae, "ae_l1": self.ae_l1, "ae_l2": self.ae_l2}
        return {name: value for name, value in found.items() if value is not None}


class Target(Settings):
    """One row of a table."""

    based_on: str = Field(description="a shipped recipe, or a target above")
    differs: Annotated[str, Field(min_length=1, description="what is not as in the recipe, in words")]
    overrides: tuple[str, ...] = Field((), description="the same as key=value")
    goals: dict[str, Goal] = Field(default_factory=dict, description="by data set; empty when no figures are known")

    @property
    def aim(self) -> str:
        """The figures as one line: mAP / rank-1 (change of the mAP), losses, by data set where there are several."""
        lines = [_aim(goal) if len(self.goals) == 1 else f"{name} {_aim(goal)}" for name, goal in self.goals.items()]
        return ", ".join(lines) or "no figures yet"


def _aim(goal: Goal) -> str:
    plain = f"mAP {goal.mAP:.1f}" if goal.rank1 is None else f"{goal.mAP:.1f} / {goal.rank1:.1f}"
    if goal.forgetting is not None:
        plain = f"{plain} ({goal.forgetting:+.1f})"
    if goal.losses:
        plain = f"{plain}, {' / '.join(goal.losses)} {' / '.join(f'{value:.4f}' for value in goal.losses.values())}"
    reranked = goal.reranked
    return plain if reranked is None else f"{plain}, re-ranked {reranked.mAP:.1f} / {reranked.rank1:.1f}"


# ---- measured beside expected


@dataclass(frozen=True)
class Comparison:
    """One figure beside its goal, in percent; a loss as it is, and told with more digits."""

    figure: str
    goal: float
    measured: float
    digits: int = 1

    @property
    def difference(self) -> float:
        """Measured minus goal; positive is better, but for a loss."""
        return self.measured - self.goal

    @property
    def texts(self) -> tuple[str, str, str]:
        """Goal, measured and difference as they are told.

        >>> Comparison("mAP", 80, 79.5).texts, Comparison("ae (loss)", 0.001, 0.0025, digits=4).texts
        (('80.0', '79.5', '-0.5'), ('0.0010', '0.0025', '+0.0015'))
        """
        digits = self.digits
        return f"{self.goal:.{digits}f}", f"{self.measured:.{digits}f}", f"{self.difference:+.{digits}f}"


def compare(
    goal: Goal,
    plain: Figures,
    reranked: Figures | None,
    *,
    forgetting: float | None = None,
    losses: Mapping[str, float] | None = None,
) -> list[Comparison]:
    """Put every figure that a goal names, and that was measured, beside it.

    Args:
        goal: what to aim at.
        plain: what was measured without re-ranking.
        reranked: with re-ranking; None when the recipe switches it off.
        forgetting: change of the mAP since the set was learnt, in points; None when it was learnt last.
        losses: of the autoencoder that the set left, by name; None when it left none.

    >>> [(c.figure, round(c.difference, 1)) for c in compare(Goal(mAP=80, rank1=90), Figures(mAP=81, rank1=89.5), None)]
    [('mAP', 1.0), ('rank-1', -0.5)]
    """
    found = [Comparison("mAP", goal.mAP, plain.mAP)]
    if goal.rank1 is not None:
        found.append(Comparison("rank-1", goal.rank1, plain.rank1))
    if goal.forgetting is not None and forgetting is not None:
        found.append(Comparison("forgetting", goal.forgetting, forgetting))
    if goal.mean is not None:
        found.append(Comparison("mean", goal.mean, (plain.mAP + plain.rank1) / 2))
    if goal.reranked is not None and reranked is not None:
        found.append(Comparison("re-ranked mAP", goal.reranked.mAP, reranked.mAP))
        found.append(Comparison("re-ranked rank-1", goal.reranked.rank1, reranked.rank1))
    told = losses or {}
    found += [Comparison(f"{n} (loss)", value, told[n], digits=4) for n, value in goal.losses.items() if n in told]
    return found


class Expected(Settings):
    """A goal as it stands beside what was measured.

    Attributes:
        target: the row it comes from; None when a recipe states goals of its own.
        goal: the figures.
        caveats: sentences that say why the two do not compare as they stand.

    """

    target: str | None
    goal: Goal
    caveats: tuple[str, ...] = ()


# ---- what the package holds


def shipped_folder() -> Path:
    """Return the folder of the recipes in the package."""
    return Path(str(resources.files("passerby"))) / "recipes"


def shipped_files() -> dict[str, Path]:
    """Return the files of the recipes in the package, by name."""
    files = sorted(shipped_folder().glob("*.yaml"))
    return {file.stem: file for file in files if file.name != _TARGETS}


def shipped_recipes() -> dict[str, str]:
    """Return the names of the recipes in the package, with their one-line descriptions."""
    return {name: str(read_mapping(file).get("description", "")) for name, file in shipped_files().items()}


@cache
def shipped_targets() -> Mapping[str, Target]:
    """Return the targets in the package, by name."""
    return read_targets(shipped_folder() / _TARGETS)


def read_targets(path: Path) -> dict[str, Target]:
    """Read a file of targets by name.

    Raises:
        UserError: an unknown key, a wrong value, or a target that is based on what does not stand above it.

    """
    targets: dict[str, Target] = {}
    for name, entry in read_mapping(path).items():
        target = build(Target, _mapping(entry, f"{path}, {name}"), source=f"{path}, {name}")
        known = (*targets, *shipped_files())
        if target.based_on not in known:
            hint = did_you_mean(target.based_on, known)
            raise UserError(
                f"{path}, {name}: based_on is {target.based_on!r}, which is neither a shipped recipe nor a target above"
                f"{hint}"
            )
        targets[name] = target
    return targets


def _mapping(entry: Plain, source: str) -> dict[str, Plain]:
    if not isinstance(entry, dict):
        raise UserError(f"{source} must hold 'key: value' lines, got {entry!r}")
    return entry


_TARGETS = "targets.yaml"
