"""What a camera norm gains, in full and with few people per camera: mAP of `none`, `centre`, `standardise` and `auto`.

    passerby embed MODEL --data SITE -o vectors.npz                # query and gallery of a data set
    python benchmarks/camera_norm.py vectors.npz [MORE.npz ...]

Sites are cut down to 4, 8, 16 and 32 people per camera, drawn for each camera by itself, with all of their images, so
that cameras show unequal numbers of images of different people. Means over draws.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import numpy as np

from passerby.evaluation import evaluate
from passerby.types import CameraNorm, Embeddings

NORMS: tuple[CameraNorm, ...] = get_args(CameraNorm)
PEOPLE = (4, 8, 16, 32)


def draw_people(embeddings: Embeddings, count: int, generator: np.random.Generator) -> Embeddings:
    """Return the images of `count` people in each camera, different ones by camera."""
    rows = np.zeros(len(embeddings), dtype=bool)
    for camera in np.unique(embeddings.cam):
        seen = np.unique(embeddings.pid[(embeddings.cam == camera) & (embeddings.pid > 0)])
        chosen = generator.choice(seen, min(count, len(seen)), replace=False)
        rows |= (embeddings.cam == camera) & np.isin(embeddings.pid, chosen)
    return embeddings.select(rows)


def mean_ap(tables: list[Embeddings]) -> list[float]:
    """Return the mean mAP of tables with each camera norm, in percent."""
    return [
        100 * float(np.mean([evaluate(table, camera_norm=norm, verification=False).mAP for table in tables]))
        for norm in NORMS
    ]


def main() -> None:
    """Print a table in Markdown and the two worst cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path, help="made by `passerby embed MODEL --data SITE`")
    parser.add_argument("--draws", type=int, default=10)
    options = parser.parse_args()
    print("| vectors | people per camera |", " | ".join(NORMS), "| auto - none | share of the gain of standardise |")
    print("|---|---|" + "---|" * (len(NORMS) + 2))
    losses, shares = [], []
    for path in options.tables:
        embeddings = Embeddings.load(path)
        for count in (None, *PEOPLE):
            generator = np.random.default_rng(0)
            tables = [embeddings]
            if count is not None:
                tables = [draw_people(embeddings, count, generator) for _ in range(options.draws)]
            none, centre, standardise, auto = mean_ap(tables)
            gain = standardise - none
            share = f"{(auto - none) / gain:.2f}" if gain > 0 else "-"
            losses.append(none - auto)
            if gain > 0:
                shares.append((auto - none) / gain)
            row = " | ".join(f"{value:.1f}" for value in (none, centre, standardise, auto))
            print(f"| {path.stem} | {count or 'all'} | {row} | {auto - none:+.1f} | {share} |", flush=True)
    print(f"\nlargest loss of auto against none: {max(losses):+.1f}")
    print(f"smallest share of the gain of standardise: {min(shares):.2f}" if shares else "standardise gains nowhere")


if __name__ == "__main__":
    main()
