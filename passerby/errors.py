"""The exception for mistakes that the user can correct.

`passerby.cli.boundary` prints its text as one sentence and exits with code 2. A text says what was given, what is
allowed, and the nearest match where there is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake in the input (recipe, folder, file, argument), described in one clear sentence."""


class OtherProcessError(RuntimeError):
    """The end of a run because another of its processes failed, whose own error says why; nothing is printed."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the nearest known word, or `""` when nothing is near.

    >>> did_you_mean("markt1501", ["market1501", "msmt17"])
    "; did you mean 'market1501'?"
    """
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


_PASSWORD = re.compile(r"([A-Za-z+]+:/{1,2}[^\s:/@]*):\S*@")


def without_passwords(text: str) -> str:
    """Return a text without the passwords of addresses in it.

    >>> without_passwords("no file postgresql:/anna:secret@host/people")
    'no file postgresql:/anna@host/people'
    """
    return _PASSWORD.sub(r"\1@", text)


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error text, or the name of its class when it is empty."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
