"""Identities of generated clips from noisy boxes without ids, tracked by ByteTrack, against exact tracks.

python benchmarks/noisy_detections.py 0287.xml --sites plaza campus --seeds 0 1 2 --work DIR

The boxes are those of the truth with corners that move by 4 % of the size (standard deviation), of which 15 % are
missing, and one false box in five frames. What is in DIR already is kept.
"""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from association import SiteTables, prepare, scores_of
from rich.console import Console

from passerby.association.associate import associate
from passerby.association.frame_scores import SAME_BOX, TruthFrame, true_identities
from passerby.commands.tracklets import TrackletsRequest, make_all_tracklets
from passerby.data.synthetic.clips import CLOCKS
from passerby.device import InferenceSettings
from passerby.tracking.truth import read_truth
from passerby.types import Tracklets

MOVED, MISSING, FALSE_BOXES = 0.04, 0.15, 0.2
"""Standard deviation of the corners over the size of the box; share that is missing; false boxes per frame."""
COLUMNS = (
    "tracklets",
    "purity",
    "tracklets per visit",
    "of nobody",
    "F",
    "link precision",
    "link recall",
    "IDF1",
    "HOTA",
)


def write_detections(place: Path, out: Path, seed: int) -> Path:
    """Write the clips of a site with noisy boxes in place of the truth, frames by links."""
    if out.is_dir():
        return out
    rng = np.random.default_rng(seed)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    for camera in sorted(path.parent.parent for path in place.glob("*/gt/gt.txt")):
        folder = part / camera.name
        (folder / "det").mkdir(parents=True)
        (folder / "img1").symlink_to((camera / "img1").resolve())
        shutil.copy(camera / "seqinfo.ini", folder)
        settings = dict(line.split("=") for line in (camera / "seqinfo.ini").read_text().split() if "=" in line)
        truth = np.loadtxt(camera / "gt" / "gt.txt", delimiter=",", ndmin=2)
        size = int(settings["imWidth"]), int(settings["imHeight"])
        lines = noisy_boxes(truth, int(settings["seqLength"]), size, rng)
        (folder / "det" / "det.txt").write_text("".join(lines))
    shutil.copy(place / CLOCKS, part)
    part.rename(out)
    return out


def noisy_boxes(truth: np.ndarray, frames: int, size: tuple[int, int], rng: np.random.Generator) -> list[str]:
    """Return lines of detections from true boxes (N, 9) of a camera, with false ones of the size of true ones."""
    kept = truth[rng.random(len(truth)) >= MISSING]
    kept[:, 2:6] += rng.normal(scale=MOVED, size=(len(kept), 4)) * kept[:, [4, 5, 4, 5]]
    false = truth[rng.integers(len(truth), size=rng.poisson(FALSE_BOXES * frames))].copy()
    false[:, 0] = rng.integers(1, frames + 1, len(false))
    false[:, 2] = rng.uniform(0, size[0] - false[:, 4])
    false[:, 3] = rng.uniform(0, np.maximum(size[1] - false[:, 5], 1))
    score = np.concatenate([rng.uniform(0.6, 1, len(kept)), rng.uniform(0.4, 0.8, len(false))])
    rows = np.concatenate([kept, false])
    order = np.lexsort((rows[:, 2], rows[:, 0]))
    return [
        ",".join([str(int(rows[row, 0])), "-1", *(f"{value:.1f}" for value in rows[row, 2:6]), f"{score[row]:.3f}\n"])
        for row in order
    ]


def from_detections(exact: SiteTables, place: Path, work: Path, model: Path, seed: int) -> SiteTables:
    """Return the tracklets of ByteTrack on noisy boxes of the clips at a place."""
    source = write_detections(place, work / "detections" / place.name, seed)
    request = TrackletsRequest(source, None, work / "tracklets-of-detections" / model.stem / place.name, model)
    made = make_all_tracklets(request, inference=InferenceSettings(), console=Console(quiet=True))
    folders, tables = [folder for folder, _ in made], [table for _, table in made]
    frames = read_truth(place, folders, tables)
    tracklets = Tracklets.join(tables)
    pid = true_identities(frames, len(tracklets))
    return SiteTables(replace(tracklets, pid=pid), frames, exact.topology)


def purity(frames: Sequence[TruthFrame], count: int) -> float:
    """Return the share of the boxes of tracklets that are of the main person of their tracklet; false ones are not."""
    votes: list[Counter[int]] = [Counter() for _ in range(count)]
    for frame in frames:
        for column in np.flatnonzero(frame.rows >= 0).tolist():
            overlap = frame.overlap[:, column]
            best = int(overlap.argmax()) if len(overlap) else -1
            person = int(frame.truth[best]) if best >= 0 and overlap[best] >= SAME_BOX else -1
            votes[int(frame.rows[column])][person] += 1
    main = sum(max((number for person, number in vote.items() if person >= 0), default=0) for vote in votes)
    return main / sum(vote.total() for vote in votes)


def row(tables: SiteTables, visits: int) -> list[float]:
    """Return the columns of a row."""
    pid = tables.tracklets.pid
    f, precision, recall, idf1, hota, _ = scores_of(tables, associate(tables.tracklets).identity)
    track = [len(pid), purity(tables.frames, len(pid)), int((pid >= 0).sum()) / visits, int((pid < 0).sum())]
    return [*track, f, precision, recall, idf1, hota]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--sites", nargs="+", default=["plaza", "campus", "station"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    exact, tracked = [], []
    for site in options.sites:
        for seed in options.seeds:
            tables = prepare(options.work, site, seed, options.model, options.model)
            exact.append(row(tables, len(tables.tracklets)))
            place = options.work / f"{site}-{seed}"
            noisy = from_detections(tables, place, options.work, options.model, seed)
            tracked.append(row(noisy, len(tables.tracklets)))
    print("| | " + " | ".join(COLUMNS) + " |\n|---|" + "---|" * len(COLUMNS))
    for name, values in (("exact tracks", np.array(exact)), ("ByteTrack on noisy boxes", np.array(tracked))):
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(len(COLUMNS))
        cells = [f"{mean:.2f} ± {deviation:.2f}" for mean, deviation in zip(values.mean(axis=0), spread, strict=True)]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
