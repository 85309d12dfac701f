"""Running the tiny recipe and comparing what came of it."""

import hashlib
import os
import signal
from pathlib import Path

import torch
from ignite.engine import Events
from safetensors.torch import load_file

from passerby.training.session import Interrupted, train


def run(recipe, folder, **options):
    """Train and return the folder."""
    train(recipe, folder, **options)
    return folder


def state_hash(state) -> str:
    """Hash of named tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def weights(folder: Path) -> str:
    """Hash of the trained model's tensors."""
    return state_hash(load_file(folder / "embedder.safetensors"))


def interrupt_after(step: int, number: int = signal.SIGINT):
    """Return a watch that presses Ctrl-C, or sends another signal, in the given step of the stage, counted from 1."""

    def attach(_run, engine):
        @engine.on(Events.ITERATION_STARTED)
        def _press(engine):
            if engine.state.iteration == step:
                os.kill(os.getpid(), number)

    return attach


def run_interrupted(recipe, folder, *, steps):
    """Train with a Ctrl-C in each of `steps`, resuming each time until the end; return the folder."""
    start, count = "fresh", 0
    for step in steps:
        try:
            train(recipe, folder, start=start, watch=[interrupt_after(step)])
        except Interrupted:
            count += 1
        start = "resume"
    train(recipe, folder, start=start)
    assert count == len(steps)
    return folder


def optimiser_hash(folder: Path) -> str:
    """Hash of the last checkpoint: every tensor and number in it."""
    digest = hashlib.sha256()

    def add(value):
        if isinstance(value, torch.Tensor):
            digest.update(value.contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key in value:
                digest.update(str(key).encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        else:
            digest.update(repr(value).encode())

    add(torch.load(folder / "last.pt", weights_only=True))
    return digest.hexdigest()
