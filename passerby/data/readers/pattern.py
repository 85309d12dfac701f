"""File names described by a template: `"{pid}_{cam}_*"` instead of a regular expression.

`{pid}` and `{cam}` are words, `{frame}` is a whole number, `*` is anything, the shorter the better, `/` goes one
folder down. A word never holds one of the separators (`_`, `-`, a space ...) that stand in the template itself, so a
name with one part too many is refused and not misread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from passerby.data.image_files import IMAGE_ENDINGS
from passerby.errors import UserError, did_you_mean

FIELDS = ("pid", "cam", "frame")


@dataclass(frozen=True)
class Pattern:
    """A template ready for use.

    Attributes:
        text: as the user wrote it.
        depth: how many folders down the images lie.
        regex: matches a whole relative path without its ending.

    """

    text: str
    depth: int
    regex: re.Pattern[str]

    def match(self, path: str) -> dict[str, str] | None:
        """Return the fields of a relative path such as `"anna/cam2_15.jpg"`, or None when it does not fit."""
        match = self.regex.fullmatch(path.rpartition(".")[0])
        return None if match is None else match.groupdict()


def compile_pattern(text: str) -> Pattern:
    """Turn a template into a `Pattern`; an image ending such as `.jpg` at its end is ignored.

    >>> compile_pattern("{pid}_c{cam}_{frame}").match("0001_c2_0015.jpg")
    {'pid': '0001', 'cam': '2', 'frame': '0015'}

    Raises:
        UserError: an unknown or repeated field, or fields with nothing between them.

    """
    stem = next((text[: -len(end)] for end in (*IMAGE_ENDINGS, ".*") if text.lower().endswith(end)), text)
    pieces = [piece for piece in re.split(r"(\{[^{}]*\}|\*)", stem) if piece]
    _refuse(text, pieces)
    separators = {letter for piece in pieces if not _is_open(piece) for letter in piece if not letter.isalnum()} | {"/"}
    word = f"[^{re.escape(''.join(sorted(separators)))}]+?"
    return Pattern(text, stem.count("/"), re.compile(_regex(pieces, word)))


def _is_open(piece: str) -> bool:
    return piece == "*" or piece.startswith("{")


def _regex(pieces: list[str], word: str) -> str:
    """Join the pieces; what ends at a star is atomic, so no name can make the search go back and forth.

    The earliest end of the part before a star leaves the most to what follows, hence nothing is missed.
    """
    parts = [""]
    for piece in pieces:
        if piece == "*":
            parts.append("[^/]*?")
        else:
            parts[-1] += _regex_of(piece, word)
    return "".join(f"(?>{part})" for part in parts[:-1]) + parts[-1]


def _regex_of(piece: str, word: str) -> str:
    if not _is_open(piece):
        return re.escape(piece)
    name = piece[1:-1]
    return f"(?P<{name}>{'[0-9]+' if name == 'frame' else word})"


def _refuse(text: str, pieces: list[str]) -> None:
    names = [piece[1:-1] for piece in pieces if piece.startswith("{") and piece.endswith("}")]
    unknown = [name for name in names if name not in FIELDS]
    problem = ""
    if unknown:
        problem = f"{{{unknown[0]}}} is not known; allowed are {{pid}}, {{cam}}, {{frame}} and *"
        problem += did_you_mean(unknown[0], FIELDS)
    elif len(set(names)) < len(names):
        problem = "a field stands in it twice"
    elif any("{" in piece or "}" in piece for piece in pieces if not (piece.startswith("{") and piece.endswith("}"))):
        problem = "a brace is not closed or not opened"
    elif any(_is_open(left) and _is_open(right) for left, right in pairwise(pieces)):
        problem = "two fields or * stand side by side, so the end of the first is ambiguous"
    elif not pieces:
        problem = "it is empty"
    if problem:
        raise UserError(f"pattern {text!r}: {problem}")
