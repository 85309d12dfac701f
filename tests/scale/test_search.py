"""Shards of a gallery searched over a cluster give the answers of one process; tasks run in this process."""

import numpy as np
import pytest

from passerby.distances.units import unit_rows
from passerby.errors import UserError
from passerby.gallery import GalleryRows, Where, folder, open_gallery, shards, tidying
from passerby.scale.search import galleries_over
from tests.scale.inline import InlineRay


@pytest.fixture
def gallery(tmp_path, monkeypatch):
    """A gallery of 50 rows at two cameras in shards of 8 rows."""
    for module in (shards, folder, tidying):
        monkeypatch.setattr(module, "ROWS_PER_SHARD", 8)
    gallery = open_gallery(tmp_path / "gallery", create=True)
    vectors = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    gallery.add(GalleryRows(unit_rows(vectors), camera=np.tile(["door", "yard"], 25)))
    return gallery


QUERIES = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)


@pytest.mark.parametrize("where", [Where(), Where(cameras=("door",))])
@pytest.mark.parametrize("top", [1, 7, 60])
def test_answers_equal_those_of_one_process(gallery, where, top):
    alone = gallery.search(QUERIES, top=top, where=where)
    with galleries_over(InlineRay()):
        over = gallery.search(QUERIES, top=top, where=where)
    assert np.array_equal(alone.id, over.id)
    assert np.array_equal(alone.similarity, over.similarity, equal_nan=True)


def test_a_worker_that_does_not_see_the_gallery_is_reported(gallery):
    ray = InlineRay(fault=FileNotFoundError("no shard"))
    with galleries_over(ray), pytest.raises(UserError, match=r"a worker does not see .*; put the gallery on storage"):
        gallery.search(QUERIES, top=3)


def test_a_shard_that_was_replaced_is_looked_up_again(gallery):
    """A worker misses the file of a shard that a compaction has just replaced; the search is repeated."""
    alone = gallery.search(QUERIES, top=3)
    ray = Replaced(gallery)
    with galleries_over(ray):
        over = gallery.search(QUERIES, top=3)
    assert ray.searches == 2
    assert np.array_equal(alone.id, over.id)


class Replaced(InlineRay):
    """Moves a shard away while the gallery is searched for the first time, and back for the second."""

    def __init__(self, gallery):
        super().__init__()
        self.file = gallery.select().parts[0].path
        self.searches = 0

    def put(self, value):
        away = self.file.with_name("away")
        source, target = (self.file, away) if self.searches == 0 else (away, self.file)
        source.rename(target)
        self.searches += 1
        return value
