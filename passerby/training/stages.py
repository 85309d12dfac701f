"""From the data sets that a stage names to one table of training images with identities 0..C-1."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache

import numpy as np

from passerby.data.datasets import without_mask
from passerby.data.duplicates import by_size, shared_file
from passerby.data.joining import join
from passerby.errors import UserError
from passerby.recipe import StageSettings
from passerby.types import UNKNOWN, CameraTable, Dataset, Ints, Split, Stage


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
        others = sum(len(datasets[name].query) + len(datasets[name].gallery) for name in settings.train)
        kept = f"; all {others:,} images of {', '.join(sources)} are for testing" if others else ""
        raise UserError(f"stage {settings.title!r} has no training images{kept}")
    truth = train.pid
    if settings.labelled:
        known = train.pid != UNKNOWN
        train, origin, truth = train.select(known), origin[known], truth[known]
        _require_learnable(train, settings.title)
    elif settings.source:
        train, origin, truth, sources = _put_beside(settings, datasets, train, origin)
    else:
        train, truth = _hidden(train), splits[0].pid if len(splits) == 1 else truth
    _require_all(sources, origin, settings)
    return Stage(
        settings.name or " + ".join(datasets[name].name for name in settings.train),
        train,
        settings.labelled,
        settings.epochs,
        sources=sources,
        origin=origin,
        truth=truth,
        iterations=settings.iterations,
        source=tuple(datasets[name].name for name in settings.source),
    )


def _hidden(train: Split) -> Split:
    """Return the images without what is known of their people."""
    return replace(train, pid=np.full(len(train), UNKNOWN))


def _put_beside(
    settings: StageSettings, datasets: Mapping[str, Dataset], train: Split, origin: Ints
) -> tuple[Split, Ints, Ints, tuple[str, ...]]:
    """Join labelled images to unlabelled ones: images, where each is from, who is really in it, and the data sets."""
    known = [split.select(split.pid != UNKNOWN) for split in (datasets[name].train for name in settings.source)]
    joined, truth = join([_hidden(train), *known]), join([train, *known]).pid
    first = int(origin.max()) + 1
    further = np.repeat(np.arange(first, first + len(known)), [len(split) for split in known])
    names = tuple(datasets[name].name for name in (*settings.train, *settings.source))
    return joined, np.concatenate([origin, further]), truth, names


def learnt_cameras(stages: Iterable[Stage]) -> CameraTable:
    """Return the known cameras of the training images of all stages, by data set."""
    cameras: dict[str, set[int]] = {}
    for stage in stages:
        for number, name in enumerate(stage.sources):
            shown = stage.train.raw_cam[stage.origin == number]
            cameras.setdefault(name, set()).update(shown[shown != UNKNOWN].tolist())
    return CameraTable(tuple(cameras), tuple(tuple(sorted(numbers)) for numbers in cameras.values()))


def number_stage(stage: Stage, table: CameraTable) -> Stage:
    """Return a stage whose images have the rows of a camera table."""
    rows = np.full(len(stage.train), UNKNOWN)
    for number, name in enumerate(stage.sources):
        shown = stage.origin == number
        rows[shown] = table.rows(name, stage.train.raw_cam[shown])
    return replace(stage, train=replace(stage.train, cam_row=rows))


def require_apart(datasets: Mapping[str, Dataset], *, trained: Iterable[str], tested: Iterable[str]) -> None:
    """Raise `UserError` when two data sets are the same files by two names, or copies of them.

    Their people would be counted as different ones, or searched for although another name has shown them. Copies are
    looked for in a sample, see `shared_file`.

    Args:
        datasets: all that a run reads, by name.
        trained, tested: which of them it learns from, and which it is tested on.

    """
    trained, tested, seen = list(trained), list(tested), dict[str, str]()
    for name in trained:
        for file in _files([datasets[name].train]):
            if (other := seen.setdefault(file, name)) != name:
                raise UserError(
                    f"data sets {other!r} and {name!r} are trained on the same images (first: {file}); name them once, "
                    "since their people would count as different ones"
                )
    for name in tested:
        for file in _files([datasets[name].query, datasets[name].gallery]):
            if (other := seen.get(file, name)) != name:
                raise UserError(
                    f"data set {name!r} is tested on images that {other!r} trains on (first: {file}); its scores would "
                    "say nothing"
                )
    _require_no_copies(datasets, trained, tested)


def _require_no_copies(datasets: Mapping[str, Dataset], trained: list[str], tested: list[str]) -> None:
    if len({*trained, *tested}) < 2:
        return
    shown = {name: by_size(datasets[name].train.path.tolist()) for name in trained}
    for one, other in itertools.combinations(trained, 2):
        if (equal := shared_file(shown[one], shown[other])) is not None:
            raise UserError(
                f"data sets {one!r} and {other!r} are trained on copies of the same images ({equal[0]} and {equal[1]} "
                "are equal); name them once, since their people would count as different ones"
            )
    for name in tested:
        searched = by_size(
            path for split in (datasets[name].query, datasets[name].gallery) for path in split.path.tolist()
        )
        for other in trained:
            if other != name and (equal := shared_file(searched, shown[other])) is not None:
                raise UserError(
                    f"data set {name!r} is tested on copies of images that {other!r} trains on ({equal[0]} and "
                    f"{equal[1]} are equal); its scores would say nothing"
                )


def _files(splits: Iterable[Split]) -> Iterator[str]:
    """Yield where the files of some splits really are, links to folders followed."""
    really = cache(os.path.realpath)  # of folders, of which there are few
    for split in splits:
        for path in split.path.tolist():
            folder, name = os.path.split(path)
            yield f"{really(folder)}/{name}"


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


def require_masks(train: Split, name: str) -> None:
    """Raise `UserError` unless every training image, of a stage of that name, has a foreground mask."""
    bare, count = without_mask([train])
    if bare:
        raise UserError(
            f"a mask is missing for {len(bare):,} of {count:,} training images of {name!r} (first: {bare[0]}); "
            "`passerby segment apply` makes masks, foreground=none trains without"
        )


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
