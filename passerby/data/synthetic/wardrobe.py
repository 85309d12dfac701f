"""Appearance of identities: build, hair, clothes, bag; and the material table of the ray caster.

Colours come from a short list of common clothing colours with some jitter, so that different people do wear much the
same thing, as they do in the street.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from passerby.types import Doubles

Colour = tuple[float, float, float]
"""sRGB, each in [0, 1]."""

CLOTHES: tuple[tuple[str, Colour], ...] = (
    ("black", (0.07, 0.07, 0.08)),
    ("charcoal", (0.21, 0.22, 0.24)),
    ("grey", (0.48, 0.49, 0.50)),
    ("white", (0.91, 0.91, 0.89)),
    ("navy", (0.10, 0.13, 0.27)),
    ("blue", (0.16, 0.32, 0.67)),
    ("sky", (0.53, 0.70, 0.87)),
    ("green", (0.18, 0.42, 0.25)),
    ("olive", (0.36, 0.36, 0.20)),
    ("red", (0.72, 0.13, 0.14)),
    ("maroon", (0.38, 0.09, 0.14)),
    ("orange", (0.88, 0.45, 0.13)),
    ("yellow", (0.90, 0.77, 0.22)),
    ("pink", (0.88, 0.58, 0.66)),
    ("purple", (0.40, 0.22, 0.50)),
    ("beige", (0.76, 0.67, 0.52)),
    ("brown", (0.38, 0.25, 0.16)),
    ("teal", (0.10, 0.47, 0.49)),
)
SOBER: tuple[Colour, ...] = (
    (0.07, 0.07, 0.08), (0.21, 0.22, 0.24), (0.10, 0.13, 0.27), (0.42, 0.43, 0.45),
    (0.72, 0.64, 0.50), (0.33, 0.33, 0.21), (0.32, 0.22, 0.15), (0.88, 0.88, 0.86),
)  # fmt: skip
DENIM: tuple[tuple[str, Colour], ...] = (
    ("jeans", (0.25, 0.34, 0.50)),
    ("dark jeans", (0.14, 0.19, 0.31)),
    ("light jeans", (0.52, 0.62, 0.74)),
)
SKINS: tuple[Colour, ...] = (
    (0.90, 0.73, 0.62), (0.84, 0.65, 0.52), (0.74, 0.55, 0.41),
    (0.60, 0.42, 0.30), (0.43, 0.29, 0.21), (0.30, 0.20, 0.15),
)  # fmt: skip
HAIRS: tuple[Colour, ...] = (
    (0.06, 0.05, 0.05), (0.15, 0.10, 0.07), (0.30, 0.19, 0.11),
    (0.62, 0.48, 0.29), (0.42, 0.20, 0.11), (0.58, 0.58, 0.58),
)  # fmt: skip

PATTERNS = ("plain", "hoops", "pinstripes", "checks", "dots", "block", "camouflage", "diagonals", "sides")
PRINTS = ("none", "disc", "square", "bar", "glyph", "ring", "wedge")


@dataclass(frozen=True)
class Season:
    """Clothing of the people of a site; every field is a probability in [0, 1].

    Attributes:
        warm: of summer clothes.
        bright: of an upper garment in any colour, not only a sober one.
        patterned: of a pattern on it.
        bags: of carrying something.

    """

    warm: float
    bright: float
    patterned: float
    bags: float


@dataclass(frozen=True)
class Garment:
    """Cloth of one piece of clothing."""

    colour: Colour
    second: Colour
    pattern: str
    size: float  # metres


@dataclass(frozen=True)
class Appearance:
    """Appearance of a person; lengths as shares of the height unless stated otherwise."""

    height: float  # metres
    girth: float
    shoulders: float
    hips: float
    bust: float
    skin: Colour
    hair: str
    hair_colour: Colour
    hat: str
    hat_colour: Colour
    upper: str
    upper_cloth: Garment
    sleeve: Garment
    inner: Colour
    print_colour: Colour
    front_print: str
    back_print: str
    print_seed: int
    lower: str
    lower_cloth: Garment
    legs: Colour
    shoes: str
    shoe_colour: Colour
    bag: str
    bag_colour: Colour
    bag_trim: Colour
    bag_side: int

    @property
    def sleeve_length(self) -> float:
        """Length of the sleeve from the shoulder, share of the height."""
        return {"vest": 0.01, "t-shirt": 0.10, "blouse": 0.21}.get(self.upper, 0.30)

    @property
    def leg_length(self) -> float:
        """Length of the trouser leg from the hip, share of the height."""
        return {"shorts": 0.21, "capris": 0.36, "skirt": 0.03, "long skirt": 0.03}.get(self.lower, 0.46)

    @property
    def skirted(self) -> bool:
        """Whether a skirt of any length is worn."""
        return self.lower in ("skirt", "long skirt")

    @property
    def bulk(self) -> float:
        """Thickness of the upper garment, share of the height."""
        return {"jacket": 0.005, "coat": 0.006, "hoodie": 0.006}.get(self.upper, 0.001)


class Material(IntEnum):
    """Rows of a person's material table."""

    SKIN = 0
    FACE = 1
    HAIR = 2
    HAT = 3
    UPPER = 4
    SLEEVE = 5
    TAIL = 6
    INNER = 7
    PELVIS = 8
    LEG = 9
    BARE_LEG = 10
    SHOE = 11
    BAG = 12
    BAG_TRIM = 13
    COLLAR = 14


