"""Lifelong metrics: forgetting and transfer from the matrix of scores of a sequence of stages.

Everything is a function of the matrix R (T, T): row t holds the scores after stage t on the data set of every stage.
Below the diagonal are the scores on earlier data sets, on it those just after training, above it those before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from passerby.errors import UserError
from passerby.types import Doubles


@dataclass(frozen=True, eq=False)
class Continual:
    """The metrics of a sequence of stages, in the unit of the matrix.

    Attributes:
        seen: (T,) mean over the data sets of the stages so far, after each stage.
        average: mean over all data sets after the last stage.
        forgetting: mean drop of the earlier data sets from their best score before the end; None when T = 1.
        backward: mean change of the earlier data sets since their stage; negative = forgotten. None when T = 1.
        forward: mean gain over the start on data sets before their stage, None without a start or when T = 1.
        intransigence: (T,) score of a model of each data set alone, minus that of this one just after its stage, or
            None.

    """

    seen: Doubles
    average: float
    forgetting: float | None
    backward: float | None
    forward: float | None
    intransigence: Doubles | None


def continual_metrics(matrix: Doubles, *, start: Doubles | None = None, alone: Doubles | None = None) -> Continual:
    """Compute forgetting and transfer from a matrix of scores.

    Args:
        matrix: (T, T) scores after stage t (rows) on the data set of stage j (columns), the greater the better.
        start: (T,) scores of the model before the first stage on each data set, for the forward transfer.
        alone: (T,) scores of a model trained on each data set alone, for the intransigence.

    Raises:
        UserError: shapes that do not fit, or a value that is not finite.

    Reference: Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017, equations 2 to 4;
    Chaudhry et al., "Riemannian Walk for Incremental Learning", ECCV 2018, section 3 (forgetting, intransigence).
    Differs from the papers: `start` is the initial model of the first stage, not a random one.

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
    averages = np.array([matrix[t, : t + 1].mean() for t in range(count)])
    is_sequence = count > 1
    best = np.array([matrix[j:-1, j].max() for j in range(count - 1)])
    before = np.array([matrix[j - 1, j] for j in range(1, count)])
    return Continual(
        seen=averages,
        average=float(averages[-1]),
        forgetting=float((best - last[:-1]).mean()) if is_sequence else None,
        backward=float((last - learnt)[:-1].mean()) if is_sequence else None,
        forward=float((before - start[1:]).mean()) if is_sequence and start is not None else None,
        intransigence=None if alone is None else alone - learnt,
    )


def _check(name: str, values: Doubles, shape: tuple[int, ...]) -> None:
    if values.shape != shape or not shape[0]:
        raise UserError(f"{name} of a sequence must have the shape {shape}, got {values.shape}")
    if not np.isfinite(values).all():
        raise UserError(f"{name} of a sequence holds values that are not finite: {values.tolist()}")
