"""The registry table of the samplers, by their `kind` in `data.sampler`."""

from typing import Annotated

from passerby.choices import follow_table
from passerby.data.samplers.per_domain import PerDomainSettings
from passerby.data.samplers.pk import PkSettings
from passerby.data.samplers.pk_cameras import PkCamerasSettings
from passerby.data.samplers.sampler import SamplerSettings
from passerby.data.samplers.shuffle import ShuffleSettings
from passerby.registry import OneOf, Table

SAMPLERS: Table[SamplerSettings] = Table(
    "sampler",
    SamplerSettings,
    {
        "pk": PkSettings,
        "pk_cameras": PkCamerasSettings,
        "per_domain": PerDomainSettings,
        "shuffle": ShuffleSettings,
    },
)
"""All samplers, in the order of lists."""

follow_table(SAMPLERS)


AnySampler = Annotated[SamplerSettings, OneOf(SAMPLERS)]
"""Any sampler, chosen by its `kind`."""
