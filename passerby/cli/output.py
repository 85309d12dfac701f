"""Standard output that may fail: a reader that has gone away, a terminal that was closed, a full disk.

A failure to print stops no computation. A lost result is reported at the end.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TextIO

_READER_GONE = {errno.EPIPE, errno.EIO, errno.ECONNRESET}
"""Errors of a closed pipe or terminal; they are not reported."""


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
        """Flush the buffered text, or drop it."""
        try:
            self.stream.flush()
        except OSError as error:
            self._fail(error)

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)

    @property
    def loss(self) -> OSError | None:
        """The error by which a result was lost; None without one, or if the reader is gone."""
        return None if self.failure is None or self.failure.errno in _READER_GONE else self.failure

    def _fail(self, error: OSError) -> None:
        """Remember an error, and discard all further text, buffered text included."""
        if self.failure is None:
            self.failure = error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, self.stream.fileno())
        finally:
            os.close(nowhere)


def guard_output() -> GuardedOutput:
    """Replace standard output and standard error by guarded streams, and return that of standard output."""
    sys.stdout = output = GuardedOutput(_open(sys.stdout))
    sys.stderr = GuardedOutput(_open(sys.stderr))
    return output


def _open(stream: TextIO | None) -> TextIO:
    """Return the stream, or the null device if there is none."""
    return stream if stream is not None else open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123
