"""Measure what is learnt of a new site without labels: python benchmarks/adapt_table.py SITES OUT.

SITES is as for `continual_table.py`, whose OUT may be given too: the models of plaza are the same. Each method goes on
from such a model with the training images of campus, or of station, whose people it is not told; test people are
others. The upper bound is told them, and has the same start, rate and number of batches. About 14 images show one
person, which is where k1 comes from; nothing else of the sites was used to set it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sites import PLAZA, finished, folder_name, last_rank1, last_scores, line, once, over_seeds, overrides

TARGETS = ("campus", "station")
RATE = "optim={lr: 1.0e-3, warmup_epochs: 1}"
PEOPLE = "cluster: {kind: dbscan, eps: 0.5, k1: 15, k2: 4}"
FOUND = f"{PEOPLE}, camera_norm: standardise"
AWARE = "cluster: {kind: dbscan, eps: 0.5, k1: 15, k2: 4, distance: ca_jaccard, k1_inter: 12, k2_inter: 3}"
CAMERA_AWARE = f"{AWARE}, camera_norm: standardise"
CAP = "intra: 1, inter: 0.5, online: 0"
CAMERAS = "data.sampler=pk_cameras"
NONE = "losses={softmax: null, triplet: null}"


@dataclass(frozen=True)
class Row:
    """One line of the table: a method in YAML, further changes of the recipe, epochs of 40 batches."""

    method: str
    changes: tuple[str, ...] = ()
    beside: bool = False
    labelled: bool = False
    epochs: int = 12


ROWS = {
    "clusters as identities": Row(f"{{pseudo: {{{FOUND}}}}}"),
    "SSG": Row(f"{{ssg: {{{FOUND}}}}}", (NONE, "model.stripes=2")),
    "SSG + DEC": Row(f"{{ssg: {{{FOUND}}}, dec: {{}}}}", (NONE, "model.stripes=2")),
    "ClusterContrast, cameras ignored": Row(f"{{contrast: {{{PEOPLE}}}}}", (NONE,)),
    "ClusterContrast": Row(f"{{contrast: {{{FOUND}}}}}", (NONE,)),
    "SpCL, plaza beside": Row(f"{{spcl: {{{FOUND}}}}}", (NONE, "data.sampler=per_domain"), beside=True),
    "SpCL": Row(f"{{spcl: {{{FOUND}}}}}", (NONE,)),
    "MMT": Row(f"{{mmt: {{{FOUND}}}}}", (NONE,)),
    "PPLR": Row(f"{{pplr: {{{FOUND}}}}}", (NONE, "model.stripes=3")),
    "PPLR, 2 stripes, 5 neighbours": Row(f"{{pplr: {{{FOUND}, neighbours: 5}}}}", (NONE, "model.stripes=2")),
    "PPLR, 2 stripes, 5 neighbours, smoothed in the last epoch": Row(
        f"{{pplr: {{{FOUND}, neighbours: 5, from_epoch: 11}}}}", (NONE, "model.stripes=2")
    ),
    "ClusterContrast, pk_cameras": Row(f"{{contrast: {{{FOUND}}}}}", (NONE, CAMERAS)),
    "ClusterContrast, CA-Jaccard": Row(f"{{contrast: {{{CAMERA_AWARE}}}}}", (NONE,)),
    "ClusterContrast + proxies of CAP": Row(
        f"{{contrast: {{{FOUND}}}, camera_proxies: {{{CAP}, reduction: batch}}}}", (NONE, CAMERAS)
    ),
    "ClusterContrast + proxies of O2CAP": Row(
        f"{{contrast: {{{FOUND}}}, camera_proxies: {{reduction: batch}}}}", (NONE, CAMERAS)
    ),
    "O2CAP": Row(f"{{pseudo: {{{FOUND}}}, camera_proxies: {{}}}}", (NONE, CAMERAS)),
    "CAP": Row(f"{{pseudo: {{{FOUND}}}, camera_proxies: {{{CAP}, from_epoch: 2}}}}", (NONE, CAMERAS)),
    "supervised": Row("{}", labelled=True),
    "ClusterContrast, twice as long": Row(f"{{contrast: {{{FOUND}}}}}", (NONE,), epochs=24),
    "supervised, twice as long": Row("{}", labelled=True, epochs=24),
}


def run_row(name: str, target: str, out: Path, common: list[str]) -> None:
    """Do one run of the table, and what it starts from."""
    row, plaza = ROWS[name], out / "plaza"
    once(plaza, [*common, f"stages=[{PLAZA}]"])
    beside = ", source: [plaza]" if row.beside else ""
    known = str(row.labelled).lower()
    stage = f"stages=[{{train: [{target}], labelled: {known}, epochs: {row.epochs}, iterations: 40{beside}}}]"
    changes = [f"init_from={plaza}", RATE, f"method={row.method}", f"evaluate=[{target}]", *row.changes, stage]
    once(out / f"{target}_{folder_name(name)}", [*common, *changes])


def table(out: Path) -> str:
    """Return what there is as Markdown: mAP and rank-1 of each target, and which share of the gap in mAP is closed."""
    words = ("seeds", "mAP", "rank-1", "share of the gap")
    heads = ("method", *(f"{target}: {word}" for target in TARGETS for word in words))
    found = [line(*heads), "|" + "---|" * len(heads)]
    for name in ("source only: the model of plaza", *ROWS):
        cells = [cell for target in TARGETS for cell in _cells(out, name, target)]
        if any(cells):
            found.append(line(name, *cells))
    return "\n".join(found)


def _cells(out: Path, name: str, target: str) -> tuple[str, ...]:
    """Return how many seeds there are, their mAP and rank-1, and which share of the gap to *supervised* it closes."""
    low, high = _scores(out, "plaza", target), _scores(out, f"{target}_supervised", target)
    folder = f"{target}_{folder_name(name)}" if name in ROWS else "plaza"
    mine = _scores(out, folder, target)
    if not mine:
        return ("", "", "", "")
    rank1 = [last_rank1(run)[target] for run in finished(out, folder)]
    gap = np.mean(high) - np.mean(low) if high and low else np.nan
    share = f"{100 * (np.mean(mine) - np.mean(low)) / gap:.0f} %" if name in ROWS and np.isfinite(gap) else ""
    return str(len(mine)), over_seeds(mine), over_seeds(rank1), share


def _scores(out: Path, folder: str, target: str) -> list[float]:
    return [last_scores(run)[target] for run in finished(out, folder)]


def main() -> None:
    """Read the command line, run, and print the table so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sites", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=[*ROWS])
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=[*TARGETS])
    parser.add_argument("--table", action="store_true", help="only print what there is")
    given = parser.parse_args()
    for seed in [] if given.table else given.seeds:
        for name in given.rows:
            out, common = given.out / f"seed-{seed}", overrides(given.sites.resolve(), seed)
            for target in given.targets:
                run_row(name, target, out, common)
            print(table(given.out), flush=True)
    print(table(given.out))


if __name__ == "__main__":
    main()
