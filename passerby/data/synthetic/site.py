"""Generation of a site of synthetic people: images, masks and lists in the file layout of a public data set.

The same site, seed and size give the same bytes, whatever the number of threads: every random draw belongs to a seed
sequence made of (seed, site, what for, identity, camera, picture). The manifest `site.json` is written last, so a
directory without it is unfinished and is made again.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from passerby.data.synthetic.cameras import CLIMATES, Camera, Climate, draw_camera
from passerby.data.synthetic.layout import (
    ROOTS,
    Member,
    PlannedImage,
    SiteSize,
    plan_members,
    plan_shots,
    station_lists,
)
from passerby.data.synthetic.manifest import MANIFEST, STARTED, is_finished
from passerby.data.synthetic.photograph import encode_mask, encode_picture
from passerby.data.synthetic.shot import Photo, advance, draw_track, take
from passerby.data.synthetic.wardrobe import Appearance, Garment, colour_name, draw_appearance, draw_lookalike
from passerby.errors import UserError, did_you_mean
from passerby.files import write_file, write_json

SITES: tuple[str, ...] = ("plaza", "campus", "station")
DEFAULT_SIZE = SiteSize()
TINY_SIZE = SiteSize(count_train=8, count_test=6, images_per_identity=6)

EDITION = 1
"""Raised whenever the same seed begins to give other pictures."""

_PLAN, _CAMERA, _PERSON, _TRACK, _PICTURE = range(5)


def make_site(
    directory: Path,
    site: str,
    *,
    seed: int,
    size: SiteSize = DEFAULT_SIZE,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Generate a site, unless it exists already, and return its root for a reader.

    Args:
        directory: where to write; made when missing. Masks go to `directory/masks`.
        site: `"plaza"` (Market-1501 layout), `"campus"` (DukeMTMC-reID) or `"station"` (MSMT17 V1).
        seed: any whole number >= 0; other seeds give other cameras and other people.
        size: how many identities and images.
        progress: called with (pictures done, pictures in all).

    Returns:
        the folder that holds `bounding_box_train` and its fellows, or `list_train.txt`.

    Raises:
        UserError: no such site, a negative seed, too small a size, or a directory that holds anything else.

    """
    _check_request(site, seed, size)
    directory = Path(directory)
    root = directory / ROOTS[site]
    request = {"site": site, "seed": seed, **asdict(size), "edition": EDITION}
    if is_finished(directory, request, _describe):
        return root
    write_json(directory / STARTED, request)
    rng = _generator(site, seed, _PLAN)
    members = plan_members(site, size, rng)
    shots = plan_shots(site, size, members, cameras=CLIMATES[site].count_cameras, rng=rng)
    people = dress_members(site, seed, members)
    _write_pictures(directory, shots, people, site=site, seed=seed, progress=progress)
    if site == "station":
        for name, text in station_lists(shots).items():
            write_file(root / name, text)
    write_file(directory / "attributes.csv", _attributes(members, people))
    write_file(directory / "README.md", _readme(site, seed, size, len(shots)))
    write_json(directory / MANIFEST, {**request, "count_images": len(shots)})
    (directory / STARTED).unlink()
    return root


