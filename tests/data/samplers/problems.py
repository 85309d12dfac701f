"""Random labels to draw batches from."""

import numpy as np
from hypothesis import strategies as st


@st.composite
def problems(draw):
    """Draw labels of a few people, and P, K and a number of batches that they can serve."""
    counts = draw(st.lists(st.integers(1, 7), min_size=2, max_size=6))
    names = draw(st.lists(st.integers(0, 50), min_size=len(counts), max_size=len(counts), unique=True))
    labels = np.repeat(np.array([-1, *names]), [draw(st.integers(0, 3)), *counts])
    labels = np.random.default_rng(draw(st.integers(0, 99))).permutation(labels)
    return labels, draw(st.integers(2, len(counts))), draw(st.integers(1, 5)), draw(st.none() | st.integers(1, 9))
