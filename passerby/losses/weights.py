"""Weight of a loss in the sum: a number, or learnt together with the network.

A learnt weight is exp(-s), with s / 2 added to the sum so that it cannot vanish. At the optimum it is 1 / (2 L), so the
weight of a falling loss grows. A loss that can reach 0, such as a triplet with a margin, would drive s to minus
infinity, and the sum with it; `LIMIT` bounds s.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import PlainValidator
from torch import Tensor

from passerby.errors import did_you_mean

LIMIT = 5.0
"""A learnt s stays within plus and minus this, a weight thus between 0.0067 and 148."""


def _check_weight(value: object) -> float | Literal["learned"]:
    if value == "learned":
        return "learned"
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    hint = did_you_mean(value, ["learned"]) if isinstance(value, str) else ""
    raise ValueError(f"got {value!r}, allowed: a number of at least 0, or 'learned'{hint}")


Weight = Annotated[
    float | Literal["learned"], PlainValidator(_check_weight, json_schema_input_type=float | Literal["learned"])
]
"""A fixed weight >= 0, or the word `learned`."""


def learned_share(value: Tensor, log_variance: Tensor) -> Tensor:
    """Return exp(-s) L + s / 2, the contribution of a loss L with a learnt weight.

    Args:
        value: () the loss.
        log_variance: () the learnt s, the logarithm of the task's variance.

    Reference: Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics",
    CVPR 2018, equation 10 (the form for classification), with log sigma = s / 2.

    >>> learned_share(torch.tensor(3.0), torch.tensor(0.0)).item()
    3.0
    """
    return torch.exp(-log_variance) * value + log_variance / 2
