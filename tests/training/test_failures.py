"""When one of several processes fails, all end at once, and one of them says why."""

import contextlib
import io
import json
import os
import shutil
import signal
import time

import pytest
from ignite.engine import Events

from passerby.cli.boundary import report
from passerby.recipe import load_recipe
from passerby.training.session import train
from tests.training.two_processes import start_two

SOON = 120
"""Seconds: long for a busy machine, and short beside the half hour that a process would wait for the other."""


def fail(rank, recipe, out, case, damaged):
    """Train, and write down the exit code, what was printed, and how long after the failure that was."""
    overrides = ["data.cache=none", "evaluate=[]"] + ([f"root={damaged}"] if case == "damaged image" and rank else [])

    def attach(_trainer, engine):
        @engine.on(Events.ITERATION_STARTED(once=2))
        def _break():
            (out / "broken").touch()
            if case == "bug" and rank:
                raise KeyError("nobody thought of this")
            if case == "killed" and rank:
                os.kill(os.getpid(), signal.SIGKILL)

    code, printed = 0, io.StringIO()
    try:
        train(load_recipe(str(recipe), overrides), out / "run", watch=[attach])
    except Exception as error:  # the command line does the same
        with contextlib.redirect_stderr(printed):
            code = report(error)
    found = {"code": code, "printed": printed.getvalue(), "time": time.time()}
    (out / f"rank{rank}.json").write_text(json.dumps(found))
    raise SystemExit(code)


@pytest.fixture
def run_in_two(tiny_file, site, tmp_path):
    """Let a case happen; return the exit codes and what each process that could has written."""

    def run(case):
        copy = tmp_path / "copy"
        shutil.copytree(site, copy / site.name)
        image = sorted((copy / site.name / "bounding_box_train").glob("*.jpg"))[13]
        image.write_bytes(image.read_bytes()[:400])
        codes = start_two(fail, tiny_file, tmp_path, case, copy)
        return codes, [json.loads(file.read_text()) for file in sorted(tmp_path.glob("rank*.json"))]

    return run


@pytest.mark.parametrize(
    ("case", "code", "words"),
    [("damaged image", 2, "is not a readable image"), ("bug", 70, "a bug in passerby: KeyError")],
)
def test_an_error_in_one_process_ends_all_and_is_printed_once(run_in_two, case, code, words):
    codes, (first, second) = run_in_two(case)
    assert codes == [2, code]
    assert words in second["printed"]
    assert first["printed"] == ""
    assert abs(first["time"] - second["time"]) < SOON


def test_a_process_that_is_killed_ends_the_other_with_a_sentence(run_in_two, tmp_path):
    codes, (first,) = run_in_two("killed")
    assert codes == [2, -signal.SIGKILL]
    assert "another process of the run has ended without an error" in first["printed"]
    assert f"is kept in {tmp_path / 'run'}" in first["printed"]
    assert first["time"] - (tmp_path / "broken").stat().st_mtime < SOON
