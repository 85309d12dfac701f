"""Measure embeddings of cameras (SIE) in a small transformer: python benchmarks/sie_table.py SITES OUT.

SITES is as for `continual_table.py`. A vision transformer of 4 blocks, 96 wide, with patches of 8 pixels on images of
64 x 32, learns from random weights and labels on one site, with and without an embedding of each camera, and is tested
on other people of the same site, whose cameras are those of training. Runs that are finished are not repeated; a run
that was broken off goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sites import SITES, finished, folder_name, last_rank1, last_scores, line, once, over_seeds, overrides

ROWS = {"without": False, "with SIE": True}
TRANSFORMER = {"width": 96, "depth": 4, "heads": 3, "patch": 8, "stride": 8}


def run_row(row: str, site: str, sites: Path, out: Path, *, seed: int, epochs: int) -> None:
    """Do one run of the table."""
    network = {"backbone": "vit", "last_stride": 2, "ibn": "none"}
    network["architecture"] = {**TRANSFORMER, "cameras": ROWS[row]}
    changes = [
        f"model={json.dumps(network)}",
        f"stages={json.dumps([{'train': [site], 'epochs': epochs}])}",
        f"evaluate={json.dumps([site])}",
        "optim.lr=1.0e-3",
    ]
    once(out / f"seed-{seed}" / folder_name(f"{site} {row}"), [*overrides(sites, seed), *changes])


def table(out: Path) -> str:
    """Return what there is as Markdown: mAP and rank-1 in percent, by site and row."""
    lines = [line("site", "embedding of cameras", "seeds", "mAP", "rank-1"), "|---|---|---|---|---|"]
    for site in SITES:
        for row in ROWS:
            runs = finished(out, folder_name(f"{site} {row}"))
            if runs:
                scores = ([read(run)[site] for run in runs] for read in (last_scores, last_rank1))
                lines.append(line(site, row, str(len(runs)), *map(over_seeds, scores)))
    return "\n".join(lines)


def main() -> None:
    """Read the command line, run, and print the table so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sites", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--on", nargs="+", choices=[*SITES], default=["station", "campus"])
    parser.add_argument("--epochs", type=int, default=20)
    given = parser.parse_args()
    for seed in given.seeds:
        for site in given.on:
            for row in ROWS:
                run_row(row, site, given.sites.resolve(), given.out, seed=seed, epochs=given.epochs)
                print(table(given.out), flush=True)


if __name__ == "__main__":
    main()
