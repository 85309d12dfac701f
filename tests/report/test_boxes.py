"""Text fits its box, boxes do not overlap, and arrows of one panel do not run through boxes."""

import re
from xml.etree import ElementTree

import pytest

from passerby.report.boxes import Box, Column, Panel, draw_panels, text_width, wrap
from passerby.report.diagrams import NARROW, WIDE, draw
from tests.report.conftest import plain_recipe

SVG = "{http://www.w3.org/2000/svg}"


def rectangles(svg):
    found = [
        [float(e.get(key)) for key in ("x", "y", "width", "height")]
        for e in ElementTree.fromstring(svg).iter(f"{SVG}rect")
        if e.get("rx") != "10"  # not the frame of a panel
    ]
    return [(x, y, x + w, y + h) for x, y, w, h in found]


def long_recipe():
    return plain_recipe(
        "a site with a very long name_and_no_place_to_break_it_anywhere_at_all_in_this_word",
        model={"backbone": "vit_base_patch16_clip_224.laion2b_ft_in12k_in1k"},
        data={"augment": {"jitter": {"hue": 0.1}}},
    )


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("recipe", [plain_recipe(), long_recipe()])
def test_boxes_do_not_overlap_and_hold_their_text(recipe, width):
    svg = draw(recipe, width=width)
    boxes = rectangles(svg)
    assert len(boxes) > 10
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        assert x0 >= 0
        assert x1 <= width
        for u0, v0, u1, v1 in boxes[number + 1 :]:
            assert x1 <= u0 or u1 <= x0 or y1 <= v0 or v1 <= y0
    for element in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        x, y, size = (float(element.get(key)) for key in ("x", "y", "font-size"))
        weight = "bold" if element.get("font-weight") else "normal"
        holders = [box for box in boxes if box[0] < x < box[2] and box[1] < y < box[3]]
        if holders:
            assert x + text_width(element.text, size, weight) <= holders[0][2]
            assert y - size >= holders[0][1] - 1
            assert y + 0.25 * size <= holders[0][3]


TALL = Box("tall", "spacer", tuple("abcdefghijklmnopq"))


@pytest.mark.parametrize("arrows_go", ["up", "down"])
@pytest.mark.parametrize("hubs", ["sources", "targets"])
def test_lanes_of_two_hubs_do_not_cross(arrows_go, hubs):
    few, many = (tuple(Box(f"{letter}{n}", letter) for n in range(count)) for letter, count in (("f", 2), ("m", 4)))
    left, right = (few, many) if hubs == "sources" else (many, few)
    above = ((TALL,), ()) if arrows_go == "up" else ((), (TALL,))
    columns = tuple(Column("c", (*over, *side), chained=False) for over, side in zip(above, (left, right), strict=True))
    pairs = (("f0", "m0"), ("f0", "m1"), ("f1", "m2"), ("f1", "m3"))
    panel = Panel("p", columns, pairs if hubs == "sources" else tuple((b, a) for a, b in pairs))
    svg = draw_panels([panel], width=900, label="x")
    paths = [[tuple(map(float, p.split())) for p in d.split(" L")] for d in re.findall(r'<path d="M([^"]*)"', svg)]
    arrows = [path for path in paths if len(path) == 4]
    assert len(arrows) == 4
    for a in arrows[:2]:
        for b in arrows[2:]:
            assert not any(crosses(a[i : i + 2], b[j : j + 2]) for i in range(3) for j in range(3))


def crosses(one, two):
    """Whether two axis-parallel segments share a point."""
    return all(
        min(one[0][k], one[1][k]) <= max(two[0][k], two[1][k])
        and min(two[0][k], two[1][k]) <= max(one[0][k], one[1][k])
        for k in (0, 1)
    )


def test_wrap_keeps_every_letter_and_the_width():
    text = "a fairly long line with averyveryverylongwordthatcannotfitintoit and an end"
    lines = wrap(text, 80, size=12)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(text_width(line, 12) <= 80 for line in lines)
    assert wrap("", 80, size=12) == ()
    assert wrap("aaaa" * 9, 80, size=12) == wrap("aaaa" * 9 + " ", 80, size=12)
    assert "".join(wrap("ab" * 40, 50, size=12)) == "ab" * 40
