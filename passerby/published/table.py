"""The registry table of the families of published models."""

from __future__ import annotations

from passerby.published.clip import PublishedClip
from passerby.published.clip_reid import ClipReidViT
from passerby.published.clipreid_rn50 import ClipReidResnet
from passerby.published.family import PublishedFamily
from passerby.published.fastreid import FastReid
from passerby.published.imagenet import IbnNet, TimmFamily, Torchvision
from passerby.published.luperson import Luperson
from passerby.published.part_tokens import PartTokenViT
from passerby.published.solider import Solider
from passerby.published.strong_baseline import StrongBaseline
from passerby.published.torchreid import Torchreid
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
        "clip": PublishedClip,
        "solider": Solider,
        "torchreid": Torchreid,
        "clipreid_rn50": ClipReidResnet,
        "luperson": Luperson,
        "ibn_net": IbnNet,
        "torchvision": Torchvision,
        "timm": TimmFamily,
    },
)
"""The families of published models, in the order in which they are listed."""
