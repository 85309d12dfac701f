"""A run in a process of its own, which can be killed; it never comes to its end, however long nobody kills it."""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import torch
from ignite.engine import Events

from passerby.recipe import load_recipe
from passerby.training.session import train

CONTEXT = multiprocessing.get_context("forkserver")  # what is imported once serves all processes
CONTEXT.set_forkserver_preload(["tests.training.alone"])


def _train(recipe, overrides, folder, start, stands):
    torch.set_num_threads(1)

    def stand_still(run, engine):
        @engine.on(Events.ITERATION_STARTED)
        def _wait():
            if (
                run.state.counters.stage == len(run.setup.stages) - 1
                and run.state.counters.epoch == run.state.stage.epochs - 1
            ):
                stands.set()
                time.sleep(600)

    train(load_recipe(str(recipe), overrides), folder, start=start, watch=[stand_still])


def train_and_kill(recipe: Path, overrides: tuple[str, ...], folder: Path, *, when: Callable[[], bool], pause: float):
    """Begin a run or go on with it, and kill it.

    Args:
        recipe: its file.
        overrides: `key=value`.
        folder: of the run.
        when: whether it is time; in the last epoch of the last stage it is in any case.
        pause: seconds to wait before.

    """
    start, stands = "resume" if (folder / "last.pt").exists() else "fresh", CONTEXT.Event()
    process = CONTEXT.Process(target=_train, args=(recipe, overrides, folder, start, stands), daemon=True)
    process.start()
    while process.is_alive() and not when() and not stands.is_set():
        time.sleep(0.005)
    time.sleep(pause)
    assert process.is_alive(), "it came to its end before it was killed"
    process.kill()
    process.join()
