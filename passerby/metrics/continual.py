"""Lifelong metrics: forgetting and transfer from the matrix of scores of a sequence of stages.

Everything is a function of the matrix R (T, T): row t holds the scores after stage t on the site of every stage, so
below the diagonal is what is left of earlier sites, on it what was just learnt, and above it what was never taught.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from passerby.errors import UserError
from passerby.types import Doubles


@dataclass(frozen=True, eq=False)
class Continual:
    """The figures of a sequence, in the unit of the matrix.

    Attributes:
        seen: (T,) mean over the sites of the stages so far, after each stage.
        average: the last of them: mean over all sites after the last stage.
        forgetting: mean loss of the earlier sites from their best time before the end; None when T = 1.
        backward: mean change of the earlier sites since they were learnt; negative = forgotten. None when T = 1.
        forward: mean gain over the start on sites not yet learnt, None without a start or when T = 1.
        intransigence: (T,) what a model of each site alone has more than this one just after learning it, or None.

    """

    seen: Doubles
    average: float
    forgetting: float | None
    backward: float | None
    forward: float | None
    intransigence: Doubles | None


def continual_metrics(matrix: Doubles, *, start: Doubles | None = None, alone: Doubles | None = None) -> Continual:
    """Read the measures of forgetting and transfer off a matrix of scores.

    Args:
        matrix: (T, T) scores after stage t (rows) on the site of stage j (columns), the greater the better.
        start: (T,) scores of the model before the first stage on each site, for the forward transfer.
        alone: (T,) scores of a model trained on each site alone, for the intransigence.

    Raises:
        UserError: shapes that do not fit, or a value that is not finite.

    Reference: Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017, equations 2 to 4;
    Chaudhry et al., "Riemannian Walk for Incremental Learning", ECCV 2018, section 3 (forgetting, intransigence).
    Differs from the papers: a start at random has no meaning in re-identification, so `start` is whatever the first
    stage began with.

    >>> found = continual_metrics(np.array([[80.0, 20.0], [60.0, 70.0]]), start=np.array([1.0, 5.0]))
    >>> found.average, found.forgetting, found.backward, found.forward
    (65.0, 20.0, -20.0, 15.0)
    """
    count = len(matrix)
    _check("the matrix", matrix, (count, count))
    for name, row in (("start", start), ("alone", alone)):
        if row is not None:
            _check(name, row, (count,))
    learnt, last = np.diag(matrix), matrix[-1]
    seen = np.array([matrix[t, : t + 1].mean() for t in range(count)])
    several = count > 1
    best = np.array([matrix[j:-1, j].max() for j in range(count - 1)])
    before = np.array([matrix[j - 1, j] for j in range(1, count)])
    return Continual(
        seen=seen,
        average=float(seen[-1]),
        forgetting=float((best - last[:-1]).mean()) if several else None,
        backward=float((last - learnt)[:-1].mean()) if several else None,
        forward=float((before - start[1:]).mean()) if several and start is not None else None,
        intransigence=None if alone is None else alone - learnt,
    )


def _check(name: str, values: Doubles, shape: tuple[int, ...]) -> None:
    if values.shape != shape or not shape[0]:
        raise UserError(f"{name} of a sequence must have the shape {shape}, got {values.shape}")
    if not np.isfinite(values).all():
        raise UserError(f"{name} of a sequence holds values that are not finite: {values.tolist()}")
