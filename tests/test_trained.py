"""Searching with a model."""

from types import SimpleNamespace

import numpy as np

from passerby.trained import search
from passerby.types import Embeddings


def test_no_distance_is_below_0(tmp_path):
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(200, 33)).astype(np.float32)
    blank = np.full(len(vectors), "")
    table = Embeddings(vectors, np.full(len(vectors), -1), np.full(len(vectors), -1), blank)
    for row in range(0, len(vectors), 10):
        looked = lambda _, row=row: 3 * vectors[row : row + 1]  # noqa: E731
        model = SimpleNamespace(recipe=None, flip=False, device="cpu", vectors=looked)
        (first, *_) = search(model, table, tmp_path / "x.jpg", count=3)
        assert first.row == row
        assert not f"{first.distance:.4f}".startswith("-")
