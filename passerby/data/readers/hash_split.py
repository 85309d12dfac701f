"""Default split of a data set without roles: train and test identities by hash, queries by camera.

People are drawn by a hash of their name: no seed, the same answer on every machine, and no tie to the order in which
the people were recorded. No person is on both sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from passerby.data.readers.named_images import NOBODY, NamedImage, NamedSplits

DEFAULT_SHARE = 0.5


def choose_test(identities: Iterable[str], share: float) -> frozenset[str]:
    """Return the identities to test on: the nearest whole number to `share` of them, share in [0, 1]."""
    ordered = sorted(set(identities), key=lambda word: (hashlib.sha256(word.encode()).hexdigest(), word))
    return frozenset(ordered[: int(share * len(ordered) + 0.5)])


def choose_queries(shots: Sequence[NamedImage]) -> list[bool]:
    """Choose the queries among the images of one person: the first of each camera.

    A camera with a single image gives it to the gallery, so that the queries of the other cameras find a match; where
    all cameras have a single image, the first image of all is the query. A lone image belongs to the gallery.
    """
    counts: dict[str, int] = {}
    for shot in shots:
        counts[shot.cam] = counts.get(shot.cam, 0) + 1
    asking = {cam for cam, count in counts.items() if count > 1}
    if not asking and len(shots) > 1:
        asking = {shots[0].cam}
    is_query: list[bool] = []
    for shot in shots:
        is_query.append(shot.cam in asking)
        asking.discard(shot.cam)
    return is_query


def split_by_hash(shots: Sequence[NamedImage], share: float) -> NamedSplits:
    """Divide images into train, query and gallery; images of unknown identity go to train.

    Args:
        shots: in the order in which a person's first image of a camera is looked for.
        share: of the identities to test on, in [0, 1].

    """
    test = choose_test((shot.pid for shot in shots if shot.pid not in NOBODY), share)
    identities: dict[str, list[NamedImage]] = {}
    for shot in shots:
        if shot.pid in test:
            identities.setdefault(shot.pid, []).append(shot)
    asking = {
        shot
        for person in identities.values()
        for shot, is_query in zip(person, choose_queries(person), strict=True)
        if is_query
    }
    tested = [shot for shot in shots if shot.pid in test]
    return NamedSplits(
        train=[shot for shot in shots if shot.pid not in test],
        query=[shot for shot in tested if shot in asking],
        gallery=[shot for shot in tested if shot not in asking],
    )


def split_note(splits: NamedSplits) -> tuple[str, ...]:
    """Return one sentence on the split, unless no identity is known."""
    learn, test = (
        {shot.pid for shot in shots} - set(NOBODY) for shots in (splits.train, [*splits.query, *splits.gallery])
    )
    if not learn and not test:
        return ()
    return (
        f"The data set has no split; identities for training: {len(learn)}, for testing: "
        f"{len(test)} (drawn by a hash of their names, always alike); one image per test identity "
        "and camera is a query.",
    )
