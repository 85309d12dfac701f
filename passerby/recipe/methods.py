"""Checks that the methods of a recipe fit its stages, by the declarations of their settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from passerby.methods.settings import BaseMethodSettings
from passerby.methods.table import METHODS
from passerby.recipe.stage import StageSettings

if TYPE_CHECKING:
    from passerby.recipe.tree import Recipe


def require_useful(recipe: Recipe) -> None:
    """Raise `ValueError` unless each method of a recipe has an effect, and each stage a loss and labels."""
    stages, has_start = recipe.stages, recipe.init_from is not None
    for stage in stages:
        for name, method in stage.method.chosen.items():
            _require_losses(name, method, stage)
    _require_labels(stages)
    _require_earlier(stages, has_start=has_start)
    _require_unlabelled(stages)
    _require_stripes(recipe.model.stripes, [item for stage in stages for item in stage.method.chosen.items()])
    for stage in stages:
        for method in stage.active.values():
            method.check(recipe, stage)
    if len(stages) > 1 and not has_start:
        _require_state(stages)


def _require_labels(stages: Sequence[StageSettings]) -> None:
    for stage in stages:
        methods = () if stage.labelled else stage.method.chosen.values()
        if not stage.labelled and not any(method.assigns_labels for method in methods):
            _require_label_free(stage)
        alone = methods if not stage.labelled else [each for each in stage.active.values() if each.labelled_only]
        if any(method.trains_alone for method in alone):
            continue
        if not stage.losses.chosen:
            raise ValueError("losses: at least one loss is needed, for example losses: {softmax: {}, triplet: {}}")
        if not stage.losses.separating_losses:
            raise ValueError(
                f"losses: none of {', '.join(stage.losses.chosen)} separates identities (center only draws images "
                "together, a weight of 0 has no effect); add softmax or triplet"
            )


def _require_label_free(stage: StageSettings) -> None:
    """Require that an unlabelled stage without pseudo-labels has only losses that need none."""
    if not any(method.label_free for method in stage.method.chosen.values()):
        raise ValueError(f"stage {stage.title!r} is unlabelled, and no method assigns labels")
    if stage.losses.chosen:
        names = ", ".join(f"losses.{name}" for name in stage.losses.chosen)
        raise ValueError(
            f"stage {stage.title!r} is unlabelled, and no method assigns labels for {names}; set them to null, or add "
            "a method that clusters, such as contrast"
        )
    for name, method in stage.method.chosen.items():
        if method.unlabelled_only:
            raise ValueError(f"method.{name} needs clusters, and no method of stage {stage.title!r} assigns labels")


def _require_losses(name: str, method: BaseMethodSettings, stage: StageSettings) -> None:
    if method.labelled_only and not stage.labelled:
        raise ValueError(f"method.{name} needs known identities, and stage {stage.title!r} is unlabelled")
    for loss in method.needs_losses:
        if loss not in stage.losses.chosen:
            raise ValueError(f"method.{name} needs losses.{loss}, and stage {stage.title!r} has no such loss")


def _require_earlier(stages: Sequence[StageSettings], *, has_start: bool) -> None:
    later = {name for stage in stages[not has_start :] for name in stage.method.chosen}
    for stage in stages:
        for name, method in stage.method.chosen.items():
            if name not in later and method.needs_previous_model:
                only = "the recipe has one stage" if len(stages) == 1 else "only the first stage names it"
                raise ValueError(f"method.{name} needs an earlier stage and has no effect here: {only}")


def _require_unlabelled(stages: Sequence[StageSettings]) -> None:
    unlabelled = {name for stage in stages if not stage.labelled for name in stage.method.chosen}
    for stage in stages:
        for name, method in stage.method.chosen.items():
            if name not in unlabelled and not method.is_active(labelled=True):
                reason = "assigns labels" if method.assigns_labels else "needs clusters"
                raise ValueError(f"method.{name} {reason} and has no effect here: no stage is labelled: false")


def _require_stripes(stripes: int | None, methods: Iterable[tuple[str, BaseMethodSettings]]) -> None:
    """Require the stripes that methods compare, or that there are none."""
    needed = {name: (method.needs_stripes, method.any_stripes) for name, method in methods if method.needs_stripes}
    for name, (count, any_count) in needed.items():
        if stripes is None or (stripes != count and not any_count):
            present = "null" if stripes is None else stripes
            raise ValueError(f"method.{name} compares stripes of images: set model.stripes to {count}, not {present}")
    if stripes is not None and not needed:
        users = " and ".join(f"method.{name}" for name, kind in METHODS.items() if kind.needs_stripes)
        raise ValueError(f"model.stripes has no effect: only {users} use stripes")


def _require_state(stages: Sequence[StageSettings]) -> None:
    before = {name for stage in stages[:-1] for name in stage.method.chosen}
    for name, method in stages[-1].method.chosen.items():
        if name not in before and method.needs_state:
            raise ValueError(
                f"method.{name} needs state of an earlier stage and has no effect here: only the last stage names it"
            )
