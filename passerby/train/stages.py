"""From the data sets that a stage names to one table of training images with identities 0..C-1."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from passerby.data.datasets import without_mask
from passerby.errors import UserError
from passerby.recipe import StageSettings
from passerby.types import UNKNOWN, Dataset, Ints, Split, Stage


def make_stage(settings: StageSettings, datasets: Mapping[str, Dataset]) -> Stage:
    """Join the training images of the stage's data sets.

    Identities and cameras of different sets are kept apart even where their numbers agree, and both are relabelled from
    sorted names, so that every process of a distributed run agrees.

    Raises:
        UserError: no training images, or none from one of the sets, or (with labels) fewer than two identities, or one
            image of each only.

    """
    splits = [first_people(datasets[name].train, settings.identities) for name in settings.train]
    sources = tuple(datasets[name].name for name in settings.train)
    train, origin = join(splits), np.repeat(np.arange(len(splits)), [len(split) for split in splits])
    if len(train) == 0:
        raise UserError(f"stage {settings.title!r} has no training images")
    if settings.labelled:
        known = train.pid != UNKNOWN
        train, origin = train.select(known), origin[known]
        _require_learnable(train, settings.title)
    else:
        train = Split(train.path, np.full(len(train), UNKNOWN), train.cam, train.frame, train.mask_path)
    _require_all(sources, origin, settings)
    return Stage(
        settings.name or " + ".join(sources), train, settings.labelled, settings.epochs, sources=sources, origin=origin
    )


def first_people(split: Split, count: int | None) -> Split:
    """Return the images of the `count` known people with the lowest numbers; None = the split as it is."""
    if count is None:
        return split
    known = np.unique(split.pid[split.pid != UNKNOWN])
    return split.select(np.isin(split.pid, known[:count]))


def people_sentences(settings: StageSettings, datasets: Mapping[str, Dataset]) -> list[str]:
    """Say how many people the data sets of a stage have, and how many are learnt from, where that is limited."""
    if settings.identities is None:
        return []
    counts = {datasets[name].name: datasets[name].train.count_identities for name in settings.train}
    return [
        f"{settings.title}: the first {settings.identities:,} of {count:,} people of {name} are learnt from"
        if count > settings.identities
        else f"{settings.title}: {name} has {count:,} people, so identities: {settings.identities} leaves nobody out"
        for name, count in counts.items()
    ]


def require_masks(stage: Stage) -> None:
    """Raise `UserError` unless every training image of a stage has a foreground mask."""
    bare, count = without_mask([stage.train])
    if bare:
        raise UserError(
            f"a mask is missing for {len(bare):,} of {count:,} training images of {stage.name!r} (first: {bare[0]}); "
            "`passerby segment apply` makes masks, foreground=none trains without"
        )


def join(splits: list[Split]) -> Split:
    """Put splits one after another; pid and cam become 0..C-1, equal only within one split, and unknown stays -1."""
    mask_path = None
    if any(split.mask_path is not None for split in splits):
        blank = [np.full(len(split), "") if split.mask_path is None else split.mask_path for split in splits]
        mask_path = np.concatenate(blank)
    return Split(
        path=np.concatenate([split.path for split in splits]),
        pid=_apart([split.pid for split in splits]),
        cam=_apart([split.cam for split in splits]),
        mask_path=mask_path,
    )


def _apart(columns: list[Ints]) -> Ints:
    """Relabel each column from its sorted values, every column after the numbers of the one before."""
    relabelled, offset = [], 0
    for column in columns:
        names, numbers = np.unique(column[column != UNKNOWN], return_inverse=True)
        fresh = np.full(len(column), UNKNOWN, dtype=np.int64)
        fresh[column != UNKNOWN] = numbers + offset
        relabelled.append(fresh)
        offset += len(names)
    return np.concatenate(relabelled)


def _require_all(sources: tuple[str, ...], origin: Ints, settings: StageSettings) -> None:
    counts = np.bincount(origin, minlength=len(sources))
    for name, count in zip(sources, counts, strict=True):
        if count == 0:
            known = " of known people" if settings.labelled else ""
            raise UserError(
                f"stage {settings.title!r} trains jointly on {name!r}, which has no training images{known}; leave it "
                "out of `train`"
            )


def _require_learnable(train: Split, title: str) -> None:
    counts = np.bincount(train.pid) if len(train) else np.zeros(0, int)
    if len(counts) < 2:
        raise UserError(
            f"stage {title!r} shows {len(counts)} known {'identity' if len(counts) == 1 else 'identities'}; "
            "training needs at least two people to tell apart"
        )
    if counts.max() < 2:
        raise UserError(
            f"stage {title!r} has one image per identity ({len(counts)} of each); training needs several images of a "
            "person, best from several cameras"
        )
