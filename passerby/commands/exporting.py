"""Functions behind `passerby export`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from passerby.commands.evaluating import ChangedRules, Extras, evaluate_run
from passerby.encoders import Model, load_model
from passerby.errors import UserError
from passerby.exporting import Format, export
from passerby.exporting.consumers import ExportOptions, export_for
from passerby.exporting.contracts import Consumer


def export_format(run: Path, out: Path, *, to: Format, options: ExportOptions, console: Console) -> None:
    """Write a model as ONNX or safetensors, and print the file and its difference from torch.

    Args:
        run: a run folder, or its embedder.safetensors.
        out: the file.
        to: the format.
        options: of which the vector and the device are followed; the others belong to `--for`.
        console: where the file is printed.

    Raises:
        UserError: see `passerby.exporting.export`; an option that belongs to `--for`.

    """
    plain = ExportOptions(feature=options.feature, device=options.device)
    if options != plain:
        raise UserError("--flip, --half, --int8, --calibration-images, --square and --batch belong to --for PROGRAM")
    difference = export(run, out, to=to, feature=options.feature, device=options.device)
    _say(console, str(out) if difference is None else f"{out}\n{difference}")


def export_program(
    run: Path,
    out: Path | None,
    consumer: Consumer,
    options: ExportOptions,
    *,
    data: str | None,
    pattern: str | None = None,
    console: Console,
) -> None:
    """Write a model for a program, and print what it needs to be used.

    Args:
        run: a run folder, or its embedder.safetensors.
        out: the file or folder; None = a name in the working directory.
        consumer: the program.
        options: choices.
        data: folder of a labelled data set on which file and model are evaluated; None = neither is.
        pattern: template of its file names.
        console: where everything is printed.

    Raises:
        UserError: see `export_for`.

    """
    if data is not None and consumer == "reid":
        raise UserError("--data compares the scores of a graph with those of the model; for reid there is no graph")
    exported = export_for(run, out, consumer, options)
    beside = {"boxmot": f" and {exported.path.name}.metadata.json", "openvino": f" and {exported.path.stem}.bin"}
    _say(console, f"{exported.path}{beside.get(consumer, '')}\n{exported.difference}")
    for note in exported.notes:
        _say(console, note)
    if data is not None:
        before = _score(exported.trained, data, pattern, console)
        after = _score(load_model(exported.path), data, pattern, Console(quiet=True))  # the notes would be the same
        _say(
            console,
            f"mAP on {data}: {before:.2f} by torch, {after:.2f} by the file in {options.precision} "
            f"({after - before:+.2f})",
        )
    _say(console, f"\nfor {consumer}:")
    for line in exported.lines:
        _say(console, f"  {line}")


def _score(model: Model, data: str, pattern: str | None, console: Console) -> float:
    """Return the mean average precision in percent on a folder."""
    result = evaluate_run(
        model, on=None, data=data, pattern=pattern, changes=ChangedRules(), extras=Extras(), console=console
    )
    return 100 * result.plain.mAP


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
