"""Shipped recipes and reference rows: rows of published tables with their results, by name.

A reference row is a recipe, or another row, with overrides as on the command line. Its results were published
elsewhere, not measured with passerby. This module imports no heavy libraries, so that lists are printed at once.
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

REFERENCE_NOTE = "Reference results are taken from published or earlier work, not measured by passerby."
"""The note below every table of reference results."""

Percent = Annotated[float, Field(ge=0, le=100)]
Points = Annotated[float, Field(ge=-100, le=100)]
LossValue = Annotated[float, Field(ge=0)]


class Figures(Settings):
    """The mAP and rank-1 of one ranking, in percent."""

    mAP: Percent
    rank1: Percent


class ReferenceResult(Settings):
    """Published results on one data set, in percent; `mean` is that of mAP and rank-1.

    The losses of an autoencoder (`ae`, `ae_l1`, `ae_l2`) are numbers as they are, and lower is better.
    """

    mAP: Percent
    rank1: Percent | None = None
    forgetting: Points | None = Field(
        None, description="change of the mAP from the stage that learnt the set to the last; negative = lost"
    )
    mean: Percent | None = None
    reranked: Figures | None = Field(None, description="with k-reciprocal re-ranking")
    ae: LossValue | None = Field(None, description="reconstruction error of the autoencoder trained on the data set")
    ae_l1: LossValue | None = Field(None, description="ae with the penalty on the sizes of the weights")
    ae_l2: LossValue | None = Field(None, description="ae with the penalty on the squares of the weights")

    @property
    def losses(self) -> dict[str, float]:
        """The reference losses of an autoencoder, by name."""
        losses = {"ae": self.ae, "ae_l1": self.ae_l1, "ae_l2": self.ae_l2}
        return {name: value for name, value in losses.items() if value is not None}


class ReferenceRow(Settings):
    """One row of a published table."""

    based_on: str = Field(description="a shipped recipe, or a reference row above")
    differs: Annotated[str, Field(min_length=1, description="differences from `based_on`, in words")]
    overrides: tuple[str, ...] = Field((), description="the differences as key=value")
    results: dict[str, ReferenceResult] = Field(
        default_factory=dict, description="reference results by data set; empty when none are known"
    )

    @property
    def summary(self) -> str:
        """The figures as one line: mAP / rank-1 (change of the mAP), losses, by data set where there are several."""
        lines = [
            _summary(result) if len(self.results) == 1 else f"{name} {_summary(result)}"
            for name, result in self.results.items()
        ]
        return ", ".join(lines) or "no reference results"


def _summary(result: ReferenceResult) -> str:
    plain = f"mAP {result.mAP:.1f}" if result.rank1 is None else f"{result.mAP:.1f} / {result.rank1:.1f}"
    if result.forgetting is not None:
        plain = f"{plain} ({result.forgetting:+.1f})"
    if result.losses:
        plain = f"{plain}, {' / '.join(result.losses)} {' / '.join(f'{value:.4f}' for value in result.losses.values())}"
    reranked = result.reranked
    return plain if reranked is None else f"{plain}, re-ranked {reranked.mAP:.1f} / {reranked.rank1:.1f}"


# ---- comparison with measured results


@dataclass(frozen=True)
class Comparison:
    """One measured figure and its reference, in percent; a loss as it is, with more digits."""

    figure: str
    reference: float
    measured: float
    digits: int = 1

    @property
    def difference(self) -> float:
        """Measured minus reference; positive is better, except for a loss."""
        return self.measured - self.reference

    @property
    def texts(self) -> tuple[str, str, str]:
        """Reference, measured and difference as text.

        >>> Comparison("mAP", 80, 79.5).texts, Comparison("ae (loss)", 0.001, 0.0025, digits=4).texts
        (('80.0', '79.5', '-0.5'), ('0.0010', '0.0025', '+0.0015'))
        """
        digits = self.digits
        return f"{self.reference:.{digits}f}", f"{self.measured:.{digits}f}", f"{self.difference:+.{digits}f}"


def compare(
    reference: ReferenceResult,
    plain: Figures,
    reranked: Figures | None,
    *,
    forgetting: float | None = None,
    losses: Mapping[str, float] | None = None,
) -> list[Comparison]:
    """Compare every measured figure with its reference, where there is one.

    Args:
        reference: the reference results.
        plain: the measured figures without re-ranking.
        reranked: with re-ranking; None when the recipe switches it off.
        forgetting: change of the mAP since the set was learnt, in points; None when it was learnt last.
        losses: of the autoencoder that the set left, by name; None when it left none.

    >>> [(c.figure, round(c.difference, 1)) for c in compare(ReferenceResult(mAP=80), Figures(mAP=81, rank1=90), None)]
    [('mAP', 1.0)]
    """
    comparisons = [Comparison("mAP", reference.mAP, plain.mAP)]
    if reference.rank1 is not None:
        comparisons.append(Comparison("rank-1", reference.rank1, plain.rank1))
    if reference.forgetting is not None and forgetting is not None:
        comparisons.append(Comparison("forgetting", reference.forgetting, forgetting))
    if reference.mean is not None:
        comparisons.append(Comparison("mean", reference.mean, (plain.mAP + plain.rank1) / 2))
    if reference.reranked is not None and reranked is not None:
        comparisons.append(Comparison("re-ranked mAP", reference.reranked.mAP, reranked.mAP))
        comparisons.append(Comparison("re-ranked rank-1", reference.reranked.rank1, reranked.rank1))
    measured_losses = losses or {}
    comparisons += [
        Comparison(f"{name} (loss)", value, measured_losses[name], digits=4)
        for name, value in reference.losses.items()
        if name in measured_losses
    ]
    return comparisons


class Reference(Settings):
    """The reference results of a run on one data set, and reservations about the comparison.

    Attributes:
        row: name of the reference row; None when the recipe states reference results itself.
        result: the figures.
        caveats: sentences on why measured and reference results are not directly comparable.

    """

    row: str | None
    result: ReferenceResult
    caveats: tuple[str, ...] = ()


# ---- shipped files


def shipped_folder() -> Path:
    """Return the folder of the recipes in the package."""
    return Path(str(resources.files("passerby"))) / "shipped"


def shipped_files() -> dict[str, Path]:
    """Return the files of the recipes in the package, by name."""
    files = sorted(shipped_folder().glob("*.yaml"))
    return {file.stem: file for file in files if file.name != _FILE_NAME}


def shipped_recipes() -> dict[str, str]:
    """Return the names of the recipes in the package, with their one-line descriptions."""
    return {name: str(read_mapping(file).get("description", "")) for name, file in shipped_files().items()}


@cache
def shipped_rows() -> Mapping[str, ReferenceRow]:
    """Return the reference rows in the package, by name."""
    return read_rows(shipped_folder() / _FILE_NAME)


def read_rows(path: Path) -> dict[str, ReferenceRow]:
    """Read a file of reference rows, by name.

    Raises:
        UserError: an unknown key, a wrong value, or a `based_on` that is neither a shipped recipe nor a row above.

    """
    rows: dict[str, ReferenceRow] = {}
    for name, entry in read_mapping(path).items():
        row = build(ReferenceRow, _mapping(entry, f"{path}, {name}"), source=f"{path}, {name}")
        names = (*rows, *shipped_files())
        if row.based_on not in names:
            hint = did_you_mean(row.based_on, names)
            raise UserError(
                f"{path}, {name}: based_on is {row.based_on!r}, neither a shipped recipe nor a reference row above"
                f"{hint}"
            )
        rows[name] = row
    return rows


def _mapping(entry: Plain, source: str) -> dict[str, Plain]:
    if not isinstance(entry, dict):
        raise UserError(f"{source} must hold 'key: value' lines, got {entry!r}")
    return entry


_FILE_NAME = "reference_results.yaml"
