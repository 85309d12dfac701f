"""Threads that read ahead: in order, not too far, and with errors where they belong."""

import threading
import time

import pytest

from passerby.data import ahead as module
from passerby.data.ahead import ahead, has_shared_memory


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order(workers):
    def slow_at_first(number):
        time.sleep(0.01 * (number == 0))
        return number

    assert list(ahead(slow_at_first, range(20), workers=workers, depth=4)) == list(range(20))


def test_no_more_than_depth_is_prepared():
    started = []
    before = set(threading.enumerate())  # an iterator of an earlier test may not be collected yet
    results = ahead(lambda number: started.append(number) or number, range(100), workers=2, depth=5)
    assert next(results) == 0
    time.sleep(0.05)
    assert len(started) <= 6
    results.close()
    assert len(started) <= 6
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("read-ahead")]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_at_its_place(workers):
    results = ahead(lambda number: 6 // (3 - number), range(5), workers=workers, depth=2)
    assert [next(results) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_shared_memory_may_be_small_or_read_only(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "SHARED_MEMORY", str(tmp_path))
    assert has_shared_memory(1)
    assert not has_shared_memory(1 << 60)
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    assert not has_shared_memory(1)
    monkeypatch.setattr(module, "SHARED_MEMORY", str(tmp_path / "another system"))
    assert has_shared_memory(1 << 60)
