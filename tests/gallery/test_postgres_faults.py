import builtins
import itertools
import os
import signal
import threading
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest

from passerby.errors import UserError
from passerby.gallery import Where, open_gallery
from tests.gallery.database import PASSWORD
from tests.gallery.tables import MODEL, random_rows

pytestmark = pytest.mark.slow
numbers = itertools.count()


@pytest.fixture
def place(server):
    return server.place(f"faults_{next(numbers)}")


def refusal(place, **options):
    """The sentence with which a gallery is not opened."""
    with pytest.raises(UserError) as error:
        open_gallery(place, **options)
    text = str(error.value)
    assert PASSWORD not in text
    assert "\n" not in text
    return text


def test_servers_and_users_that_refuse(server):
    assert "postgres@127.0.0.1:1/postgres (" in refusal(server.place().replace(str(server.port), "1"))
    wrong = refusal(server.place(password="wr0ng"))
    assert "password authentication failed" in wrong
    assert "see the user and the password" in wrong
    assert "wr0ng" not in wrong
    assert 'database "nowhere" does not exist' in refusal(server.place(database="nowhere"))
    assert "invalid connection option" in refusal(server.place() + "&bad_option=1")
    assert "no gallery at postgresql://postgres@127.0.0.1" in refusal(server.place("nothing_here"))


