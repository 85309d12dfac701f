"""Compiled functions with a machine-code cache on disk, which is rebuilt where it cannot be read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.caching import FunctionCache

F = TypeVar("F", bound=Callable[..., object])


class _ForgivingCache(FunctionCache):
    """numba's cache, for which a file cut by a crash or a full disk counts as missing, and saving is only tried."""

    def load_overload(self, sig: object, target_context: object) -> object:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever unpickling half a file raises
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: object, data: object) -> None:
        with contextlib.suppress(Exception):  # compiled it is; only the next start takes longer
            super().save_overload(sig, data)


def compiled(*, fastmath: bool = False) -> Callable[[F], F]:
    """Return a decorator that compiles a function, which then runs without the interpreter lock.

    Args:
        fastmath: let sums be reordered.

    """

    def decorate(function: F) -> F:
        dispatcher: Any = njit(nogil=True, fastmath=fastmath)(function)
        with contextlib.suppress(RuntimeError):  # no folder where machine code could be kept
            dispatcher._cache = _ForgivingCache(function)
        return cast("F", dispatcher)

    return decorate
