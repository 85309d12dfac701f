"""Signals that stop a run after the present step, so that it can be saved."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def _stopping() -> list[signal.Signals]:
    """Return the signals that stop a run; without a hang-up where it is ignored, as under nohup."""
    signals = [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return signals


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into a flag to be read between steps; the second stops at once."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def raise_flag(_number: int, _frame: FrameType | None) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    before = {number: signal.signal(number, raise_flag) for number in _stopping()}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
