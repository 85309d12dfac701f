"""A small layout for drawings of boxes and arrows: text is measured and wrapped, and each box is as tall as its text.

A drawing is a list of panels, a panel a row of columns, a column a stack of boxes. On a wide page the columns stand
side by side, on a narrow one below each other. Text is measured in DejaVu Sans, which is as wide as any usual screen
font, so it fits whatever font the reader has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from itertools import pairwise
from typing import Literal

from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font

from passerby.report.palette import BLUE, GREEN, INK, ORANGE, QUIET

Tone = Literal["images", "network", "value", "loss", "learning", "test"]

_TITLE, _TEXT, _HEADING, _PANEL = 13.0, 12.0, 11.0, 15.0
_PAD, _LEADING, _BETWEEN, _GUTTER, _MARGIN, _HEAD = 10.0, 1.32, 24.0, 46.0, 14.0, 34.0
_SIDE_BY_SIDE = 700.0  # below this width columns stand below each other

_TONES: dict[Tone, tuple[str, str]] = {
    "images": ("#ffffff", INK),
    "network": ("#e8f3fa", BLUE),
    "value": ("#ffffff", BLUE),
    "loss": ("#fdf4e3", ORANGE),
    "learning": ("#e6f5f0", GREEN),
    "test": ("#f4f4f4", QUIET),
}


@dataclass(frozen=True)
class Box:
    """A step: a name and facts about it. `key` is how arrows call it; a `value` is drawn with round ends."""

    key: str
    title: str
    lines: tuple[str, ...] = ()
    tone: Tone = "images"


@dataclass(frozen=True)
class Column:
    """Boxes below one another; `chained` draws an arrow from each to the next, but for those that stand apart."""

    heading: str
    boxes: tuple[Box, ...]
    chained: bool = True
    apart: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Panel:
    """Columns side by side; `links` are arrows (from key, to key) from a column to the next one.

    `enter` are words at the arrow from the panel above, `again` at an arrow back up to it; `""` = no such arrow.
    """

    title: str
    columns: tuple[Column, ...]
    links: tuple[tuple[str, str], ...]
    enter: str = ""
    again: str = ""


@dataclass(frozen=True)
class _Placed:
    """A box with its place in user units and its wrapped lines."""

    box: Box
    title: tuple[str, ...]
    lines: tuple[str, ...]
    x: float
    y: float
    width: float

    @property
    def height(self) -> float:
        return 2 * _PAD + _LEADING * (_TITLE * len(self.title) + _TEXT * len(self.lines)) - 2

    @property
    def middle(self) -> float:
        return self.y + self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height


@cache
def _font(weight: str) -> FT2Font:
    return FT2Font(findfont(FontProperties(family="DejaVu Sans", weight=weight)))


@cache
def text_width(text: str, size: float, weight: Literal["normal", "bold"] = "normal") -> float:
    """Return the width of one line of text, in the unit of `size`."""
    font = _font(weight)
    font.set_size(size, 72)
    font.set_text(text)
    return font.get_width_height()[0] / 64


def wrap(text: str, width: float, *, size: float, weight: Literal["normal", "bold"] = "normal") -> tuple[str, ...]:
    """Break text into lines of at most `width`, between words, or inside a word that is too long alone."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        while text_width(word, size, weight) > width and len(word) > 1:
            room = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or text_width(word[:n], size, weight) <= width)
            lines += [line, word[:room]] if line else [word[:room]]
            line, word = "", word[room:]
        joined = f"{line} {word}".strip()
        if line and text_width(joined, size, weight) > width:
            lines.append(line)
            joined = word
        line = joined
    return (*lines, line) if line else tuple(lines)


def draw_panels(panels: Sequence[Panel], *, width: float, label: str) -> str:
    """Return the panels as one SVG, below each other, with an arrow from each to the next.

    Args:
        panels: what to draw.
        width: of the drawing, in pixels; below 700 the columns of a panel stand below each other.
        label: what the drawing shows, for those who cannot see it.

    """
    parts: list[str] = []
    y = 1.0
    for number, panel in enumerate(panels):
        if number:
            passage, height = _passage(panel, y, width)
            parts += passage
            y += height
        passage, height = _panel(panel, y, width)
        parts += passage
        y += height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {y + 1:.1f}" width="{width:g}" '
        f'height="{y + 1:.1f}" role="img" aria-label="{escape(label)}" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif\">"
        f"<title>{escape(label)}</title>{''.join(parts)}</svg>"
    )


def _passage(panel: Panel, y: float, width: float) -> tuple[list[str], float]:
    """Draw the arrow into a panel from the one above, and the one back where there is one; also return their height."""
    height = _BETWEEN + (14 if panel.again else 2)
    x, back = (width / 4, 0.72 * width) if panel.again else (width / 2, width / 2)
    parts = [_arrow([(x, y), (x, y + height)])]
    middle = y + height / 2 + 4
    if panel.enter:
        parts.append(_text(panel.enter, x + 12, middle, size=_TEXT))
    if panel.again:
        parts += [_arrow([(back, y + height + 2), (back, y)]), _text(panel.again, back + 12, middle, size=_TEXT)]
    return parts, height + 2


