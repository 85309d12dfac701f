"""Finding recipes, completing what they leave out, and validating them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from passerby.data.datasets import READERS
from passerby.data.readers.reader import ReaderSettings
from passerby.errors import UserError, did_you_mean
from passerby.metadata import safetensors_text
from passerby.optim import stretched
from passerby.plugins import load_plugins
from passerby.recipe.former import in_present_words
from passerby.recipe.stage import PER_STAGE
from passerby.recipe.tree import Recipe
from passerby.reference_results import ReferenceRow, shipped_files, shipped_recipes, shipped_rows
from passerby.settings import Plain, build, merge, override, parse_yaml, read_mapping, read_yaml


def find_recipe(name: str, folder: Path = Path()) -> Path | dict[str, Plain]:
    """Return the file of a recipe given by path (relative to `folder`) or by the name of a shipped one.

    A reference row has no file of its own; its resolved recipe is returned instead, as plain data. So is the recipe
    inside of a model file (.safetensors).
    """
    path = folder / Path(name).expanduser()
    if path.is_file() and path.suffix == ".safetensors":
        return _inside(path)
    if path.is_file():
        return path
    word = name.removesuffix(".yaml")
    if (shipped := _shipped(word)) is not None:
        return shipped
    hint = did_you_mean(word, (*shipped_recipes(), *shipped_rows()))
    known = f"; shipped: {', '.join(shipped_recipes())}, and the reference rows that `passerby recipe list` shows"
    raise UserError(f"no recipe {name!r}: neither a file nor a shipped name{hint or known}")


def _inside(file: Path) -> dict[str, Plain]:
    """Return the recipe inside of a model file as plain data, in the words of today."""
    source = f"the recipe in {file}"
    data = parse_yaml(safetensors_text(file, "recipe"), source=source)
    if not isinstance(data, dict):
        raise UserError(f"{source} is no mapping")
    return _translated(data, source, None)


def load_recipe(name: str, overrides: Sequence[str] = (), *, epochs: int | None = None) -> Recipe:
    """Read a recipe or a reference row with all that it extends, apply `key=value` overrides, and validate it.

    Its description then also says what of it was changed, since it may no longer be true by itself.

    Args:
        name: a shipped recipe, a reference row, or a file.
        overrides: `key=value`.
        epochs: length of every stage, >= 1; its schedule is stretched with it. None keeps the recipe's.

    Raises:
        UserError: no such recipe, bad YAML, an unknown key, a wrong value: every mistake at once.

    """
    data = _read(find_recipe(name))
    changed = _changed(data, overrides)
    if epochs is not None:
        changed = _stretched(changed, make_recipe(changed, source=f"recipe {name}"), epochs)
        overrides = [*overrides, f"epochs={epochs}"]
    return make_recipe(changed | _described(data, changed, overrides), source=f"recipe {name}")


def _stretched(data: dict[str, Plain], recipe: Recipe, epochs: int) -> dict[str, Plain]:
    """Return plain data with stages of so many epochs, whose schedules are stretched alike."""
    if epochs < 1:
        raise UserError(f"--epochs is {epochs}; a stage needs at least 1")
    stages: list[Plain] = []
    stages_before = cast("list[dict[str, Plain]]", _with_defaults(data)["stages"])
    for stage, settings in zip(stages_before, recipe.stages, strict=True):
        lengths = cast("dict[str, Plain]", stretched(settings.optim, epochs / settings.epochs))
        optim = cast("dict[str, Plain]", stage.get("optim") or {})
        stages.append({**stage, "epochs": epochs, "optim": merge(optim, lengths)})
    return {**data, "stages": stages}


_APART = (
    *("root", "masks", "pattern", "datasets", "evaluate", "description", "reference", "reference_results", "engine"),
    "data.cache",
)
"""What no description is about: where images are, and on what machine they are learnt from."""


def _described(data: dict[str, Plain], changed: dict[str, Plain], overrides: Sequence[str]) -> dict[str, Plain]:
    """Return the description of a recipe followed by its changes, where it has both and was not itself replaced."""
    changes = [
        assignment
        for assignment in overrides
        if not any(f"{assignment.partition('=')[0]}.".startswith(f"{name}.") for name in _APART)
    ]
    description = data.get("description")
    if not changes or not description or changed.get("description") != description:
        return {}
    return {"description": f"{description}; changed: {', '.join(sorted(changes))}"}


def _read(recipe: Path | dict[str, Plain]) -> dict[str, Plain]:
    return read_yaml(recipe, find_recipe, spell=_with_words_spelled) if isinstance(recipe, Path) else recipe


def _shipped(name: str) -> Path | dict[str, Plain] | None:
    row = shipped_rows().get(name)
    return shipped_files().get(name) if row is None else _of_row(name, row)


def _of_row(name: str, row: ReferenceRow) -> dict[str, Plain]:
    """Return the recipe of a reference row, with the row's name and reference results."""
    base = _shipped(row.based_on)
    assert base is not None, "reference rows are based on shipped recipes"
    results: dict[str, Plain] = {dataset: result.model_dump(mode="json") for dataset, result in row.results.items()}
    about: dict[str, Plain] = {"description": f"{name}: {row.differs}", "reference": name, "reference_results": results}
    return {**_changed(_read(base), row.overrides), **about}


