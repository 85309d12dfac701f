"""One process at a time: who is refused, what is said, and what is left behind."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from passerby.errors import UserError
from passerby.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from passerby.lock import locked
with locked(Path(sys.argv[1]), command="passerby train small"):
    print("ready", flush=True)
    time.sleep(600)
"""
FORK = """
import os, sys, time
from pathlib import Path
from passerby.lock import locked
with locked(Path(sys.argv[1]), command=""):
    child = os.fork()
    if child == 0:
        time.sleep(600)
    print(child, flush=True)
    os._exit(0)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path / "run"`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def test_who_holds_it_is_told(holder, tmp_path):
    told = rf"in use by process {holder.pid} on \S+ since .* \(passerby train small\); wait"
    with pytest.raises(UserError, match=told), locked(tmp_path / "run", command=""):
        pass


def test_the_lock_of_a_killed_process_is_gone(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert (tmp_path / "run" / ".lock").exists()
    with locked(tmp_path / "run", command="next"):
        pass
    assert list((tmp_path / "run").iterdir()) == []


def test_a_child_that_outlives_the_holder_holds_nothing(tmp_path):
    """Loader processes are forked, and live on for some seconds when the one they serve is killed."""
    script = [sys.executable, "-c", FORK, tmp_path / "run"]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        try:
            process.wait()
            with locked(tmp_path / "run", command=""):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


def test_two_threads_of_one_process(tmp_path):
    refused = []

    def attempt():
        try:
            with locked(tmp_path, command=""):
                pass
        except UserError as error:
            refused.append(str(error))

    with locked(tmp_path, command=""):
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    assert "in use by this process" in refused[0]


def test_nothing_is_left_of_a_folder_that_was_made_in_vain(tmp_path):
    with locked(tmp_path / "a" / "b", command=""):
        assert (tmp_path / "a" / "b" / ".lock").exists()
    assert not (tmp_path / "a").exists()


def test_files_of_one_folder_are_locked_apart(tmp_path):
    with locked(tmp_path, file="one.pt", command=""), locked(tmp_path, file="two.pt", command=""):
        pass
    with (
        locked(tmp_path, file="one.pt", command=""),
        pytest.raises(UserError, match=r"one\.pt is in use"),
        locked(tmp_path, file="one.pt", command=""),
    ):
        pass


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="is a file, not a folder"), locked(tmp_path / "run", command=""):
        pass


def test_a_damaged_lock_file_still_locks(holder, tmp_path):
    (tmp_path / "run" / ".lock").write_text("{")
    with pytest.raises(UserError, match="in use by another process"), locked(tmp_path / "run", command=""):
        pass
