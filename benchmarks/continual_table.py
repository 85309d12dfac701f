"""Measure what methods keep of earlier sites: python benchmarks/continual_table.py SITES OUT.

SITES holds three sites as folders `plaza` (layout of Market-1501), `campus` (DukeMTMC-reID), `station` (MSMT17). Plaza
is learnt once for each seed; each method goes on from there with campus and then station, whose rates and epochs are
the same for all. Runs that are done are not done again, so the table may be made in several sittings, or by several
processes with other `--rows` or `--seeds`; `--table` only prints what there is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sites import PLAZA, SITES, finished, folder_name, last_scores, line, once, over_seeds, overrides

LATER = "{train: [campus], epochs: 6, optim: %s}, {train: [station], epochs: 6, optim: %s}"
GENTLE = "{lr: 1.0e-3, warmup_epochs: 1}"
REMEMBER = "{ewc: {}, si: {}, mas: {}, ebll: {code: 128}}"
STILL = "{train: [plaza], epochs: 1, optim: {lr: 1.0e-12, batch_norm: freeze_all}}"


@dataclass(frozen=True)
class Row:
    """One line of the table: a method, and which run it goes on from.

    Attributes:
        method: in YAML.
        start: `plaza` as it is, `before_pooling`: with another autoencoder, `none`: plaza is learnt by the run itself,
            for methods that keep more of it than a model.
        batch_norm: of the later stages.
        losses: further changes of the recipe.

    """

    method: str
    start: str = "plaza"
    batch_norm: str = "train"
    losses: tuple[str, ...] = ()


OF_SAMPLES = ("losses.softmax.weight=0.143", "losses.triplet=null")
"""As published in DKP: the image is one of seven that are classified, and all triplets are of samples."""

ROWS = {
    "fine-tune": Row("{}"),
    "frozen batch-norm statistics": Row("{}", batch_norm="freeze_stats"),
    "LwF ce_dist": Row("{lwf: {ce_dist: 1.0}}"),
    "LwF ce_dist x T^2": Row("{lwf: {ce_dist: 1.0, scale: squared}}"),
    "LwF tr_dist": Row("{lwf: {tr_dist: 1.0}}"),
    "LwF ce_dist + tr_dist": Row("{lwf: {ce_dist: 1.0, tr_dist: 1.0}}"),
    "LwF heads (as published)": Row("{lwf: {heads: 1.0}}", start="none"),
    "EBLL mse": Row("{lwf: {tr_dist: 1.0}, ebll: {code: 128}}"),
    "EBLL bce": Row("{lwf: {tr_dist: 1.0}, ebll: {code: 128, distance: bce}}"),
    "EBLL mse x 1000": Row("{lwf: {tr_dist: 1.0}, ebll: {code: 128, weight: 1000.0}}"),
    "EBLL before pooling, mse": Row(
        "{lwf: {tr_dist: 1.0}, ebll: {code: 128, place: before_pooling}}", "before_pooling"
    ),
    "EWC": Row("{ewc: {}}"),
    "SI": Row("{si: {}}"),
    "MAS": Row("{mas: {}}"),
    "feature distillation": Row("{feature: {weight: 10.0}}"),
    "affinity": Row("{affinity: {}}"),
    "average 0.5": Row("{average: {alpha: 0.5}}"),
    "average 0.7": Row("{average: {alpha: 0.7}}"),
    "average 0.75": Row("{average: {alpha: 0.75}}"),
    "average 0.8": Row("{average: {alpha: 0.8}}"),
    "affinity + average 0.5": Row("{affinity: {}, average: {alpha: 0.5}}"),
    "affinity + average 0.7": Row("{affinity: {}, average: {alpha: 0.7}}"),
    "LSTKC": Row("{affinity: {rectified: true}, average: {alpha: adaptive}}"),
    "LSTKC++": Row("{lstkc_pp: {}}"),
    "DASK": Row("{affinity: {}, average: {alpha: 0.5}, dask: {}}", start="none"),
    "DKP": Row("{dkp: {}, average: {alpha: 0.5}}", start="none", losses=OF_SAMPLES),
    "DKP without relations": Row("{dkp: {relation: 0.0}, average: {alpha: 0.5}}", start="none", losses=OF_SAMPLES),
    "DKP beside softmax and triplet": Row("{dkp: {}, average: {alpha: 0.5}}", start="none"),
    "DKP++": Row(
        "{dkp: {relation: 1.5, joint: 0.75}, affinity: {weight: 0.75, images: transferred}, average: {alpha: 0.5}, "
        "dask: {weight: 1.0}}",
        start="none",
        losses=OF_SAMPLES,
    ),
    "replay": Row("{replay: {}}", start="none"),
    "DER++": Row("{replay: {match: 0.3}}", start="none"),
}


BOUNDS = ("experts", "joint")


def run_row(name: str, out: Path, common: list[str]) -> None:
    """Do one run of the table, and what it starts from."""
    row, plaza, folder = ROWS[name], out / "plaza", out / folder_name(name)
    gentle = GENTLE.replace("}", f", batch_norm: {row.batch_norm}}}")
    later, method = LATER % (gentle, gentle), f"method={row.method}"
    if row.start == "none":
        return once(folder, [*common, f"stages=[{PLAZA}, {later}]", method, *row.losses])
    once(plaza, [*common, f"stages=[{PLAZA}]", f"method={REMEMBER}"])
    if row.start != "plaza":
        other = out / row.start
        once(other, [*common, f"init_from={plaza}", f"stages=[{STILL}]", method])
        plaza = other
    return once(folder, [*common, f"init_from={plaza}", f"stages=[{later}]", method])


def run_bound(name: str, out: Path, common: list[str]) -> None:
    """Learn from nothing: all sites at once, or each later site alone for as long as plaza.

    An epoch of all sites shows two and a half times as many images as one of plaza.
    """
    if name == "joint":
        once(out / "joint", [*common, "stages=[{train: [plaza, campus, station], epochs: 12}]"])
        return
    once(out / "plaza", [*common, f"stages=[{PLAZA}]", f"method={REMEMBER}"])
    for site in ("campus", "station"):
        once(out / f"{site}_alone", [*common, f"stages=[{PLAZA.replace('plaza', site)}]"])


# ---- the table


def table(out: Path) -> str:
    """Return what there is as Markdown; columns: plaza and campus after campus, all three and their mean at the end."""
    heads = ("method", "seeds", "plaza, after campus", "campus, after campus", *SITES, "mean")
    found = [line(*heads), "|" + "---|" * len(heads)]
    alone = finished(out, "plaza")
    if alone:
        scores = [[*row[:2], *row, np.mean(row)] for row in map(_sites, alone)]
        found.append(_line("plaza alone, before the others", scores))
    known = {name: [_both_ends(run) for run in finished(out, folder_name(name))] for name in ROWS}
    found += [_line(name, rows) for name, rows in known.items() if rows]
    experts = [finished(out, folder) for folder in ("plaza", "campus_alone", "station_alone")]
    if all(experts):
        own = [[last_scores(run)[site] for run in runs] for site, runs in zip(SITES, experts, strict=True)]
        rows = list(zip(*own, strict=False))
        found.append(_line("experts, a model for each site", [["", "", *row, np.mean(row)] for row in rows]))
    if joint := finished(out, "joint"):
        found.append(_line("joint, all sites at once", [["", "", *_sites(run), np.mean(_sites(run))] for run in joint]))
    return "\n".join(found)


def _sites(run: Path) -> list[float]:
    """Return the mAP of each site at the end of a run, in percent."""
    scores = last_scores(run)
    return [scores[site] for site in SITES]


def _both_ends(run: Path) -> list[float]:
    """Return plaza and campus after campus, and all sites and their mean at the end."""
    middle, end = json.loads((run / "continual_metrics.json").read_text())["mAP"]["matrix"][-2:]
    return [middle[0], middle[1], *end, float(np.mean(end))]


def _line(name: str, rows: Sequence[Sequence[float | str]]) -> str:
    columns = [[value for value in column if not isinstance(value, str)] for column in zip(*rows, strict=True)]
    return line(name, str(len(rows)), *map(over_seeds, columns))


def main() -> None:
    """Read the command line, run, and print the table so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sites", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", default=[*ROWS, *BOUNDS])
    parser.add_argument("--table", action="store_true", help="only print what there is")
    given = parser.parse_args()
    for seed in [] if given.table else given.seeds:
        for name in given.rows:
            out, common = given.out / f"seed-{seed}", overrides(given.sites.resolve(), seed)
            (run_bound if name in BOUNDS else run_row)(name, out, common)
            print(table(given.out), flush=True)
    print(table(given.out))


if __name__ == "__main__":
    main()
