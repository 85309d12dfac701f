"""Whatever goes wrong ends in one sentence and an exit code, and a bug says that it is one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from passerby.cli import app, boundary
from passerby.cli.boundary import explain
from passerby.console import make_console, make_progress
from passerby.errors import UserError
from passerby.files import atomic_write, read_json, reading, write_file

LONG = "n" * 300


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def passerby(*words: object, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "passerby", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, **options)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("so it is"), "so it is"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), "cannot use /data/x: permission denied"),
        (OSError(errno.ENAMETOOLONG, "File name too long", b"/data/\xff"), "cannot use /data/\udcff: file name"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EMFILE, "Too many open files"), "too many open files"),
        (MemoryError(), "out of memory; a smaller --batch"),
        (np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype(np.int8)), "may have more (Unable to alloc"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "may have more (CUDA out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory; a smaller"),
        (ImportError("libtorch.so: failed to map segment from shared object"), "out of memory; a smaller"),
        (RuntimeError("unable to write to file </torch_12_3>: No space left on device (28)"), "set data.workers=0"),
        (OSError(errno.EROFS, "Read-only file system", "/dev/shm/psm_1"), "set data.workers=0"),
        (UnicodeDecodeError("utf-8", b"J\xf6rg", 1, 2, "invalid"), r"b'J\xf6rg' is not text in UTF-8"),
        (UnicodeEncodeError("utf-8", "J\udcf6rg", 1, 2, "surrogates"), r"'J\udcf6rg' holds what is not text"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_a_person_can_mend_is_a_sentence(error, words):
    assert words in explain(error)


@pytest.mark.parametrize("error", [TypeError("no"), AssertionError(), ValueError("x"), KeyError("k"), OSError("odd")])
def test_everything_else_is_a_bug(error, monkeypatch, capsys):
    monkeypatch.delenv(boundary.TRACEBACK, raising=False)
    assert explain(error) is None
    assert boundary.report(error) == boundary.BUG == 70
    told = capsys.readouterr().err
    assert told.startswith(f"a bug in passerby: {type(error).__name__}: ")
    assert "PASSERBY_TRACEBACK=1" in told
    assert len(told.splitlines()) == 1


def test_a_bug_in_a_command_is_told_and_traced_on_demand(monkeypatch):
    monkeypatch.setattr("passerby.recipe.load_recipe", lambda *_: 1 / 0)
    found = run("recipe", "show", "small")
    assert found.exit_code == 70
    assert found.output.startswith("a bug in passerby: ZeroDivisionError: division by zero (")
    monkeypatch.setenv("PASSERBY_TRACEBACK", "1")
    found = run("recipe", "show", "small")
    assert found.exit_code == 70
    assert "Traceback (most recent call last)" in found.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("evaluate", "--embeddings", "x.npz", "--json", ""), "cannot write '.': a folder"),
        (("embed", "run", "x", "-o", "/"), "cannot write '/': a folder"),
        (("recipe", "draw", "small", "-o", LONG), "file name too long"),
        (("evaluate", "--embeddings", LONG), "file name too long"),
        (("recipe", "show", LONG), "file name too long"),
        (("data", "check", LONG), "file name too long"),
        (("train", "small", "--out", LONG), "file name too long"),
        (("recipe", "show", "si[/te]"), "no recipe 'si[/te]'"),
        (("recipe", "show", "a\x00b"), r"no recipe 'a\x00b'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "_".join(value)[:30],
)
def test_names_that_no_file_can_have_are_refused(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run(*words)
    assert found.exit_code == 2, found.output
    assert told in found.output.replace("\n", "")
    assert "Traceback" not in found.output
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_is_printed_is_markup(capsys):
    console = make_console()
    name = "si[/te] [red]x[/red] :smile: {a}"
    console.print(name)
    with make_progress(console) as progress:
        progress.add_task(name, total=1)
        assert name in "".join(str(cell) for cell in progress.make_tasks_table(progress.tasks).columns[0]._cells)
    assert capsys.readouterr().out.startswith(name)


def test_files_name_themselves(tmp_path):
    file = tmp_path / "x.json"
    for content in (b"\xff", b"[" * 100_000, b"{", b""):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"x\.json is not valid JSON"):
            read_json(file)
    for error in (ValueError("v"), KeyError("k"), MemoryError(), RecursionError(), OSError(5, "Input/output error")):
        with pytest.raises(UserError, match=r"x\.json"), reading(file, "fine"):
            raise error
    with pytest.raises(UserError, match="as it is"), reading(file, "fine"):
        raise UserError("as it is")


@pytest.mark.parametrize("path", ["", "/", "..", ".", "folder", LONG, "a\0b"])
def test_only_files_are_written(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    with pytest.raises(UserError, match="cannot write"), atomic_write(path):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
def test_a_full_disk_is_told():
    """Of a file; that of the output is in `test_output.py`."""
    with pytest.raises(UserError, match="cannot write /dev/full: the disk is full"):
        write_file("/dev/full", b"x")


def test_a_working_directory_that_is_gone_is_told(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    code = "import os; os.rmdir(os.getcwd()); from passerby.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 2
    assert done.stderr.endswith("Error: the working directory is no longer there; change to another one\n")


def test_a_name_that_is_not_text_is_printed_escaped():
    done = passerby("recipe", "show", os.fsdecode(b"J\xf6rg"))
    assert done.returncode == 2
    assert r"'J\udcf6rg'" in done.stderr


LOADING = """
import signal, sys
set_handler = signal.signal
set_handler(signal.SIGINT, signal.default_int_handler)  # ignored, where tests run in the background of a shell
def begin(*words):
    signal.signal = set_handler
    set_handler(*words)
    print("begun", flush=True)
signal.signal = begin
sys.argv[1:] = ["evaluate", "x"]
from passerby.__main__ import main
main()
"""
"""A program that says when its first handler is in place; before that, Python's own ends it."""


@pytest.mark.parametrize("wait", [0.0, 0.15])
def test_ctrl_c_while_it_loads_leaves_no_traceback(wait):
    started = subprocess.Popen(
        [sys.executable, "-c", LOADING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "begun\n"
    time.sleep(0.02 + wait)
    started.send_signal(signal.SIGINT)
    _, told = started.communicate(timeout=600)
    assert started.returncode == 130
    assert told.strip() in ("interrupted", "")  # between the two, typer ends the program by itself
