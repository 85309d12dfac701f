"""One run in a folder at a time, also where several processes train it together."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from passerby.errors import OtherProcessError, UserError
from passerby.lock import locked
from passerby.training import distributed
from passerby.training.environment import command_line


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder; the first process holds it for all.

    Raises:
        UserError: another run goes on there, or the folder cannot be made.
        OtherProcessError: the same, in all processes but the first.

    """
    with contextlib.ExitStack() as stack:
        refusal: UserError | None = None
        if distributed.rank() == 0:
            try:
                stack.enter_context(locked(folder, command=command_line(sys.argv)))
            except UserError as error:
                refusal = error
        if distributed.any_of(refusal is not None):
            raise refusal or OtherProcessError(f"process 0 cannot use {folder}")
        yield
