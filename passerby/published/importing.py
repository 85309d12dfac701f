"""From a published file to a model of this program: family, settings, conversion, check."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from passerby.errors import UserError, did_you_mean, first_line
from passerby.metadata import safetensors_texts
from passerby.models.embedder import Embedder, load_state, save_embedder
from passerby.models.weights_file import few_names, read_table
from passerby.published.family import Imported, PublishedFamily
from passerby.published.hub import local_file
from passerby.published.table import FAMILIES
from passerby.published.tensors import FileTensors
from passerby.recipe import Recipe, TestSettings
from passerby.recipe.places import public_text
from passerby.settings import Plain, Settings, build, override


@dataclass(frozen=True, eq=False)
class PublishedModel:
    """A published file as a model.

    Attributes:
        file: name of the file, without its folder.
        digest: SHA-256 of the file, in hexadecimal.
        family: name of its family in `FAMILIES`.
        reason: why it is of that family.
        settings: what is no key of the file.
        imported: its parts in the terms of this program.
        embedder: the network with the weights, in `eval` mode.
        notes: sentences that a person must see.

    """

    file: str
    digest: str
    family: str
    reason: str
    settings: Settings
    imported: Imported
    embedder: Embedder
    notes: tuple[str, ...]

    @property
    def recipe(self) -> Recipe:
        """The recipe that tests the model as published, and that continued training begins with."""
        return Recipe(
            description=f"{self.file} (SHA-256 {self.digest}), a published model of the family {self.family}",
            model=self.imported.model,
            input=self.embedder.input,
            test=TestSettings(feature=self.imported.vector, distance=self.imported.distance),
        )

    def save(self, path: str | Path) -> None:
        """Write weights, input settings and recipe as one .safetensors."""
        text_tower = self.imported.text_tower
        save_embedder(self.embedder, path, recipe=public_text(self.recipe), text_tower=text_tower)


def read_published(
    path: str | Path,
    *,
    family: str | None = None,
    overrides: Sequence[str] = (),
    size: tuple[int, int] | None = None,
) -> PublishedModel:
    """Read a published file, without running code from it.

    Args:
        path: .pth, .pt, .bin, .tar or .safetensors, or `hf://owner/name/file`.
        family: a name in `FAMILIES`; None = recognised by the names of the tensors.
        overrides: `key=value` of the family's `settings_class`.
        size: (H, W) of the images; None = as published.

    Raises:
        UserError: not a weights file, one of another family, of several or of none, a tensor that the family does not
            know or that is missing, or a setting that is unknown or without effect.

    """
    path = local_file(path)
    _require_foreign(path)
    table = read_table(path)
    tensors = FileTensors(without_module(table.tensors, source=str(path)), source=str(path))
    name, reason = recognise_family(tensors) if family is None else _require_family(tensors, family)
    kind = FAMILIES[name]
    settings = family_settings(kind, overrides)
    imported = _convert(kind, tensors, settings, size=size, name=name)
    tensors.require_all_used(kind.without_influence, family=name)
    for assignment in overrides:
        if assignment.partition("=")[0] in imported.idle:
            raise UserError(f"--set {assignment} has no effect on {path}; leave it out")
    if size is not None and imported.input.size != size:
        imported = replace(imported, input=imported.input.model_copy(update={"size": size}))
    return PublishedModel(
        path.name,
        _digest(path),
        name,
        reason,
        settings,
        imported,
        embedder_of(imported, source=str(path)),
        (*table.notes, *imported.notes),
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_foreign(path: Path) -> None:
    """Refuse files that need no import."""
    if path.suffix == ".onnx":
        raise UserError(f"{path} needs no import: embed, evaluate and search take ONNX files of any program")
    if path.is_dir():
        raise UserError(f"{path} is a folder; import takes a file of weights")
    if path.suffix == ".safetensors" and path.is_file() and "passerby" in safetensors_texts(path):
        raise UserError(f"{path} needs no import: it is a model file of passerby already")


def without_module(tensors: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """Return tensors without the `module.` that data-parallel training puts before their names.

    Raises:
        UserError: two tensors would have the same name.

    """
    plain: dict[str, Tensor] = {}
    for key, value in tensors.items():
        short = key
        while short.startswith("module."):
            short = short.removeprefix("module.")
        if short in plain:
            raise UserError(f"{source} holds {short!r} with and without 'module.', as of two networks")
        plain[short] = value
    return plain


def recognise_family(tensors: FileTensors) -> tuple[str, str]:
    """Return the one family whose files look like this, and the reason.

    Raises:
        UserError: none, or several.

    """
    reasons = reasons_of(tensors)
    if len(reasons) == 1:
        return next(iter(reasons.items()))
    if not reasons:
        raise UserError(
            f"{tensors.source} is of no known family of published models; its tensors are called "
            f"{few_names(list(tensors), most=5)}; see `passerby models`, or name the family with --as"
        )
    candidates = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise UserError(
        f"{tensors.source} looks like several families ({candidates}); name the one that is meant with --as"
    )


def reasons_of(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the families that recognise tensors, with their reasons."""
    by_family = {name: kind.recognises(tensors) for name, kind in FAMILIES.items()}
    return {name: reason for name, reason in by_family.items() if reason is not None}


