"""A run folder read into typed tables; files that do not exist yet are None or empty."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import cast

from passerby.background_bias import BackgroundBias
from passerby.errors import UserError
from passerby.files import read_json, reading
from passerby.metrics.chance import RankScores
from passerby.plugins import require_used
from passerby.recipe import Recipe, recipe_of_run
from passerby.reference_results import Comparison, Figures, Reference, compare
from passerby.report.open_set import OpenSetEntry, read_open_set
from passerby.settings import Plain, build
from passerby.training import run_log
from passerby.training.run_log import EpochRecord, GradientRecord, Record, ScoreRecord
from passerby.types import (
    AnyRerank,
    CameraRerank,
    Protocol,
    Rerank,
    present_name,
    read_camera_norm,
    read_clothes,
    read_input_mask,
    read_unit,
)


@dataclass(frozen=True)
class ScoreRow:
    """The figures of one evaluation, in percent (0..100); None where a rate is not defined."""

    mAP: float
    mINP: float
    rank: dict[int, float]
    verified: dict[str, float | None]


@dataclass(frozen=True)
class DatasetResult:
    """The results of a run on one data set.

    Attributes:
        name: the data set.
        plain, reranked: the figures; `reranked` is None when the recipe switches re-ranking off.
        protocol: protocol of the plain ones.
        count_valid: queries that could be scored.
        rerank: the parameters of the re-ranked ones.
        reference: the reference results of the recipe here; None without any.
        background_bias: the same test on people and on backgrounds alone, where it was made.
        forgetting: change of the mAP since the set was learnt, in points; None when nothing was learnt after it.
        losses: of its autoencoder, by name; None without one.
        chance: the chance level; None in a file of an earlier version.
        open_set: the identification with unknown people, where it was scored.

    """

    name: str
    plain: ScoreRow
    reranked: ScoreRow | None
    protocol: Protocol
    count_valid: int
    rerank: AnyRerank | None
    reference: Reference | None = None
    background_bias: BackgroundBias | None = None
    forgetting: float | None = None
    losses: dict[str, float] | None = None
    chance: RankScores | None = None
    open_set: OpenSetEntry | None = None

    @property
    def comparisons(self) -> list[Comparison]:
        """The measured figures and their reference."""
        if self.reference is None:
            return []
        reranked = None if self.reranked is None else _figures(self.reranked)
        return compare(
            self.reference.result, _figures(self.plain), reranked, forgetting=self.forgetting, losses=self.losses
        )


@dataclass(frozen=True, eq=False)
class RunFolder:
    """The contents of a run folder.

    Attributes:
        path: the folder.
        recipe: what ran.
        records: the log.
        results: the final scores; empty while the run goes on.
        environment: versions, machine and command.
        count_damaged: lines of the log that are no records.

    """

    path: Path
    recipe: Recipe
    records: list[Record]
    results: list[DatasetResult]
    environment: dict[str, str]
    count_damaged: int = 0

    @property
    def epochs(self) -> list[EpochRecord]:
        """The epochs of the log."""
        return run_log.epochs(self.records)

    @property
    def scores(self) -> list[ScoreRecord]:
        """The evaluations of the log."""
        return run_log.scores(self.records)

    @property
    def gradients(self) -> list[GradientRecord]:
        """The first steps in the log."""
        return run_log.gradients(self.records)

    def embeddings(self, name: str) -> Path | None:
        """The embeddings of a data set, or None when they are not in the folder."""
        path = self.path / "embeddings" / f"{name}.npz"
        return path if path.is_file() else None


def read_run(path: Path) -> RunFolder:
    """Read a run folder, finished or not.

    Raises:
        UserError: not a run folder, or one of its files is damaged.

    """
    if not path.is_dir():
        raise UserError(f"{path} is not a folder; a report needs a run folder, as `passerby train` writes it")
    if not (path / "recipe.yaml").is_file():
        raise UserError(f"{path} holds no recipe.yaml, so it is not a run folder as `passerby train` writes it")
    require_used(path)
    environment = _optional(path / "environment.json")
    return RunFolder(
        path=path,
        recipe=recipe_of_run(path / "recipe.yaml"),
        records=run_log.read(path / "log.jsonl"),
        count_damaged=run_log.count_damaged(path / "log.jsonl"),
        results=_results(path / "scores.json"),
        environment={"command": ""} | {key: _in_words(value) for key, value in environment.items()},
    )


def _in_words(value: object) -> str:
    """Return a fact of the environment as text; of a mapping, such as the imports, its keys and values."""
    if isinstance(value, dict):
        return ", ".join(f"{PurePath(str(key)).name} ({str(inner)[:16]})" for key, inner in value.items())
    return str(value)


def _optional(path: Path) -> dict[str, object]:
    entries = read_json(path) if path.is_file() else {}
    if not isinstance(entries, dict):
        raise UserError(f"{path} must hold a JSON object, got a {type(entries).__name__}")
    return entries


def _results(path: Path) -> list[DatasetResult]:
    entries = _optional(path).items()
    with reading(path, "scores as `passerby train` writes them"):
        return [_result(name, entry) for name, entry in entries]


def _result(name: str, entry: object) -> DatasetResult:
    fields = _mapping(entry)
    plain, protocol = _mapping(fields["plain"]), _mapping(_mapping(fields["plain"])["protocol"])
    reranked = _mapping(fields["reranked"]) if "reranked" in fields else None
    return DatasetResult(
        name=name,
        plain=_row(plain),
        reranked=None if reranked is None else _row(reranked),
        protocol=Protocol(
            dataset=str(protocol["dataset"]),
            files=str(protocol["files"]),
            count_query=_int(protocol["count_query"]),
            count_gallery=_int(protocol["count_gallery"]),
            cameras="ignore" if protocol["cameras"] == "ignore" else "standard",
            distance="euclidean" if protocol["distance"] == "euclidean" else "cosine",
            feature=present_name(str(protocol["feature"])),
            ap_rule=str(protocol["ap_rule"]),
            flip=bool(protocol.get("flip", False)),
            queries="multi" if protocol.get("queries") == "multi" else "single",
            input_mask=read_input_mask(str(protocol.get("input_mask", protocol.get("pixels", "none")))),
            camera_norm=read_camera_norm(str(protocol.get("camera_norm", "none"))),
            clothes=read_clothes(str(protocol.get("clothes", "general"))),
            unit=read_unit(str(protocol.get("unit", "image"))),
            gallery_draws=_int(protocol.get("gallery_draws", 0)),
        ),
        count_valid=_int(plain["queries"]),
        rerank=None if reranked is None else _rerank(_mapping(_mapping(reranked["protocol"])["rerank"])),
        reference=_reference(fields["reference"]) if "reference" in fields else None,
        background_bias=_background_bias(fields),
        forgetting=_float(fields["forgetting"]) if "forgetting" in fields else None,
        losses={n: _float(value) for n, value in _mapping(fields["losses"]).items()} if "losses" in fields else None,
        chance=_chance(_mapping(plain["chance"])) if "chance" in plain else None,
        open_set=read_open_set(_mapping(fields["open_set"])) if "open_set" in fields else None,
    )


def _chance(entry: dict[str, object]) -> RankScores:
    return RankScores(_float(entry["mAP"]) / 100, _float(entry["rank1"]) / 100)


def _reference(entry: object) -> Reference:
    return build(Reference, cast("dict[str, Plain]", _mapping(entry)), source="reference")


def _figures(row: ScoreRow) -> Figures:
    return Figures(mAP=row.mAP, rank1=row.rank[1])


def _rerank(entry: dict[str, object]) -> AnyRerank:
    if "k1_intra" in entry:
        numbers = {name: _int(entry[name]) for name in ("k1_intra", "k1_inter", "k2_intra", "k2_inter")}
        return CameraRerank(**numbers, weight=_float(entry["weight"]))
    return Rerank(k1=_int(entry["k1"]), k2=_int(entry["k2"]), weight=_float(entry["weight"]))


def _row(entry: dict[str, object]) -> ScoreRow:
    verified = _mapping(entry["tpr_at_fpr"])
    missing = {"1", "5", "10"} - _mapping(entry["cmc"]).keys()
    if missing:
        raise KeyError(f"cmc {min(missing, key=int)} is missing")
    return ScoreRow(
        mAP=_float(entry["mAP"]),
        mINP=_float(entry["mINP"]),
        rank={int(k): _float(value) for k, value in _mapping(entry["cmc"]).items()},
        verified={rate: None if value is None else _float(value) for rate, value in verified.items()},
    )


def _background_bias(entry: dict[str, object]) -> BackgroundBias | None:
    """Return the background bias in an entry of scores.json, formerly under the key `reliance`; None if absent."""
    value = entry.get("background_bias", entry.get("reliance"))
    return None if value is None else BackgroundBias.from_json(_mapping(value))


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, got {type(value).__name__}")
    return value


def _float(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"expected a number, got {value!r}")
    return float(value)


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"expected a whole number, got {value!r}")
    return value
