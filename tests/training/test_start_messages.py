"""Sentences before the first step of a run."""

from __future__ import annotations

from passerby.optim import OptimSettings
from passerby.training.start_messages import schedule_note


def test_a_schedule_that_does_not_fall_is_noted_with_the_setting_that_helps() -> None:
    note = schedule_note("site", OptimSettings(schedule="multistep", milestones=(40, 70)), 30)
    assert note == (
        "site: the schedule does not lower the learning rate within 30 epochs; "
        "train longer, or set optim.milestones lower"
    )


def test_a_single_epoch_of_a_cosine_names_its_two_lengths() -> None:
    note = schedule_note("site", OptimSettings(schedule="cosine", flat_epochs=1, warmup_epochs=0), 1)
    assert note is not None
    assert "within 1 epoch; train longer, or set optim.flat_epochs and optim.warmup_epochs lower" in note


def test_a_schedule_that_falls_has_no_note() -> None:
    assert schedule_note("site", OptimSettings(schedule="multistep", milestones=(40, 70)), 60) is None
