"""The training images of a stage, joined from its data sets, with identities 0..C-1."""

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
    splits = [first_identities(datasets[name].train, settings.identities) for name in settings.train]
    sources = tuple(datasets[name].name for name in settings.train)
    train, origin = join(splits), np.repeat(np.arange(len(splits)), [len(split) for split in splits])
    if len(train) == 0:
        count_test = sum(len(datasets[name].query) + len(datasets[name].gallery) for name in settings.train)
        explanation = f"; all {count_test:,} images of {', '.join(sources)} are for testing" if count_test else ""
        raise UserError(f"stage {settings.title!r} has no training images{explanation}")
    truth = train.pid
    if settings.labelled:
        labelled = train.pid != UNKNOWN
        train, origin, truth = train.select(labelled), origin[labelled], truth[labelled]
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
    """Return the images without their identities."""
    return replace(train, pid=np.full(len(train), UNKNOWN))


def _put_beside(
    settings: StageSettings, datasets: Mapping[str, Dataset], train: Split, origin: Ints
) -> tuple[Split, Ints, Ints, tuple[str, ...]]:
    """Join labelled source images to unlabelled ones: images, origin, annotated identities, and names of data sets."""
    labelled = [split.select(split.pid != UNKNOWN) for split in (datasets[name].train for name in settings.source)]
    joined, truth = join([_hidden(train), *labelled]), join([train, *labelled]).pid
    first = int(origin.max()) + 1
    further = np.repeat(np.arange(first, first + len(labelled)), [len(split) for split in labelled])
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
    """Raise `UserError` when two data sets contain the same files, or copies of them.

    Their identities would be counted twice, or training images would be tested. Copies are searched for in a sample,
    see `shared_file`.

    Args:
        datasets: all data sets of a run, by name.
        trained, tested: names of the training and test data sets.

    """
    trained, tested, owner = list(trained), list(tested), dict[str, str]()
    for name in trained:
        for file in _files([datasets[name].train]):
            if (other := owner.setdefault(file, name)) != name:
                raise UserError(
                    f"data sets {other!r} and {name!r} are trained on the same images (first: {file}); name them once, "
                    "since their identities would count as different ones"
                )
    for name in tested:
        for file in _files([datasets[name].query, datasets[name].gallery]):
            if (other := owner.get(file, name)) != name:
                raise UserError(
                    f"data set {name!r} is tested on images that {other!r} trains on (first: {file}); its scores would "
                    "be meaningless"
                )
    _require_no_copies(datasets, trained, tested)


def _require_no_copies(datasets: Mapping[str, Dataset], trained: list[str], tested: list[str]) -> None:
    if len({*trained, *tested}) < 2:
        return
    trained_files = {name: by_size(datasets[name].train.path.tolist()) for name in trained}
    for first, second in itertools.combinations(trained, 2):
        if (equal := shared_file(trained_files[first], trained_files[second])) is not None:
            raise UserError(
                f"data sets {first!r} and {second!r} are trained on copies of the same images ({equal[0]} and "
                f"{equal[1]} are equal); name them once, since their identities would count as different ones"
            )
    for name in tested:
        tested_files = by_size(
            path for split in (datasets[name].query, datasets[name].gallery) for path in split.path.tolist()
        )
        for second in trained:
            if second != name and (equal := shared_file(tested_files, trained_files[second])) is not None:
                raise UserError(
                    f"data set {name!r} is tested on copies of images that {second!r} trains on ({equal[0]} and "
                    f"{equal[1]} are equal); its scores would be meaningless"
                )


def _files(splits: Iterable[Split]) -> Iterator[str]:
    """Yield the real paths of the files of some splits, links to folders resolved."""
    really = cache(os.path.realpath)  # of folders, of which there are few
    for split in splits:
        for path in split.path.tolist():
            folder, name = os.path.split(path)
            yield f"{really(folder)}/{name}"


def first_identities(split: Split, count: int | None) -> Split:
    """Return the images of the `count` known identities with the lowest numbers; None = the split as it is."""
    if count is None:
        return split
    identities = np.unique(split.pid[split.pid != UNKNOWN])
    return split.select(np.isin(split.pid, identities[:count]))


def identity_sentences(settings: StageSettings, datasets: Mapping[str, Dataset]) -> list[str]:
    """Return sentences on the number of identities that a stage trains on, where the recipe limits it."""
    if settings.identities is None:
        return []
    counts = {datasets[name].name: datasets[name].train.count_identities for name in settings.train}
    return [
        f"{settings.title}: the first {settings.identities:,} of {count:,} identities of {name} are trained on"
        if count > settings.identities
        else f"{settings.title}: {name} has {count:,} identities, so identities: {settings.identities} leaves none out"
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
            suffix = " of known identities" if settings.labelled else ""
            raise UserError(
                f"stage {settings.title!r} trains jointly on {name!r}, which has no training images{suffix}; leave it "
                "out of `train`"
            )


def _require_learnable(train: Split, title: str) -> None:
    counts = np.bincount(train.pid) if len(train) else np.zeros(0, int)
    if len(counts) < 2:
        raise UserError(
            f"stage {title!r} has {len(counts)} known {'identity' if len(counts) == 1 else 'identities'}; "
            "training needs at least two"
        )
    if counts.max() < 2:
        raise UserError(
            f"stage {title!r} has one image per identity ({len(counts)} of each); training needs several images of a "
            "person, best from several cameras"
        )