def _write_pictures(
    directory: Path,
    shots: list[PlannedImage],
    people: list[Appearance],
    *,
    site: str,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Render all images and write them with their masks, in threads."""
    climate = CLIMATES[site]
    cameras = [
        draw_camera(_generator(site, seed, _CAMERA, k), climate, number=k) for k in range(1, climate.count_cameras + 1)
    ]
    for folder in sorted({str(Path(shot.path).parent) for shot in shots}):
        (directory / folder).mkdir(parents=True, exist_ok=True)
        (directory / "masks" / folder).mkdir(parents=True, exist_ok=True)

    def make(shot: PlannedImage) -> None:
        # A distractor belongs to nobody: the first person only says how large a box is.
        person = people[shot.member if shot.member < len(people) else 0]
        camera = cameras[shot.cam - 1]
        photo = photograph_shot(shot, person, camera, site=site, seed=seed, climate=climate)
        write_file(directory / shot.path, encode_picture(photo.picture, camera.response.quality))
        write_file((directory / "masks" / shot.path).with_suffix(".png"), encode_mask(photo.mask))

    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        for count, _ in enumerate(pool.map(make, shots), start=1):
            if progress is not None:
                progress(count, len(shots))


def dress_members(site: str, seed: int, members: list[Member]) -> list[Appearance]:
    """Return the appearance of each member, in their order."""
    season = CLIMATES[site].season
    people: list[Appearance] = []
    for member in members:
        rng = _generator(site, seed, _PERSON, member.index)
        like = member.lookalike_of
        people.append(draw_appearance(rng, season) if like is None else draw_lookalike(people[like], rng, season))
    return people


def photograph_shot(
    shot: PlannedImage, person: Appearance, camera: Camera, *, site: str, seed: int, climate: Climate
) -> Photo:
    """Render one planned image; it depends on the seed, site, identity, camera and step alone."""
    track = draw_track(_generator(site, seed, _TRACK, shot.member, shot.cam), camera)
    rng = _generator(site, seed, _PICTURE, shot.member, shot.cam, shot.step)
    moved = advance(track, shot.step % 50)
    return take(person, camera, moved, session=shot.session, box=shot.box, season=climate.season, rng=rng)


def _generator(site: str, seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, SITES.index(site), *key))))


def _check_request(site: str, seed: int, size: SiteSize) -> None:
    if site not in SITES:
        raise UserError(f"no site {site!r}; known: {', '.join(SITES)}{did_you_mean(site, SITES)}")
    if seed < 0:
        raise UserError(f"the seed must be a whole number >= 0, got {seed}")
    if size.count_train < 2 or size.count_test < 2 or size.images_per_identity < 4:
        raise UserError(
            "a site needs at least 2 identities to train on, 2 to test with and 4 images of each, got "
            f"{size.count_train}, {size.count_test} and {size.images_per_identity}"
        )


def _describe(request: dict[str, object]) -> str:
    sizes = " + ".join(str(request.get(key)) for key in ("count_train", "count_test"))
    return (
        f"{request.get('site')} with seed {request.get('seed')} ({sizes} identities, about "
        f"{request.get('images_per_identity')} images each, edition {request.get('edition')})"
    )


def _attributes(members: list[Member], people: list[Appearance]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    header = ["role", "pid", "lookalike_of_pid"]
    writer.writerow(header + [name for name, _ in _columns(people[0])])
    for member, person in zip(members, people, strict=True):
        like = "" if member.lookalike_of is None else members[member.lookalike_of].pid
        writer.writerow([member.role, member.pid, like, *(value for _, value in _columns(person))])
    return stream.getvalue()


def _columns(person: Appearance) -> list[tuple[str, str]]:
    columns: list[tuple[str, str]] = []
    for item in fields(person):
        value = getattr(person, item.name)
        if isinstance(value, Garment):
            columns += [(item.name, colour_name(value.colour)), (f"{item.name}_rgb", _hex(value.colour))]
            columns.append((f"{item.name}_pattern", value.pattern))
        elif isinstance(value, tuple):
            columns.append((item.name, _hex(value)))
        else:
            columns.append((item.name, f"{value:.3f}" if isinstance(value, float) else str(value)))
    return columns


def _hex(colour: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in colour)


def _readme(site: str, seed: int, size: SiteSize, count_images: int) -> str:
    return f"""# Generated people: {site}

{count_images} pictures of {size.count_train} identities to train on and {size.count_test} to search for, in the file
layout of {ROOTS[site]}. **No real person is shown**: every figure, garment and background is computed. Scores on these
pictures say nothing about scores on the data set whose layout they borrow.

Made by `passerby data make DIR --site {site} --seed {seed}` (edition {EDITION}); the same command gives the same
bytes wherever the same versions of passerby, numpy, numba and the JPEG library run on the same kind of machine.

- `{ROOTS[site]}/`: the pictures, 128 x 64 JPEG.
- `masks/`: the same paths with `.png`, 1 bit, true where the person (with clothes and bag) is visible. Pictures without
  a person of their own have an empty mask.
- `attributes.csv`: what each identity wears, and whose look-alike it is.
- `site.json`: what was asked for.
"""
