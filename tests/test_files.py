"""Files are wholly written or not there."""

import json
import math
import os
import subprocess
import sys
import textwrap

import pytest

from passerby.errors import UserError
from passerby.files import atomic_write, read_json, write_json


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_half(path, error):
    with atomic_write(path) as file:
        file.write(b"half")
        raise error


def test_a_file_appears_whole_and_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "folder" / "file.bin"
    with atomic_write(path) as file:
        file.write(b"abc")
        assert not path.exists()
    assert path.read_bytes() == b"abc"
    assert names(path.parent) == ["file.bin"]


def test_who_reads_the_earlier_file_keeps_it(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"before")
    with path.open("rb") as earlier:
        with atomic_write(path) as file:
            file.write(b"after")
        assert earlier.read() == b"before"
    assert path.read_bytes() == b"after"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_error_in_the_middle_leaves_the_earlier_file(tmp_path, error):
    path = tmp_path / "file.bin"
    path.write_bytes(b"before")
    with pytest.raises(UserError if error is OSError else error):
        write_half(path, error("broken"))
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["file.bin"]


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*: "), atomic_write(tmp_path / "file" / "inner") as file:
        file.write(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*folder.: a folder"), atomic_write(tmp_path / "folder"):
        pass


FULL_DISK = textwrap.dedent("""
    import resource, signal, sys
    from pathlib import Path
    from passerby.errors import UserError
    {imports}
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    path = Path(sys.argv[1])
    try:
        {write}
    except UserError as error:
        print(error)
    else:
        print("no error")
""")


def on_a_full_disk(path, *, imports, write):
    code = FULL_DISK.format(imports=imports, write=write)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_full_disk_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, [1])
    said = on_a_full_disk(
        path, imports="from passerby.files import write_json", write="write_json(path, list(range(10000)))"
    )
    assert said == f"cannot write {path}: the disk is full (the earlier file of that name is untouched)"
    assert read_json(path) == [1]
    assert names(tmp_path) == ["file.json"]


def test_json_refuses_what_json_cannot_hold(tmp_path):
    write_json(tmp_path / "a.json", {"ä": 1})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ä": 1}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", math.nan)
    assert read_json(tmp_path / "a.json") == {"ä": 1}


def test_json_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"a\.json is not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match="no file"):
        read_json(tmp_path / "b.json")
    with pytest.raises(UserError, match="cannot read"):
        read_json(tmp_path)


PART = "from passerby.files import atomic_write\nimport os, sys\nwith atomic_write(sys.argv[1]): os._exit(1)"


def test_what_a_killed_writer_leaves_is_swept_away_by_the_next(tmp_path):
    subprocess.run([sys.executable, "-c", PART, tmp_path / "x.bin"], check=False, timeout=600)
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".part")
    alive = left.with_name(f"{left.name.split('-')[0].replace('x.bin', 'y.bin')}-{os.getpid()}.part")
    elsewhere = left.with_name(".x.bin.00000000-1.part")
    for other in (alive, elsewhere):
        other.write_bytes(b"")
    with atomic_write(tmp_path / "x.bin") as file:
        file.write(b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "x.bin", alive, elsewhere])
    assert (tmp_path / "x.bin").read_bytes() == b"whole"
