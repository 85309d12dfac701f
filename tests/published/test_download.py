"""Downloads against a server of this machine: whole, continued, wrong, gone."""

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from passerby.cli import app
from passerby.errors import UserError
from passerby.published.download import MODELS, RemoteFile, RemoteModel, describe_remote, fetch, remote_model

CONTENT = bytes(range(256)) * 5000
SIZE = len(CONTENT)
HASH = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        start, status, kind = 0, 200, "application/octet-stream"
        if self.path == "/gone":
            self.send_error(404)
            return
        if (wanted := self.headers.get("Range")) and self.path != "/whole":
            start, status = int(re.match(r"bytes=(\d+)-", wanted)[1]), 206
        if self.path == "/page":
            kind = "text/html; charset=utf-8"
        body = CONTENT[start:]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/cut":
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        served.asked = []
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield served
        served.shutdown()


def remote(server, place, *, sha256=HASH, size=SIZE):
    return RemoteFile("model.bin", f"http://127.0.0.1:{server.server_port}/{place}", size, sha256)


def test_a_file_is_fetched_once_with_progress(server, tmp_path):
    told = []
    path = fetch(remote(server, "file"), tmp_path / "new", progress=lambda *done: told.append(done))
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert fetch(remote(server, "file"), tmp_path / "new") == path
    assert len(server.asked) == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["model.bin"]


@pytest.mark.parametrize("place", ["file", "whole"])
def test_an_interrupted_file_is_continued_or_begun_anew_where_the_server_cannot(server, tmp_path, place):
    (tmp_path / "model.bin.part").write_bytes(CONTENT[:1000])
    assert fetch(remote(server, place), tmp_path).read_bytes() == CONTENT
    assert server.asked == [(f"/{place}", "bytes=1000-")]


def test_a_connection_that_ends_early_keeps_what_has_come(server, tmp_path):
    with pytest.raises(UserError, match="the same command goes on"):
        fetch(remote(server, "cut"), tmp_path)
    assert (tmp_path / "model.bin.part").stat().st_size == len(CONTENT) // 2
    assert not (tmp_path / "model.bin").exists()
    assert fetch(remote(server, "file"), tmp_path).read_bytes() == CONTENT


def test_another_content_than_published_is_refused_and_removed(server, tmp_path):
    with pytest.raises(UserError, match="another file than was published"):
        fetch(remote(server, "file", sha256="0" * 64), tmp_path)
    with pytest.raises(UserError, match="1,280,000 bytes long, and 5 were published"):
        fetch(remote(server, "file", size=5), tmp_path)
    assert not list(tmp_path.iterdir())


def test_pages_missing_files_and_dead_servers_are_one_sentence(server, tmp_path):
    with pytest.raises(UserError, match="the server answers 404"):
        fetch(remote(server, "gone"), tmp_path)
    with pytest.raises(UserError, match="a web page instead of a file"):
        fetch(remote(server, "page", sha256=None), tmp_path)
    port = server.server_port
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match="cannot be fetched"):
        fetch(RemoteFile("x", f"http://127.0.0.1:{port}/x"), tmp_path)
    with pytest.raises(UserError, match="no http address"):
        fetch(RemoteFile("x", "file:///etc/passwd"), tmp_path)


def test_a_file_of_the_person_is_not_overwritten(server, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"mine")
    with pytest.raises(UserError, match="is there already and is not the published file"):
        fetch(remote(server, "file"), tmp_path)
    assert (tmp_path / "model.bin").read_bytes() == b"mine"


def test_every_model_has_files_or_a_page():
    for model in MODELS.values():
        assert model.files or model.page.startswith("https://")
        assert model.licence
        for file in model.files:
            assert file.address.startswith("https://")
            assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
    with pytest.raises(UserError, match="did you mean 'omz-0287'"):
        remote_model("omz-287")


def run(*arguments):
    return CliRunner().invoke(app, ["models", "get", *map(str, arguments)])


def test_the_command_prints_licence_size_and_use_and_writes_where_the_person_says(server, tmp_path, monkeypatch):
    model = RemoteModel("a test", "MIT", (remote(server, "file"),), "passerby embed FILE IMAGES")
    monkeypatch.setitem(MODELS, "small", model)
    result = run("small", "--out", tmp_path / "models")
    assert result.exit_code == 0, result.output
    assert "licence   MIT" in result.output
    assert "1,280,000 bytes" in result.output
    assert f"use: passerby embed {tmp_path / 'models' / 'model.bin'} IMAGES" in result.output
    unknown = RemoteModel("a test", "MIT", (remote(server, "file", sha256=None),))
    monkeypatch.setitem(MODELS, "unknown", unknown)
    assert f"this file has SHA-256 {HASH}" in run("unknown", "--out", tmp_path / "other").output
    refused = run("smal", "--out", tmp_path)
    assert refused.exit_code == 2
    assert "did you mean 'small'" in refused.stderr
    listed = run().output
    assert all(name in listed and model.summary in listed and model.licence in listed for name, model in MODELS.items())
    assert "http" not in listed
    assert "0.9 MB" in listed  # 0288: both of its files
    assert max(map(len, listed.splitlines())) <= 80
    assert "storage.openvinotoolkit.org" in "\n".join(describe_remote("omz-0288", MODELS["omz-0288"]))
    assert "huggingface.co/lakeAGI/PersonViTReID" in run("personvit").output
