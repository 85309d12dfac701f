"""Settings that had another name before, for the hint under an unknown key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "start": "init_from",
        "target": "reference",
        "expected": "reference_results",
        "stages.*.beside": "stages.*.source",
        "optim.steps": "optim.milestones",
        "optim.delay_epochs": "optim.flat_epochs",
        "optim.final_rate": "optim.min_lr",
        "optim.freeze_iterations": "optim.freeze_backbone_steps",
        "optim.ema": "optim.ema_decay",
        "engine.accumulate": "engine.grad_accum_steps",
        "engine.batch_norm_group": "engine.ghost_batch_size",
        "losses.center.rate": "losses.center.lr",
        "method.average.share": "method.average.alpha",
        "method.ebll.steps": "method.ebll.milestones",
        "test.reliance": "test.background_bias",
        "test.pixels": "test.input_mask",
    }
)
"""The former path of each renamed setting, and the present one; `*` is the number of a stage.

A setting of the top level that stages may have too stands here once.
"""

_STAGE = re.compile(r"stages\.(\d+)\.")


def present_path(path: str) -> str | None:
    """Return the present path of a setting that was renamed, or None when it was not.

    >>> present_path("stages.1.optim.steps")
    'stages.1.optim.milestones'
    >>> present_path("stages.0.beside"), present_path("optim.lr")
    ('stages.0.source', None)
    """
    found = _STAGE.match(path)
    if found is None:
        return RENAMED.get(path)
    rest = path[found.end() :]
    if (now := RENAMED.get(f"stages.*.{rest}")) is not None:
        return now.replace("*", found[1])
    return None if (now := RENAMED.get(rest)) is None else f"{found[0]}{now}"
