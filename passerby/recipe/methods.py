"""Whether the methods of a recipe fit its stages, by what their settings declare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from passerby.methods.settings import BaseMethodSettings
from passerby.methods.table import METHODS
from passerby.recipe.stage import StageSettings

if TYPE_CHECKING:
    from passerby.recipe.tree import Recipe


def require_useful(recipe: Recipe) -> None:
    """Raise `ValueError` unless each method of a recipe can do something, and each stage has something to learn."""
    stages, has_start = recipe.stages, recipe.init_from is not None
    for stage in stages:
        for name, chosen in stage.method.chosen.items():
            _require_losses(name, chosen, stage)
    _require_labels(stages)
    _require_earlier(stages, has_start=has_start)
    _require_unlabelled(stages)
    _require_stripes(recipe.model.stripes, [chosen for stage in stages for chosen in stage.method.chosen.items()])
    for stage in stages:
        for chosen in stage.active.values():
            chosen.check(recipe, stage)
    if len(stages) > 1 and not has_start:
        _require_state(stages)


def _require_labels(stages: Sequence[StageSettings]) -> None:
    for stage in stages:
        methods = () if stage.labelled else stage.method.chosen.values()
        if not stage.labelled and not any(chosen.assigns_labels for chosen in methods):
            raise ValueError(f"stage {stage.title!r} is unlabelled, and no method assigns labels")
        if any(chosen.trains_alone for chosen in methods):
            continue
        if not stage.losses.chosen:
            raise ValueError("losses: at least one loss is needed, for example losses: {softmax: {}, triplet: {}}")
        if not stage.losses.separating_losses:
            raise ValueError(
                f"losses: nothing in {', '.join(stage.losses.chosen)} tells people apart (center only draws images "
                "together, a weight of 0 does nothing); add softmax or triplet"
            )


def _require_losses(name: str, chosen: BaseMethodSettings, stage: StageSettings) -> None:
    if chosen.labelled_only and not stage.labelled:
        raise ValueError(f"method.{name} needs known identities, and stage {stage.title!r} is unlabelled")
    for loss in chosen.needs_losses:
        if loss not in stage.losses.chosen:
            raise ValueError(f"method.{name} needs losses.{loss}, and stage {stage.title!r} has no such loss")


def _require_earlier(stages: Sequence[StageSettings], *, has_start: bool) -> None:
    later = {name for stage in stages[not has_start :] for name in stage.method.chosen}
    for stage in stages:
        for name, chosen in stage.method.chosen.items():
            if name not in later and chosen.needs_previous_model:
                only = "the recipe has one stage" if len(stages) == 1 else "only the first stage names it"
                raise ValueError(f"method.{name} holds on to an earlier stage and has no effect here: {only}")


def _require_unlabelled(stages: Sequence[StageSettings]) -> None:
    unlabelled = {name for stage in stages if not stage.labelled for name in stage.method.chosen}
    for stage in stages:
        for name, chosen in stage.method.chosen.items():
            if name not in unlabelled and not chosen.is_active(labelled=True):
                word = "assigns labels" if chosen.assigns_labels else "looks at clusters"
                raise ValueError(f"method.{name} {word} and has no effect here: no stage is labelled: false")


def _require_stripes(stripes: int | None, methods: Iterable[tuple[str, BaseMethodSettings]]) -> None:
    """Require the stripes that methods compare, or that there are none."""
    needed = {name: (chosen.needs_stripes, chosen.any_stripes) for name, chosen in methods if chosen.needs_stripes}
    for name, (count, any_count) in needed.items():
        if stripes is None or (stripes != count and not any_count):
            given = "null" if stripes is None else stripes
            raise ValueError(f"method.{name} compares stripes of images: set model.stripes to {count}, not {given}")
    if stripes is not None and not needed:
        users = " and ".join(f"method.{name}" for name, kind in METHODS.items() if kind.needs_stripes)
        raise ValueError(f"model.stripes has no effect: only {users} look at stripes")


def _require_state(stages: Sequence[StageSettings]) -> None:
    before = {name for stage in stages[:-1] for name in stage.method.chosen}
    for name, chosen in stages[-1].method.chosen.items():
        if name not in before and chosen.needs_state:
            raise ValueError(
                f"method.{name} holds on to what it kept of an earlier stage and has no effect here: only the last "
                "stage names it"
            )
