"""The log of a run: one JSON line per finished epoch and per evaluation, readable while the run goes on.

Stages count from 1. The epoch of a record is the number of epochs of the stage that are done when it is written; only
the record of threads names the epoch and the batch of the coming step, both from 1.

The first record of a stage holds the gradient norm of each loss term in its first step. In a lifelong run the last
one holds duration and memory of its methods, and each stage is also tested for gallery compatibility.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from passerby.errors import UserError
from passerby.files import reading, reason


@dataclass(frozen=True)
class TermRecord:
    """One loss term over an epoch.

    Attributes:
        value: the mean as computed.
        weighted: the mean as added to the total; for a learnt weight this includes the s / 2 that comes with it.
        weight: what it was multiplied with in the last step.

    """

    value: float
    weighted: float
    weight: float = 1.0


@dataclass(frozen=True)
class DrawnRecord:
    """Number of images of one data set that an epoch of joint training drew, and of batches that contain them."""

    images: int
    batches: int


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of training.

    Attributes:
        stage, epoch: both from 1; `epochs` is the length of the stage.
        title: the stage's name.
        lr: learning rate of the last step.
        terms: each loss term by name.
        images_per_second: over the whole epoch, waiting for images included.
        busy: share of the epoch's time spent in the step rather than waiting for images, in [0, 1].
        drawn: images and batches of each data set, by name; empty when the stage has only one.

    """

    stage: int
    title: str
    epoch: int
    epochs: int
    lr: float
    terms: dict[str, TermRecord]
    images_per_second: float
    busy: float
    seconds: float
    event: Literal["epoch"] = "epoch"
    drawn: dict[str, DrawnRecord] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """The total of the weighted terms."""
        return sum(term.weighted for term in self.terms.values())


@dataclass(frozen=True)
class ScoreRecord:
    """One evaluation during training; scores are shares in [0, 1]. Stage 0 is the model before the first one."""

    stage: int
    epoch: int
    dataset: str
    mAP: float
    mINP: float
    rank1: float
    event: Literal["scores"] = "scores"


@dataclass(frozen=True)
class GradientNorm:
    """The norm of the gradient of one loss term over the model, before its weight, and the weight."""

    norm: float
    weight: float


@dataclass(frozen=True)
class GradientRecord:
    """The first step of a stage, before anything was changed; in the log it stands at epoch 0.

    Attributes:
        stage: from 1.
        title: the stage's name.
        terms: each loss term by name.

    """

    stage: int
    title: str
    terms: dict[str, GradientNorm]
    epoch: Literal[0] = 0
    event: Literal["gradients"] = "gradients"


@dataclass(frozen=True)
class MetricRecord:
    """Metrics logged by a method, by name, and a note on their interpretation."""

    stage: int
    epoch: int
    method: str
    values: dict[str, float]
    note: str = ""
    event: Literal["metrics"] = "metrics"


@dataclass(frozen=True)
class SearchRecord:
    """A test of lifelong runs: gallery compatibility, or all unseen data sets at once; scores are shares in [0, 1].

    Attributes:
        stage, epoch: after which it was made.
        kind: `earlier gallery`: queries of the present model, gallery vectors of the stage before; `merged`: the data
            sets that no stage trains on, searched as one.
        dataset: the data set that was searched.
        mAP, rank1: as in `ScoreRecord`.

    """

    stage: int
    epoch: int
    kind: Literal["earlier gallery", "merged"]
    dataset: str
    mAP: float
    rank1: float
    event: Literal["search"] = "search"


@dataclass(frozen=True)
class StageRecord:
    """The end of one of several stages.

    Attributes:
        stage, epoch: from 1; the epoch is the last.
        title: the stage's name.
        seconds: duration of the methods' work after the last epoch.
        memory_footprint: bytes that the methods keep, by method and name.
        images: images of earlier stages that are kept.

    """

    stage: int
    epoch: int
    title: str
    seconds: float
    memory_footprint: dict[str, dict[str, int]]
    images: int
    event: Literal["stage"] = "stage"


@dataclass(frozen=True)
class ThreadRecord:
    """The number of threads from a step on; a bit-equal repetition needs the same counts.

    Attributes:
        stage, epoch, batch: of the step, all from 1.
        count: number of threads.
        kind: `start` of the run or of a resume; `trial` of another count, and `back` from it; `kept` instead of
            `before`, which gave `images_per_second_before`.

    """

    stage: int
    epoch: int
    batch: int
    count: int
    kind: Literal["start", "trial", "back", "kept"]
    before: int
    images_per_second: float | None = None
    images_per_second_before: float | None = None
    event: Literal["threads"] = "threads"


Record = EpochRecord | ScoreRecord | GradientRecord | MetricRecord | SearchRecord | StageRecord | ThreadRecord


def append(path: Path, record: Record) -> None:
    """Append a record as one line, after a line break where a killed run left half a line."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            cut = file.read() not in (b"", b"\n")
            file.write(b"\n" * cut + json.dumps(asdict(record)).encode() + b"\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason(error)}") from error


_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="event")])
_MOST = 10**9  # epochs, and stages


def read(path: Path) -> list[Record]:
    """Read a log; where a step or an epoch was repeated after a resume, its last record stands.

    Lines that are no records are left out, such as half a line of a killed run.
    """
    records: dict[tuple[object, ...], Record] = {}
    for record in (record for line in _lines(path) if (record := _parse(line)) is not None):
        extra = [getattr(record, name, "") for name in ("dataset", "method", "kind", "batch")]
        records[record.event, record.stage, record.epoch, *extra] = record
    return sorted(records.values(), key=lambda record: (record.stage, record.epoch, record.event))


def count_damaged(path: Path) -> int:
    """Return the number of lines of a log that are not records."""
    return sum(_parse(line) is None for line in _lines(path))


def _lines(path: Path) -> list[bytes]:
    with reading(path, "a log"):
        return [line for line in path.read_bytes().split(b"\n") if line.strip()] if path.is_file() else []


def _parse(line: bytes) -> Record | None:
    """Return the record of a line; None where it is incomplete, or a value is missing or of another type."""
    try:
        record = _RECORD.validate_json(_rename_fields(line), strict=True)
    except ValueError:
        return None
    return record if 0 <= record.stage < _MOST and 0 <= record.epoch < _MOST else None


_RENAMED = {"part": "method", "held": "memory_footprint"}
"""Fields of version 0.1 by the present names."""


def _rename_fields(line: bytes) -> bytes:
    """Return a line of the log with the fields of earlier versions by their present names."""
    if not any(b'"%s"' % name.encode() in line for name in _RENAMED):
        return line
    fields = json.loads(line)
    if not isinstance(fields, dict):
        return line
    return json.dumps({_RENAMED.get(name, name): value for name, value in fields.items()}).encode()


def epochs(records: Sequence[Record]) -> list[EpochRecord]:
    """Only the epochs."""
    return [record for record in records if isinstance(record, EpochRecord)]


def metrics(records: Sequence[Record]) -> list[MetricRecord]:
    """Only the metrics of methods."""
    return [record for record in records if isinstance(record, MetricRecord)]


def scores(records: Sequence[Record]) -> list[ScoreRecord]:
    """Only the evaluations."""
    return [record for record in records if isinstance(record, ScoreRecord)]


def gradients(records: Sequence[Record]) -> list[GradientRecord]:
    """Only the first steps of the stages."""
    return [record for record in records if isinstance(record, GradientRecord)]
