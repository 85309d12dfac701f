"""Prefetching: threads prepare the next items while the network runs, and return them in order.

Decoders and resizing release Python's lock, so threads read files in parallel; unlike processes they need no shared
memory. Random numbers are drawn by the caller, because threads share torch's generator.
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
Item = TypeVar("Item")

SHARED_MEMORY = "/dev/shm"
_MOST_THREADS = 8


def available_cpus() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reading_threads() -> int:
    """Return a sensible number of threads for reading many files; 0 = one processor, where threads gain nothing."""
    cpus = available_cpus()
    return 0 if cpus == 1 else min(_MOST_THREADS, cpus)


def ahead(task: Callable[[Item], T], items: Iterable[Item], *, workers: int, depth: int) -> Iterator[T]:
    """Yield `task(item)` for all items, in their order.

    Args:
        task: may run in several threads at once.
        items: in the order of the results.
        workers: threads; 0 = no thread, each result is computed on demand.
        depth: number of results prepared in advance, >= 1.

    >>> list(ahead(abs, [-3, 1, -2], workers=2, depth=2))
    [3, 1, 2]
    """
    if workers == 0:
        yield from map(task, items)
        return
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="read-ahead") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(task, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def has_shared_memory(count_bytes: int) -> bool:
    """Whether processes can hand over so many bytes by shared memory; containers often have 64 MB, or none at all."""
    if not os.path.isdir(SHARED_MEMORY):  # noqa: PTH112 - not Linux
        return True
    try:
        return os.access(SHARED_MEMORY, os.W_OK) and shutil.disk_usage(SHARED_MEMORY).free >= count_bytes
    except OSError:
        return False
