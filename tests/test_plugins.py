"""Losses, data sets and networks from a person's own files and from installed plugins, without a change of passerby."""

import hashlib
import json
import os
import re
import sys
import time
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import passerby
from passerby import plugins
from passerby.errors import UserError
from passerby.plugins import PluginWarning, import_file, load_plugins, require_used
from tests.training.alone import CONTEXT
from tests.training.runs import weights

PACKAGE = Path(passerby.__file__).parent
PAGES = PACKAGE.parent / "docs" / "extend"
OWN = ("loss", "dataset", "backbone", "method", "sampler")


ONE_CAMERA = "data: {sampler: {kind: one_camera, size: 8}}, losses: {triplet: null}"


@pytest.fixture
def nothing_yet(monkeypatch):
    """No file was imported and no plugin looked at."""
    monkeypatch.setattr(plugins, "_imported", {})
    monkeypatch.setattr(plugins, "_plugins", {})


def own_files(folder: Path) -> list[Path]:
    """Write the examples of the pages as files of a person, each with the lines that register it."""
    files = []
    for page in OWN:
        module, register, *_ = re.findall(r"^```python\n(.*?)^```", (PAGES / f"{page}.md").read_text(), re.M | re.S)
        files.append(folder / f"my_{page}.py")
        files[-1].write_text(f"{module}\n\n{register}")
    return files


def _passerby(words, log, waiting):
    if waiting:
        _wait_in_second_epoch_of_second_stage()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["passerby", *words]
    from passerby.__main__ import main

    main()


def _wait_in_second_epoch_of_second_stage():
    from passerby.training.trainer import Trainer

    stream = Trainer._stream

    def stream_or_wait(run, *args):
        if (run.state.counters.stage, run.state.counters.epoch) == (1, 1):
            time.sleep(600)
        return stream(run, *args)

    Trainer._stream = stream_or_wait


def start(log, *words, waiting=False):
    process = CONTEXT.Process(target=_passerby, args=([str(word) for word in words], log, waiting), daemon=True)
    process.start()
    return process


def run(log, *words) -> tuple[int, str]:
    """Run a command in a process of its own, and return its exit code and what it printed."""
    process = start(log, *words)
    process.join()
    return process.exitcode, log.read_text()


