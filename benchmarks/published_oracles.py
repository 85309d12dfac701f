"""Check imported models against reference vectors: a folder of published-style files and the vectors of their own code.

Each NAME.pth is imported at the size of the images in NAME.npz, saved, loaded again, and given the uint8 `images`
(N, H, W, 3); `feature` or `pooled` (N, D) are the vectors of the reference, `feature_camC` those of camera C. Where
there is a NAME.json, the settings that no tensor shows (number of heads, normalisation) are read from it. Deviations
are printed as a share of the largest number of the reference.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from passerby.encoders import load_model
from passerby.errors import UserError
from passerby.published.importing import read_published
from passerby.published.vits import HALF
from passerby.types import Floats

LAYOUTS = {"luperson_moco_r50_converted": "luperson"}
"""Families of files whose tensors look like those of another one."""


def described(file: Path) -> dict[str, Any]:
    """Return NAME.json; empty without one."""
    path = file.with_suffix(".json")
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def facts(file: Path) -> list[str]:
    """Return the settings of a file that no tensor shows and that differ from the published ones."""
    description = described(file)
    heads = description.get("config", {}).get("heads")
    changes = [f"heads={heads}"] if isinstance(heads, int) else []
    if file.stem == "clipreid_rn50" and tuple(description.get("input", {}).get("mean", ())) == HALF:
        changes.append("normalise=half")
    return changes


def references(arrays: dict[str, Any], family: str) -> Iterator[tuple[int, Floats]]:
    """Yield the camera, -1 = none, and the vectors (N, D) of the reference."""
    if "feature" in arrays or "pooled" in arrays:
        vectors = arrays["feature"] if "feature" in arrays else arrays["pooled"]
        if family == "pass" and "feature_after_neck" not in arrays:  # stored token by token, published is their fusion
            first, *parts = np.split(vectors, 4, axis=1)
            vectors = np.concatenate([first, sum(parts) / 3], axis=1)
        yield -1, vectors
    for key in sorted(arrays):
        if key.startswith("feature_cam") and not key.endswith("after_neck"):
            yield int(key.removeprefix("feature_cam")), arrays[key]


def deviation(file: Path, overrides: list[str], family: str | None) -> tuple[str, float]:
    """Return the family of a file and the largest deviation from its references."""
    arrays = dict(np.load(file.with_suffix(".npz")))
    images = arrays["images"]
    family = family or LAYOUTS.get(file.stem)
    model = read_published(file, family=family, overrides=[*facts(file), *overrides], size=images.shape[1:3])
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder, "model.safetensors"))
        loaded = load_model(Path(folder, "model.safetensors"))
        shares = []
        for camera, expected in references(arrays, model.family):
            cameras = None if camera < 0 else np.full(len(images), camera)
            vectors = loaded.embed(images, cam=cameras)
            shares.append(float(np.abs(vectors - expected).max() / np.abs(expected).max()))
    return model.family, max(shares)


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
