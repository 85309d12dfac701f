"""Exceptions of commands: one sentence on standard error and an exit code.

| exit code | what happened |
|---|---|
| 2 | bad input, or a machine that cannot (no right to read, no memory, no disk left): the sentence says what to mend |
| 70 | a bug in passerby, said to be one |
| 130 | Ctrl-C |

Of several processes of a run only the first that fails prints its sentence; the others end with 2.

With the environment variable PASSERBY_TRACEBACK=1 the traceback stands above the sentence.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import TextIO

import typer

from passerby.cli.output import GuardedOutput
from passerby.errors import OtherProcessError, UserError, first_line, without_passwords
from passerby.files import reason

TRACEBACK = "PASSERBY_TRACEBACK"
BAD_INPUT, BUG, INTERRUPTED = 2, 70, 130

_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "failed to allocate",
    "failed to map segment",
)
_NO_SHARED_MEMORY = ("shared memory", "/torch_", "bus error", "/dev/shm")


def report(error: BaseException) -> int:
    """Print one sentence about what ended a command, and return the exit code."""
    if os.environ.get(TRACEBACK, "0") not in ("", "0"):
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, KeyboardInterrupt):
        typer.secho(str(error) or "interrupted", fg="yellow", err=True)
        return INTERRUPTED
    if isinstance(error, OtherProcessError):
        return BAD_INPUT
    sentence = explain(error)
    if sentence is not None:
        typer.secho(f"Error: {without_passwords(sentence)}", fg="red", err=True)
        return BAD_INPUT
    typer.secho(
        f"a bug in passerby: {type(error).__name__}: {without_passwords(first_line(error))} (run the same with "
        f"{TRACEBACK}=1 to see where, and please report it)",
        fg="red",
        err=True,
    )
    return BUG


def explain(error: BaseException) -> str | None:
    """Return one sentence about a mistake that the user can fix; None for a bug."""
    if isinstance(error, UserError):
        return str(error)
    words = str(error).lower()
    loading = isinstance(error, RuntimeError | ImportError)
    if isinstance(error, MemoryError) or (loading and any(text in words for text in _NO_MEMORY)):
        detail = f" ({first_line(error)})" if str(error) else ""
        advice = (
            "a smaller --batch or batch of data.sampler, or a smaller file, needs less, and --device cpu may have more"
        )
        return f"out of memory; {advice}{detail}"
    if isinstance(error, OSError | RuntimeError) and any(word in words for word in _NO_SHARED_MEMORY):
        return (
            f"the workers cannot share memory ({first_line(error)}): /dev/shm is full, too small or read-only; enlarge "
            "it, or set data.workers=0"
        )
    if isinstance(error, UnicodeError):
        return _about_text(error)
    return _about_system(error) if isinstance(error, OSError) else None


def _about_text(error: UnicodeError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object[:80]!a} holds what is not text; a file of that name must be renamed"
    if isinstance(error, UnicodeDecodeError):
        return f"{error.object[:40]!r} is not text in UTF-8"
    return f"what should be text is not text in UTF-8 ({first_line(error)})"


def _about_system(error: OSError) -> str | None:
    if error.filename is not None:
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        return f"cannot use {' or '.join(names) or error.filename}: {reason(error)}"
    if error.errno is None:
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the output cannot be written: the disk is full"
    return reason(error)


def require_working_directory() -> None:
    """Refuse to start in a folder that was deleted, where libraries end the whole program as they are loaded.

    Raises:
        UserError: there is no working directory.

    """
    try:
        Path.cwd()
    except OSError as error:
        raise UserError("the working directory is no longer there; change to another one") from error


def print_any_name() -> None:
    """Write names that are not UTF-8 with backslash escapes on standard output, which would otherwise refuse them."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_plugin_warnings() -> None:
    """Print each plugin that cannot be loaded as one sentence on standard error, without ending the command."""
    show = warnings.showwarning

    def show_plainly(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if category.__module__ == "passerby.plugins":
            typer.secho(f"Warning: {message}", fg="yellow", err=True)
        else:
            show(message, category, filename, lineno, file, line)

    warnings.showwarning = show_plainly


def finish_output(output: GuardedOutput) -> int:
    """Write what is still to be printed, and return 0, or the exit code when a result was lost."""
    output.flush()
    return 0 if output.loss is None else report(output.loss)
