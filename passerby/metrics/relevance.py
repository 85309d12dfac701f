"""Matches of each query and gallery images left out of its list (the Market-1501 rule).

Per query, in rows of the gallery: *matches* show the same person and count as found; *left out* rows are taken off the
list before ranks are counted. All others are plain wrong answers, distractors (pid 0) among them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from passerby.errors import UserError
from passerby.types import UNKNOWN, Bools, Cameras, Clothes, Ints, Split, camera_rule


@dataclass(frozen=True, eq=False)
class Relevance:
    """Matches and left-out rows of every query, as compressed rows.

    Attributes:
        match_start: (Q + 1,) query q owns `match_row[match_start[q]:match_start[q + 1]]`.
        match_row: (M,) gallery rows, ascending within a query.
        left_out_start, left_out_row: the same for the rows that are taken off the list.
        known: (Q,) whether the identity of the query is known.
        count_gallery: G.

    """

    match_start: Ints
    match_row: Ints
    left_out_start: Ints
    left_out_row: Ints
    known: Bools
    count_gallery: int

    @property
    def count_query(self) -> int:
        """Q."""
        return len(self.known)

    @property
    def kept(self) -> Ints:
        """(Q,) gallery rows that stay on the list of each query."""
        return self.count_gallery - np.diff(self.left_out_start)


def relevance(
    query: Split, gallery: Split, *, cameras: Cameras = "standard", clothes: Clothes = "general"
) -> Relevance:
    """Apply the Market-1501 rule: same identity and same camera is left out; other images of the identity match.

    With `cameras="ignore"`, and where no camera is known (see `camera_rule`), only the very file of the query is left
    out, which needs the file names (`""` = unknown). A query whose pid is -1 has neither matches nor left-out rows. The
    gallery must not hold pid -1 (junk).

    With `clothes="changing"` images of the identity in the query's clothes are left out too, with `same` those in
    others; both leave out images of the identity where either's clothes are unknown. Images of other identities stay.

    Raises:
        UserError: `changing` or `same` where query or gallery has no column of clothes.

    Reference: for `changing` and `same` Gu et al., "Clothes-Changing Person Re-identification with RGB Modality Only",
    CVPR 2022, section 4.1.
    """
    order = np.argsort(gallery.pid, kind="stable")
    ordered = gallery.pid[order]
    first = np.searchsorted(ordered, query.pid, side="left")
    count = np.searchsorted(ordered, query.pid, side="right") - first
    known = query.pid != UNKNOWN
    count[~known] = 0
    owner = np.repeat(np.arange(len(query)), count)  # (P,) one entry per pair of the same identity
    within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    row = order[first[owner] + within]
    if camera_rule(query, gallery, cameras) == "standard":
        left_out = query.cam[owner] == gallery.cam[row]
    else:
        left_out = (query.path[owner] == gallery.path[row]) & (query.path[owner] != "")
    if clothes != "general":
        left_out |= _by_clothes(query, gallery, owner, row, clothes=clothes)
    return Relevance(
        match_start=_starts(owner[~left_out], len(query)),
        match_row=row[~left_out],
        left_out_start=_starts(owner[left_out], len(query)),
        left_out_row=row[left_out],
        known=known,
        count_gallery=len(gallery),
    )


def _by_clothes(query: Split, gallery: Split, owner: Ints, row: Ints, *, clothes: Clothes) -> Bools:
    """Return which pairs (P,) of the same identity are left out by their clothes."""
    if query.clothes is None or gallery.clothes is None:
        raise UserError(
            f"clothes: {clothes!r} needs to know the clothes of each image, and there is no column 'clothes'; use a "
            "data set that has it (prcc, ltcc, ccvid, or a table with that column), or clothes: 'general'"
        )
    worn, shown = query.clothes[owner], gallery.clothes[row]
    unknown = (worn == UNKNOWN) | (shown == UNKNOWN)
    left_out: Bools = unknown | (worn == shown if clothes == "changing" else worn != shown)
    return left_out


def _starts(owner: Ints, count: int) -> Ints:
    return np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=count))]).astype(np.int64)
