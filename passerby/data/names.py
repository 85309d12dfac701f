"""File names: invalid UTF-8, and the two Unicode forms of accented letters.

`é` is one character (form NFC, as most programs write it) or `e` and an accent (NFD, as macOS writes it). Identities
are compared in NFC, and a file is found by either form of its name.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from passerby.errors import UserError


def nfc(name: str) -> str:
    """Return a name with composed letters.

    >>> len(nfc("Jose" + chr(0x301)))
    4
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def is_text(name: str) -> bool:
    r"""Whether a name of the file system is UTF-8; Python has lone surrogates for bytes that are not.

    >>> is_text("Jörg"), is_text("J\udcf6rg")
    (True, False)
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(name: str) -> str:
    r"""Return a name with an escape for each byte that is not UTF-8.

    >>> print(printable("J\udcf6rg"))
    J\xf6rg
    """
    return os.fsencode(name).decode(errors="backslashreplace")


def require_text(path: str) -> None:
    """Raise `UserError` for a path that cannot be written into tables and reports."""
    if not is_text(path):
        raise UserError(f"the name {printable(path)} is not UTF-8; rename it (`convmv` does so for whole folders)")


def existing_form(path: str | Path) -> Path:
    """Return the path under which a file or folder is on the disk; `path` itself when it is in neither form."""
    path = Path(path)
    if str(path).isascii() or os.path.exists(path):  # noqa: PTH110 - unlike Path.exists, it raises nothing
        return path
    parent = existing_form(path.parent)
    try:
        entries = sorted(parent.iterdir())
    except OSError:
        return path
    return next((entry for entry in entries if nfc(entry.name) == nfc(path.name)), path)
