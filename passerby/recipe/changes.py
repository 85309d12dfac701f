"""Differences of two recipes, setting by setting."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from passerby.recipe.tree import Recipe

PLACES = (
    "root", "masks", "datasets", "description", "reference", "reference_results", "data.cache", "data.workers",
    "engine.device", "engine.track", "engine.threads",
)  # fmt: skip
"""Settings of places and of the machine, which change nothing that is trained."""


_STAGE = re.compile(r"^stages\.\d+\.")


@dataclass(frozen=True)
class Change:
    """One setting that differs, with both values as JSON."""

    key: str
    before: str
    after: str

    def __str__(self) -> str:
        """The change as an override."""
        return f"{self.key}={self.after}"


def changes(before: Recipe, after: Recipe, *, ignore: Sequence[str] = ()) -> list[Change]:
    """Return every setting that differs between two recipes, without what a stage only inherits from its recipe.

    Args:
        before, after: the recipes.
        ignore: settings, or groups of them, that may differ.

    """
    differing = list(differences(before.model_dump(mode="json"), after.model_dump(mode="json"), ignore=ignore))
    top = {change.key: change for change in differing}
    return [change for change in differing if not _inherited(change, top)]


def differences(before: object, after: object, path: str = "", *, ignore: Sequence[str] = ()) -> Iterator[Change]:
    """Yield all that differs between two recipes as plain data.

    Args:
        before, after: the recipes, or what stands at `path` in them.
        path: where they stand, with dots.
        ignore: keys that may differ, in stages too.

    """
    if before == after or path in ignore or _STAGE.sub("", path) in ignore:
        return
    below = f"{path}." if path else ""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys((*before, *after)):
            yield from differences(before.get(key), after.get(key), f"{below}{key}", ignore=ignore)
    elif path == "stages" and isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from differences(old, new, f"{below}{number}", ignore=ignore)
    else:
        yield Change(path, *(json.dumps(value, ensure_ascii=False) for value in (before, after)))


def _inherited(change: Change, top: dict[str, Change]) -> bool:
    """Whether a change of a stage is inherited from the top level."""
    stage, _, below = change.key.partition(".")
    above = top.get(below.partition(".")[2])
    return stage == "stages" and above is not None and above.after == change.after
