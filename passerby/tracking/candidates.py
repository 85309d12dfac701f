"""The best boxes of an open track: a bounded number of candidates, spread over its time however long it lasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

MOST_BUCKETS = 24
"""Candidates of an open track; from more, the better of each two neighbours in time stays."""


@dataclass(frozen=True)
class BoxCandidate:
    """A box that may represent its track.

    Attributes:
        frame: number of its frame.
        time: seconds.
        quality: in [0, 1].
        jpeg: the crop as a JPEG file; empty where `path` holds it.
        path: the image file that holds the crop already, `""` = none.

    """

    frame: int
    time: float
    quality: float
    jpeg: bytes
    path: str = ""


@dataclass
class Candidates:
    """The best candidate of each span of `width` frames since the first frame; the spans double when there are many.

    The result depends on the frames and qualities alone, so it is the same whenever a run was interrupted.

    Attributes:
        first_frame: where the track begins.
        width: frames of a span.
        best: candidates by the number of their span.

    """

    first_frame: int
    width: int = 1
    best: dict[int, BoxCandidate] = field(default_factory=dict)

    def is_wanted(self, frame: int, quality: float) -> bool:
        """Whether a candidate of at most that quality could be the best of its span."""
        present = self.best.get(self._span(frame))
        return quality > 0 and (present is None or quality > present.quality)

    def add(self, candidate: BoxCandidate) -> None:
        """Take a candidate where it is the best of its span; of equal ones the earlier stays."""
        if not self.is_wanted(candidate.frame, candidate.quality):
            return
        self.best[self._span(candidate.frame)] = candidate
        while len(self.best) > MOST_BUCKETS:
            self._double()

    def _span(self, frame: int) -> int:
        return (frame - self.first_frame) // self.width

    def _double(self) -> None:
        self.width *= 2
        spans = self.best.values()
        self.best = {}
        for candidate in spans:  # in the order of frames: the earlier of equal ones stays
            span = self._span(candidate.frame)
            if span not in self.best or candidate.quality > self.best[span].quality:
                self.best[span] = candidate

    def choose(self, least: int, most: int) -> list[BoxCandidate]:
        """Return `least` to `most` candidates in the order of time: good ones first, then far apart ones."""
        return choose_spread(list(self.best.values()), least, most)


GOOD = 0.5
"""Share of the best quality that a crop needs beyond the least number of crops."""


def choose_spread(candidates: Sequence[BoxCandidate], least: int, most: int) -> list[BoxCandidate]:
    """Return up to `most` candidates, by quality, no two closer than the span of frames divided by 2 `most`.

    Where that leaves fewer than `least`, close ones are taken too. Beyond `least`, candidates below `GOOD` times the
    best quality are left out.
    """
    ordered = sorted(candidates, key=lambda candidate: (-candidate.quality, candidate.frame))
    if not ordered:
        return []
    frames = [candidate.frame for candidate in ordered]
    gap = (max(frames) - min(frames)) / (2 * most)
    chosen: list[BoxCandidate] = []
    for candidate in ordered:
        good = candidate.quality >= GOOD * ordered[0].quality or len(chosen) < least
        if good and len(chosen) < most and all(abs(candidate.frame - other.frame) >= gap for other in chosen):
            chosen.append(candidate)
    close = [candidate for candidate in ordered if candidate not in chosen]
    chosen += close[: max(least - len(chosen), 0)]
    return sorted(chosen, key=lambda candidate: candidate.frame)
