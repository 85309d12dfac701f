"""The registry table of the losses, by the key in `losses`."""

from passerby.losses.center import CenterSettings
from passerby.losses.circle import CircleSettings
from passerby.losses.loss import BaseLossSettings
from passerby.losses.margins import ArcfaceSettings, CircleSoftmaxSettings, CosfaceSettings
from passerby.losses.softmax import SoftmaxSettings
from passerby.losses.triplet import TripletSettings
from passerby.registry import Table

LOSSES: Table[BaseLossSettings] = Table(
    "loss",
    BaseLossSettings,
    {
        "softmax": SoftmaxSettings,
        "arcface": ArcfaceSettings,
        "cosface": CosfaceSettings,
        "circle_softmax": CircleSoftmaxSettings,
        "triplet": TripletSettings,
        "circle": CircleSettings,
        "center": CenterSettings,
    },
)
