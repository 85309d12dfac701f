"""Mappings that a gallery keeps between searches."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from passerby.errors import UserError
from passerby.gallery import GalleryRows, Where, folder, mapping, open_gallery, products, shards, tidying
from tests.gallery.tables import MODEL, random_rows, slow_search

pytestmark = pytest.mark.skipif(os.name != "posix", reason="mappings are kept on POSIX systems only")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A gallery of 100 rows in shards of 32."""
    for module in (shards, folder, tidying):
        monkeypatch.setattr(module, "ROWS_PER_SHARD", 32)
    gallery = open_gallery(tmp_path / "people", model_stamp=MODEL, create=True)
    gallery.add(random_rows(100))
    gallery.close()
    return tmp_path / "people"


@pytest.fixture
def mapped(monkeypatch):
    """Names of the files that are mapped, in order."""
    names, map_shard = [], mapping.map_shard

    def record(path, *sizes):
        names.append(path.name)
        return map_shard(path, *sizes)

    monkeypatch.setattr(mapping, "map_shard", record)
    return names


def test_a_second_search_maps_nothing_anew(place, mapped):
    gallery = open_gallery(place)
    query = random_rows(100).vectors[5:6]
    first = gallery.search(query, top=9)
    count = len(mapped)
    for where in (Where(), Where(cameras=("yard",))):
        gallery.search(query, top=9, where=where)
    assert len(mapped) == count == 4
    assert gallery.search(query, top=9).id.tolist() == first.id.tolist()


def test_additions_of_another_process_are_seen(place, mapped):
    reader, writer = open_gallery(place), open_gallery(place)
    reader.search(random_rows(1).vectors, top=1)
    added = random_rows(2, seed=9)
    ids = writer.add(added)
    assert reader.search(added.vectors, top=1).id[:, 0].tolist() == ids.tolist()
    assert mapped.count(mapped[3]) == 2  # the shard that grew


def test_a_kept_mapping_shows_what_another_process_erased(place):
    reader, writer = open_gallery(place), open_gallery(place)
    rows = random_rows(100)
    reader.search(rows.vectors[:1], top=3)
    (first, *others) = list(reader.files._mapped._kept.values())
    trace = rows.vectors[4].astype(np.float16).tobytes()
    assert trace in first.mapped[:]
    writer.delete(Where(ids=(4,)))
    assert trace not in first.mapped[:]
    assert not first.rows[4].any()
    writer.forget(Where(ids=(5,)))
    assert not any(first.rows.any(axis=1))  # replaced by another file, and overwritten as a whole
    assert 4 not in reader.search(rows.vectors[4:5], top=100).id
    assert first.mapped not in [each.mapped for each in reader.files._mapped._kept.values()]
    assert len(others) == 3


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no list of open files")
def test_a_replaced_file_is_let_go(place):
    def deleted():
        links = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return [name for name in links if "deleted" in name and str(place) in name]

    gallery = open_gallery(place)
    gallery.search(random_rows(1).vectors, top=1)
    gallery.forget(Where(ids=(5, 40)))
    assert deleted() == []
    gallery.search(random_rows(1).vectors, top=1)
    open_gallery(place).forget(Where(ids=(50,)))
    assert len(deleted()) == 1  # until the next search
    gallery.search(random_rows(1).vectors, top=1)
    assert deleted() == []


def test_a_file_that_was_cut_is_refused_although_it_is_mapped(place):
    gallery = open_gallery(place)
    gallery.search(random_rows(1).vectors, top=1)
    (path, *_) = sorted((place / "vectors").iterdir())
    os.truncate(path, 100)
    with pytest.raises(UserError, match="is too short for its 32 vectors"):
        gallery.search(random_rows(1).vectors, top=1)


@pytest.mark.parametrize("chosen", [None, np.array([0, 3, 4, 59])], ids=["all", "some"])
def test_products_of_few_queries(chosen):
    generator = np.random.default_rng(0)
    rows = (generator.standard_normal((60, 70)) * 10.0 ** generator.integers(-7, 0, (60, 70))).astype(np.float16)
    queries = generator.standard_normal((3, 70)).astype(np.float32)
    expected = -queries.astype(np.float64) @ rows.astype(np.float64).T
    found = products.few_products(rows, chosen, queries)
    np.testing.assert_allclose(found, expected if chosen is None else expected[:, chosen], rtol=1e-5, atol=1e-7)


def test_every_finite_float16_is_read_exactly():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)][:, None]
    found = products.few_products(halves, None, np.ones((1, 1), np.float32))
    np.testing.assert_array_equal(-found[0], halves[:, 0].astype(np.float32))


@pytest.mark.parametrize("count", [1, 4, 5, 9, 40])
def test_equal_vectors_have_equal_similarities_in_order_of_their_ids(place, count):
    gallery = open_gallery(place)
    row = random_rows(1, seed=3).vectors.repeat(70, axis=0)
    ids = gallery.add(GalleryRows(row))
    queries = row[:count] + 0.1 * np.random.default_rng(0).standard_normal((count, 16)).astype(np.float32)
    for top in (11, 70):
        hits = gallery.search(queries, top=top)
        assert hits.id.tolist() == [ids[:top].tolist()] * count
        assert (hits.similarity == hits.similarity[:, :1]).all()


def test_the_product_of_matrices_only_chooses(monkeypatch):
    rows = random_rows(200).vectors.astype(np.float16)
    queries = random_rows(9, seed=1).vectors
    noise = np.random.default_rng(0).uniform(-4e-6, 4e-6, (9, 200)).astype(np.float32)
    rows[50:90] = rows[50]
    exact = products.few_products(rows, None, queries)
    noisy = exact + noise
    places, values = products.nearest_of(rows, None, queries, noisy, np.sort(noisy, axis=1)[:, :12])
    order = np.argsort(exact, axis=1, kind="stable")[:, :12]
    assert places.tolist() == order.tolist()
    assert np.array_equal(values, np.take_along_axis(exact, order, axis=1))


def test_few_and_many_queries_find_the_same_rows(place):
    gallery, rows = open_gallery(place), replace(random_rows(100), id=np.arange(100))
    queries = np.random.default_rng(1).standard_normal((8, 16)).astype(np.float32)
    together = gallery.search(queries, top=7)
    ids, _ = slow_search(rows, queries, top=7)
    one_by_one = np.concatenate([gallery.search(query[None], top=7).id for query in queries])
    assert one_by_one.tolist() == together.id.tolist() == ids.tolist()
