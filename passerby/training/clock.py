"""The time of an epoch, and the time of waiting for images in it."""

from __future__ import annotations

import time
from typing import cast

from ignite.engine import Engine, Events

from passerby.training import distributed
from passerby.types import Batch


class Clock:
    """Timer of the batches of an engine.

    Attributes:
        waited: seconds of waiting for images in the present epoch.
        images: number of images in its batches, of all processes.

    """

    def __init__(self) -> None:
        self._start()

    def attach(self, engine: Engine) -> None:
        """Follow an engine's batches."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._ask)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._get)

    @property
    def seconds(self) -> float:
        """Seconds since the epoch began."""
        return time.perf_counter() - self._began

    def _start(self) -> None:
        self._began = self._asked = time.perf_counter()
        self.waited, self.images = 0.0, 0

    def _ask(self) -> None:
        self._asked = time.perf_counter()

    def _get(self, engine: Engine) -> None:
        self.waited += time.perf_counter() - self._asked
        self.images += len(cast("Batch", engine.state.batch)) * distributed.world()
