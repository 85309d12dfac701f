"""One figure before one camera: rays against formulas, clothes from both sides, poses, response."""

import math
from dataclasses import replace

import numpy as np
import pytest

from passerby.data.synthetic.body import ARMS, Pose, draw_pose, leg_joints, sculpt
from passerby.data.synthetic.cameras import CLIMATES, draw_camera
from passerby.data.synthetic.photograph import Response, develop, encode_mask, encode_picture, enlarge_cover
from passerby.data.synthetic.raycast import cast
from passerby.data.synthetic.shot import Session, Track, advance, take
from passerby.data.synthetic.solids import (
    CAPSULE,
    COUNT_COLUMNS,
    END_A,
    END_B,
    KIND,
    OWNER,
    RADIUS_A,
    RADIUS_B,
    TARGET,
    Sculpture,
    place,
)
from passerby.data.synthetic.wardrobe import PATTERNS, PRINTS, Appearance, draw_appearance, draw_lookalike

NOON = Session("noon", (1.0, 1.0, 1.0), 1.0)
PLAIN = Response((1.0, 1.0, 1.0), 2.2, 1.0, 1.0, 0.0, 0.0, 0.0, 90)
STANDING = Pose(phase=0.0, stride=0.0)


def person(number: int, site: str = "plaza") -> Appearance:
    return draw_appearance(np.random.default_rng(number), CLIMATES[site].season)


def looked_along(shape: Sculpture, distance: float) -> float:
    """Way from (0, -distance, 0) along +y to what `shape` is, by the ray caster; inf where it is missed."""
    solids = place(shape, TARGET, at=(0.0, distance), yaw=0.0, material_offset=0)
    view = np.array([0.0, 0.0, 1.0, -0.001, 0.001, 0.001, -0.001])
    way, hit = np.empty((1, 1), np.float32), np.empty((1, 1), np.int64)
    cast(solids, view, 1, 1, way, hit)
    return float(way[0, 0]) if hit[0, 0] >= 0 else math.inf


def test_rays_meet_each_kind_of_solid_where_geometry_says() -> None:
    ball, box, cone, capsule = Sculpture(), Sculpture(), Sculpture(), Sculpture()
    ball.ball((0.0, 0.0, 0.0), radii=(0.3, 0.7, 0.2), material=0)
    box.box((0.0, 0.0, 0.0), halves=(0.3, 0.4, 0.2), material=0)
    cone.cone((0.0, 0.0, -1.0), (0.0, 0.0, 1.0), radii=(0.2, 0.6), material=0, depth=0.5)
    capsule.capsule((0.0, 0.0, -1.0), (0.0, 0.0, 1.0), radii=(0.3, 0.3), material=0, depth=0.5)
    assert looked_along(ball, 5.0) == pytest.approx(4.3, abs=1e-5)
    assert looked_along(box, 5.0) == pytest.approx(4.6, abs=1e-5)
    assert looked_along(cone, 5.0) == pytest.approx(5.0 - 0.5 * 0.4, abs=1e-5)
    assert looked_along(capsule, 5.0) == pytest.approx(5.0 - 0.5 * 0.3, abs=1e-5)


def test_a_tapered_capsule_is_the_hull_of_its_spheres() -> None:
    capsule = Sculpture()
    capsule.capsule((0.0, 0.0, -0.5), (0.0, 0.0, 0.5), radii=(0.4, 0.1), material=0)
    # The flank is tangent to both spheres: its distance from the axis at z is (r(z)) / cos of the lean.
    lean = math.asin(0.3)
    assert looked_along(capsule, 5.0) == pytest.approx(5.0 - 0.25 / math.cos(lean), abs=1e-5)


def test_a_clipped_ball_is_missed_below_the_clip() -> None:
    dome = Sculpture()
    dome.ball((0.0, 0.0, -0.1), radii=(0.5, 0.5, 0.5), material=0, clip=0.4)
    assert looked_along(dome, 5.0) == math.inf


def test_the_nearest_solid_wins() -> None:
    pair = Sculpture()
    pair.ball((0.0, 1.0, 0.0), radii=(0.2, 0.2, 0.2), material=0)
    pair.ball((0.0, -1.0, 0.0), radii=(0.2, 0.2, 0.2), material=0)
    assert looked_along(pair, 5.0) == pytest.approx(3.8, abs=1e-5)


@pytest.mark.parametrize("number", range(12))
def test_feet_stand_on_the_ground_and_the_head_is_at_full_height(number: int) -> None:
    who = replace(person(number), hat="none", hair="short")
    for phase in (0.0, 1.3, 2.9, 4.4):
        rows = place(sculpt(who, replace(STANDING, phase=phase)), TARGET, at=(0, 0), yaw=0.0, material_offset=0)
        assert rows.shape[1] == COUNT_COLUMNS
        assert (rows[:, OWNER] == TARGET).all()
        assert np.isfinite(rows).all()
        z_a, z_b = rows[:, END_A + 2], rows[:, END_B + 2]
        assert max(z_a + rows[:, RADIUS_A]) == pytest.approx(who.height, rel=0.06)
        capsules = rows[:, KIND] == CAPSULE
        lowest = np.minimum(z_a - rows[:, RADIUS_A], z_b - rows[:, RADIUS_B])[capsules].min()
        assert lowest == pytest.approx(0.0, abs=0.015)


def test_legs_swing_against_each_other() -> None:
    walk = Pose(phase=math.pi / 2, stride=0.45)
    right, left = (leg_joints(person(0), walk, side=side) for side in (1, -1))
    assert right.knee[1] > 0.1 > 0.0 > left.knee[1]
    lengths = [math.dist(leg.hip, leg.knee) for leg in (right, left)]
    assert lengths[0] == pytest.approx(lengths[1])