def kill_in_second_stage(process, folder: Path, *, epochs: int) -> None:
    def count() -> int:
        return sum(file.read_text().count('"event": "epoch"') for file in folder.glob("*.jsonl"))

    while process.is_alive() and count() <= epochs:
        time.sleep(0.005)
    assert process.is_alive(), "it came to its end before it was killed"
    process.kill()
    process.join()


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_own_files_serve_a_run(site, tiny_file, tmp_path):
    before, files, log = contents(PACKAGE), own_files(tmp_path), tmp_path / "log"
    imports = [word for file in files for word in ("--import", file)]
    words = (
        f"datasets={{mine: {{kind: square, root: {site}}}}}", "losses={softmax: {}, triplet: {}, length: {}}",
        f"stages=[{{train: [mine], epochs: 1, {ONE_CAMERA}}}]", "method.steady={decay: 0.8}", "evaluate=[]",
        "model={backbone: strided_small, last_stride: 2}",
    )  # fmt: skip
    code, told = run(log, "train", tiny_file, *words, "--out", tmp_path / "run", *imports)
    assert code == 0, told
    assert "my_loss.py(SHA-256" in "".join(told.split())  # the console breaks lines
    described = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert described["imports"] == {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert all(f'"{name}"' in (tmp_path / "run" / "log.jsonl").read_text() for name in ("length", "steady"))
    assert contents(PACKAGE) == before


@pytest.mark.slow
def test_own_files_serve_a_run_of_two_stages_that_is_killed_and_resumed(site, tiny_file, tmp_path):
    before = contents(PACKAGE)
    files, log, epochs = own_files(tmp_path), tmp_path / "log", 2
    imports = [word for file in files for word in ("--import", file)]
    words = (
        f"datasets={{mine: {{kind: square, root: {site}}}}}",
        "losses={softmax: {}, triplet: {}, length: {}}",
        f"stages=[{{train: [mine], epochs: {epochs}}}, {{train: [mine], name: again, epochs: {epochs}, {ONE_CAMERA}}}]",
        "method.steady={decay: 0.8}",
        *("evaluate=[mine]", "engine.threads=1", "model={backbone: strided_small, last_stride: 2}"),
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, told = run(log, "train", tiny_file, *words, "--out", whole, *imports)
    assert code == 0, told
    assert "my_loss.py(SHA-256" in "".join(told.split())  # the console breaks lines
    process = start(log, "train", tiny_file, *words, "--out", killed, *imports, waiting=True)
    kill_in_second_stage(process, killed, epochs=epochs)

    code, told = run(log, "train", "--resume", "--out", killed)
    assert code == 2
    names, options = " and ".join(file.name for file in files), " ".join(map(str, imports))
    assert told.strip() == f"Error: {killed} used what {names} defines; give {options}"
    code, told = run(log, "train", "--resume", "--out", killed, *imports)
    assert code == 0, told
    assert weights(killed) == weights(whole)
    described = json.loads((killed / "environment.json").read_text())
    assert described["imports"] == {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert all(f'"{name}"' in next(killed.glob("*.jsonl")).read_text() for name in ("length", "steady"))

    code, told = run(log, *imports, "evaluate", killed)
    assert code == 0, told
    assert contents(PACKAGE) == before


def test_a_file_is_run_once(nothing_yet, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import pathlib\npath = pathlib.Path(__file__).with_name('count')\n"
                    "path.write_text((path.read_text() if path.exists() else '') + 'x')\n")  # fmt: skip
    first = import_file(file)
    assert import_file(file) is first
    assert (tmp_path / "count").read_text() == "x"
    assert first.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "mine.py: no such file or directory"),
        ("x = 1\nx.y\n", "mine.py, line 2: AttributeError: 'int' object has no attribute 'y'"),
        ("x = (\n", "mine.py, line 1: SyntaxError: '(' was never closed"),
        (
            "from passerby.losses.table import LOSSES\nLOSSES.register('softmax', LOSSES['triplet'])\n",
            "mine.py, line 2: the loss 'softmax' exists already (passerby.losses.softmax.SoftmaxSettings); choose "
            "another name",
        ),
    ],
)
def test_a_file_that_cannot_be_run_is_one_sentence(nothing_yet, tmp_path, text, sentence):
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError) as caught:
        import_file(file)
    assert str(caught.value) == f"--import {tmp_path}/{sentence}"
    assert plugins.used()["imports"] == {}


def test_another_file_of_that_name_is_told_on_resume(nothing_yet, tmp_path):
    (tmp_path / "environment.json").write_text(json.dumps({"imports": {"/gone/mine.py": "0" * 64}}))
    with pytest.raises(UserError, match=r"used what mine\.py defines; give --import /gone/mine\.py$"):
        require_used(tmp_path)
    (tmp_path / "mine.py").write_text("")
    import_file(tmp_path / "mine.py")
    assert require_used(tmp_path) == ["mine.py is not the file that the run was begun with (its SHA-256 differs)"]


@pytest.mark.parametrize("text", ["", "[]", '{"imports": 5, "plugins": [1]}', '{"command": "x"}'])
def test_a_folder_that_tells_nothing_asks_for_nothing(nothing_yet, tmp_path, text):
    assert require_used(tmp_path) == []
    (tmp_path / "environment.json").write_text(text)
    assert require_used(tmp_path) == []


def test_a_broken_plugin_is_one_sentence_and_the_others_are_loaded(nothing_yet, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_plugin.py").write_text("import no_such_module\n")
    (tmp_path / "sound_plugin.py").write_text("")
    points = [EntryPoint(name, f"{name}_plugin", plugins.GROUP) for name in ("sound", "broken")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    sentence = (
        r"^the plugin 'broken' \(broken_plugin\) cannot be loaded, so what it adds is missing: ModuleNotFoundError: "
        "No module named 'no_such_module'$"
    )
    with pytest.warns(PluginWarning, match=sentence):
        load_plugins()
    load_plugins()  # once only
    assert plugins.used()["plugins"] == {"sound": "sound_plugin"}
    assert plugins.describe_used() == ["plugin sound: sound_plugin"]


def test_a_missing_plugin_of_a_run_is_told(nothing_yet, tmp_path):
    (tmp_path / "environment.json").write_text(json.dumps({"plugins": {"theirs": "their-package 1.0"}}))
    assert require_used(tmp_path) == [
        "the run was begun with their-package 1.0 (plugin theirs), and now there is none"
    ]  # fmt: skip
