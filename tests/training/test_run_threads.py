"""The count of threads of a run: in the log, on the console, in the checkpoint, and after a resume."""

import io

import pytest
import torch
from rich.console import Console

from passerby.threads import Threads
from passerby.training import run_log, setup
from passerby.training.progress import ProgressBar
from passerby.training.session import train
from tests.training.runs import weights


@pytest.fixture
def denied(monkeypatch):
    """Let runs be made with two threads of which one is denied all processor time."""
    made = []

    def make(*_, **__):
        time = [0.0]

        def clock():
            time[0] += 1.0 if made[-1].count == 2 else 0.5
            return time[0]

        made.append(Threads(2, [2, 1], apply=lambda _: None, clock=clock, thread_clock=lambda: 0.0))
        return made[-1]

    monkeypatch.setattr(setup, "make_threads", make)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    return made


def test_a_change_is_in_the_log_on_the_console_and_in_the_checkpoint(denied, tiny, tmp_path):
    out = io.StringIO()
    train(tiny(), tmp_path, listen=[ProgressBar(Console(file=out, width=200)).tell])
    records = [r for r in run_log.read(tmp_path / "log.jsonl") if isinstance(r, run_log.ThreadRecord)]
    assert [(r.epoch, r.batch, r.count, r.kind) for r in records] == [
        (1, 1, 2, "start"), (1, 5, 1, "trial"), (2, 3, 1, "kept"),
    ]  # fmt: skip
    assert (
        "threads: 1 from epoch 2, batch 3 on, at 16 images/s; 2 gave 8 (engine.threads=N fixes the count)"
        in out.getvalue()
    )
    assert torch.load(tmp_path / "last.pt", weights_only=True)["threads"] == 1


def test_a_resume_goes_on_with_the_count_that_was_settled_on(denied, tiny, tmp_path):
    train(tiny(), tmp_path)
    train(tiny(), tmp_path, start="resume")
    assert [threads.count for threads in denied] == [1, 1]


def test_timing_steps_changes_no_bit(denied, tiny, tmp_path, monkeypatch):
    train(tiny(), tmp_path / "followed")
    monkeypatch.undo()
    train(tiny("engine.threads=1"), tmp_path / "fixed")
    assert weights(tmp_path / "followed") == weights(tmp_path / "fixed")


def test_a_run_gives_back_the_count_that_was_there(tiny, tmp_path, monkeypatch):
    counts = []
    monkeypatch.setattr(torch, "set_num_threads", counts.append)
    train(tiny("engine.threads=3", "stages.0.epochs=1"), tmp_path)
    assert counts == [3, 1]
    records = run_log.read(tmp_path / "log.jsonl")
    assert [record.count for record in records if isinstance(record, run_log.ThreadRecord)] == [3]
