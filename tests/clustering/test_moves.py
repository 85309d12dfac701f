import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby.clustering.moves import MOVES, moves


def words(before, after):
    return [MOVES[move] for move in moves(np.array(before), np.array(after))]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([0, 0, 1, 1], [1, 1, 0, 0], ["kept"] * 4),  # numbers mean nothing
        ([0, 0, 0, 1, 1], [0, 0, 0, 0, 0], ["kept"] * 3 + ["merged"] * 2),
        ([0, 0, 0, 0, 0], [0, 0, 0, 1, 1], ["kept"] * 3 + ["split"] * 2),
        ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1], ["kept"] * 2 + ["split"] + ["kept"] * 2),
        ([-1, 0, -1], [0, -1, -1], ["found", "lost", "outside"]),
        ([-1, -1], [-1, -1], ["outside"] * 2),
    ],
)
def test_moves_by_hand(before, after, expected):
    assert words(before, after) == expected


labels = st.lists(st.integers(-1, 4), min_size=1, max_size=30)


@given(labels)
def test_what_does_not_move_is_kept_or_outside(before):
    assert words(before, before) == ["outside" if label < 0 else "kept" for label in before]


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 3)), min_size=1, max_size=30))
def test_a_cluster_goes_on_in_one_place_and_comes_from_one(pairs):
    before, after = map(np.array, zip(*pairs, strict=True))
    kept = moves(before, after) == MOVES.index("kept")
    for cluster in range(4):
        assert len(np.unique(after[kept & (before == cluster)])) <= 1
        assert len(np.unique(before[kept & (after == cluster)])) <= 1
