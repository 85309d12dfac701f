"""Several readers and writers, folders that cannot be written, and full disks."""

import os
import resource
import threading

import numpy as np
import pytest

from passerby.errors import UserError
from passerby.gallery import Where, open_gallery
from passerby.gallery import tables as sqlite_tables
from passerby.gallery.scan import search_parts
from tests.gallery.tables import MODEL, random_rows

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def place(tmp_path):
    gallery = open_gallery(tmp_path / "people", model_stamp=MODEL, create=True)
    gallery.add(random_rows(60))
    gallery.close()
    return tmp_path / "people"


def test_readers_see_whole_states_beside_a_writer(place):
    """Each search sees the rows of a whole number of operations; each answer is of a live row with its vector."""
    faults, ended = [], threading.Event()
    reader, queries = open_gallery(place), random_rows(60).vectors[:4]

    def read():
        while not ended.is_set():
            hits = reader.search(queries, top=100)
            if (hits.id >= 0).sum(axis=1).min() % 20:
                faults.append(f"{(hits.id >= 0).sum()} rows of a part of an operation")
            similarity = np.nansum(queries[:, None] * hits.rows.vectors[None], axis=2)
            best = np.take_along_axis(similarity, np.argsort(-similarity, axis=1)[:, :1], axis=1)
            if not np.allclose(hits.similarity[:, :1], best, atol=1e-5):
                faults.append("a similarity of an overwritten vector")

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        writer = open_gallery(place)
        for turn in range(6):
            ids = writer.add(random_rows(20, seed=turn + 1, first=60 + 20 * turn))
            if turn % 2:
                writer.forget(Where(ids=tuple(ids.tolist())))
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert faults == []


def test_two_writers_both_succeed(place):
    def add(seed):
        writer = open_gallery(place, model_stamp=MODEL)
        for turn in range(5):
            writer.add(random_rows(3, seed=100 * seed + turn))

    threads = [threading.Thread(target=add, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gallery = open_gallery(place)
    assert gallery.info().count == 90
    assert gallery.list().id.tolist() == list(range(90))
    assert gallery.check() == ()


def test_a_writer_that_waits_too_long_is_told(place, monkeypatch):
    monkeypatch.setattr(sqlite_tables, "WAIT", 0.05)
    first, second = open_gallery(place), open_gallery(place)
    first._connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(UserError, match=r"another process has been writing .* try again when it has ended"):
        second.add(random_rows(1))
    first._connection.execute("ROLLBACK")
    assert len(second.add(random_rows(1))) == 1


def test_a_folder_without_the_right_to_write_is_searched_only(place, monkeypatch):
    monkeypatch.setattr(sqlite_tables.os, "access", lambda path, mode: mode != sqlite_tables.os.W_OK)
    gallery = open_gallery(place, model_stamp=MODEL)
    before = sorted(path.name for path in place.rglob("*"))
    assert gallery.search(random_rows(60).vectors[5:6], top=1).id.tolist() == [[5]]
    assert gallery.check() == ()
    for change in (
        lambda: gallery.add(random_rows(1)),
        lambda: gallery.delete(Where(ids=(1,))),
        lambda: gallery.forget(Where(ids=(1,))),
        lambda: gallery.set_policy(1.0),
    ):
        with pytest.raises(UserError, match="is read-only, so nothing can be added to or removed from this gallery"):
            change()
    assert sorted(path.name for path in place.rglob("*")) == before


def test_an_unwritten_journal_of_a_folder_without_the_right_to_write_is_refused(place, monkeypatch):
    (place / "gallery.sqlite-wal").write_bytes(b"journal")
    monkeypatch.setattr(sqlite_tables.os, "access", lambda path, mode: mode != sqlite_tables.os.W_OK)
    with pytest.raises(UserError, match="its journal has not been written"):
        open_gallery(place)


def in_child(run):
    """Call a function in a forked process and return the text that it returns."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, str(run()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


@pytest.mark.parametrize(("limit", "count"), [(5_000, 4000), (150_000, 4000)], ids=["vectors", "rows"])
def test_a_full_disk_leaves_the_gallery_as_it_was(place, limit, count):
    def add():
        gallery = open_gallery(place, model_stamp=MODEL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            return gallery.add(random_rows(count, seed=9))
        except UserError as error:
            return error

    assert "the disk is full" in in_child(add)
    gallery = open_gallery(place, model_stamp=MODEL)
    assert gallery.check() == ()
    assert gallery.info().count == 60
    assert gallery.add(random_rows(2)).tolist() == [60, 61]


def test_a_gallery_goes_through_a_fork(place):
    gallery = open_gallery(place)
    before = id(gallery._connection)
    assert (
        in_child(lambda: (gallery.add(random_rows(1)).tolist(), id(gallery._connection) == before)) == "([60], False)"
    )
    assert gallery.add(random_rows(1)).tolist() == [61]
    assert gallery.check() == ()


def test_an_answer_from_before_a_compaction_is_computed_again(place):
    reader, writer = open_gallery(place), open_gallery(place)
    writer.delete(Where(ids=(3, 4)))
    selection = reader.select()
    nearest = search_parts(selection.parts, random_rows(60).vectors[:1], top=3)
    assert reader.hits(selection, nearest).id[0, 0] == 0
    writer.compact()
    assert reader.hits(selection, nearest) is None