def test_without_psycopg_the_extra_is_named(monkeypatch):
    load = builtins.__import__

    def refuse(name, *arguments):
        if name == "psycopg":
            raise ImportError("no psycopg")
        return load(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert "needs psycopg (no psycopg): pip install 'passerby[postgres]'" in refusal("postgresql://localhost/people")


def test_a_database_without_pgvector(server):
    server.execute("CREATE DATABASE bare", "CREATE ROLE visitor LOGIN PASSWORD 's3cret-word'")
    assert "CREATE EXTENSION vector" in refusal(server.place(user="visitor", database="bare"), create=True)
    (version,) = server.execute("SHOW server_version_num")[0].fetchone()
    if int(version) < 180_000:
        pytest.skip("a server before 18 cannot be told to look for extensions elsewhere")
    server.execute("ALTER DATABASE bare SET extension_control_path = '/nowhere'")
    assert "has no pgvector" in refusal(server.place(database="bare"), create=True)
    server.execute("ALTER DATABASE bare RESET extension_control_path")
    server.execute(
        "CREATE EXTENSION vector",
        "UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'",
        database="bare",
    )
    assert "has pgvector 0.7" in refusal(server.place(database="bare"), create=True)


def test_a_user_without_rights_reads_only_what_is_allowed(server):
    server.execute("CREATE DATABASE shared", "CREATE ROLE reader LOGIN PASSWORD 's3cret-word'")
    owner = open_gallery(server.place(database="shared"), model_stamp=MODEL, create=True)
    owner.add(random_rows(10))
    place = server.place(user="reader", database="shared")
    assert "lacks a right" in refusal(place)
    assert "lacks a right" in refusal(server.place("other", user="reader", database="shared"), create=True)
    server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", database="shared")
    reader = open_gallery(place, model_stamp=MODEL)
    assert reader.search(random_rows(1).vectors, top=1).id.tolist() == [[0]]
    with pytest.raises(UserError, match="lacks a right"):
        reader.add(random_rows(1))
    server.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO reader", database="shared")
    with pytest.raises(UserError, match="the rows are gone, but only the owner of the table"):
        reader.forget(Where(ids=(3,)))
    server.execute("GRANT postgres TO reader", database="shared")
    owner.close()
    assert reader.forget(Where(ids=(4,))) == 1
    assert "only a superuser of the database" in reader.remains


def test_other_models_lengths_and_formats_are_refused(place):
    gallery = open_gallery(place, model_stamp=MODEL, create=True)
    gallery.add(random_rows(10))
    assert "holds vectors of the model 'small" in refusal(place, model_stamp="other 1")
    with pytest.raises(UserError, match="vectors of 16 numbers, and these have 8"):
        gallery.add(random_rows(2, dimensions=8))
    with pytest.raises(UserError, match="vectors of 16 numbers, and these have 8"):
        gallery.search(np.ones((1, 8), np.float32), top=1)
    with gallery.session.using() as connection:
        gallery.tables.write(connection, "format", "99")
    assert "a gallery of format 99, and this version of passerby reads formats up to 1" in refusal(place)
    with gallery.session.using() as connection:
        gallery.tables.write(connection, "format", "unknown")
    assert "are not those of a gallery" in refusal(place)


def test_rows_that_the_database_cannot_store_leave_it_as_it_was(place):
    gallery = open_gallery(place, model_stamp=MODEL, create=True)
    gallery.add(random_rows(10))
    rows = random_rows(3)
    for column, value in (("path", "a\0b"), ("attributes", '{"a": "\\u0000"}'), ("attributes", '{"a": NaN}')):
        with pytest.raises(UserError, match="cannot store"):
            gallery.add(replace(rows, **{column: np.array([value, *getattr(rows, column)[1:]])}))
    assert gallery.add(rows).tolist() == [10, 11, 12]
    with pytest.raises(UserError, match="halfvec cannot exceed 16000"):
        open_gallery(f"{place}_long", model_stamp=MODEL, create=True).add(random_rows(1, dimensions=16_001))


def test_check_finds_a_changed_vector(place):
    gallery = open_gallery(place, model_stamp=MODEL, create=True)
    gallery.add(random_rows(30))
    assert gallery.check() == ()
    with gallery.session.using() as connection:
        other = "(SELECT vector FROM {0} WHERE id = 8)"
        connection.execute(gallery.tables.sql(f"UPDATE {{0}} SET vector = {other} WHERE id = 7"))
    assert gallery.check() == ("the vectors of 1 rows have changed, the first that of row 7",)


def wait_for_a_lock(server):
    deadline = time.monotonic() + 60
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'passerby'"
    while server.execute(query)[0].fetchone() == (0,):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("call", ["add", "search"])
def test_a_server_that_crashes_in_the_middle_loses_nothing_acknowledged(server, place, call):
    gallery = open_gallery(place, model_stamp=MODEL, create=True)
    rows = random_rows(30)
    gallery.add(rows)
    errors = []

    def work():
        try:
            gallery.add(rows) if call == "add" else gallery.search(rows.vectors, top=1)
        except UserError as error:
            errors.append(str(error))

    other = server.connect()
    other.execute("BEGIN")
    other.execute(f"LOCK TABLE {gallery.tables.name}")
    thread = threading.Thread(target=work)
    thread.start()
    wait_for_a_lock(server)
    server.crash()
    thread.join(10)
    other.close()
    (sentence,) = errors
    assert "the connection to postgresql://postgres@127.0.0.1" in sentence
    assert "what was acknowledged is stored" in sentence
    assert PASSWORD not in sentence
    with pytest.raises(UserError, match="cannot connect to"):
        gallery.info()
    server.start()
    assert gallery.info().count == 30  # with a new connection
    np.testing.assert_array_equal(gallery.search(rows.vectors, top=1).id[:, 0], np.arange(30))
    assert gallery.check() == ()


def test_a_session_that_holds_a_lock_is_named(place, server, monkeypatch):
    monkeypatch.setattr("passerby.gallery.postgres.connection.WAIT", 0.1)
    gallery = open_gallery(place, model_stamp=MODEL, create=True)
    with server.connect() as other, other.transaction():
        other.execute(f"LOCK TABLE {gallery.tables.name}")
        with pytest.raises(UserError, match=r"another session has been using .* for 0\.1 seconds"):
            gallery.add(random_rows(1))


def test_forgetting_waits_for_those_who_still_read(place, server, monkeypatch):
    monkeypatch.setattr("passerby.gallery.postgres.forgetting.WAIT", 0.2)
    gallery = open_gallery(place, model_stamp=MODEL, create=True)
    gallery.add(random_rows(10))
    with server.connect() as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1")
        with pytest.raises(
            UserError, match=r"another session has been reading .* call `passerby gallery forget` again"
        ):
            gallery.forget(Where(ids=(3,)))
        other.execute("COMMIT")
    assert gallery.forget(Where(ids=(3,))) == 0
    assert len(gallery.list()) == 9


def test_a_writer_that_is_killed_loses_nothing_acknowledged(place):
    gallery = open_gallery(place, model_stamp=MODEL, create=True)
    batch, acknowledged = 40, []
    generator = np.random.default_rng(0)
    for turn in range(6):
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads, of which the child uses none
            child = os.fork()
        if not child:
            try:
                while True:
                    os.write(writing, gallery.add(random_rows(batch, seed=turn)).astype(np.int64).tobytes())
            finally:
                os._exit(1)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            first = pipe.read(8 * batch) if turn == 0 else b""  # however slow the machine is, some return
            time.sleep(generator.uniform(0.05, 0.2))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            ids = np.frombuffer(first + pipe.read(), np.int64)
        acknowledged.append((turn, ids))
    assert sum(len(ids) for _, ids in acknowledged) > 0
    rows = gallery.list()
    assert len(rows) % batch == 0
    for turn, ids in acknowledged:
        expected = np.tile(random_rows(batch, seed=turn).vectors, (len(ids) // batch, 1)).astype(np.float16)
        np.testing.assert_array_equal(rows.vectors[np.searchsorted(rows.id, ids)], expected.astype(np.float32))
    assert gallery.check() == ()
