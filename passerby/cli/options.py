"""Options shared by several commands, and the console."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from passerby.device import AUTOMATIC, AnyEngine, AnyPrecision, InferenceSettings
from passerby.files import require_file_name

if TYPE_CHECKING:
    from rich.console import Console


def file_to_write(path: Path | None) -> Path | None:
    """Refuse an output path that cannot be written, before any work is done."""
    return None if path is None else require_file_name(path)


RunPath = Annotated[Path, typer.Argument(help="a run folder, or its embedder.safetensors", show_default=False)]
ModelPath = Annotated[
    Path,
    typer.Argument(
        help="a run folder, a model file of passerby, or an .onnx or .xml of any program", show_default=False
    ),
]
InputText = Annotated[
    list[str] | None,
    typer.Option(
        "--input", help="input of an .onnx or .xml of another program: size=[256,128], mean=[..], output=NAME"
    ),
]
ImportedFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--import", help="a Python file of your own that adds losses, methods, ...; it is run", show_default=False
    ),
]
Overrides = Annotated[list[str] | None, typer.Argument(help="settings to change, key=value", show_default=False)]
RecipeName = Annotated[str, typer.Argument(help="a shipped recipe, a reference row or a YAML file", show_default=False)]
DataFolder = Annotated[str | None, typer.Option("--data", help="folder of the images", show_default=False)]
PatternText = Annotated[
    str | None,
    typer.Option(
        "--pattern",
        help="pattern of identity and camera in file names: '{pid}_{cam}_*', '{cam}/{pid}/*'",
        show_default=False,
    ),
]
MasksFolder = Annotated[str | None, typer.Option("--masks", help="folder of foreground masks", show_default=False)]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", help="also write the results as JSON", callback=file_to_write, show_default=False),
]
CamerasRule = Literal["standard", "ignore"]
CameraNormRule = Annotated[
    Literal["none", "centre", "standardise", "auto"],
    typer.Option(
        "--camera-norm",
        help="take each camera's mean (centre) and spread (standardise) out of the vectors, or what of the mean the "
        "number of people supports (auto)",
    ),
]
QueriesRule = Literal["single", "multi"]
UnitRule = Literal["image", "tracklet"]
ClothesRule = Literal["general", "changing", "same"]
KindName = Annotated[str, typer.Option("--kind", help="kind of data set, see `passerby data list`")]
Folder = Annotated[str, typer.Argument(help="the folder of images (for csv: the file)", show_default=False)]

Threshold = Annotated[
    float | None, typer.Option(help="cosine distance up to which two images show the same person", show_default=False)
]

CamerasOf = Annotated[
    str | None,
    typer.Option(
        help="training data set whose cameras the images have, for a model that uses cameras", show_default=False
    ),
]

AcceptRate = Annotated[
    float | None,
    typer.Option(help="false accept rate, e.g. 1e-3: the threshold that `calibrate` found for it", show_default=False),
]


def import_files(files: list[Path] | None) -> None:
    """Run the files that a person names by --import; nothing is loaded when there are none."""
    if files:
        from passerby.plugins import import_file

        for file in files:
            import_file(file)


@contextlib.contextmanager
def searches_on(ray: str | None) -> Iterator[None]:
    """Search over a Ray cluster within the block; nothing is loaded where there is no address."""
    if ray is None:
        yield
        return
    from passerby.commands.scaling import searching_on

    with searching_on(ray):
        yield


def make_console() -> Console:
    """Return the console of this terminal (rich is imported on first use)."""
    from passerby.console import make_console

    return make_console()


Device = Annotated[str, typer.Option(help="auto (a GPU if available), cpu, cuda or cuda:1")]
Batch = Annotated[int, typer.Option(min=1, help="batch size; halved when memory is short")]
Workers = Annotated[int, typer.Option(min=0, help="threads that read images")]
Precision = Annotated[
    AnyPrecision,
    typer.Option(help="auto: the training precision on a GPU, float32 on the CPU; int8: embed and search, on the CPU"),
]
EngineName = Annotated[
    AnyEngine,
    typer.Option(
        help="program that runs the network on the CPU; auto: for many images, the fastest that gives equal vectors"
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        help="compute over a Ray cluster: local (processes of this machine), auto (the running one) or HOST:PORT",
        show_default=False,
    ),
]
OPTIONS: dict[str, object] = {"device": Device, "batch": Batch, "workers": Workers, "precision": Precision}


def runs_a_model(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options --device, --batch, --workers and --precision in place of its argument `inference`."""
    return with_options(command, "inference", InferenceSettings, OPTIONS, AUTOMATIC)


def runs_an_engine(engine: AnyEngine) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that also gives the option --engine, with `engine` as its default."""
    options = {**OPTIONS, "engine": EngineName}
    defaults = replace(AUTOMATIC, engine=engine)
    return lambda command: with_options(command, "inference", InferenceSettings, options, defaults)


def with_options(
    command: Callable[..., None],
    argument: str,
    gather: Callable[..., object],
    options: Mapping[str, object],
    defaults: object,
) -> Callable[..., None]:
    """Give a command several options in place of one argument.

    Args:
        command: that takes the argument by its name.
        argument: its name.
        gather: makes the value of the argument from those of the options.
        options: their annotations by name.
        defaults: has the default of each option under its name.

    """
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def run(**values: object) -> None:
        values_of_options = {name: values.pop(name) for name in options}
        command(**values, **{argument: gather(**values_of_options)})

    parameters = [parameter for name, parameter in signature.parameters.items() if name != argument]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(defaults, name), annotation=kind)
        for name, kind in options.items()
    ]
    run.__signature__ = signature.replace(parameters=[*parameters, *added])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*parameters, *added)}
    return run