def _panel(panel: Panel, y: float, width: float) -> tuple[list[str], float]:
    side_by_side = width >= _SIDE_BY_SIDE
    title = wrap(panel.title, width - 2 * _MARGIN, size=_PANEL, weight="bold")
    top = y + _HEAD + (len(title) - 1) * _PANEL * _LEADING
    stacks: list[list[_Placed]] = []
    parts: list[str] = []
    count = len(panel.columns)
    each = (width - 2 * _MARGIN - (count - 1) * _GUTTER) / count if side_by_side else width - 2 * _MARGIN
    x, start = _MARGIN, top
    for column in panel.columns:
        parts.append(_text(column.heading.upper(), x, start + _HEADING, size=_HEADING, colour=QUIET, spaced=True))
        stack = _stack(column, x, start + _HEADING + 9, each)
        stacks.append(stack)
        if side_by_side:
            x += each + _GUTTER
        else:
            start = stack[-1].bottom + _BETWEEN + 6
    bottom = max(stack[-1].bottom for stack in stacks) + _MARGIN
    frame = (
        f'<rect x="1" y="{y:.1f}" width="{width - 2:g}" height="{bottom - y:.1f}" rx="10" fill="#fff" '
        f'stroke="{QUIET}" stroke-width="1.2"/>'
    )
    heads = [
        _text(line, _MARGIN, y + 21 + n * _PANEL * _LEADING, size=_PANEL, weight="bold") for n, line in enumerate(title)
    ]
    arrows = [arrow for column, stack in zip(panel.columns, stacks, strict=True) for arrow in _chain(column, stack)]
    arrows += _links(panel, stacks) if side_by_side else _descents(stacks)
    return [frame, *heads, *parts, *arrows, *(_box(placed) for stack in stacks for placed in stack)], bottom - y


def _stack(column: Column, x: float, y: float, width: float) -> list[_Placed]:
    stack: list[_Placed] = []
    for box in (*column.boxes, *column.apart):
        room = width - 2 * _PAD
        lines = tuple(part for line in box.lines for part in wrap(line, room, size=_TEXT))
        placed = _Placed(box, wrap(box.title, room, size=_TITLE, weight="bold"), lines, x, y, width)
        stack.append(placed)
        y = placed.bottom + (_BETWEEN if column.chained else _BETWEEN / 2)
    return stack


def _chain(column: Column, stack: Sequence[_Placed]) -> list[str]:
    if not column.chained:
        return []
    return [
        _arrow([(above.x + above.width / 2, above.bottom), (below.x + below.width / 2, below.y)])
        for above, below in pairwise(stack[: len(column.boxes)])
    ]


def _descents(stacks: Sequence[Sequence[_Placed]]) -> list[str]:
    """On a narrow page: one arrow from each column to the next, past the heading of the next at its right end."""
    arrows = []
    for above, below in pairwise(stacks):
        x = above[-1].x + above[-1].width - 24
        arrows.append(_arrow([(x, above[-1].bottom), (x, below[0].y)]))
    return arrows


def _links(panel: Panel, stacks: Sequence[Sequence[_Placed]]) -> list[str]:
    """Draw the arrows from column to column: right, up or down in the gutter, right.

    Arrows that share their fewer ends share a lane of the gutter, and lanes are ordered so that none crosses another.
    """
    arrows = []
    for left, right in pairwise(stacks):
        sources, targets = ({placed.box.key: placed for placed in stack} for stack in (left, right))
        links = [(sources[a], targets[b]) for a, b in panel.links if a in sources and b in targets]
        if not links:
            continue
        by_source = len({a.y for a, _ in links}) <= len({b.y for _, b in links})
        hubs = sorted({(a if by_source else b).middle for a, b in links})
        falling = sum(b.middle - a.middle for a, b in links) > 0
        lanes = {hub: n for n, hub in enumerate(reversed(hubs) if falling else hubs)}
        for a, b in links:
            begin, end = a.x + a.width, b.x
            lane = begin + (end - begin) * (lanes[(a if by_source else b).middle] + 1) / (len(lanes) + 1.6)
            arrows.append(_arrow([(begin, a.middle), (lane, a.middle), (lane, b.middle), (end, b.middle)]))
    return arrows


def _box(placed: _Placed) -> str:
    fill, edge = _TONES[placed.box.tone]
    radius = min(placed.height / 2, 17) if placed.box.tone == "value" else 5
    parts = [
        f'<rect x="{placed.x:.1f}" y="{placed.y:.1f}" width="{placed.width:.1f}" height="{placed.height:.1f}" '
        f'rx="{radius:g}" fill="{fill}" stroke="{edge}" stroke-width="1.6"/>'
    ]
    y = placed.y + _PAD - 3
    for lines, size, weight in ((placed.title, _TITLE, "bold"), (placed.lines, _TEXT, "normal")):
        for line in lines:
            y += size * _LEADING
            parts.append(_text(line, placed.x + _PAD, y - 2, size=size, weight=weight))
    return "".join(parts)


def _text(
    text: str, x: float, y: float, *, size: float, weight: str = "normal", colour: str = INK, spaced: bool = False
) -> str:
    spacing = ' letter-spacing="0.6"' if spaced else ""
    bold = ' font-weight="bold"' if weight == "bold" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{colour}"{bold}{spacing}>{escape(text)}</text>'


def _arrow(points: Sequence[tuple[float, float]]) -> str:
    """Draw a line through the points with a head at the last one, which is reached up, down or to the right."""
    (x0, y0), (x1, y1) = points[-2], points[-1]
    back = -1 if y1 < y0 else 1
    head = [(x1 - 4, y1 - 7 * back), (x1 + 4, y1 - 7 * back)] if x0 == x1 else [(x1 - 7, y1 - 4), (x1 - 7, y1 + 4)]
    end = (x1, y1 - 6 * back) if x0 == x1 else (x1 - 6, y1)
    path = " L".join(f"{x:.1f} {y:.1f}" for x, y in (*points[:-1], end))
    tip = " ".join(f"{x:.1f},{y:.1f}" for x, y in ((x1, y1), *head))
    return f'<path d="M{path}" fill="none" stroke="{INK}" stroke-width="1.4"/><polygon points="{tip}" fill="{INK}"/>'
