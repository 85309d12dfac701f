"""Training beside busy processes: what is measured, and that nothing goes on being busy."""

import os

import pytest
import torch

from passerby.bench import busy
from passerby.bench.busy import BusyRow, bench_busy, busy_processes, measure
from passerby.threads import fixed_threads


def test_the_time_in_which_threads_settle_does_not_count():
    time = [0.0]

    def step():
        time[0] += 1.0 if time[0] < 10 else 0.5

    found = measure(step, fixed_threads(1), 32, 10.0, 5.0, clock=lambda: time[0])
    assert found == [64.0] * 5


class Stopped(BaseException):
    """Stands for Ctrl-C, which a program that runs tests may take for its own."""


def test_busy_processes_end_with_the_block(monkeypatch):
    started = []
    popen = busy.subprocess.Popen
    monkeypatch.setattr(
        busy.subprocess, "Popen", lambda words: started.append(popen([*words[:2], "pass"])) or started[-1]
    )
    with pytest.raises(Stopped), busy_processes(2):
        raise Stopped
    assert len(started) == 2
    for process in started:
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


def test_shares_are_of_the_speed_alone(monkeypatch):
    speeds = iter([[100, 90, 80, 110, 120], [50, 50, 60, 40, 70], [10, 20, 30, 40, 50]])
    monkeypatch.setattr(busy, "measure", lambda *_: next(speeds))
    monkeypatch.setattr(busy, "make_step_run", lambda *_, **__: None)
    monkeypatch.setattr(busy, "busy_processes", lambda _: busy_none())
    before = torch.get_num_threads()
    table = bench_busy(quick=True, threads=1)
    assert table.rows == (
        BusyRow(0, 100, 80, 120, 1.0, 1), BusyRow(1, 50, 40, 70, 0.5, 1), BusyRow(2, 30, 10, 50, 0.3, 1),
    )  # fmt: skip
    assert torch.get_num_threads() == before


def busy_none():
    return busy_processes(0)
