"""`passerby visualise`: each command writes its picture, and every mistake is one sentence and exit code 2."""

import pytest
from typer.testing import CliRunner

from passerby.cli import app
from tests.report.conftest import Written, write_run


def invoke(*words):
    return CliRunner().invoke(app, ["visualise", *map(str, words)])


def refused(*words):
    found = invoke(*words)
    assert found.exit_code == 2, found.output
    assert found.output.count("Error: ") == 1
    assert "Traceback" not in found.output
    return " ".join(found.output.split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_run(tmp_path_factory.mktemp("visualise"))


RANKS = ("ranks", "--count", "1", "--k", "3", "--rerank", "--own-camera")


@pytest.mark.parametrize("command", [RANKS, ("features",), ("features", "--colour", "camera"), ("distances",)])
@pytest.mark.parametrize("source", ["run", "file"])
def test_a_picture_of_a_run_or_of_any_vectors(run, tmp_path, command, source):
    given = [run.folder] if source == "run" else ["--embeddings", run.folder / "embeddings" / "plaza.npz"]
    found = invoke(command[0], *given, *command[1:], "-o", tmp_path / "picture.svg")
    assert found.exit_code == 0, found.output
    assert found.output.splitlines()[0] == str(tmp_path / "picture.svg")
    assert "<svg" in (tmp_path / "picture.svg").read_text()


@pytest.mark.parametrize("command", ["ranks", "features", "distances"])
def test_mistakes_are_told(run, tmp_path, command):
    file = run.folder / "embeddings" / "plaza.npz"
    assert "written as .png, .svg, .pdf" in refused(command, run.folder, "-o", tmp_path / "picture.gif")
    assert "was tested on plaza" in refused(command, run.folder, "--on", "plazza", "-o", tmp_path / "picture.png")
    assert "give either" in refused(command, "-o", tmp_path / "picture.png")
    assert "give either" in refused(command, run.folder, "--embeddings", file, "-o", tmp_path / "picture.png")
    assert "holds one only" in refused(command, "--embeddings", file, "--on", "plaza", "-o", tmp_path / "picture.png")
    assert "no embeddings file" in refused(command, "--embeddings", "none.npz", "-o", tmp_path / "picture.png")
    assert "is not a folder" in refused(command, tmp_path / "none", "-o", tmp_path / "picture.png")
    assert list(tmp_path.iterdir()) == []