FIRST, SECOND, THIRD = 0, 3, 6  # linear RGB each
PATTERN, SIZE, MODE = 9, 10, 11
LOW, HIGH, BEYOND = 12, 13, 14  # outside low..high along the part another material begins
OPENING, UNDER, NECK = 15, 16, 17  # half width of an open front and what is under it; depth of the neckline
FRONT_PRINT, BACK_PRINT, PRINT_SEED, PRINT_HEIGHT = 18, 19, 20, 21
COUNT_MATERIAL_COLUMNS = 22
CLOTH_MODE, TORSO_MODE, FACE_MODE, SMOOTH_MODE = 0.0, 1.0, 2.0, 3.0


def linear(colour: Colour) -> Doubles:
    """Return linear-light RGB (3,) of an sRGB colour (pure power 2.2)."""
    return np.power(np.asarray(colour, dtype=np.float64), 2.2)


def _jitter(colour: Colour, rng: np.random.Generator, amount: float = 0.035) -> Colour:
    red, green, blue = np.clip(np.asarray(colour) + rng.normal(0.0, amount, 3), 0.03, 0.96)
    return float(red), float(green), float(blue)


def _choice(words: tuple[str, ...], rng: np.random.Generator, weights: tuple[float, ...] | None = None) -> str:
    if weights is None:
        return words[int(rng.integers(len(words)))]
    share = np.cumsum(weights) / np.sum(weights)
    return words[min(int(np.searchsorted(share, rng.random(), side="right")), len(words) - 1)]


def _colour(rng: np.random.Generator, *, sober: float) -> Colour:
    """Draw a colour, with probability `sober` one of those of most trousers, shoes and bags."""
    if rng.random() < sober:
        return _jitter(SOBER[int(rng.integers(len(SOBER)))], rng)
    return _jitter(CLOTHES[int(rng.integers(len(CLOTHES)))][1], rng)


def _cloth(rng: np.random.Generator, *, denim: float, sober: float, patterned: float) -> Garment:
    colour = (
        _jitter(DENIM[int(rng.integers(len(DENIM)))][1], rng) if rng.random() < denim else _colour(rng, sober=sober)
    )
    second = _colour(rng, sober=0.4)
    if sum(abs(a - b) for a, b in zip(colour, second, strict=True)) < 0.6:
        second = (0.9, 0.9, 0.88) if sum(colour) < 1.5 else (0.09, 0.10, 0.13)
    pattern = _choice(PATTERNS[1:], rng) if rng.random() < patterned else "plain"
    size = float(rng.choice((0.035, 0.05, 0.075, 0.11)))
    return Garment(colour, second, pattern, size)


