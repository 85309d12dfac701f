"""The manifest of a generated folder: which request it answers, and whether it is finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from passerby.errors import UserError
from passerby.files import read_json

MANIFEST, STARTED = "site.json", "site.unfinished.json"


def is_finished(directory: Path, request: dict[str, object], describe: Callable[[dict[str, object]], str]) -> bool:
    """Whether a directory already holds what is requested.

    Args:
        directory: may be missing.
        request: plain values.
        describe: returns a request in words.

    Raises:
        UserError: the directory is a file, or holds anything else.

    """
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file, not a directory")
    for name in (MANIFEST, STARTED):
        if (directory / name).is_file():
            content = read_json(directory / name)
            described = {key: content.get(key) for key in request} if isinstance(content, dict) else {}
            if described != request:
                raise UserError(
                    f"{directory} already holds {describe(described)}, asked for {describe(request)}; "
                    "name another directory or delete this one"
                )
            return name == MANIFEST
    if directory.is_dir() and any(directory.iterdir()):
        raise UserError(f"{directory} holds other files; name a new or empty directory")
    return False
