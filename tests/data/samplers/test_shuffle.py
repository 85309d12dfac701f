"""Images in random order."""

import numpy as np
import pytest

from passerby.data.samplers.shuffle import shuffled_batches
from passerby.errors import UserError


def test_shuffled_batches_show_each_image_once_before_any_again():
    labels = np.array([0, 0, 1, 1, 2, -1, 2])
    plan = shuffled_batches(labels, np.random.default_rng(0), size=4, count=3)
    assert plan.shape == (3, 4)
    assert sorted(plan.reshape(2, 6)[0].tolist()) == sorted(plan.reshape(2, 6)[1].tolist()) == [0, 1, 2, 3, 4, 6]
    with pytest.raises(UserError, match="a batch needs 7 images"):
        shuffled_batches(labels, np.random.default_rng(0), size=7, count=1)
