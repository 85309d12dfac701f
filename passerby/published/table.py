"""The registry table of the families of published models."""

from __future__ import annotations

from passerby.published.clip_reid import ClipReidViT
from passerby.published.family import PublishedFamily
from passerby.published.fastreid import FastReid
from passerby.published.part_tokens import PartTokenViT
from passerby.published.solider import Solider
from passerby.published.strong_baseline import StrongBaseline
from passerby.published.transreid import TransReid
from passerby.published.transreid_ssl import PersonViT, TransReidSsl
from passerby.registry import Table

FAMILIES: Table[PublishedFamily] = Table(
    "family of published models",
    PublishedFamily,
    {
        "strong_baseline": StrongBaseline,
        "fastreid": FastReid,
        "transreid": TransReid,
        "transreid_ssl": TransReidSsl,
        "personvit": PersonViT,
        "pass": PartTokenViT,
        "clipreid": ClipReidViT,
        "solider": Solider,
    },
)
"""The families of published models, in the order in which they are listed."""
