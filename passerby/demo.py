"""The whole pipeline on synthetic data: generate, train, evaluate, report. No download, no GPU, a few minutes."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from passerby.commands.training import train_and_report
from passerby.console import bar
from passerby.data.synthetic.site import make_site


def run_demo(folder: Path, *, seed: int, console: Console) -> Path:
    """Run the demo in `folder` and return its report.

    Finished steps are kept: an interrupted demo is resumed.
    """
    console.rule("1. render a synthetic site; no real person is in it")
    with bar("rendering", console) as advance:
        root = make_site(folder / "people", "plaza", seed=seed, progress=advance)
    console.print(f"{len(list(root.rglob('*.jpg')))} images in the layout of Market-1501: {root}", highlight=False)
    console.rule("2. train an embedder, and evaluate it on unseen identities")
    run = folder / "run"
    overrides = [f"root={root}", f"engine.seed={seed}"]
    report = train_and_report("demo", overrides, run, resume=(run / "last.pt").exists(), console=console)
    console.rule("3. use it")
    console.print(
        f"use the model:  passerby embed {run} YOUR_IMAGES -o vectors.npz\n"
        f"your own data:  passerby train small --data YOUR_FOLDER --out runs/mine",
        highlight=False,
    )
    return report
