"""Settings that had another name before, for the hint under an unknown key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

_CLUSTERED = ("contrast", "mmt", "pplr", "pseudo", "spcl", "ssg")

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
        "engine.tensorboard": "engine.track",
        "losses.center.rate": "losses.center.lr",
        "method.average.share": "method.average.alpha",
        "method.dask.site": "method.dask.domain",
        "method.replay.share": "method.replay.ratio",
        "method.spcl.norms": "method.spcl.batch_norm",
        "method.ssg.ask": "method.ssg.oracle",
        "method.ssg.ask_after": "method.ssg.oracle_after",
        **{f"method.{name}.outliers": f"method.{name}.max_noise_ratio" for name in _CLUSTERED},
        **{f"method.{name}.stop.epochs": f"method.{name}.stop.patience" for name in _CLUSTERED},
        **{f"method.{name}.cameras": f"method.{name}.camera_norm" for name in _CLUSTERED},
        "method.ebll.steps": "method.ebll.milestones",
        "method.ebll.loss": "method.ebll.autoencoders",
        "test.reliance": "test.background_bias",
        "test.pixels": "test.input_mask",
        "data.identities": "data.sampler.identities",
        "data.instances": "data.sampler.instances",
        "data.sampling": "data.sampler",
    }
)
"""The former path of each renamed setting, and the present one; `*` is the number of a stage.

A setting of the top level that stages may have too stands here once.
"""

FORMER_KINDS: Mapping[str, str] = MappingProxyType({"datasets": "per_domain", "identities": "pk"})
"""The values of the former `data.sampling`, and the samplers that draw so."""

FORMER_VALUES: Mapping[str, Mapping[object, str | list[str]]] = MappingProxyType(
    {
        "test.input_mask": {"whole": "none"},
        "engine.track": {False: "none", True: "tensorboard"},
        "method.spcl.batch_norm": {"apart": "domain_specific"},
        **{f"method.{name}.camera_norm": {"ignore": "none"} for name in _CLUSTERED},
        "method.ebll.autoencoders": {
            "ae": ["ae"],
            "ae_l1": ["ae_l1"],
            "ae_l2": ["ae_l2"],
            "all": ["ae", "ae_l1", "ae_l2"],
        },
    }
)
"""By the present path of a setting, its former values and the present ones that stored recipes are read by."""

_STAGE = re.compile(r"stages\.(\d+)\.")


def present_path(path: str) -> str | None:
    """Return the present path of a setting that was renamed, or None when it was not.

    >>> present_path("stages.1.optim.steps")
    'stages.1.optim.milestones'
    >>> present_path("stages.0.beside"), present_path("optim.lr")
    ('stages.0.source', None)
    """
    stage = _STAGE.match(path)
    if stage is None:
        return RENAMED.get(path)
    rest = path[stage.end() :]
    if (now := RENAMED.get(f"stages.*.{rest}")) is not None:
        return now.replace("*", stage[1])
    return None if (now := RENAMED.get(rest)) is None else f"{stage[0]}{now}"


_FORMER_DATA: Mapping[str, object] = MappingProxyType(
    {"identities": 16, "instances": 4, "sampling": "identities", "sampler": "pk"}
)
"""The keys of `data` that became `data.sampler`, with their former defaults."""


def present_data(data: Mapping[str, object], base: Mapping[str, object] = MappingProxyType({})) -> dict[str, object]:
    """Return the `data` of a stored recipe with its former keys on batches as one `sampler`.

    Args:
        data: as an earlier version wrote it, of the top level or of a stage; what is written as today stays.
        base: for a stage, the `data` of the top level as an earlier version wrote it.

    >>> present_data({"identities": 8, "sampling": "datasets", "workers": 0})
    {'workers': 0, 'sampler': {'kind': 'per_domain', 'identities': 8, 'instances': 4, 'across_cameras': False}}
    >>> present_data({"sampler": "shuffle"}, {"identities": 32})
    {'sampler': {'kind': 'shuffle', 'size': 128}}
    """
    former = {key: data[key] for key in _FORMER_DATA if key in data}
    if not former or isinstance(data.get("sampler"), Mapping):
        return dict(data)
    whole = {**_FORMER_DATA, **{key: base[key] for key in _FORMER_DATA if key in base}, **former}
    rest = {key: value for key, value in data.items() if key not in _FORMER_DATA}
    return {**rest, "sampler": _present_sampler(whole)}


def _present_sampler(former: Mapping[str, object]) -> dict[str, object]:
    """Return the sampler that draws as the former keys did."""
    identities, instances, kind = former["identities"], former["instances"], former["sampler"]
    if kind == "shuffle" and isinstance(identities, int) and isinstance(instances, int):
        return {"kind": "shuffle", "size": identities * instances}
    groups = {"identities": identities, "instances": instances}
    if former["sampling"] == "datasets":
        return {"kind": "per_domain", **groups, "across_cameras": kind == "pk_cameras"}
    return {"kind": kind, **groups}