def _unlike_skin(cloth: Garment, skin: Colour) -> Garment:
    """Return the cloth, of half the brightness where it would pass for bare skin."""
    if sum(abs(a - b) for a, b in zip(cloth.colour, skin, strict=True)) > 0.45:
        return cloth
    red, green, blue = cloth.colour
    return replace(cloth, colour=(0.5 * red, 0.5 * green, 0.5 * blue))


def colour_name(colour: Colour) -> str:
    """Return the name of the clothing colour nearest to an sRGB colour."""
    known = (*CLOTHES, *DENIM)
    return min(known, key=lambda item: sum((a - b) ** 2 for a, b in zip(item[1], colour, strict=True)))[0]


def draw_appearance(rng: np.random.Generator, season: Season) -> Appearance:
    """Draw the appearance of one person of a site."""
    female = rng.random() < 0.5
    warm = rng.random() < season.warm
    uppers = ("t-shirt", "blouse", "vest", "shirt") if warm else ("jacket", "coat", "hoodie", "shirt")
    lowers = ("trousers", "shorts", "capris") if warm else ("trousers",)
    if female:
        lowers = (*lowers, "skirt", "long skirt") if warm else (*lowers, "trousers", "skirt", "long skirt")
    skin = _jitter(SKINS[int(rng.integers(len(SKINS)))], rng, 0.02)
    upper_cloth = _unlike_skin(_cloth(rng, denim=0.06, sober=1.0 - season.bright, patterned=season.patterned), skin)
    sleeve = upper_cloth
    if rng.random() < 0.15:
        sleeve = _cloth(rng, denim=0.0, sober=0.4, patterned=0.0)
    lower_cloth = _unlike_skin(_cloth(rng, denim=0.35, sober=0.75, patterned=0.3 * season.patterned), skin)
    printed = rng.random() < 0.4
    hairs = (
        ("long", "long", "ponytail", "bun", "bob", "short")
        if female
        else ("short", "short", "short", "short", "curly", "curly", "bald", "bob")
    )
    bags = ("backpack", "shoulder bag", "handbag", "trolley")
    return Appearance(
        height=float(np.clip(rng.normal(1.66 if female else 1.78, 0.07), 1.48, 1.98)),
        girth=float(np.clip(rng.normal(1.0, 0.11), 0.82, 1.32)),
        shoulders=float(rng.normal(0.94 if female else 1.05, 0.035)),
        hips=float(rng.normal(1.06 if female else 0.98, 0.04)),
        bust=float(rng.uniform(0.6, 1.0)) if female else 0.0,
        skin=skin,
        hair=_choice(hairs, rng),
        hair_colour=_jitter(HAIRS[int(rng.integers(len(HAIRS)))], rng, 0.02),
        hat=_choice(("none", "cap", "beanie", "brim"), rng, (0.78, 0.10, 0.08, 0.04)),
        hat_colour=_colour(rng, sober=0.4),
        upper=_choice(uppers, rng),
        upper_cloth=upper_cloth,
        sleeve=sleeve,
        inner=_colour(rng, sober=0.5),
        print_colour=_colour(rng, sober=0.1) if rng.random() < 0.4 else upper_cloth.second,
        front_print=_choice(PRINTS[1:], rng) if printed else "none",
        back_print=_choice(PRINTS, rng) if printed else "none",
        print_seed=int(rng.integers(1, 2**15)),
        lower=_choice(lowers, rng),
        lower_cloth=lower_cloth,
        legs=skin if warm or rng.random() < 0.3 else (0.12, 0.11, 0.13),
        shoes=_choice(("trainers", "shoes", "boots"), rng),
        shoe_colour=_colour(rng, sober=0.75),
        bag=_choice(bags, rng, (0.4, 0.3, 0.2, 0.1)) if rng.random() < season.bags else "none",
        bag_colour=_colour(rng, sober=0.5),
        bag_trim=_colour(rng, sober=0.7),
        bag_side=1 if rng.random() < 0.5 else -1,
    )


