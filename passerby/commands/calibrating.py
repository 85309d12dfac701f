"""Functions behind `passerby calibrate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from passerby.console import bar
from passerby.encoders import Model, embed_dataset, select_dataset
from passerby.metrics.calibration import RATES, Calibration, PairThresholds, calibrate
from passerby.types import CameraNorm, Embeddings

MOST_PRINTED = 12
"""Pairs of cameras on the screen; `--json` has all."""


def calibrate_model(
    model: Model,
    *,
    on: str | None,
    data: str | None,
    pattern: str | None = None,
    camera_norm: CameraNorm = "none",
    rates: Sequence[float] = RATES,
    console: Console,
) -> Calibration:
    """Embed the query and gallery images of a data set, and find the distances at false accept rates.

    Args:
        model: that is calibrated.
        on: name of the data set in the recipe of the model, or a kind.
        data: folder of the data set.
        pattern: template of its file names.
        camera_norm: how the effects of cameras are taken out of the vectors.
        rates: false accept rates.
        console: for progress and notes.

    Raises:
        UserError: no such data set, or one without enough impostor pairs; see `calibrate`.

    """
    dataset = select_dataset(model.recipe, on=on, data=data, pattern=pattern)
    for note in dataset.notes:
        console.print(note, highlight=False)
    with bar(f"embedding {dataset.name}", console) as advance:
        embeddings = embed_dataset(model, dataset, progress=advance)
    return calibrate(embeddings, rates=rates, camera_norm=camera_norm)


def calibrate_vectors(file: Path, *, camera_norm: CameraNorm = "none", rates: Sequence[float] = RATES) -> Calibration:
    """Find the distances at false accept rates of the vectors of any program."""
    return calibrate(Embeddings.load(file), rates=rates, camera_norm=camera_norm)


def print_calibration(calibration: Calibration, console: Console) -> None:
    """Print the thresholds of all pairs of cameras together, and of single pairs with the largest deviation."""
    pooled = calibration.pooled
    console.print(
        f"{calibration.count_images:,} images of {calibration.count_identities:,} identities in "
        f"{calibration.dataset or 'the file'}: {pooled.count_impostors:,} pairs of different identities and "
        f"{pooled.count_genuine:,} of one, in two cameras"
        + ("" if calibration.camera_norm == "none" else f"; camera norm {calibration.camera_norm}"),
        highlight=False,
    )
    table = Table("false accept rate", "cosine distance", "95 % interval (by identity)", "same person accepted")
    for row in pooled.thresholds:
        accepted = "-" if row.accepted is None else f"{100 * row.accepted:.1f} %"
        table.add_row(f"{row.rate:g}", f"{row.distance:.4f}", f"{row.low:.4f} to {row.high:.4f}", accepted)
    console.print(table)
    if pooled.unsupported:
        rates = ", ".join(f"{rate:g}" for rate in pooled.unsupported)
        console.print(
            f"{rates}: too few pairs; a rate needs ten false accepts to be measured, here "
            f"{10 / min(pooled.unsupported):,.0f} pairs",
            highlight=False,
        )
    _print_pairs(calibration, console)


def _print_pairs(calibration: Calibration, console: Console) -> None:
    """Print the thresholds of the pairs of cameras at the largest rate, the strictest first."""
    rate = calibration.pooled.thresholds[0].rate
    rows = [row for row in calibration.by_cameras if any(each.rate == rate for each in row.thresholds)]
    if len(rows) < 2:
        return
    rows.sort(key=lambda row: row.thresholds[0].distance)
    table = Table("cameras", "cosine distance", "95 % interval", title=f"by pair of cameras, at {rate:g}")
    half = MOST_PRINTED // 2
    for row in rows if len(rows) <= MOST_PRINTED else [*rows[:half], *rows[-half:]]:
        threshold = row.thresholds[0]
        interval = f"{threshold.low:.4f} to {threshold.high:.4f}"
        table.add_row(_names(row), f"{threshold.distance:.4f}", interval)
    console.print(table)
    if len(rows) > MOST_PRINTED:
        console.print(f"the {half} strictest and the {half} most lenient of {len(rows)} pairs", highlight=False)


def _names(row: PairThresholds) -> str:
    return "all" if row.cameras is None else f"{row.cameras[0]} and {row.cameras[1]}"
