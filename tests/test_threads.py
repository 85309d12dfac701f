"""The count of threads follows the processor time that is really there; clocks and machines are imagined."""

import os
import subprocess
import sys

import pytest
import torch

from passerby import threads
from passerby.errors import UserError
from passerby.inference.onnx import read_onnx
from passerby.threads import (
    COUNT_VARIABLES,
    FIRST_PAUSE,
    SPIN,
    ThreadChange,
    Threads,
    bound_spin,
    count_at_present,
    count_available,
    in_use,
    inference_threads,
    make_threads,
    onnx_entries,
    rungs,
)

WAITING = (*SPIN, "OMP_WAIT_POLICY")


class Machine:
    """A machine with `cores` of which other processes keep `busy` so; steps of 32 images take 1 core-second.

    Threads share a step in equal pieces and wait for the last, which takes three times as long on a busy core.
    """

    def __init__(self, cores, *, busy=0):
        self.cores, self.busy, self.time, self.changes, self.speeds = cores, busy, 0.0, [], []
        self.threads = Threads(cores, rungs(cores), apply=lambda _: None, clock=lambda: self.time)
        self.threads.listen(self.changes.append)

    def run(self, seconds):
        """Do steps for so long and return the images per second of the last one."""
        end = self.time + seconds
        while self.time < end:
            count = self.threads.count
            slow = count + self.busy > self.cores
            took = 1 / count * (3 if slow else 1)
            self.time += took
            self.speeds.append(32 / took)
            self.threads.observe(32, took, took * (0.5 if slow else 0.98))
        return self.speeds[-1]


def test_alone_the_count_never_changes():
    machine = Machine(2)
    machine.run(3600)
    assert machine.threads.count == 2
    assert machine.changes == []


@pytest.mark.parametrize(("cores", "busy"), [(2, 1), (16, 1), (16, 8)])
def test_beside_busy_processes_as_many_threads_run_as_cores_are_free(cores, busy):
    machine = Machine(cores, busy=busy)
    machine.run(25)
    assert machine.threads.count == cores - busy
    assert machine.changes[-1].kind == "kept"


def test_fewer_threads_are_kept_only_where_they_are_faster():
    machine = Machine(2, busy=2)  # one thread has no core of its own either
    machine.run(25)
    assert machine.threads.count == 2
    assert [change.kind for change in machine.changes] == ["trial", "back"]


def observe(threads, seconds, *, ran=1.0, steps=10):
    for _ in range(steps):
        threads.observe(32, seconds, ran * seconds)


def test_a_change_says_what_was_measured():
    changes = []
    threads = Threads(2, [2, 1], apply=changes.append, clock=lambda: 0.0)
    threads.listen(changes.append)
    observe(threads, 0.8, ran=0.5, steps=4)  # 40 images/s, denied half of the time; the first step does not count
    assert changes == [1, ThreadChange(1, "trial", 2)]
    observe(threads, 0.4, steps=4)
    kept = changes[-1]
    assert (kept.count, kept.kind, kept.before) == (1, "kept", 2)
    assert (kept.speed, kept.speed_before) == pytest.approx((80, 40))


def test_more_threads_are_tried_again_after_a_pause_that_grows():
    machine = Machine(16, busy=8)
    machine.run(60)
    machine.run(3600)
    trials = [change for change in machine.changes if change.kind == "trial"]
    assert len(trials) < 20
    assert sum(speed < 250 for speed in machine.speeds) < 0.02 * len(machine.speeds)


def test_when_the_load_goes_all_threads_come_back():
    machine = Machine(16, busy=8)
    machine.run(60)
    machine.busy = 0
    machine.run(1200)
    assert machine.threads.count == 16


def test_steps_that_become_slower_are_not_left_to_the_long_pause():
    machine = Machine(16, busy=1)
    machine.run(7200)
    machine.busy = 8
    machine.run(3 * FIRST_PAUSE)
    assert machine.threads.count == 8


