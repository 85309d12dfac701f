"""Planned images of a site and their file names; nothing is rendered here.

File layouts: Market-1501 (Zheng et al., ICCV 2015) for `plaza`, DukeMTMC-reID (Ristani et al., ECCVW 2016;
Zheng et al., ICCV 2017) for `campus`, MSMT17 V1 (Wei et al., CVPR 2018) for `station`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from passerby.data.synthetic.shot import BoxQuality, Session
from passerby.types import SplitName

Role = Literal["train", "test", "alone"]

ROOTS = {"plaza": "Market-1501-v15.09.15", "campus": "DukeMTMC-reID", "station": "MSMT17_V1"}
FOLDERS: dict[SplitName, str] = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}

SESSIONS: tuple[Session, ...] = (
    Session("morning", (1.0, 0.95, 0.86), 1.0),
    Session("noon", (1.12, 1.12, 1.12), 0.8),
    Session("afternoon", (1.04, 0.96, 0.82), 1.0),
    Session("night", (0.55, 0.51, 0.49), 1.5),
)


@dataclass(frozen=True)
class SiteSize:
    """Size of a site.

    Attributes:
        count_train: identities to train on, >= 2.
        count_test: other identities, to search for, >= 2.
        images_per_identity: on average, >= 4 (an identity varies by a third to either side).

    """

    count_train: int = 80
    count_test: int = 50
    images_per_identity: int = 12


@dataclass(frozen=True)
class Member:
    """One identity of a site: its number in file names, and its role.

    `alone` identities are seen by one camera only and stand in the gallery as distractors.
    """

    index: int
    pid: int
    role: Role
    lookalike_of: int | None  # index of another member


@dataclass(frozen=True)
class PlannedImage:
    """One planned image.

    Attributes:
        path: relative to the directory of the site, with `/`.
        member: index of the identity; for distractors a number of its own.
        pid: as in the file name.
        cam: 1..n.
        frame: as in the file name.
        step: number of the picture within its track.
        session: time of day.
        box: how well the box is placed.
        part: where it belongs.

    """

    path: str
    member: int
    pid: int
    cam: int
    frame: int
    step: int
    session: Session
    box: BoxQuality
    part: SplitName


def plan_members(site: str, size: SiteSize, rng: np.random.Generator) -> list[Member]:
    """Return the identities of a site; about one in ten is a look-alike of an earlier one of the same role."""
    count_alone = size.count_test // 4 if site == "campus" else 0
    counts: tuple[tuple[Role, int], ...] = (
        ("train", size.count_train),
        ("test", size.count_test),
        ("alone", count_alone),
    )
    roles = [role for role, count in counts for _ in range(count)]
    if site == "station":
        pids = [*range(size.count_train), *range(size.count_test)]
    else:
        pids = [int(p) for p in rng.permutation(np.arange(1, max(1501, 2 * len(roles))))[: len(roles)]]
    members: list[Member] = []
    for index, (pid, role) in enumerate(zip(pids, roles, strict=True)):
        earlier = [m.index for m in members if m.role == role]
        like = int(rng.choice(earlier)) if earlier and rng.random() < 0.1 else None
        members.append(Member(index, pid, role, like))
    return members


def plan_shots(
    site: str, size: SiteSize, members: list[Member], *, cameras: int, rng: np.random.Generator
) -> list[PlannedImage]:
    """Return all images of a site with file names; each query has a match in the gallery from another camera."""
    shots: list[PlannedImage] = []
    for member in members:
        shots += _shots_of(member, size, cameras, rng)
    if site == "plaza":
        shots += _extras([s for s in shots if s.part == "gallery"], len(members), cameras, rng)
    return _name(site, shots)


def _shots_of(member: Member, size: SiteSize, cameras: int, rng: np.random.Generator) -> list[PlannedImage]:
    count = max(4, round(size.images_per_identity * float(rng.uniform(0.7, 1.3))))
    seen = 1 if member.role == "alone" else int(rng.integers(2, min(cameras, count // 2) + 1))
    count = max(2, count // 3) if member.role == "alone" else count
    cams = sorted(int(c) + 1 for c in rng.permutation(cameras)[:seen])
    spare = rng.multinomial(count - 2 * seen, np.full(seen, 1.0 / seen)) if seen > 1 else np.array([count - 2])
    shots = []
    for cam, extra in zip(cams, spare, strict=True):
        frame = int(rng.integers(500, 240_000)) // (3 if member.role == "alone" else 1)
        session = SESSIONS[int(rng.integers(len(SESSIONS)))]
        query = int(rng.integers(2 + extra)) if member.role == "test" else -1
        for step in range(2 + int(extra)):
            part: SplitName = "train" if member.role == "train" else ("query" if step == query else "gallery")
            shots.append(PlannedImage("", member.index, member.pid, cam, frame, step, session, "good", part))
            frame += int(rng.integers(12, 60))
    return shots


def _extras(gallery: list[PlannedImage], first: int, cameras: int, rng: np.random.Generator) -> list[PlannedImage]:
    """False boxes (pid 0) and badly placed boxes of test identities (pid -1)."""
    extras = []
    for k in range(max(2, len(gallery) // 10)):
        cam, frame = int(rng.integers(cameras)) + 1, int(rng.integers(500, 240_000))
        session = SESSIONS[int(rng.integers(len(SESSIONS)))]
        extras.append(PlannedImage("", first + k, 0, cam, frame, 0, session, "distractor", "gallery"))
    for k in rng.permutation(len(gallery))[: max(2, len(gallery) // 20)]:
        shot = gallery[int(k)]
        extras.append(replace(shot, pid=-1, frame=shot.frame + 5, step=shot.step + 50, box="junk"))
    return extras


def _name(site: str, shots: list[PlannedImage]) -> list[PlannedImage]:
    if site == "station":
        return _name_station(shots)
    named, taken = [], set()
    for shot in shots:
        frame, path = shot.frame, _path(site, shot, shot.frame)
        while path in taken:
            frame += 1
            path = _path(site, shot, frame)
        taken.add(path)
        named.append(replace(shot, path=path, frame=frame))
    return named


def _path(site: str, shot: PlannedImage, frame: int) -> str:
    folder = f"{ROOTS[site]}/{FOLDERS[shot.part]}"
    pid = "-1" if shot.pid == -1 else f"{shot.pid:04d}"
    if site == "campus":
        return f"{folder}/{pid}_c{shot.cam}_f{frame:07d}.jpg"
    sequence = 1 + SESSIONS.index(shot.session)
    return f"{folder}/{pid}_c{shot.cam}s{sequence}_{frame % 1_000_000:06d}_{1 + shot.step % 3:02d}.jpg"


def _name_station(shots: list[PlannedImage]) -> list[PlannedImage]:
    named: list[PlannedImage] = []
    number: dict[int, int] = {}
    for shot in shots:
        serial = number.get(shot.member, 0)
        number[shot.member] = serial + 1
        day = 301 + shot.member % 28
        folder = f"{ROOTS['station']}/{'train' if shot.part == 'train' else 'test'}/{shot.pid:04d}"
        name = f"{shot.pid:04d}_{serial:03d}_{shot.cam:02d}_{day:04d}{shot.session.name}_{shot.frame:04d}.jpg"
        named.append(replace(shot, path=f"{folder}/{name}"))
    return named


def station_lists(shots: list[PlannedImage]) -> dict[str, str]:
    """Return the text of MSMT17's four lists by file name; every seventh training image is for validation."""
    lines: dict[str, list[str]] = {f"list_{part}.txt": [] for part in ("train", "val", "query", "gallery")}
    count_train = 0
    for shot in shots:
        part: str = shot.part
        if shot.part == "train":
            count_train += 1
            part = "val" if count_train % 7 == 0 else "train"
        lines[f"list_{part}.txt"].append(f"{'/'.join(shot.path.split('/')[2:])} {shot.pid}\n")
    return {name: "".join(rows) for name, rows in lines.items()}
