"""Standard output that may fail: a reader that has gone away, a terminal that was closed, a full disk.

What is printed is not worth what is being computed, so a failure stops nothing. A lost result is told at the end.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TextIO

_READER_GONE = {errno.EPIPE, errno.EIO, errno.ECONNRESET}
"""What a closed pipe or a closed terminal says; whoever closed it knows."""


class GuardedOutput:
    """A text stream that drops what it cannot write and remembers why.

    Attributes:
        failure: the first error, None while everything was written.

    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        try:
            return self.stream.write(text)
        except OSError as error:
            self._fail(error)
            return len(text)

    def flush(self) -> None:
        """Write out what is held back, or drop it."""
        try:
            self.stream.flush()
        except OSError as error:
            self._fail(error)

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)

    @property
    def loss(self) -> OSError | None:
        """Why a result was lost, None where nothing was or where nobody reads."""
        return None if self.failure is None or self.failure.errno in _READER_GONE else self.failure

    def _fail(self, error: OSError) -> None:
        """Remember an error, and send all further text to nowhere, also what is still held back."""
        if self.failure is None:
            self.failure = error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, self.stream.fileno())
        finally:
            os.close(nowhere)


def guard_output() -> GuardedOutput:
    """Put guards in the place of standard output and standard error, and return the one of standard output."""
    sys.stdout = output = GuardedOutput(_open(sys.stdout))
    sys.stderr = GuardedOutput(_open(sys.stderr))
    return output


def _open(stream: TextIO | None) -> TextIO:
    """Return a stream, or one to nowhere where the program was started without any."""
    return stream if stream is not None else open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123
