"""Train a model, adapt it to unlabelled images, and write it for other programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from passerby import exporting
from passerby.adaptation.clusters import find_identities
from passerby.adaptation.recipe import adaptation, resumed_adaptation
from passerby.adaptation.student import student_adaptation
from passerby.clustering.summary import ClusterSummary
from passerby.device import InferenceSettings
from passerby.errors import UserError
from passerby.exporting import Parity
from passerby.methods.table import DEFAULT_CLUSTERING
from passerby.recipe import Recipe
from passerby.report.page import write_report
from passerby.training import session
from passerby.training.results import Result
from passerby.training.start_messages import require_free

FORMATS: dict[str, exporting.Format] = {".onnx": "onnx", ".safetensors": "safetensors"}


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    start: Literal["fresh", "resume"] = "fresh",
    say: Callable[[str], None] | None = None,
) -> list[Result]:
    """Train by a recipe into a run folder, and return the scores on each data set.

    Args:
        recipe: as read by `load_recipe`.
        out: the run folder.
        start: `fresh` refuses a folder that holds a run, `resume` continues it.
        say: called with notes on the data and the recipe; None drops them.

    Returns:
        One result per data set of the evaluation; `plain` and `reranked` are its scores.

    Raises:
        UserError: data or settings that do not fit.

    """
    return session.train(recipe, Path(out), start=start, say=say)


def adapt(
    run: str | Path,
    folder: str | Path,
    out: str | Path,
    *,
    method: str | None = None,
    backbone: str | None = None,
    pattern: str | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    start: Literal["fresh", "resume"] = "fresh",
    report: Literal["write", "skip"] = "write",
    say: Callable[[str], None] | None = None,
) -> ClusterSummary:
    """Adapt a trained model to a folder of unlabelled images, and return the identities that it predicts for them.

    It does what `passerby adapt` does: train, predict identities, and write the report.

    Args:
        run: folder of the finished run.
        folder: of the images, at any depth.
        out: folder of the new run, which gets `clusters.csv` and `report.html` too.
        backbone: network of a student that learns from `run`, which may then be any model that runs, such as an ONNX
            file; None = train the model of the run.
        method: a method that assigns pseudo-labels, for example `contrast`, `spcl` or `mmt`; None = `contrast`. A
            student learns the clusters of its teacher, and with a method named goes on with clusters of its own.
        pattern: template of the file names that tells cameras; None = by the usual names.
        overrides: `key=value` that change the recipe.
        device: `auto`, `cpu`, `cuda`, or one of several GPUs as in `cuda:1`.
        start: `fresh` refuses a folder that holds a run, `resume` continues it; the run and the folder are then those
            that it was begun with, or where these have moved to.
        report: whether `report.html` is written.
        say: called with notes on the data and the recipe, and with the predicted identities; None drops them.

    Raises:
        UserError: no finished run, no images, images in which no clusters are found, or a run in `out` that adapts
            another one or to other images.

    """
    notes = say or (lambda _: None)
    inference, out = InferenceSettings(device=device), Path(out)
    overrides = [f"engine.device={device}", *overrides]
    if start == "resume":
        recipe = resumed_adaptation(Path(run), Path(folder), out, overrides=overrides)
    elif backbone is not None:
        require_free(out)
        recipe = student_adaptation(
            Path(run),
            Path(folder),
            backbone=backbone,
            method=method,
            pattern=pattern,
            overrides=overrides,
            inference=inference,
            say=notes,
        )
    else:
        require_free(out)
        recipe = adaptation(
            Path(run),
            Path(folder),
            method=method or DEFAULT_CLUSTERING,
            pattern=pattern,
            overrides=overrides,
            inference=inference,
            say=notes,
        )
    train(recipe, out, start=start, say=notes)
    summary = find_identities(out, inference=inference)
    for sentence in summary.sentences():
        notes(sentence)
    if report == "write":
        write_report(out, inference=inference)
    return summary


def export(run: str | Path, out: str | Path, *, device: str = "auto") -> Parity | None:
    """Write the model of a run as one `.onnx` or `.safetensors` file.

    Args:
        run: a run folder, or its `embedder.safetensors`.
        out: the file; its ending chooses the format.
        device: where an ONNX file is compared with torch.

    Returns:
        The largest difference between the ONNX file and torch; None for safetensors.

    Raises:
        UserError: no finished run, another ending, or a model that ONNX cannot represent exactly enough.

    """
    path = Path(out)
    if path.suffix not in FORMATS:
        raise UserError(f"{out} ends in {path.suffix or 'nothing'}, allowed: {', '.join(FORMATS)}")
    return exporting.export(Path(run), path, to=FORMATS[path.suffix], device=device)
