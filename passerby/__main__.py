"""`python -m passerby`, and the entry point of the command `passerby`."""

from __future__ import annotations

import os
import signal
from types import FrameType


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once, while nothing has begun that would have to be tidied up."""
    os.write(2, b"interrupted\n")
    os._exit(130)


def main() -> None:
    """Load the command line and run it; Ctrl-C while it loads ends the program without a traceback."""
    expected = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if expected:
        signal.signal(signal.SIGINT, _leave)
    from passerby.cli import main as run

    if expected:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
