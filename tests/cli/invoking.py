"""Commands run in this process, and the settings of a run of a few seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner, Result

from passerby.cli import app

TINY = (
    "model.backbone=test_resnet",
    "model.last_stride=2",
    "model.weights=none",
    "input.size=[32, 16]",
    "data.sampler.identities=4",
    "data.sampler.instances=2",
    "stages.0.epochs=2",
    "engine.precision=float32",
    "data.augment.pad=2",
)


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(*words: object) -> str:
    """Run a command that must fail by the person's mistake, and return its sentence."""
    found = run(*words)
    assert found.exit_code == 2, found.output
    lines = found.output.strip().splitlines()
    assert len([line for line in lines if line.startswith("Error: ")]) == 1, found.output
    assert "Traceback" not in found.output
    return found.output


def paint(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    colour = np.random.default_rng(seed // 100).integers(0, 256, 3)
    pixels = np.clip(colour + generator.integers(-20, 20, (32, 16, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def flat(text: str) -> str:
    return " ".join(text.split())
