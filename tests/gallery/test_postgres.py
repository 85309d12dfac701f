import itertools
import threading
from dataclasses import replace

import numpy as np
import pytest

from passerby.errors import UserError
from passerby.gallery import Where, open_gallery
from passerby.gallery.postgres import searching, stored_rows
from tests.gallery.tables import CONDITIONS, MODEL, assert_same, chosen, random_rows, slow_search

numbers = itertools.count()


@pytest.fixture
def place(server):
    return server.place(f"gallery_{next(numbers)}")


def filled(place, count=100, *, dimensions=16):
    gallery = open_gallery(place, model_stamp=MODEL, create=True)
    rows = random_rows(count, dimensions=dimensions)
    return gallery, replace(rows, id=gallery.add(rows))


@pytest.fixture(scope="module")
def pair(server, tmp_path_factory):
    """One gallery in a folder and one in the database, with the same rows, some of them equal vectors."""
    rows = random_rows(400)
    vectors = rows.vectors.copy()
    vectors[200:300] = vectors[100:200]
    vectors[10:30] = vectors[10]
    rows = replace(rows, vectors=vectors)
    folder = open_gallery(tmp_path_factory.mktemp("pair") / "people", model_stamp=MODEL, create=True)
    database = open_gallery(server.place("pair"), model_stamp=MODEL, create=True)
    np.testing.assert_array_equal(folder.add(rows), database.add(rows))
    for row in range(29, 9, -1):  # a line that is written again is behind all others in the table
        same = rows.select(np.array([row]))
        assert database.identify(same.camera, same.tracklet, same.identity) == 1
    return folder, database


@pytest.mark.parametrize("count", [3, 20], ids=["by the server", "by the client"])
@pytest.mark.parametrize("where", CONDITIONS, ids=lambda where: "+".join(where.kinds) or "all")
def test_search_and_list_equal_the_folder(pair, monkeypatch, where, count):
    folder, database = pair
    monkeypatch.setattr(stored_rows, "BLOCK_ROWS", 30)
    monkeypatch.setattr(searching, "QUERIES", 7)
    queries = np.random.default_rng(1).standard_normal((count, 16)).astype(np.float32)
    queries[1] = folder.list(Where(ids=(10,))).vectors[0]
    expected, hits = folder.search(queries, top=9, where=where), database.search(queries, top=9, where=where)
    np.testing.assert_array_equal(hits.id, expected.id)
    np.testing.assert_allclose(hits.similarity, expected.similarity, atol=1e-6)
    assert_same(hits.rows, expected.rows)
    assert_same(database.list(where), folder.list(where))