def draw_lookalike(other: Appearance, rng: np.random.Generator, season: Season) -> Appearance:
    """Draw another person in nearly the clothes of `other`: build, head and one or two details differ."""
    fresh = draw_appearance(rng, season)
    details: tuple[dict[str, object], ...] = (
        {"shoes": fresh.shoes, "shoe_colour": fresh.shoe_colour},
        {"bag": fresh.bag, "bag_colour": fresh.bag_colour, "bag_trim": fresh.bag_trim},
        {"front_print": fresh.front_print, "back_print": fresh.back_print, "print_seed": fresh.print_seed},
        {"lower_cloth": replace(fresh.lower_cloth, pattern="plain")},
    )
    chosen = details[int(rng.integers(len(details)))]
    same = replace(
        other,
        height=fresh.height,
        girth=fresh.girth,
        skin=fresh.skin,
        hair_colour=fresh.hair_colour,
        hat=fresh.hat,
        hat_colour=fresh.hat_colour,
        legs=fresh.skin if other.legs == other.skin else other.legs,
        upper_cloth=replace(other.upper_cloth, colour=_jitter(other.upper_cloth.colour, rng)),
    )
    return replace(same, **chosen)  # type: ignore[arg-type]


def materials_of(person: Appearance) -> Doubles:
    """Return the material table (len(Material), COUNT_MATERIAL_COLUMNS) of one person."""
    table = np.zeros((len(Material), COUNT_MATERIAL_COLUMNS))
    table[:, LOW], table[:, HIGH] = -99.0, 99.0
    plain = {
        Material.SKIN: person.skin,
        Material.FACE: person.skin,
        Material.HAIR: person.hair_colour,
        Material.HAT: person.hat_colour,
        Material.INNER: person.inner,
        Material.BARE_LEG: person.legs,
        Material.SHOE: person.shoe_colour,
        Material.BAG: person.bag_colour,
        Material.BAG_TRIM: person.bag_trim,
        Material.COLLAR: person.upper_cloth.colour,
    }
    for row, colour in plain.items():
        table[row, FIRST : FIRST + 3] = linear(colour)
    for row in (Material.UPPER, Material.TAIL):
        _weave(table[row], person.upper_cloth)
    _weave(table[Material.SLEEVE], person.sleeve)
    for row in (Material.LEG, Material.PELVIS):
        _weave(table[row], person.lower_cloth)
    table[[Material.SKIN, Material.BARE_LEG], MODE] = SMOOTH_MODE
    table[Material.FACE, MODE] = FACE_MODE
    table[Material.FACE, SECOND : SECOND + 3] = linear(person.skin) * 0.25
    table[Material.BAG, SECOND : SECOND + 3] = linear(person.bag_trim)
    table[Material.BAG, PATTERN], table[Material.BAG, SIZE] = float(PATTERNS.index("block")), 0.12
    _cut(table, person)
    return table


def _weave(row: Doubles, cloth: Garment) -> None:
    row[FIRST : FIRST + 3], row[SECOND : SECOND + 3] = linear(cloth.colour), linear(cloth.second)
    row[PATTERN], row[SIZE] = float(PATTERNS.index(cloth.pattern)), cloth.size


def _cut(table: Doubles, person: Appearance) -> None:
    height = person.height
    upper = table[Material.UPPER]
    upper[MODE] = TORSO_MODE
    tucked = person.skirted or person.upper in ("vest", "blouse")
    upper[LOW], upper[BEYOND] = (0.055 if tucked else -0.02) * height, Material.PELVIS
    upper[OPENING] = {"jacket": 0.028, "coat": 0.016}.get(person.upper, 0.0) * height
    upper[UNDER] = Material.INNER
    upper[NECK] = {"vest": 0.26, "blouse": 0.255, "jacket": 0.25, "coat": 0.27}.get(person.upper, 0.28) * height
    upper[THIRD : THIRD + 3] = linear(person.print_colour)
    upper[FRONT_PRINT] = float(PRINTS.index(person.front_print))
    upper[BACK_PRINT] = float(PRINTS.index(person.back_print))
    upper[PRINT_SEED], upper[PRINT_HEIGHT] = float(person.print_seed), 0.20 * height
    table[Material.SLEEVE, HIGH], table[Material.SLEEVE, BEYOND] = person.sleeve_length * height, Material.SKIN
    table[Material.LEG, HIGH], table[Material.LEG, BEYOND] = person.leg_length * height, Material.BARE_LEG
