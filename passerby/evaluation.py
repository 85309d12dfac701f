"""Embeddings to scores: selection of queries, exclusion of images, ranking metrics.

Gallery images of unknown identity (pid -1) are dropped; identities without a query (pid 0 in Market-1501) stay as
distractors. Queries without a match in the gallery are not valid and do not count.

A query of several images is the mean of all images of its identity and camera, those of the gallery included: the
standard rule leaves these out of the query's list, so nothing leaks. Market-1501 has one query image per person and
camera and keeps further ones in `gt_bbox`, which is not read; its own gallery serves in their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from passerby.distances.camera_jaccard import rerank_any
from passerby.distances.camera_norm import normalise_cameras
from passerby.distances.pairwise import DistanceSource, Metric, pairwise
from passerby.distances.units import unit_rows
from passerby.errors import UserError
from passerby.metrics.chance import chance_level
from passerby.metrics.open_set import TARGETS, OpenSetScores, find_probes, score_open_set
from passerby.metrics.pooling import average_queries, average_tracklets
from passerby.metrics.ranking import average_precision, cumulative_matches, inverse_negative_penalty, rank_matches
from passerby.metrics.relevance import Relevance, relevance
from passerby.metrics.verification import RATES, PairCounts
from passerby.types import (
    UNKNOWN,
    AnyRerank,
    Bools,
    CameraNorm,
    Cameras,
    Clothes,
    Embeddings,
    EvaluationRules,
    Floats,
    Ints,
    Protocol,
    Queries,
    Scores,
    Split,
    camera_rule,
    mean_scores,
)

MULTI_NEEDS_CAMERAS = (
    "queries: 'multi' averages the images that cameras: 'standard' leaves out; with cameras: 'ignore' use 'single'"
)


@dataclass(frozen=True, eq=False)
class Skipped:
    """Rows of the embeddings whose query cannot be scored, by reason.

    Attributes:
        count_query: queries looked at.
        unknown: the identity of the query is not known (pid -1).
        absent: the identity does not occur in the gallery.
        left_out: it occurs, but only in images that a rule leaves out (same camera, the query's own file, clothes).
        cameras: the rule that was applied.
        clothes: the rule of clothes that was applied.

    """

    count_query: int
    unknown: Ints
    absent: Ints
    left_out: Ints
    cameras: Cameras
    clothes: Clothes = "general"

    @property
    def count(self) -> int:
        """Number of queries that are not valid."""
        return len(self.unknown) + len(self.absent) + len(self.left_out)

    def __str__(self) -> str:
        """One sentence with the counts, and a remedy where there is one."""
        if not self.count:
            return f"all {self.count_query} queries can be scored"
        exclusion = "an image of the query's own camera" if self.cameras == "standard" else "the query's own file"
        if self.clothes != "general":
            exclusion += f" or {'the same' if self.clothes == 'changing' else 'other'} clothes"
        reasons = [
            f"{len(self.unknown)} have no known identity (pid -1)" if len(self.unknown) else "",
            f"{len(self.absent)} have an identity that never occurs in the gallery" if len(self.absent) else "",
            f"{len(self.left_out)} match nothing but {exclusion}" if len(self.left_out) else "",
        ]
        hint = (
            "; cameras='ignore' would count those"
            if len(self.left_out) and (self.cameras, self.clothes) == ("standard", "general")
            else ""
        )
        return f"of {self.count_query} queries, " + " and ".join(filter(None, reasons)) + hint


def evaluate(
    embeddings: Embeddings,
    *,
    cameras: Cameras = "standard",
    queries: Queries = "single",
    distance: Metric = "cosine",
    rerank: AnyRerank | None = None,
    camera_norm: CameraNorm = "none",
    clothes: Clothes = "general",
    gallery_draws: int = 0,
    count_ranks: int = 50,
    device: str = "cpu",
    verification: bool = True,
) -> Scores:
    """Rank the gallery for every query and score where the matches are.

    Args:
        embeddings: rows with role `query` and `gallery`; other rows are not looked at.
        cameras: `standard` leaves out gallery images of the query's identity and camera; `ignore` leaves out only the
            query's own file (known by `embeddings.path`), as does `standard` where no camera is known. The protocol of
            the scores names the rule that was applied.
        queries: `single`, or `multi`, which compares the means of `average_queries`.
        distance: `cosine`, or `euclidean` (no normalisation).
        rerank: parameters of k-reciprocal re-ranking (`Rerank`), of the same by cameras (`CameraRerank`), or None for
            the plain distance. With `cosine` the vectors are normalised before.
        camera_norm: what is taken out of the vectors of each camera before they are compared, by the statistics of the
            query and gallery images without their labels. With `cosine` the vectors are normalised before.
        clothes: `changing` or `same` also leaves out gallery images of the query's identity by their clothes; see
            `relevance`.
        gallery_draws: scores are means over so many galleries of one image of each identity, drawn at random by seeds
            0, 1, ...; 0 = the whole gallery. A query counts in the draws in which it has a match.
        count_ranks: length of the CMC row, >= 1.
        device: where the matrix products run, e.g. `cpu` or `cuda`.
        verification: whether to find the true-positive rates, for about a tenth more time; NaN without.

    Raises:
        UserError: no query or gallery rows, no valid query, a device that is not there, `multi` with `ignore`, where
            the averaged images would be looked for themselves, `camera_norm` where no camera is known, `CameraRerank`
            where two are not, or a rule of clothes without their column.

    """
    rules = EvaluationRules(
        cameras=cameras,
        queries=queries,
        distance=distance,
        camera_norm=camera_norm,
        clothes=clothes,
        unit=embeddings.unit,
        gallery_draws=gallery_draws,
    )
    return evaluate_by(
        embeddings, rules, rerank=rerank, count_ranks=count_ranks, device=device, verification=verification
    )


def compared_rows(embeddings: Embeddings, rules: EvaluationRules) -> Embeddings:
    """Return the rows that the rules compare: those of images, or one for each tracklet; see `average_tracklets`."""
    return average_tracklets(embeddings, distance=rules.distance) if rules.unit == "tracklet" else embeddings


def evaluate_by(
    embeddings: Embeddings,
    rules: EvaluationRules,
    *,
    rerank: AnyRerank | None = None,
    count_ranks: int = 50,
    device: str = "cpu",
    verification: bool = True,
) -> Scores:
    """Do what `evaluate` does, by rules that are one object.

    Args:
        embeddings: what `compared_rows` returns.
        rules: how they are compared.
        rerank: as for `evaluate`.
        count_ranks: as for `evaluate`.
        device: as for `evaluate`.
        verification: as for `evaluate`.

    Raises:
        UserError: as `evaluate`.

    """
    if count_ranks < 1:
        raise UserError(f"count_ranks must be at least 1, got {count_ranks}")
    if rules.gallery_draws < 0:
        raise UserError(f"gallery_draws must be at least 0, got {rules.gallery_draws}")
    distance, clothes = rules.distance, rules.clothes
    query, gallery = _roles(embeddings)
    cameras = camera_rule(_columns(embeddings, query), _columns(embeddings, gallery), rules.cameras)
    embeddings = without_camera_effects(embeddings, camera_norm=rules.camera_norm, distance=distance)
    if rules.queries == "multi":
        if cameras == "ignore":
            raise UserError(MULTI_NEEDS_CAMERAS)
        embeddings = average_queries(embeddings, distance=distance)
    allowed = relevance(_columns(embeddings, query), _columns(embeddings, gallery), cameras=cameras, clothes=clothes)
    if not len(allowed.match_row):
        skipped = _skipped(allowed, embeddings, query, gallery, cameras, clothes)
        raise UserError(f"no query can be scored: {skipped}")
    protocol = Protocol(
        dataset=embeddings.dataset,
        files=embeddings.fingerprint,
        count_query=len(query),
        count_gallery=len(gallery),
        cameras=cameras,
        distance=distance,
        feature=embeddings.feature,
        rerank=rerank,
        flip=embeddings.flip,
        queries=rules.queries,
        input_mask=embeddings.input_mask,
        camera_norm=rules.camera_norm,
        clothes=clothes,
        unit=embeddings.unit,
        gallery_draws=rules.gallery_draws,
    )
    if not rules.gallery_draws:
        source = _source(embeddings, query, gallery, distance, rerank, device)
        return _score(source, allowed, protocol, count_ranks=count_ranks, verification=verification)
    found = []
    for draw in range(rules.gallery_draws):
        rows = gallery[draw_gallery(embeddings.pid[gallery], draw)]
        allowed = relevance(_columns(embeddings, query), _columns(embeddings, rows), cameras=cameras, clothes=clothes)
        if not len(allowed.match_row):
            raise UserError(f"no query has a match in drawn gallery {draw}; leave gallery_draws at 0")
        source = _source(embeddings, query, rows, distance, rerank, device)
        found.append(_score(source, allowed, protocol, count_ranks=count_ranks, verification=verification))
    return mean_scores(found)


def draw_gallery(pid: Ints, draw: int) -> Ints:
    """Return one row of each identity of a gallery, drawn at random by a seed, ascending.

    Args:
        pid: (G,) identities of the gallery.
        draw: number of the draw, >= 0.

    >>> draw_gallery(np.array([3, 5, 5, 3, 5]), 0).tolist()
    [3, 4]
    """
    order = np.random.default_rng([5, draw]).permutation(len(pid))
    _, first = np.unique(pid[order], return_index=True)
    return np.sort(order[first])


def _score(
    source: DistanceSource, allowed: Relevance, protocol: Protocol, *, count_ranks: int, verification: bool
) -> Scores:
    """Rank one gallery and score it."""
    pairs = PairCounts(source.bounds) if verification else None
    ranking = rank_matches(source, allowed, pairs=pairs)
    ap, fpr = average_precision(ranking), np.array(RATES)
    chance = chance_level(allowed)
    return Scores(
        mAP=float(np.nanmean(ap)),
        mINP=float(np.nanmean(inverse_negative_penalty(ranking))),
        cmc=cumulative_matches(ranking, count_ranks),
        ap=ap,
        valid=ranking.valid,
        fpr=fpr,
        tpr=np.full(len(fpr), np.nan) if pairs is None else pairs.rates(fpr),
        chance_mAP=chance.mAP,
        chance_rank1=chance.rank1,
        protocol=protocol,
    )


def without_camera_effects(
    embeddings: Embeddings, *, camera_norm: CameraNorm, distance: Metric = "cosine"
) -> Embeddings:
    """Return embeddings with the vectors of query and gallery normalised per camera; see `normalise_cameras`.

    Args:
        embeddings: rows with role `query` and `gallery`, those of unknown identity included; other rows stay.
        camera_norm: what is taken out.
        distance: what will compare them: for `cosine` the vectors are normalised before.

    Raises:
        UserError: no camera is known.

    """
    if camera_norm == "none":
        return embeddings
    rows = np.flatnonzero(embeddings.role != "")
    if not (embeddings.cam[rows] != UNKNOWN).any():
        raise UserError(
            f"camera_norm: {camera_norm!r} needs to know the camera of each image, and none is known; leave it at "
            "'none', or give cameras in the names of files or in a table"
        )
    vectors = embeddings.vectors.copy()
    chosen = unit_rows(vectors[rows]) if distance == "cosine" else vectors[rows]
    vectors[rows] = normalise_cameras(chosen, embeddings.cam[rows], how=camera_norm)
    return replace(embeddings, vectors=vectors)


def evaluate_open_set(
    embeddings: Embeddings,
    *,
    cameras: Cameras = "standard",
    distance: Metric = "cosine",
    camera_norm: CameraNorm = "none",
    targets: Sequence[float] = TARGETS,
    device: str = "cpu",
) -> OpenSetScores:
    """Score the identification of queries, some of which show people whom the gallery does not hold.

    Args:
        embeddings: rows with role `query` and `gallery`. Queries whose identity the gallery does not hold are the
            non-mated probes; where there are none, each query is one too, with its identity left out of the gallery.
        cameras: `standard` leaves out gallery images of the query's identity and camera.
        distance: `cosine`, or `euclidean` (no normalisation).
        camera_norm: as for `evaluate`.
        targets: the false positive identification rates (FPIR) to report.
        device: where the matrix products run.

    Raises:
        UserError: no query or gallery rows, no mated or no non-mated probe, or a device that is not there.

    """
    query, gallery = _roles(embeddings)
    cameras = camera_rule(_columns(embeddings, query), _columns(embeddings, gallery), cameras)
    embeddings = without_camera_effects(embeddings, camera_norm=camera_norm, distance=distance)
    source = pairwise(
        _rows(embeddings.vectors, query), _rows(embeddings.vectors, gallery), metric=distance, device=device
    )
    probes = find_probes(source, _columns(embeddings, query), _columns(embeddings, gallery), cameras=cameras)
    return score_open_set(probes, targets=targets)


def open_set_json(scores: OpenSetScores) -> dict[str, object]:
    """Return open-set scores as plain JSON values: rates in percent (0..100)."""
    probes = scores.probes
    fpir, fnir = scores.curve()
    return {
        "non_mated_probes": probes.kind,
        "count_mated": len(probes.mated),
        "count_non_mated": len(probes.non_mated),
        "count_enrolled": probes.count_enrolled,
        "rates": [
            {
                "fpir_target": 100 * row.target,
                "fpir": 100 * row.fpir,
                "threshold": row.threshold,
                "dir_rank1": 100 * row.dir1,
                "interval": [100 * row.low, 100 * row.high],
            }
            for row in scores.rows
        ],
        "unresolved_targets": [100 * target for target in scores.unresolved],
        "curve": {"fpir": (100 * fpir).tolist(), "fnir_rank1": (100 * fnir).tolist()},
    }


def explain_skipped(embeddings: Embeddings, *, cameras: Cameras = "standard", clothes: Clothes = "general") -> Skipped:
    """Return which queries cannot be scored, and why; `str()` of it is one sentence.

    Raises:
        UserError: no query or gallery rows, or a rule of clothes without their column.

    """
    query, gallery = _roles(embeddings)
    cameras = camera_rule(_columns(embeddings, query), _columns(embeddings, gallery), cameras)
    allowed = relevance(_columns(embeddings, query), _columns(embeddings, gallery), cameras=cameras, clothes=clothes)
    return _skipped(allowed, embeddings, query, gallery, cameras, clothes)


def scores_json(scores: Scores) -> dict[str, object]:
    """Return the scores as plain JSON values: rates in percent (0..100), None where a rate is not defined."""
    return {
        "mAP": _percent(scores.mAP),
        "mINP": _percent(scores.mINP),
        "cmc": {str(k): _percent(scores.rank(k)) for k in (1, 5, 10)},
        "tpr_at_fpr": {f"{fpr:g}": _percent(tpr) for fpr, tpr in zip(scores.fpr, scores.tpr, strict=True)},
        "chance": {"mAP": 100 * scores.chance_mAP, "rank1": 100 * scores.chance_rank1},
        "queries": int(scores.valid.sum()),
        "queries_skipped": int((~scores.valid).sum()),
        "protocol": asdict(scores.protocol),
    }


def _percent(share: float) -> float | None:
    return None if np.isnan(share) else 100 * float(share)


def _roles(embeddings: Embeddings) -> tuple[Ints, Ints]:
    """Return the rows of the queries and of the gallery without junk."""
    query = np.flatnonzero(embeddings.role == "query")
    gallery = np.flatnonzero((embeddings.role == "gallery") & (embeddings.pid != UNKNOWN))
    if not len(query) or not len(gallery):
        junk = int((embeddings.role == "gallery").sum()) - len(gallery)
        raise UserError(
            f"evaluation needs query and gallery images of known identity, got {len(query)} with role 'query' and "
            f"{len(gallery)} with role 'gallery' (not counting {junk} of unknown identity)"
        )
    return query, gallery


def _columns(embeddings: Embeddings, rows: Ints) -> Split:
    path = np.full(len(rows), "") if embeddings.path is None else embeddings.path[rows]
    clothes = None if embeddings.clothes is None else embeddings.clothes[rows]
    return Split(path=path, pid=embeddings.pid[rows], cam=embeddings.cam[rows], clothes=clothes)


def _rows(vectors: Floats, rows: Ints) -> Floats:
    """Return the chosen ascending rows, without a copy when they lie together."""
    first, last = int(rows[0]), int(rows[-1])
    return vectors[first : last + 1] if last - first + 1 == len(rows) else vectors[rows]


def _source(
    embeddings: Embeddings, query: Ints, gallery: Ints, metric: Metric, rerank: AnyRerank | None, device: str
) -> DistanceSource:
    """Return the distances, re-ranked or not, of some rows to others."""
    vectors = _rows(embeddings.vectors, query), _rows(embeddings.vectors, gallery)
    if rerank is None:
        return pairwise(*vectors, metric=metric, device=device)
    cam = embeddings.cam[query], embeddings.cam[gallery]
    return rerank_any(*vectors, cam, parameters=rerank, metric=metric, device=device)


def _skipped(
    allowed: Relevance, embeddings: Embeddings, query: Ints, gallery: Ints, cameras: Cameras, clothes: Clothes
) -> Skipped:
    found = np.diff(allowed.match_start) > 0
    present = np.isin(embeddings.pid[query], embeddings.pid[gallery])

    def choose(mask: Bools) -> Ints:
        return query[mask & ~found]

    return Skipped(
        count_query=len(query),
        unknown=choose(~allowed.known),
        absent=choose(allowed.known & ~present),
        left_out=choose(allowed.known & present),
        cameras=cameras,
        clothes=clothes,
    )