def test_quotas_of_control_groups_count(tmp_path):
    cores = len(os.sched_getaffinity(0))
    assert count_available(root=tmp_path) == cores
    (tmp_path / "proc/self").mkdir(parents=True)
    groups = tmp_path / "sys/fs/cgroup/site/run"
    groups.mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/site/run\n")
    (groups / "cpu.max").write_text("max 100000\n")
    assert count_available(root=tmp_path) == cores
    (groups.parent / "cpu.max").write_text("40000 100000\n")  # of the group above
    assert count_available(root=tmp_path) == 1


def test_quotas_of_the_first_version_count(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/x\n2:cpu,cpuacct:/box\n")
    group = tmp_path / "sys/fs/cgroup/cpu,cpuacct"  # a container sees its own group at the top
    group.mkdir(parents=True)
    (group / "cpu.cfs_period_us").write_text("100000\n")
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert count_available(root=tmp_path) == len(os.sched_getaffinity(0))
    (group / "cpu.cfs_quota_us").write_text("90000\n")
    assert count_available(root=tmp_path) == 1


@pytest.mark.parametrize("name", WAITING)
def test_the_spin_is_bounded_unless_the_environment_says_how_to_wait(name, monkeypatch):
    for other in WAITING:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    bound_spin()
    assert {key: os.environ[key] for key in SPIN} == SPIN
    monkeypatch.setattr(os, "environ", {name: "7"})
    bound_spin()
    assert os.environ == {name: "7"}


def test_the_command_line_bounds_the_spin_before_torch_is_there():
    code = """
import os, sys
import passerby.cli
passerby.cli.app = lambda: print("torch" in sys.modules, os.environ["GOMP_SPINCOUNT"])
passerby.cli.main()
"""
    environment = {key: value for key, value in os.environ.items() if key not in WAITING}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["False", SPIN["GOMP_SPINCOUNT"]]


def test_the_count_is_looked_up_once_a_second(monkeypatch):
    counts, second = iter((3, 5)), [10.0]
    monkeypatch.setattr("passerby.threads.count_available", lambda: next(counts))
    monkeypatch.setattr("passerby.threads.time.monotonic", lambda: second[0])
    threads._count_in_second.cache_clear()
    assert [count_at_present() for _ in range(3)] == [3, 3, 3]
    second[0] += 1
    assert count_at_present() == 5
    threads._count_in_second.cache_clear()


@pytest.fixture
def unset(monkeypatch):
    """An environment that does not say how many threads there are, and four cores."""
    for name in COUNT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("passerby.threads.count_at_present", lambda: 4)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield monkeypatch
    torch.set_num_threads(before)


def test_the_count_is_free_only_where_one_process_computes_on_the_processor(unset):
    assert make_threads().counts == [4, 3, 2, 1]
    assert make_threads(3).counts == [3]
    assert make_threads(device="cuda").counts == [4]
    assert make_threads(processes=2).counts == [2]
    unset.setenv("OMP_NUM_THREADS", "4")
    assert make_threads().counts == [4]


def test_a_block_gives_back_the_count_that_was_there(unset):
    with in_use(make_threads(2)):
        assert torch.get_num_threads() == 2
        with inference_threads("cpu") as threads:
            assert threads.counts == [2]
            assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 4
    with inference_threads("cpu") as threads:
        assert threads.counts == [4, 3, 2, 1]


@pytest.mark.parametrize(
    ("environment", "spins"),
    [
        ({}, False),
        (SPIN, False),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, False),
        ({"OMP_WAIT_POLICY": "active"}, True),
        ({"GOMP_SPINCOUNT": "1000000"}, True),
        ({"KMP_BLOCKTIME": "infinite"}, True),
    ],
)
def test_threads_of_onnxruntime_sleep_unless_the_environment_asks_for_a_spin(monkeypatch, environment, spins):
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert onnx_entries() == ({} if spins else {"session.intra_op.allow_spinning": "0"})


def test_a_session_of_onnxruntime_takes_the_entries(monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    taken = []

    def session(model, options, providers):
        taken.append(options.get_session_config_entry("session.intra_op.allow_spinning"))
        raise RuntimeError("no graph")

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(UserError, match="no graph"):
        read_onnx(b"", source="graph")
    assert taken == ["0"]