def test_every_way_to_hold_the_arms_is_drawn() -> None:
    rng = np.random.default_rng(0)
    assert {draw_pose(rng).arms for _ in range(200)} == set(ARMS)


def test_walking_moves_along_the_heading() -> None:
    track = Track(x=1.0, y=6.0, heading=math.pi / 2, speed=1.2, pose=STANDING)
    later = advance(track, 2)
    assert later.x < 0.0
    assert later.y == pytest.approx(6.0)
    assert later.pose.phase != track.pose.phase


def view_of(who: Appearance, heading: float) -> tuple[np.ndarray, np.ndarray]:
    camera = draw_camera(np.random.default_rng(4), CLIMATES["plaza"], number=1)
    camera = replace(camera, response=PLAIN, occluded=0.0, looseness=0.0)
    track = Track(x=0.0, y=camera.far, heading=heading, speed=0.0, pose=STANDING)
    season = CLIMATES["plaza"].season
    photo = take(who, camera, track, session=NOON, box="good", season=season, rng=np.random.default_rng(5))
    return photo.picture, photo.mask


def clothes_colours(who: Appearance, heading: float) -> np.ndarray:
    """Mean colour of trunk and legs, grey level taken out, from pixels of the person."""
    picture, mask = view_of(who, heading)
    values = []
    for top, bottom in ((32, 60), (70, 100)):
        rows = picture[top:bottom][mask[top:bottom]].astype(float)
        values.append(rows.mean(0) / rows.mean())
    return np.concatenate(values)


def test_front_and_back_show_the_same_clothes() -> None:
    people = [replace(person(k), bag="none", upper="t-shirt") for k in range(12)]
    back = np.array([clothes_colours(who, 0.2) for who in people])
    front = np.array([clothes_colours(who, math.pi + 0.2) for who in people])
    distances = np.linalg.norm(back[:, None] - front[None], axis=2)  # (12, 12)
    same = np.diag(distances)
    assert np.mean(distances.argmin(1) == np.arange(12)) >= 0.6
    assert np.median(same) < 0.5 * np.median(distances)


def test_the_print_on_the_chest_is_not_the_one_on_the_back() -> None:
    bare = replace(person(3), bag="none", upper="t-shirt", hair="short", front_print="none", back_print="none")
    chest = replace(bare, front_print="square", print_colour=(0.95, 0.9, 0.1))
    for heading, differs in ((0.0, False), (math.pi, True)):
        first, mask = view_of(bare, heading)
        second, _ = view_of(chest, heading)
        assert bool((first != second).any()) is differs
        if differs:
            assert mask[(first.astype(int) - second).any(2)].mean() > 0.9


def test_every_pattern_print_bag_hair_and_garment_can_be_drawn() -> None:
    rng = np.random.default_rng(1)
    crowd = [draw_appearance(rng, CLIMATES[site].season) for site in CLIMATES for _ in range(150)]
    assert {who.upper_cloth.pattern for who in crowd} == set(PATTERNS)
    assert {who.back_print for who in crowd} == set(PRINTS)
    assert {who.bag for who in crowd} == {"none", "backpack", "shoulder bag", "handbag", "trolley"}
    assert {who.lower for who in crowd} == {"trousers", "shorts", "capris", "skirt", "long skirt"}
    assert {who.hat for who in crowd} == {"none", "cap", "beanie", "brim"}
    for who in crowd[:60]:
        assert view_of(who, 1.0)[1].mean() > 0.1


def test_a_lookalike_wears_nearly_the_same() -> None:
    season = CLIMATES["plaza"].season
    who = person(7)
    other = draw_lookalike(who, np.random.default_rng(8), season)
    assert other != who
    assert other.upper == who.upper
    assert np.allclose(other.upper_cloth.colour, who.upper_cloth.colour, atol=0.2)


def test_develop_keeps_a_middle_grey_and_smooths_it_when_it_enlarges() -> None:
    grey = np.full((64, 32, 3), 0.2)
    made = develop(grey, PLAIN, size=(128, 64), motion=0, rng=np.random.default_rng(0))
    assert made.shape == (128, 64, 3)
    assert set(np.unique(made)) == {round(255 * 0.2 ** (1 / 2.2))}
    red = develop(grey, replace(PLAIN, gain=(1.5, 1.0, 1.0)), size=(64, 32), motion=0, rng=np.random.default_rng(0))
    assert red[0, 0, 0] > red[0, 0, 1] == red[0, 0, 2]


def test_blur_spreads_light_without_losing_it() -> None:
    spot = np.full((32, 16, 3), 0.05)
    spot[16, 8] = 0.4
    sharp = develop(spot, replace(PLAIN, gamma=1.0), size=(32, 16), motion=0, rng=np.random.default_rng(0)).astype(
        float
    )
    soft = develop(spot, replace(PLAIN, gamma=1.0, blur=0.8), size=(32, 16), motion=0, rng=np.random.default_rng(0))
    assert soft.max() < sharp.max()
    assert soft.astype(float).sum() == pytest.approx(sharp.sum(), rel=0.02)


def test_files_are_jpeg_and_one_bit_png() -> None:
    picture, mask = view_of(person(0), 0.0)
    assert encode_picture(picture, 80)[:2] == b"\xff\xd8"
    assert encode_mask(mask)[:4] == b"\x89PNG"
    assert enlarge_cover(np.ones((30, 15)), (128, 64)).all()
