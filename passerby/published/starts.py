"""Published files as starts of training: `model.weights` of a recipe takes what `passerby import` takes."""

from __future__ import annotations

import json
from pathlib import Path

from passerby.errors import UserError
from passerby.metadata import safetensors_texts
from passerby.models.backbone import Backbone
from passerby.models.backbones import BACKBONES, Loaded, fit_tensors, load_backbone
from passerby.models.embedder import ModelSettings
from passerby.models.weights_file import read_table
from passerby.published.family import Imported
from passerby.published.hub import local_file
from passerby.published.importing import reasons_of, without_module
from passerby.published.table import FAMILIES
from passerby.published.tensors import FileTensors
from passerby.settings import Plain, build

_BODY = "backbone.body."
_CAMERAS = ("sie_embed", "cv_embed")
"""Embeddings of cameras, which are those of other data."""

_FACTS = ("last_stride", "stem_pool", "ibn", "attention", "non_local")


def load_start(backbone: Backbone, path: str | Path, *, model: ModelSettings, size: tuple[int, int]) -> Loaded:
    """Load a published file, or one of this program, into a backbone.

    Args:
        backbone: the backbone that the settings built.
        path: the file, or `hf://owner/name/file`.
        model: the settings.
        size: (H, W) of the images, for tables of positions.

    Raises:
        UserError: see `load_backbone`; the text adds which settings the file is for, where they are known.

    """
    path = local_file(path)
    described = _described(path)
    if described is not None:
        return _load(backbone, path, None, described, model)
    table = read_table(path)
    tensors = FileTensors(without_module(table.tensors, source=str(path)), source=str(path))
    names = list(reasons_of(tensors))
    if len(names) != 1 or FAMILIES[names[0]].plain_start:
        return load_backbone(backbone, path)
    kind = FAMILIES[names[0]]
    try:
        imported = kind.convert(tensors, kind.settings_class(), size=size)
        tensors.require_all_used(kind.without_influence, family=names[0])
    except UserError:  # as a start it may fit all the same, and otherwise the refusal names its tensors
        return load_backbone(backbone, path)
    return _load(backbone, path, imported, imported.model, model)


def _load(
    backbone: Backbone, path: str | Path, imported: Imported | None, published: ModelSettings, model: ModelSettings
) -> Loaded:
    try:
        if imported is None or _class_of(published.backbone) is not type(backbone):
            loaded = load_backbone(backbone, path)
        else:
            body = {key.removeprefix(_BODY): value for key, value in imported.state.items() if key.startswith(_BODY)}
            camera_free = {key: value for key, value in body.items() if not _is_of_cameras(key)}
            optional = list(filter(_is_of_cameras, backbone.body.state_dict()))
            loaded = fit_tensors(backbone, camera_free, source=str(path), optional=optional)
    except UserError as error:
        raise UserError(f"{error}; the file is for {_settings_text(published)}") from error
    differing = _differences(backbone, published, model)
    notes = (f"the file is for {', '.join(differing)}",) if differing else ()
    return Loaded(loaded.count_matched, loaded.kept, loaded.unused, loaded.resampled, notes)


def _is_of_cameras(key: str) -> bool:
    return key.partition(".")[0] in _CAMERAS


def _described(path: Path) -> ModelSettings | None:
    """Return the settings in a file that this program wrote, or None."""
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    text = safetensors_texts(path).get("passerby")
    return None if text is None else build(ModelSettings, json.loads(text)["model"], source=str(path))


def _class_of(name: str) -> type[Backbone] | None:
    return next((family for family in reversed(list(BACKBONES.values())) if family.knows(name)), None)


def _settings_text(published: ModelSettings) -> str:
    return ", ".join([f"model.backbone={published.backbone}", *_architecture_texts(published.architecture)])


def _architecture_texts(architecture: dict[str, Plain]) -> list[str]:
    return [f"model.architecture.{key}={json.dumps(value)}" for key, value in architecture.items()]


def _differences(backbone: Backbone, published: ModelSettings, model: ModelSettings) -> list[str]:
    """Return the settings of a file that are other than those of the backbone and that its tensors do not show."""
    named = [
        f"model.{name}={getattr(published, name)}"
        for name in _FACTS
        if getattr(published, name) != getattr(model, name)
    ]
    if _class_of(published.backbone) is not type(backbone):
        return named
    of_file = build(backbone.settings_class, published.architecture, source="the file").model_dump(mode="json")
    of_network = backbone.architecture.model_dump(mode="json")
    return named + _architecture_texts({key: value for key, value in of_file.items() if of_network.get(key) != value})
