"""The picture of a schedule is the schedule, and its words are true of the rates that are drawn."""

from itertools import pairwise

import numpy as np
import pytest

from passerby.optim import OptimSettings, learning_rate_at
from passerby.recipe import load_recipe
from passerby.report.schedule import phases, rate_curve
from tests.report.conftest import plain_recipe


def test_the_rate_is_the_schedule_of_every_stage():
    stages = [{"train": ["plaza"], "epochs": 3}, {"train": ["plaza"], "epochs": 2, "optim": {"lr": 2e-3}}]
    recipe = plain_recipe(stages=stages)
    series = [line for line in rate_curve(recipe).axes[0].lines if len(line.get_xdata()) > 2]
    assert len(series) == 2
    for line, stage, start in zip(series, recipe.stages, (0, 3), strict=True):
        x, y = line.get_xdata(), line.get_ydata()
        assert x[0] == start
        assert x[-1] < start + stage.epochs
        at = len(x) // 2
        assert y[at] == learning_rate_at(stage.optim, at, steps_per_epoch=len(x) // stage.epochs, epochs=stage.epochs)


SCHEDULES = [
    {"schedule": "constant", "warmup_epochs": 0},
    {"schedule": "constant", "warmup_epochs": 30},
    {"warmup_epochs": 2, "milestones": (4, 8, 40)},
    {"warmup_epochs": 6, "milestones": (4, 8)},
    {"schedule": "cosine", "warmup_epochs": 2.5, "flat_epochs": 4},
    {"schedule": "cosine", "warmup_epochs": 2, "flat_epochs": 0},
    {"schedule": "cosine", "warmup_epochs": 0, "flat_epochs": 0.0, "min_lr": 1e-6},
    {"schedule": "cosine", "warmup_epochs": 3, "flat_epochs": 12},
    {"schedule": "cosine", "warmup_epochs": 9},
    {"schedule": "cosine", "warmup_epochs": 8.5},
    {"schedule": "cosine", "flat_epochs": 9},
    {"schedule": "cosine", "flat_epochs": 8.5},
]


@pytest.mark.parametrize("chosen", SCHEDULES)
def test_the_words_of_each_phase_are_true(chosen):
    optim, epochs, per_epoch = OptimSettings(**chosen), 10, 20
    found = phases(optim, epochs=epochs)
    assert found[0].begin == 0
    assert found[-1].end == epochs
    assert all(before.end == after.begin for before, after in pairwise(found))
    for phase in found:
        steps = range(round(phase.begin * per_epoch), round(phase.end * per_epoch))
        rates = np.array([learning_rate_at(optim, step, steps_per_epoch=per_epoch, epochs=epochs) for step in steps])
        if phase.words.startswith("warm-up"):
            assert (np.diff(rates) > 0).mean() > 0.9  # but where a step falls into the warm-up
        elif phase.words.startswith("falling"):
            assert (np.diff(rates) <= 0).all()
            assert rates[-1] < optim.lr
        else:
            np.testing.assert_allclose(rates, rates[0])
            assert phase.words.endswith(f"{rates[0]:.3g}")


def texts(figure):
    return [text.get_text() for text in figure.texts]


def test_every_phase_is_numbered_and_told():
    recipe = plain_recipe(
        optim={"warmup_epochs": 2, "schedule": "cosine", "lr": 1e-3, "flat_epochs": 3, "min_lr": 1e-6},
        stages=[
            {"train": ["plaza"], "epochs": 9},
            {"train": ["plaza"], "epochs": 5, "optim": {"flat_epochs": 9}},
        ],
    )
    figure = rate_curve(recipe)
    assert texts(figure)[::-1] == [
        "1: stage 1, epoch 0 to 2: warm-up from 1e-05 to the full rate",
        "2: stage 1, epoch 2 to 3: full rate 0.001",
        "3: stage 1, epoch 3 to 9: falling along a cosine towards 1e-06",
        "4: stage 2, epoch 9 to 11: warm-up from 1e-05 to the full rate",
        "5: stage 2, epoch 11 to 14: full rate 0.001",
    ]
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2", "3", "4", "5"]


def test_very_many_phases_are_drawn_without_words():
    stages = [{"train": ["plaza"], "epochs": 3, "name": str(number)} for number in range(8)]
    assert texts(rate_curve(plain_recipe(stages=stages))) == []


def test_a_backbone_that_stands_still_is_told():
    recipe = load_recipe("small", ["optim.freeze_backbone_steps=30"])
    words = [text.get_text() for text in rate_curve(recipe).texts]
    assert words.count("the backbone is frozen for the first 30 steps") == 1
