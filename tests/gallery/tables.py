"""Rows with random vectors, and the slow, obvious search that all stores equal."""

import json

import numpy as np

from passerby.gallery import GalleryRows, Where

MODEL = "small 0123456789abcdef"

CONDITIONS = [
    Where(),
    Where(cameras=("yard",)),
    Where(cameras=("yard", "stairs"), identities=("person-3",)),
    Where(identities=("",)),
    Where(since=1.7e9 + 20, until=1.7e9 + 60),
    Where(attributes=(("bag", "true"), ("height", "3"))),
    Where(attributes=(("hat", "red"),)),
    Where(before=1.7e9 + 30),
    Where(ids=(3, 5, 90)),
]


def random_rows(count, *, dimensions=16, seed=0, first=0):
    """Rows of three cameras, seven people and one second each; every eighth without a time."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    number = np.arange(first, first + count)
    return GalleryRows(
        vectors,
        path=np.array([f"crops/{row:06d}.jpg" for row in number]),
        camera=np.array(["entrance", "yard", "stairs"])[number % 3],
        time=np.where(number % 8 == 7, np.nan, 1.7e9 + number),
        tracklet=np.array([f"clip/{row // 2}" for row in number]),
        identity=np.array([f"person-{row % 7}" if row % 5 else "" for row in number]),
        attributes=np.array([json.dumps({"bag": bool(row % 2), "height": int(row % 4)}) for row in number]),
    )


def chosen(rows, where):
    """Which rows fulfil the conditions; all rows were added just now."""
    mask = np.ones(len(rows), bool)
    if where.cameras:
        mask &= np.isin(rows.camera, where.cameras)
    if where.identities:
        mask &= np.isin(rows.identity, where.identities)
    if where.since is not None:
        mask &= rows.time >= where.since
    if where.until is not None:
        mask &= rows.time < where.until
    if where.before is not None:
        mask &= rows.time < where.before
    if where.ids:
        mask &= np.isin(rows.id, where.ids)
    for key, value in where.attributes:
        values = [json.loads(text).get(key) for text in rows.attributes]
        mask &= np.array([value == ("" if each is None else json.dumps(each).strip('"')) for each in values])
    return mask


def slow_search(rows, vectors, *, top):
    """Ids and similarities of the most similar rows, by one sort of all, ties by id."""
    stored = rows.vectors.astype(np.float16).astype(np.float64)
    queries = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    similarity = queries @ stored.T
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :top]
    return rows.id[order], np.take_along_axis(similarity, order, axis=1)


def assert_same(found, expected):
    """Compare all columns; vectors as they are stored."""
    for name in ("id", "path", "camera", "time", "box", "tracklet", "identity", "attributes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    np.testing.assert_array_equal(found.vectors, expected.vectors.astype(np.float16).astype(np.float32))