def test_rows_that_float16_queries_would_confuse_are_found_exactly(place):
    generator = np.random.default_rng(0)
    centre = generator.standard_normal((1, 64))
    centre /= np.linalg.norm(centre)
    vectors = centre + 0.05 * generator.standard_normal((3000, 64)) / 8
    queries = (centre + 0.5 * generator.standard_normal((7, 64)) / 8).astype(np.float32)
    rows = replace(
        random_rows(3000, dimensions=64),
        vectors=(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
    )
    gallery = open_gallery(place, model_stamp=MODEL, create=True)
    rows = replace(rows, id=gallery.add(rows))
    ids, similarity = slow_search(rows, queries, top=200)
    hits = gallery.search(queries, top=200)
    np.testing.assert_allclose(hits.similarity, similarity, atol=1e-7)
    np.testing.assert_array_equal(np.sort(hits.id), np.sort(ids))


def test_the_index_finds_as_many_rows_as_the_exact_search_under_any_condition(place):
    gallery, rows = filled(place, 2000)
    with pytest.raises(UserError, match="has no index for approximate search; `passerby gallery index` makes it"):
        gallery.search_approximately(rows.vectors[:1], top=5)
    gallery.build_index(megabytes=32)
    assert gallery.info().store == "PostgreSQL, with an index"
    queries = np.random.default_rng(1).standard_normal((5, 16)).astype(np.float32)
    rare = Where(cameras=("yard",), attributes=(("height", "3"),), since=1.7e9, until=1.7e9 + 400)
    for where in (Where(), rare):
        expected = gallery.search(queries, top=10, where=where)
        hits = gallery.search_approximately(queries, top=10, where=where, breadth=40)
        assert (np.isin(hits.id, expected.id) & (hits.id >= 0)).mean() > 0.9
        exact = np.take_along_axis(queries @ rows.vectors.astype(np.float16).astype(np.float32).T, hits.id, axis=1)
        np.testing.assert_allclose(hits.similarity, exact / np.linalg.norm(queries, axis=1, keepdims=True), atol=1e-6)
        assert (np.diff(hits.similarity, axis=1) <= 0).all()


def test_the_index_goes_on_until_enough_rows_fulfil_a_condition(place, monkeypatch):
    gallery, rows = filled(place, 2000)
    gallery.build_index()
    rare = Where(attributes=(("height", "3"), ("bag", "true")), until=1.7e9 + 1000)
    expected = gallery.search(rows.vectors[:5], top=30, where=rare)
    monkeypatch.setattr(searching, "_nearest_by_server", None)  # what would take over where the index ends
    with gallery.session.using() as connection:
        for setting in ("enable_seqscan", "enable_bitmapscan", "enable_sort"):
            connection.execute(f"SET {setting} = off")
        hits = gallery.search_approximately(rows.vectors[:5], top=30, where=rare, breadth=40)
    assert np.isin(hits.id, expected.id).mean() > 0.9


def test_a_query_whose_index_search_ends_early_is_searched_exactly(place):
    gallery, rows = filled(place, 1000)
    gallery.build_index()
    rare = Where(attributes=(("height", "3"), ("bag", "true")))
    expected = gallery.search(rows.vectors[:3], top=240, where=rare)
    with gallery.session.using() as connection:
        for setting in ("enable_seqscan", "enable_bitmapscan", "enable_sort"):
            connection.execute(f"SET {setting} = off")
        connection.execute("SET hnsw.max_scan_tuples = 50")
        hits = gallery.search_approximately(rows.vectors[:3], top=240, where=rare, breadth=40)
    np.testing.assert_array_equal(hits.id, expected.id)


def test_the_exact_search_never_uses_the_index(place):
    gallery, rows = filled(place, 500)
    before = gallery.search(rows.vectors[:3], top=30)
    gallery.build_index()
    with gallery.session.using() as connection:
        connection.execute("SET enable_seqscan = off")
        connection.execute("SET hnsw.ef_search = 1")
        after = gallery.search(rows.vectors[:3], top=30)
    np.testing.assert_array_equal(after.id, before.id)


def test_a_reopened_gallery_holds_what_was_added_with_thumbnails(place):
    first = open_gallery(place, model_stamp=MODEL, create=True)
    rows = random_rows(5)
    rows = replace(rows, thumbnails=(b"\xff\xd8one", b"", b"", b"\0", b""))
    rows = replace(rows, id=first.add(rows))
    first.close()
    second = open_gallery(place)
    listed = second.list()
    assert_same(listed, rows)
    assert listed.thumbnails == rows.thumbnails
    assert_same(second.list(limit=2, after=1), rows.select(slice(2, 4)))
    assert second.check() == ()
    info = second.info()
    assert (info.count, info.dimensions, info.model, info.identities, info.last) == (5, 16, MODEL, 4, 1.7e9 + 4)
    assert info.cameras == {"entrance": 2, "stairs": 1, "yard": 2}


@pytest.mark.parametrize("remove", ["delete", "forget"])
def test_removed_rows_are_gone_and_the_others_stay(place, remove):
    gallery, rows = filled(place)
    gallery.build_index()
    where = Where(identities=("person-1", "person-4"))
    gone = chosen(rows, where)
    assert getattr(gallery, remove)(where) == gone.sum()
    left = rows.select(~gone)
    assert_same(gallery.list(), left)
    ids, _ = slow_search(left, rows.vectors[:3], top=20)
    np.testing.assert_array_equal(gallery.search(rows.vectors[:3], top=20).id, ids)
    np.testing.assert_array_equal(gallery.search_approximately(rows.vectors[:3], top=20).id, ids)
    with pytest.raises(UserError, match="no condition"):
        getattr(gallery, remove)(Where())


def test_no_byte_of_forgotten_rows_stays_in_any_file_of_the_server(server, place):
    gallery = open_gallery(place, model_stamp=MODEL, create=True)
    names = np.array([f"who-{row % 30}" for row in range(300)])
    paths = np.array([f"{name}/{row}.jpg" for row, name in enumerate(names)])
    jpegs = tuple(f"JPEG of {path}".encode() for path in paths)
    times = 1.7e9 + np.random.default_rng(0).uniform(0, 1e6, 300)
    rows = replace(random_rows(300, dimensions=64), identity=names, path=paths, thumbnails=jpegs, time=times)
    rows = replace(rows, id=gallery.add(rows))
    gallery.build_index()
    server.execute("ANALYZE")
    where = Where(identities=("who-23",))
    gone = np.flatnonzero(chosen(rows, where))
    traces = [b"who-23", *(rows.vectors[row].astype(np.float16).tobytes() for row in gone)]
    traces += [time.tobytes() for time in times[gone]]
    present = server.files_with(traces)
    assert len(present) >= 4, present  # the table, its index, the thumbnails and the log
    assert gallery.forget(where) == len(gone)
    assert gallery.remains == ""
    assert server.files_with(traces) == []
    (line,) = gallery.info().audit
    assert (line.count, line.kinds) == (len(gone), "identities")


def test_the_server_has_no_statistics_of_single_values(server, place):
    gallery, _ = filled(place)
    gallery.set_policy(1e9)
    server.execute("ANALYZE")
    statement = "SELECT tablename, attname FROM pg_stats WHERE tablename LIKE %s ORDER BY 1, 2"
    with gallery.session.using() as connection:
        lines = connection.execute(statement, (f"{gallery.tables.name}%",)).fetchall()
    name = gallery.tables.name
    assert lines == [(name, "camera"), (f"{name}_meta", "key"), (f"{name}_meta", "value")]


def test_what_is_too_old_is_forgotten_with_the_next_addition(place):
    gallery, _ = filled(place)
    gallery.set_policy(3600.0)
    assert gallery.info().forget_after == 3600.0
    now = replace(random_rows(1), time=np.array([np.nan]))
    gallery.add(now)
    assert gallery.list().id.tolist() == [7 + 8 * number for number in range(12)] + [100]  # those without a time
    assert [line.kinds for line in gallery.info().audit] == ["before"]


def test_an_addition_writes_the_tables_anew_once_a_day(place):
    def file():
        with gallery.session.using() as connection:
            return connection.execute("SELECT pg_relation_filenode(%s::regclass)", (gallery.tables.name,)).fetchone()

    gallery, _ = filled(place, 10)
    gallery.set_policy(3600.0)
    files = [file()]
    old = replace(random_rows(2), time=np.array([0.0, 1.0]))
    for _ in range(2):
        gallery.add(old)
        files.append(file())
        assert len(gallery.list()) == 1  # removed in any case; one of the first ten has no time
    assert gallery.apply_policy() == 0
    files.append(file())
    assert gallery.apply_policy() == 0
    files.append(file())
    assert [before == after for before, after in itertools.pairwise(files)] == [False, True, False, True]
    assert [line.count for line in gallery.info().audit] == [11, 2, 0]


def test_identities_of_tracklets(place):
    gallery, rows = filled(place)
    names = (np.array(["entrance", "yard"]), np.array(["clip/0", "clip/20"]), np.array(["anna", "bert"]))
    expected = rows.identity.astype("<U20")
    for camera, tracklet, identity in zip(*names, strict=True):
        expected[(rows.camera == camera) & (rows.tracklet == tracklet)] = identity
    assert gallery.identify(*names) == (expected != rows.identity).sum() > 0
    np.testing.assert_array_equal(gallery.list().identity, expected)


def test_long_vectors_lie_beside_the_table_and_are_found(place):
    gallery, rows = filled(place, 20, dimensions=5000)
    ids, _ = slow_search(rows, rows.vectors[:2], top=5)
    np.testing.assert_array_equal(gallery.search(rows.vectors[:2], top=5).id, ids)
    with pytest.raises(UserError, match="4000 dimensions"):
        gallery.build_index()


def test_two_writers_at_once_both_succeed(server, place):
    open_gallery(place, model_stamp=MODEL, create=True).close()
    ids = {}

    def write(number):
        gallery = open_gallery(place, model_stamp=MODEL)
        ids[number] = np.concatenate([gallery.add(random_rows(50, seed=number)) for _ in range(5)])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(np.sort(np.concatenate([ids[0], ids[1]])), np.arange(500))
    rows = open_gallery(place).list()
    for number in range(2):
        expected = np.tile(random_rows(50, seed=number).vectors, (5, 1)).astype(np.float16)
        np.testing.assert_array_equal(rows.vectors[ids[number]], expected.astype(np.float32))