def _changed(data: dict[str, Plain], overrides: Sequence[str]) -> dict[str, Plain]:
    for assignment in overrides:
        before = _with_defaults(data)
        if ".data.sampler." in assignment.partition("=")[0]:
            _spell_stage_samplers(before)
        data = override(before, assignment)
        if assignment.partition(".")[0].partition("=")[0] in PER_STAGE:
            _require_effect(assignment, before, data)
    return data


def _require_effect(assignment: str, before: dict[str, Plain], after: dict[str, Plain]) -> None:
    """Refuse an override of the top level that every stage has a value of its own for."""
    if before != after and _completed(before) == _completed(after):
        path = assignment.partition("=")[0]
        raise UserError(
            f"{path} has no effect: every stage has a value of its own; override that one, for example stages.0.{path}"
        )


def recipe_from_text(
    text: str, overrides: Sequence[str] = (), *, source: str, notify: Callable[[str], None] | None = None
) -> Recipe:
    """Read a resolved recipe, as runs and models of this or an earlier version carry it, and apply `key=value`.

    Args:
        text: YAML.
        overrides: `key=value` of a person, in the words of today.
        source: name of the recipe in messages.
        notify: called with a sentence where it was translated from the words of an earlier version; None drops it.

    Raises:
        UserError: no recipe, or one with a mistake.

    """
    data = parse_yaml(text, source=source)
    if not isinstance(data, dict):
        raise UserError(f"{source} carries no recipe")
    return make_recipe(_changed(_translated(data, source, notify), overrides), source=source)


def recipe_of_run(file: Path, *, notify: Callable[[str], None] | None = None) -> Recipe:
    """Read the recipe.yaml of a run folder, which an earlier version may have written; see `recipe_from_text`."""
    source = f"recipe {file}"
    return make_recipe(_translated(read_mapping(file), source, notify), source=source)


def _translated(data: dict[str, Plain], source: str, notify: Callable[[str], None] | None) -> dict[str, Plain]:
    """Return a stored recipe in the words of today."""
    translation = in_present_words(data)
    if notify is not None and (note := translation.note(source)) is not None:
        notify(note)
    return translation.data


def make_recipe(data: dict[str, Plain], *, source: str) -> Recipe:
    """Validate plain data, after every stage was completed with the keys of the top level that stages inherit."""
    load_plugins()
    data = _with_defaults(data)
    _place(data)
    data["stages"] = _completed(data)
    return build(Recipe, data, source=source)


def _place(data: dict[str, Plain]) -> None:
    """Fill in the recipe's root for data sets that are described without one."""
    datasets = data.get("datasets")
    for described in datasets.values() if isinstance(datasets, dict) else ():
        if not isinstance(described, dict):
            continue
        place_key = READERS.get(str(described.get("kind")), ReaderSettings).place_key
        if place_key == "root" and described.get("root") is None:
            described["root"] = data.get("root") or Recipe.model_fields["root"].default
            described.setdefault("masks", data.get("masks"))


def _with_defaults(data: dict[str, Plain]) -> dict[str, Plain]:
    """Spell out what overrides and stages must be able to reach although the file does not name it."""
    data = copy.deepcopy(data)
    data.setdefault("losses", {"softmax": {}, "triplet": {}})
    data.setdefault("stages", [{"train": ["auto"]}])
    return _with_words_spelled(data)


def _with_words_spelled(data: dict[str, Plain]) -> dict[str, Plain]:
    """Return the same data with mappings in the place of the words that stand for one, for changes to merge with."""
    data = copy.deepcopy(data)
    stages = data.get("stages")
    for level in (data, *(stages if isinstance(stages, list) else ())):
        if isinstance(level, dict) and isinstance(use := level.get("foreground"), str):
            level["foreground"] = {"use": use}
    if isinstance(images := data.setdefault("data", {}), dict):
        _spell_sampler(images)
    return data


def _spell_stage_samplers(data: dict[str, Plain]) -> None:
    """Write samplers that stages give by their kind alone as mappings, for an override that reaches into one."""
    stages, base = data["stages"], data["data"]
    for stage in stages if isinstance(stages, list) else ():
        images = stage.get("data") if isinstance(stage, dict) else None
        if isinstance(images, dict) and isinstance(images.get("sampler"), str) and isinstance(base, dict):
            images["sampler"] = merge({"sampler": base["sampler"]}, {"sampler": images["sampler"]})["sampler"]


def _spell_sampler(data: dict[str, Plain]) -> None:
    """Write the sampler of the top level as a mapping with its kind."""
    sampler = data.setdefault("sampler", {})
    if isinstance(sampler, str):
        data["sampler"] = {"kind": sampler}
    elif isinstance(sampler, dict):
        data["sampler"] = {"kind": "pk", **sampler}


def _completed(data: dict[str, Plain]) -> Plain:
    """Return the stages with what they inherit from the top level; what is no mapping is left to validation."""
    stages = data["stages"]
    if not isinstance(stages, list):
        return stages
    return [_complete(stage, data) if isinstance(stage, dict) else stage for stage in stages]


def _complete(stage: dict[str, Plain], data: dict[str, Plain]) -> dict[str, Plain]:
    completed = dict(stage)
    for key in PER_STAGE:
        base, value = data.get(key), stage.get(key)
        if isinstance(base, dict) and isinstance(value, dict):
            completed[key] = merge(base, value)
        elif value is None:  # a list takes the place of the whole
            completed[key] = base
    return completed
