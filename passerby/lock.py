"""A lock on a run folder or an output file, which one process at a time may write.

The lock is one of the operating system on a small file, so it ends with its process in any case. The file describes the
process. On a network file system the lock works between machines only where the system supports locks; without support,
and on Windows, nothing is locked.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from passerby.errors import UserError

if sys.platform != "win32":
    import fcntl

_held: set[str] = set()  # locks of the system are per process: a second thread would get one again
_guard = threading.Lock()


@contextlib.contextmanager
def locked(folder: Path, *, file: str = "", command: str) -> Iterator[None]:
    """Hold the lock of a folder, or of a file in it that is to be written, while the block runs.

    A folder is made if need be, and removed again if it is empty at the end.

    Args:
        folder: the folder.
        file: the name of the file; `""` = the folder as a whole.
        command: the command of this process, for the error message of others.

    Raises:
        UserError: another process holds the lock, or the folder cannot be made.

    """
    created = _make(folder)
    name = f".{file}.lock" if file else ".lock"
    try:
        with _holding(folder / name, folder / file, command):
            yield
    finally:
        for each in created:  # rmdir leaves alone what holds something
            with contextlib.suppress(OSError):
                each.rmdir()


def _make(folder: Path) -> list[Path]:
    """Make a folder and return those that were not there, innermost first."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder")
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {(error.strerror or str(error)).lower()}") from error
    return missing


@contextlib.contextmanager
def _holding(path: Path, target: Path, command: str) -> Iterator[None]:
    key = os.path.realpath(path)
    with _guard:
        if key in _held:
            raise UserError(f"{target} is in use by this process; wait until it ends, or choose another folder or file")
        _held.add(key)
    try:
        file = _acquire(path, target)
        try:
            if file is not None:
                _describe(file, command)
            yield
        finally:
            if file is not None:
                with contextlib.suppress(OSError):
                    path.unlink()  # before the lock ends, so that nobody locks a file that is about to go
                file.close()
    finally:
        with _guard:
            _held.discard(key)


def _acquire(path: Path, target: Path) -> IO[str] | None:
    """Return the open lock file, or None where there are no locks."""
    if sys.platform == "win32":
        return None
    while True:
        try:
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            holder = _holder(file)
            file.close()
            raise UserError(
                f"{target} is in use by {holder}; wait until it ends, or choose another folder or file"
            ) from error
        except OSError:  # a file system without locks
            file.close()
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # the holder before removed it in between


def _describe(file: IO[str], command: str) -> None:
    began = time.strftime("%Y-%m-%d %H:%M:%S")
    about = {"pid": os.getpid(), "host": socket.gethostname(), "command": command, "since": began}
    with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
        file.truncate(0)
        file.write(json.dumps(about) + "\n")
        file.flush()


def _holder(file: IO[str]) -> str:
    """Return a description of the holder of a lock from its file."""
    try:
        file.seek(0)
        about = json.loads(file.read(10_000))
        return f"process {about['pid']} on {about['host']} since {about['since']} ({about['command']})"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"