def family_name(word: str) -> str:
    """Return the key in `FAMILIES` of a name that may be written with hyphens.

    Raises:
        UserError: an unknown name.

    """
    name = word.replace("-", "_").lower()
    if name not in FAMILIES:
        hint = did_you_mean(name, FAMILIES) or f"; known: {', '.join(FAMILIES)}"
        raise UserError(f"--as {word}: no such family of published models{hint}")
    return name


def _require_family(tensors: FileTensors, word: str) -> tuple[str, str]:
    name = family_name(word)
    reason = FAMILIES[name].accepts(tensors)
    if reason is None:
        others = "; ".join(f"it looks like {other}: {why}" for other, why in reasons_of(tensors).items())
        hint = others or f"its tensors are called {few_names(list(tensors), most=5)}"
        raise UserError(f"{tensors.source} is no file of the family {name}; {hint}")
    return name, f"as given; {reason}"


def family_settings(kind: type[PublishedFamily], overrides: Sequence[str]) -> Settings:
    """Return the settings of a family with changes `key=value`."""
    data: dict[str, Plain] = {}
    for assignment in overrides:
        data = override(data, assignment)
    if data and not kind.settings_class.model_fields:
        raise UserError(f"--set {overrides[0]}: files of this family say everything; there is nothing to set")
    return build(kind.settings_class, data, source="--set")


def embedder_of(imported: Imported, *, source: str) -> Embedder:
    """Return the network of a published model with its weights, in `eval` mode.

    Raises:
        UserError: weights that do not fit the network.

    """
    embedder = Embedder(imported.model, imported.input, load=False, cameras=imported.cameras)
    expected, state = embedder.state_dict(), imported.state
    missing = [key for key in expected if key not in state]
    counters = {key: torch.tensor(0) for key in missing if key.endswith("num_batches_tracked")}
    shapes = [
        f"{key} {tuple(value.shape)} instead of {tuple(expected[key].shape)}"
        for key, value in state.items()
        if key in expected and value.shape != expected[key].shape
    ]
    odd = {
        "missing": [key for key in missing if key not in counters],
        "of another shape": shapes,
        "without a place": [key for key in state if key not in expected],
    }
    faults = [f"{len(keys)} {fault} ({few_names(keys)})" for fault, keys in odd.items() if keys]
    if faults:
        raise UserError(f"{source} does not fit {imported.model.backbone!r}: {'; '.join(faults)}")
    load_state(embedder, state | counters, source=source)
    return embedder.eval()


def _convert(
    kind: type[PublishedFamily], tensors: FileTensors, settings: Settings, *, size: tuple[int, int] | None, name: str
) -> Imported:
    try:
        return kind.convert(tensors, settings, size=size)
    except UserError:
        raise
    except Exception as error:  # tensors without the dimensions, or of the sizes, that any file of the family has
        raise UserError(
            f"{tensors.source}: the names are those of {name}, but the shapes of its tensors do not fit together "
            f"({first_line(error)})"
        ) from error
