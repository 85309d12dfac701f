import sqlite3
import time
from dataclasses import replace

import numpy as np
import pytest

from passerby.errors import UserError
from passerby.gallery import GalleryRows, Where, folder, open_gallery, scan, shards, tidying
from tests.gallery.tables import CONDITIONS, MODEL, assert_same, chosen, random_rows, slow_search


@pytest.fixture
def place(tmp_path):
    return tmp_path / "people"


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of 32 rows, so that a hundred rows fill some."""
    for module in (shards, folder, tidying):
        monkeypatch.setattr(module, "ROWS_PER_SHARD", 32)
    monkeypatch.setattr(scan, "BLOCK_ROWS", 10)


def filled(place, count=100):
    gallery = open_gallery(place, model_stamp=MODEL, create=True)
    rows = random_rows(count)
    return gallery, replace(rows, id=gallery.add(rows))


@pytest.mark.parametrize("where", CONDITIONS, ids=lambda where: "+".join(where.kinds) or "all")
def test_search_and_list_equal_the_obvious_way(place, small_shards, where):
    gallery, rows = filled(place)
    queries = np.random.default_rng(1).standard_normal((5, 16)).astype(np.float32)
    expected = rows.select(chosen(rows, where))
    hits = gallery.search(queries, top=7, where=where)
    ids, similarity = slow_search(expected, queries, top=7)
    count = ids.shape[1]
    np.testing.assert_array_equal(hits.id[:, :count], ids)
    np.testing.assert_allclose(hits.similarity[:, :count], similarity, atol=2e-6)
    assert (hits.id[:, count:] == -1).all()
    assert np.isnan(hits.similarity[:, count:]).all()
    assert_same(gallery.list(where), expected)


def test_a_reopened_gallery_holds_what_was_added(place, small_shards):
    first, rows = filled(place)
    first.close()
    second = open_gallery(place)
    assert_same(second.list(), rows)
    assert second.info().count == 100
    assert second.check() == ()


def test_rows_added_one_by_one_fill_few_files(place):
    gallery = open_gallery(place, model_stamp=MODEL, create=True)
    rows = random_rows(40)
    ids = [int(gallery.add(rows.select(np.array([row])))[0]) for row in range(40)]
    assert ids == list(range(40))
    assert_same(gallery.list(), replace(rows, id=np.arange(40)))
    assert gallery.info().files <= 4


@pytest.mark.parametrize("remove", ["delete", "forget"])
def test_removed_rows_are_gone_and_the_others_stay(place, small_shards, remove):
    gallery, rows = filled(place)
    where = Where(identities=("person-1", "person-4"))
    gone = chosen(rows, where)
    assert getattr(gallery, remove)(where) == gone.sum()
    left = rows.select(~gone)
    assert_same(gallery.list(), left)
    hits = gallery.search(rows.vectors[:20], top=90)
    ids, _ = slow_search(left, rows.vectors[:20], top=90)
    np.testing.assert_array_equal(np.sort(hits.id[hits.id >= 0].reshape(20, -1)), np.sort(ids))
    assert gallery.check() == ()


def bytes_of(place):
    return b"".join(path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file())


@pytest.mark.parametrize("where", [Where(identities=("person-2",)), Where(before=1.7e9 + 50)], ids=["identity", "time"])
def test_no_byte_of_forgotten_rows_stays_in_any_file(place, small_shards, where):
    gallery, rows = filled(place)
    rows = replace(rows, thumbnails=tuple(f"JPEG of {path}".encode() for path in rows.path))
    rows = replace(rows, id=gallery.add(rows))
    gone = chosen(rows, where)
    traces = [
        trace
        for row in np.flatnonzero(gone)
        for trace in (rows.vectors[row].astype(np.float16).tobytes(), str(rows.path[row]).encode())
    ]
    before = bytes_of(place)
    assert all(trace in before for trace in traces)
    gallery.forget(where)
    after = bytes_of(place)
    assert not any(trace in after for trace in traces)
    if where.identities:
        assert b"person-2" not in after
    (line,) = gallery.info().audit
    assert (line.count, line.kinds) == (2 * gone.sum(), ", ".join(where.kinds))


def test_a_gallery_without_rows_answers_nothing(place):
    gallery = open_gallery(place, model_stamp=MODEL, create=True)
    hits = gallery.search(np.ones((2, 3), np.float32), top=4)
    assert (hits.id == -1).all()
    assert len(gallery.list()) == 0
    assert gallery.check() == ()
    assert gallery.info().dimensions == 0


def test_other_models_and_lengths_are_refused(place):
    gallery, _ = filled(place)
    with pytest.raises(UserError, match=r"holds vectors of the model 'small .* do not compare"):
        open_gallery(place, model_stamp="other 1")
    with pytest.raises(UserError, match="vectors of 16 numbers, and these have 8"):
        gallery.add(random_rows(2, dimensions=8))
    with pytest.raises(UserError, match="vectors of 16 numbers, and these have 8"):
        gallery.search(np.ones((1, 8), np.float32), top=1)
    assert gallery.info().count == 100


def test_rows_that_are_wrong_are_refused():
    vectors = np.eye(2, dtype=np.float32)
    with pytest.raises(UserError, match="not of length 1"):
        GalleryRows(2 * vectors)
    with pytest.raises(UserError, match="no JSON object"):
        GalleryRows(vectors, attributes=np.array(["{}", "[1]"]))
    with pytest.raises(UserError, match="column 'camera' has shape"):
        GalleryRows(vectors, camera=np.array(["a"]))


def test_a_newer_format_and_other_files_are_refused(place, tmp_path):
    filled(place)[0].close()
    with sqlite3.connect(place / "gallery.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(UserError, match="format 99, and this version of passerby reads formats up to 1"):
        open_gallery(place)
    with pytest.raises(UserError, match="no gallery in"):
        open_gallery(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "gallery.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(UserError, match="is not the file of a gallery"):
        open_gallery(tmp_path / "other")


def test_check_finds_a_changed_vector_and_a_short_file(place):
    gallery, _ = filled(place)
    (shard,) = (place / "vectors").iterdir()
    content = bytearray(shard.read_bytes())
    content[40 * 32 + 3] ^= 1
    shard.write_bytes(content)
    (fault,) = gallery.check()
    assert "the vectors of 1 rows have changed, the first that of row 40" in fault
    shard.write_bytes(content[:-32])
    (fault,) = gallery.check()
    assert "is too short for its 100 vectors" in fault


def test_runs_of_slots():
    assert shards.runs(np.array([], np.int64)) == []
    assert shards.runs(np.array([0, 1, 5])) == [(0, 2), (5, 6)]


def test_rows_without_a_time_are_as_old_as_their_addition(place):
    gallery, rows = filled(place)
    timed = ~np.isnan(rows.time)
    assert gallery.delete(Where(before=1.71e9)) == timed.sum()
    assert gallery.delete(Where(before=time.time() + 60)) == (~timed).sum()
