"""Scores with the protocol that produced them, without which they cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, cast, get_args

import numpy as np

from passerby.errors import UserError
from passerby.types.columns import UNKNOWN, Bools, Doubles, read_member
from passerby.types.embeddings import InputMask, Unit
from passerby.types.images import Split

Cameras = Literal["standard", "ignore"]
"""`standard`: a gallery image of the same identity *and* camera is left out; `ignore`: cameras play no part."""


Clothes = Literal["general", "changing", "same"]
"""Gallery images of the query's identity that are looked for: `general`: in any clothes; `changing`: in others than the
query's; `same`: in the same. Images of other identities always stay."""


def camera_rule(query: Split, gallery: Split, cameras: Cameras) -> Cameras:
    """Return the applicable rule: `ignore` where no image has a known camera, else `cameras`.

    Cameras that nobody knows are not one camera.
    """
    known = bool((query.cam != UNKNOWN).any() or (gallery.cam != UNKNOWN).any())
    return cameras if known else "ignore"


CameraNorm = Literal["none", "centre", "standardise", "auto"]
"""What is taken out of the vectors of each camera: nothing, its mean, its mean and spread, or both shrunk."""


def read_camera_norm(value: str) -> CameraNorm:
    """Return the member of `CameraNorm` that a file names.

    Raises:
        UserError: no such member.

    """
    return cast("CameraNorm", read_member("camera_norm", value, get_args(CameraNorm)))


def read_clothes(value: str) -> Clothes:
    """Return the member of `Clothes` that a file names.

    Raises:
        UserError: no such member.

    """
    return cast("Clothes", read_member("clothes", value, get_args(Clothes)))


Queries = Literal["single", "multi"]
"""`single`: every query is one image; `multi`: it is the mean of all images of its identity and camera."""


@dataclass(frozen=True)
class EvaluationRules:
    """The rules by which embeddings are compared and scored; re-ranking is a second measurement by the same rules.

    Attributes:
        cameras: see `Cameras`.
        queries: see `Queries`.
        distance: what orders the gallery: `cosine`, or `euclidean` (no normalisation).
        camera_norm: what is taken out of the vectors of each camera, by statistics of the query and the gallery.
        clothes: see `Clothes`.
        unit: whether images or tracklets are compared.
        gallery_draws: number of drawn galleries of one row of each identity, over which scores are means; 0 = none
            drawn.

    """

    cameras: Cameras = "standard"
    queries: Queries = "single"
    distance: Literal["cosine", "euclidean"] = "cosine"
    camera_norm: CameraNorm = "none"
    clothes: Clothes = "general"
    unit: Unit = "image"
    gallery_draws: int = 0


@dataclass(frozen=True)
class Rerank:
    """Parameters of k-reciprocal re-ranking (Zhong et al., CVPR 2017).

    Attributes:
        k1: neighbours that may be reciprocal, >= 1.
        k2: neighbours averaged in the query expansion, >= 1.
        weight: share of the original distance in the result, in [0, 1] (the paper's lambda).

    """

    k1: int = 20
    k2: int = 6
    weight: float = 0.3

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1 or not 0 <= self.weight <= 1:
            raise UserError(
                f"re-ranking needs k1 >= 1, k2 >= 1 and weight in [0, 1], got k1={self.k1}, k2={self.k2}, "
                f"weight={self.weight}"
            )

    def __str__(self) -> str:
        """The parameters for people."""
        return f"k1 {self.k1}, k2 {self.k2}, weight {self.weight}"


@dataclass(frozen=True)
class CameraRerank:
    """Parameters of camera-aware re-ranking (CA-Jaccard, Chen et al., CVPR 2024).

    Attributes:
        k1_intra: neighbours in the same camera that may be reciprocal, >= 1.
        k1_inter: neighbours in other cameras that may be reciprocal, >= 1.
        k2_intra: images of the same camera averaged in the query expansion, itself included, >= 1.
        k2_inter: images of other cameras averaged in the query expansion, >= 0.
        weight: share of the original distance in the result, in [0, 1] (the paper's lambda).

    >>> print(CameraRerank(k1_inter=10))
    by cameras (CA-Jaccard), k1 5 and 10, k2 3 and 3, weight 0.3
    """

    k1_intra: int = 5
    k1_inter: int = 20
    k2_intra: int = 3
    k2_inter: int = 3
    weight: float = 0.3

    def __post_init__(self) -> None:
        if min(self.k1_intra, self.k1_inter, self.k2_intra) < 1 or self.k2_inter < 0 or not 0 <= self.weight <= 1:
            raise UserError(
                "k1_intra, k1_inter and k2_intra must be at least 1, k2_inter at least 0 and weight in [0, 1], got "
                f"k1_intra={self.k1_intra}, k1_inter={self.k1_inter}, k2_intra={self.k2_intra}, "
                f"k2_inter={self.k2_inter}, weight={self.weight}"
            )

    def __str__(self) -> str:
        """The parameters for people."""
        return (
            f"by cameras (CA-Jaccard), k1 {self.k1_intra} and {self.k1_inter}, k2 {self.k2_intra} and {self.k2_inter}, "
            f"weight {self.weight}"
        )


