"""Strategies that damage what is well formed: bytes, and trees of plain data."""

from __future__ import annotations

import copy
import json

import hypothesis
from hypothesis import strategies as st

from passerby.errors import UserError

few = hypothesis.settings(
    max_examples=120,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
"""The same examples each time, and few enough for every run of the tests."""

JUNK = [
    *(None, True, -1, 0, 3, 10**9, -(10**30), 1e308, -0.5, "", "x", "\x00", "\ud800", "[/b] {a}", "../..", "n" * 300),
    *([], [1, "x"], [[]], {}, {"x": 1}, {"kind": "none"}, {"": {}}),
]


@st.composite
def damaged_bytes(draw, whole: bytes) -> bytes:
    """Cut, overwrite, repeat or insert pieces of some bytes."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        length = draw(st.sampled_from([1, 2, 8, 64]))
        match draw(st.sampled_from(["cut", "flip", "drop", "insert", "repeat"])):
            case "cut":
                del content[at:]
            case "flip" if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "drop":
                del content[at : at + length]
            case "insert":
                content[at:at] = draw(st.sampled_from([b"\x00", b"\xff" * 8, b"[" * 200, b"9" * 30, b"\n", b"&a *a"]))
            case _:
                content[at:at] = content[at : at + length]
    return bytes(content)


@st.composite
def damaged_tree(draw, whole: object) -> object:
    """Replace, drop or add one or two values somewhere in plain data."""
    tree = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, 2))):
        tree = _damage(draw, tree)
    return tree


def _damage(draw, node: object) -> object:
    inner = bool(node) and isinstance(node, dict | list)
    if not inner or draw(st.integers(0, 5)) == 0:
        return copy.deepcopy(draw(st.sampled_from(JUNK)))
    keys = sorted(node) if isinstance(node, dict) else range(len(node))
    key = draw(st.sampled_from(keys))
    match draw(st.sampled_from(["below", "below", "below", "drop", "add"])):
        case "below":
            node[key] = _damage(draw, node[key])
        case "drop":
            del node[key]
        case _ if isinstance(node, dict):
            node[draw(st.sampled_from(["x", "", "kind", "[/b]"]))] = copy.deepcopy(draw(st.sampled_from(JUNK)))
        case _:
            node.append(copy.deepcopy(draw(st.sampled_from(JUNK))))
    return node


def sentence_or_nothing(read, *arguments: object, **named: object) -> object:
    """Call a reader; it must return something, or refuse in one sentence that is not empty."""
    try:
        return read(*arguments, **named)
    except UserError as error:
        if not str(error).strip():
            raise
        return None
