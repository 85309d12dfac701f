"""Check imported models against reference vectors: a folder of published-style files and the vectors of their own code.

Each NAME.pth is imported at the size of the images in NAME.npz, saved, loaded again, and given the uint8 `images`
(N, H, W, 3); `feature` or `pooled` (N, D) are the vectors of the reference. Deviations are printed as a share of its
largest number.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from passerby.encoders import load_model
from passerby.errors import UserError
from passerby.published.importing import read_published
from passerby.published.vits import HALF


def reference_mean(file: Path) -> tuple[float, ...] | None:
    """Return the mean of the pixels that the reference subtracted, from NAME.json; None where it is not stated."""
    described = file.with_suffix(".json")
    return tuple(json.loads(described.read_text())["input"]["mean"]) if described.is_file() else None


def deviation(file: Path, overrides: list[str], family: str | None) -> tuple[str, float]:
    """Return the family of a file and the largest deviation from its reference."""
    arrays = np.load(file.with_suffix(".npz"))
    images = arrays["images"]
    model = read_published(file, family=family, overrides=overrides, size=images.shape[1:3])
    if model.family == "clipreid_rn50" and reference_mean(file) == HALF:
        model = read_published(file, family=family, overrides=[*overrides, "normalise=half"], size=images.shape[1:3])
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder, "model.safetensors"))
        vectors = load_model(Path(folder, "model.safetensors")).embed(images)
    expected = arrays["feature"] if "feature" in arrays else arrays["pooled"]
    return model.family, float(np.abs(vectors - expected).max() / np.abs(expected).max())


def main() -> None:
    """Print one line per file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of NAME.pth and NAME.npz")
    parser.add_argument("--only", default="*", help="pattern of NAME")
    parser.add_argument("--as", dest="family", help="family of all files")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="key=value of the family")
    chosen = parser.parse_args()
    for file in sorted(chosen.folder.glob(f"{chosen.only}.pth")):
        try:
            family, share = deviation(file, chosen.overrides, chosen.family)
            print(f"{file.stem:36} {family:16} {share:.1e}", flush=True)
        except UserError as error:
            print(f"{file.stem:36} refused: {error}", flush=True)


if __name__ == "__main__":
    main()