AnyRerank = Rerank | CameraRerank
"""Re-ranking by neighbours among all images, or in the same camera and in the others."""


@dataclass(frozen=True)
class Protocol:
    """The protocol of scores; two scores may be compared only where it agrees.

    Attributes:
        dataset: name of the site.
        files: `Embeddings.fingerprint` of what was compared.
        count_query, count_gallery: images that took part.
        cameras: whether same-camera matches are left out.
        distance: what ordered the gallery.
        feature: which feature of the model was tested.
        rerank: re-ranking parameters, or None.
        ap_rule: how average precision is summed.
        flip: whether vectors are means over the image and its mirror image.
        queries: see `Queries`.
        input_mask: how the person mask was applied to the images.
        camera_norm: what was taken out of the vectors of each camera, by statistics of the query and the gallery.
        clothes: see `Clothes`.
        unit: whether images or tracklets are compared.
        gallery_draws: number of drawn galleries of one row of each identity, over which scores are means; 0 = none
            drawn.

    """

    dataset: str
    files: str
    count_query: int
    count_gallery: int
    cameras: Cameras
    distance: Literal["cosine", "euclidean"]
    feature: str
    rerank: AnyRerank | None = None
    ap_rule: str = "mean precision at hits"
    flip: bool = False
    queries: Queries = "single"
    input_mask: InputMask = "none"
    camera_norm: CameraNorm = "none"
    clothes: Clothes = "general"
    unit: Unit = "image"
    gallery_draws: int = 0

    def require_like(self, other: Protocol, *, apart_from: tuple[str, ...] = ()) -> None:
        """Raise `UserError` naming the differing fields, unless the protocols agree apart from `apart_from`."""
        names = [field.name for field in fields(self) if field.name not in apart_from]
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in names]
        differing = [f"{name} ({mine} and {theirs})" for name, mine, theirs in pairs if mine != theirs]
        if differing:
            raise UserError(f"these scores cannot be compared: they differ in {', '.join(differing)}")


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of an evaluation, all in [0, 1].

    Attributes:
        mAP: mean over valid queries of the average precision.
        mINP: mean over valid queries of (matches / rank of the last match).
        cmc: (K,) cumulative matching characteristic, `cmc[k - 1]` = share of valid queries with a match in the first k.
        ap: (Q,) average precision per query, NaN where the query is not valid.
        valid: (Q,) whether a query has any match it may find.
        fpr, tpr: (F,) true-positive rate of the pair verification at fixed false-positive rates.
        chance_mAP, chance_rank1: the same figures for a random order of the gallery (the mean over all orders).
        protocol: how they were produced.

    """

    mAP: float
    mINP: float
    cmc: Doubles
    ap: Doubles
    valid: Bools
    fpr: Doubles
    tpr: Doubles
    chance_mAP: float
    chance_rank1: float
    protocol: Protocol

    def rank(self, k: int) -> float:
        """Share of valid queries whose first match is among the first k; a short gallery counts as its full length."""
        return float(self.cmc[min(k, len(self.cmc)) - 1])


def mean_scores(found: Sequence[Scores]) -> Scores:
    """Return the mean of several scores of one table; a query's mean is over those in which it is valid.

    Args:
        found: at least one, of the same queries and protocol.

    """
    ap = np.stack([scores.ap for scores in found])  # (S, Q)
    count = np.isfinite(ap).sum(axis=0)
    total = np.where(np.isfinite(ap), ap, 0.0).sum(axis=0)
    longest = max(len(scores.cmc) for scores in found)
    return replace(
        found[0],
        mAP=float(np.mean([scores.mAP for scores in found])),
        mINP=float(np.mean([scores.mINP for scores in found])),
        cmc=np.mean([np.pad(scores.cmc, (0, longest - len(scores.cmc)), mode="edge") for scores in found], axis=0),
        ap=np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0),
        valid=count > 0,
        tpr=np.mean([scores.tpr for scores in found], axis=0),
        chance_mAP=float(np.mean([scores.chance_mAP for scores in found])),
        chance_rank1=float(np.mean([scores.chance_rank1 for scores in found])),
    )
