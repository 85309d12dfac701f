"""The registry table of the families of published models."""

from __future__ import annotations

from passerby.published.family import PublishedFamily
from passerby.published.fastreid import FastReid
from passerby.published.strong_baseline import StrongBaseline
from passerby.registry import Table

FAMILIES: Table[PublishedFamily] = Table(
    "family of published models",
    PublishedFamily,
    {
        "strong_baseline": StrongBaseline,
        "fastreid": FastReid,
    },
)
"""The families of published models, in the order in which they are listed."""
