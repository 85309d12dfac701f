"""Same person or not? True-positive rate at fixed false-positive rates, over all kept query-gallery pairs.

A pair is accepted when its distance is below a threshold. FPR = accepted pairs of different persons / all pairs of
different persons; TPR = accepted pairs of the same person / all pairs of the same person. The threshold is the largest
one, on a grid of 2^18 steps over the range of the distance, whose FPR is not above the wanted one; both rates are exact
at that threshold. For cosine distance a step is 7.6e-6.

Every pair counts once whose query has a known identity and whose gallery row is not left out; queries without a match
contribute pairs of different persons. (Some toolkits publish the mirrored rates: same and different exchanged.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from passerby.compiled import compiled
from passerby.distances.threads import over_rows
from passerby.metrics.relevance import Relevance
from passerby.types import Bools, Doubles, Floats, Ints

RATES = (1e-4, 1e-3, 1e-2, 1e-1)
"""The false-positive rates at which scores are reported."""

COUNT_STEPS = 1 << 18
"""Steps of the threshold grid."""

_LAST_STEP = np.float32(COUNT_STEPS - 1)
_PIECE = 1024


class PairCounts:
    """Histogram of pairs over the steps of the grid, added up block by block.

    Attributes:
        same, different: (COUNT_STEPS,) pairs of the same person and of different persons.

    """

    def __init__(self, bounds: tuple[float, float]) -> None:
        self.low, high = bounds
        self.scale = COUNT_STEPS / (high - self.low)
        self.same: Ints = np.zeros(COUNT_STEPS, np.int64)
        self.different: Ints = np.zeros(COUNT_STEPS, np.int64)

    def add(self, block: torch.Tensor, start: int, *, relevance: Relevance) -> None:
        """Count the pairs of the queries start..start+B of a (B, G) block."""
        known = relevance.known[start : start + len(block)]
        same = self._of_entries(block, start, relevance.match_start, relevance.match_row)
        left_out = self._of_entries(block, start, relevance.left_out_start, relevance.left_out_row)
        all_pairs = count_steps(block, known, low=self.low, scale=self.scale)
        self.same += same
        self.different += all_pairs - same - left_out

    def _of_entries(self, block: torch.Tensor, start: int, starts: Ints, rows: Ints) -> Ints:
        window = starts[start : start + len(block) + 1]
        line = torch.from_numpy(np.repeat(np.arange(len(block)), np.diff(window))).to(block.device)
        column = torch.from_numpy(rows[window[0] : window[-1]]).to(block.device)
        values = block[line, column][None]
        return count_steps(values, np.ones(1, np.bool_), low=self.low, scale=self.scale)

    def rates(self, fpr: Doubles) -> Doubles:
        """Return (F,) true-positive rates at the wanted false-positive rates; NaN without pairs of either kind."""
        count_same, count_different = self.same.sum(), self.different.sum()
        if not count_same or not count_different:
            return np.full(len(fpr), np.nan)
        accepted_same = np.concatenate([[0], np.cumsum(self.same)])
        return np.asarray(accepted_same[self._steps(fpr)] / count_same, np.float64)

    def thresholds(self, fpr: Doubles) -> Doubles:
        """Return (F,) the values below which pairs are accepted at the wanted false-positive rates."""
        return np.asarray(self.low + self._steps(fpr) / self.scale, np.float64)

    def _steps(self, fpr: Doubles) -> Ints:
        """Return (F,) how many steps of the grid are accepted."""
        allowed = np.floor(fpr * self.different.sum() + 1e-6)  # 0.1 * 30 is a hair below 3
        return np.asarray(np.searchsorted(np.cumsum(self.different), allowed, side="right"), np.int64)


def count_steps(block: torch.Tensor, known: Bools, *, low: float, scale: float) -> Ints:
    """Return (COUNT_STEPS,) how many values of the known rows of a (B, G) block fall into each step of the grid."""
    assert len(known) == len(block)  # the kernel does not check bounds
    if block.device.type != "cpu":
        return count_steps_by_torch(block, known, low=low, scale=scale)
    values = block.numpy()
    parts = over_rows(
        lambda first, last: _count_steps(values[first:last], known[first:last], np.float32(low), np.float32(scale)),
        len(values),
        ranges_per_thread=1,
    )
    return np.asarray(np.sum(parts, axis=0, dtype=np.int64))


@compiled()
def _count_steps(block: Floats, known: Bools, low: np.float32, scale: np.float32) -> npt.NDArray[np.int32]:
    counts, steps = np.zeros(COUNT_STEPS, np.int32), np.empty(_PIECE, np.int32)
    for line in range(block.shape[0]):
        for first in range(0, block.shape[1] if known[line] else 0, _PIECE):
            values = block[line, first : first + _PIECE]
            # two loops: the first runs on the vector unit, the second cannot
            for place in range(values.shape[0]):
                step = (values[place] - low) * scale
                step = step if step > np.float32(0) else np.float32(0)  # also NaN, which must not become an index
                steps[place] = np.int32(step if step < _LAST_STEP else _LAST_STEP)
            for place in range(values.shape[0]):
                counts[steps[place]] += 1
    return counts


def count_steps_by_torch(block: torch.Tensor, known: Bools, *, low: float, scale: float) -> Ints:
    """Do what `count_steps` does with torch operations, on whichever device the block is."""
    steps = (
        block[torch.from_numpy(known).to(block.device)].sub_(low).mul_(scale).nan_to_num_(0).clamp_(0, COUNT_STEPS - 1)
    )
    counts = torch.bincount(steps.to(torch.int32).flatten(), minlength=COUNT_STEPS)
    return np.asarray(counts.cpu().numpy(), np.int64)
