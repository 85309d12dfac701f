"""Run a compiled kernel over ranges of rows in plain Python threads.

The kernels release the interpreter lock, so threads scale, survive a fork of the data loader, and may be entered by
several requests at once; none of that holds for numba's own parallel loops.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from passerby.threads import count_at_present

Returned = TypeVar("Returned")


def over_rows(kernel: Callable[[int, int], Returned], count_rows: int, *, ranges_per_thread: int = 4) -> list[Returned]:
    """Call `kernel(first, last)` on consecutive ranges that cover `0..count_rows`, and return the results in order.

    As many threads run as torch uses (`torch.set_num_threads`), and no more than the quota of this process; there are
    more ranges than threads, so that one slow range does not hold up the rest. A kernel that returns something large is
    better off with one range per thread.
    """
    count_threads = min(torch.get_num_threads(), count_at_present(), count_rows)
    if count_threads <= 1:
        return [kernel(0, count_rows)]
    step = -(-count_rows // (ranges_per_thread * count_threads))
    ranges = [(first, min(first + step, count_rows)) for first in range(0, count_rows, step)]
    with ThreadPoolExecutor(count_threads) as pool:
        return list(pool.map(lambda pair: kernel(*pair), ranges))
