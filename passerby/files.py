"""Files that are either wholly written or not there: nothing already on disk is lost to a crash or a full disk."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from passerby.errors import UserError, first_line

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a binary file beside `path` and rename it to `path` once it is complete and on disk.

    Raises:
        UserError: the disk is full or the folder cannot be written; a previous file at `path` is left as it was.

    """
    path = require_file_name(path)
    temporary = path.with_name(f".{path.name[:100]}.{_machine()}-{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_once(path.parent)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        suffix = " (the earlier file of that name is untouched)" if path.exists() else ""
        raise UserError(f"cannot write {path}: {reason(error)}{suffix}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def require_file_name(path: str | Path) -> Path:
    """Return the path of a file that is to be written; refuse the path of a folder.

    Raises:
        UserError: the path is empty, ends in no name, names a folder, or has a name that no file can have.

    """
    path = Path(path)
    try:
        folder = not path.name or path.name == ".." or stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return path
    except (OSError, ValueError) as error:  # ValueError: what no system takes for a name
        why = reason(error) if isinstance(error, OSError) else first_line(error)
        raise UserError(f"cannot write {str(path)[:80]!r}: {why}") from error
    if folder:
        raise UserError(f"cannot write {str(path)!r}: a folder; give the name of a file")
    return path


def write_file(path: str | Path, content: bytes | str) -> None:
    """Write a small expendable file: not atomically, and so without waiting for the disk.

    Raises:
        UserError: the disk is full or the folder cannot be written.

    """
    try:
        Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason(error)}") from error


def reason(error: OSError) -> str:
    """Return the reason of a failed file operation, in words."""
    return "the disk is full" if error.errno in _NO_ROOM else (error.strerror or first_line(error)).lower()


@contextlib.contextmanager
def reading(path: str | Path, kind: str) -> Iterator[None]:
    """Convert any exception of the block, which reads one file, to a `UserError` with the name of the file.

    Libraries raise many kinds of exceptions for a damaged file or one of another format.

    Args:
        path: the file.
        kind: the expected content, for example "a readable .npz of plain arrays".

    Raises:
        UserError: in place of any exception; one raised in the block is passed on.

    """
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{path} does not fit into memory") from error
    except RecursionError as error:
        raise UserError(f"{path} is not {kind} (nested too deeply)") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error
    except Exception as error:
        raise UserError(f"{path} is not {kind} ({first_line(error)})") from error


# ---- temporary files of killed processes

_PART = re.compile(r"\..*\.([0-9a-f]{8})-(\d+)\.part")


@functools.cache
def _machine() -> str:
    """Return 8 hex digits that identify the scope of process numbers: the host and, on Linux, the PID namespace."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - a link to nothing
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


@functools.cache
def _sweep_once(folder: Path) -> None:
    sweep(folder)


def sweep(folder: Path) -> None:
    """Remove the incomplete files of dead processes from a folder; those of other machines stay."""
    for file in folder.iterdir():
        match = _PART.fullmatch(file.name)
        if match and match[1] == _machine() and not _lives(int(match[2])):
            with contextlib.suppress(OSError):
                file.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # of another user
        return True
    return True


def write_json(path: str | Path, value: object) -> None:
    """Write `value` as indented JSON, atomically; NaN is refused because JSON has none."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with atomic_write(path) as file:
        file.write(text.encode(errors="backslashreplace"))  # half a surrogate pair, written as JSON escapes it


def read_json(path: str | Path) -> object:
    """Read a JSON file; a missing or broken one is a `UserError` that names it."""
    with reading(path, "valid JSON"):
        try:
            return json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UserError(f"no file {path}") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not valid JSON: {error}") from error
