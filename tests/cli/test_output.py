"""Standard output that fails: what is computed goes on, and a lost result is told."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from passerby.cli.output import GuardedOutput

LIST = [sys.executable, "-m", "passerby", "recipe", "list"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_a_result_that_is_lost_is_told():
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(LIST, stdout=full, stderr=subprocess.PIPE, text=True, timeout=600, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == "Error: the output cannot be written: the disk is full"


def test_a_reader_that_has_gone_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(LIST, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=600, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_standard_output_at_all():
    done = subprocess.run(["sh", "-c", f"{' '.join(LIST)} >&-"], stderr=subprocess.PIPE, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_training_goes_on_when_its_reader_has_gone(tiny_file, tmp_path):
    """As of `passerby train ... | head -1`."""
    words = ["train", tiny_file, "stages.0.epochs=1", "test.rerank=null", "--out", tmp_path / "run"]
    command = [sys.executable, "-m", "passerby", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (0, "")
    assert (tmp_path / "run" / "report.html").exists()


class Failing(io.StringIO):
    def __init__(self, number):
        super().__init__()
        self.number = number
        self.nowhere = os.open(os.devnull, os.O_WRONLY)

    def write(self, text):
        raise OSError(self.number, os.strerror(self.number))

    def fileno(self):
        return self.nowhere


@pytest.mark.parametrize(("number", "lost"), [(errno.EPIPE, False), (errno.EIO, False), (errno.ENOSPC, True)])
def test_a_guard_remembers_the_first_failure(number, lost):
    stream = Failing(number)
    guard = GuardedOutput(stream)
    assert guard.write("text") == 4
    guard.flush()
    assert guard.failure.errno == number
    assert bool(guard.loss) == lost
    assert not guard.isatty()
    os.close(stream.nowhere)


def test_a_guard_changes_nothing_where_all_is_well():
    guard = GuardedOutput(io.StringIO())
    guard.write("text")
    guard.flush()
    assert (guard.getvalue(), guard.loss) == ("text", None)
