"""Identities of generated clips, with and without each constraint, against plain clustering of crops.

python benchmarks/association.py 0287.xml osnet.onnx --sites plaza campus station --seeds 0 1 2 --work DIR

Every site is made of people and cameras of its own, and no model was trained on any. What is in DIR already is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from passerby.association.associate import AssociationSettings, associate
from passerby.association.frame_scores import TruthFrame, score_frames, true_identities
from passerby.association.scores import score_identities
from passerby.association.topology import Topology, read_topology
from passerby.clustering.algorithms import clustering_settings
from passerby.clustering.findings import find_clusters
from passerby.clustering.quality import against_truth
from passerby.commands.tracklets import TrackletsRequest, make_all_tracklets
from passerby.data.synthetic.clips import TOPOLOGY, make_clips
from passerby.device import InferenceSettings
from passerby.encoders import load_model
from passerby.errors import UserError
from passerby.tracking.robust_mean import robust_mean
from passerby.tracking.truth import read_truth
from passerby.types import Embeddings, Ints, Tracklets

COLUMNS = ("F", "link precision", "link recall", "IDF1", "HOTA", "count error")


@dataclass(frozen=True, eq=False)
class SiteTables:
    """The tracklets of a site by one model, their frames, and the true travel times."""

    tracklets: Tracklets
    frames: list[TruthFrame]
    topology: Topology


def prepare(work: Path, site: str, seed: int, model: Path, first: Path) -> SiteTables:
    """Return the tracklets of a site; crops are those of the first model, vectors those of `model`."""
    place = make_clips(work / f"{site}-{seed}", site, seed=seed)
    out = work / "tracklets" / first.stem / f"{site}-{seed}"
    request = TrackletsRequest(place, None, out, first)
    made = make_all_tracklets(request, inference=InferenceSettings(), console=Console(quiet=True))
    folders, tables = [folder for folder, _ in made], [table for _, table in made]
    frames = read_truth(place, folders, tables)
    tracklets = Tracklets.join(tables)
    tracklets = replace(tracklets, pid=true_identities(frames, len(tracklets)))
    if model != first:
        tracklets = with_vectors(tracklets, work / "tracklets" / model.stem / f"{site}-{seed}.npy", model)
    return SiteTables(tracklets, frames, read_topology(place / TOPOLOGY))


def with_vectors(tracklets: Tracklets, file: Path, model: Path) -> Tracklets:
    """Return the tracklets with the vectors of another model for the same crops."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        from passerby.data.decoding import decode

        vectors = load_model(model).embed([decode(path) for path in tracklets.crop_path.tolist()])
        np.save(file, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    vectors = np.load(file)
    means = [robust_mean(vectors[tracklets.crops(row)]) for row in range(len(tracklets))]
    return replace(tracklets, vectors=np.stack(means), crop_vectors=vectors, model=model.stem)


def without_times(tracklets: Tracklets) -> Tracklets:
    """Return the tracklets, no two of which compare in time."""
    nothing = np.full(len(tracklets), np.nan)
    return replace(tracklets, first=nothing, last=nothing, has_clock=np.zeros(len(tracklets), np.bool_))


def moments(tracklets: Tracklets) -> Tracklets:
    """Return the tracklets as moments, no two of which overlap at a camera: no cannot-links, but travel times."""
    return replace(tracklets, last=tracklets.first)


def single_crops(tracklets: Tracklets) -> Tracklets:
    """Return the tracklets with the vector of the crop in the middle of each."""
    middle = (tracklets.crop_start[:-1] + tracklets.crop_start[1:]) // 2
    return replace(tracklets, vectors=tracklets.crop_vectors[middle])


def of_crops(tables: SiteTables, kind: str) -> Ints:
    """Return the identities (N,) of tracklets by plain clustering of crops: the cluster of most of their crops."""
    tracklets = tables.tracklets
    _, cam = np.unique(tracklets.camera, return_inverse=True)
    row = tracklets.crop_row
    role = np.full(len(row), "")
    table = Embeddings(tracklets.crop_vectors, np.full(len(row), -1), cam[row].astype(np.int64), role)
    try:
        labels = find_clusters(table, clustering_settings(kind)).clusters.labels
    except UserError:  # hardly anything but noise
        labels = np.full(len(row), -1)
    identity = np.empty(len(tracklets), np.int64)
    for number in range(len(tracklets)):
        own = labels[tracklets.crops(number)]
        own = own[own >= 0]
        identity[number] = np.bincount(own).argmax() if len(own) else labels.max() + 1 + number
    return identity


Variant = Callable[[SiteTables], Ints]


def _associated(change: Callable[[Tracklets], Tracklets] = lambda table: table, **settings: object) -> Variant:
    def run(tables: SiteTables) -> Ints:
        chosen = {name: tables.topology if value == "true" else value for name, value in settings.items()}
        return associate(change(tables.tracklets), AssociationSettings(**chosen)).identity  # type: ignore[arg-type]

    return run


VARIANTS: dict[str, Variant] = {
    "tracklets, cannot-links, true travel times": _associated(topology="true"),
    "the same without cannot-links (tracklets as moments)": _associated(moments, topology="true"),
    "cannot-links, travel times learnt (the default)": _associated(),
    "without travel times": _associated(topology=Topology()),
    "without times at all": _associated(without_times),
    "true travel times, no camera norm": _associated(topology="true", camera_norm="none"),
    "true travel times, one crop per tracklet": _associated(single_crops, topology="true"),
    "crops, average linkage": lambda tables: of_crops(tables, "linkage"),
    "crops, DBSCAN with its defaults": lambda tables: of_crops(tables, "dbscan"),
}


def scores_of(tables: SiteTables, identity: Ints) -> list[float]:
    """Return the columns of a row."""
    pid = tables.tracklets.pid
    pairs, links = against_truth(identity, pid), score_identities(tables.tracklets, identity)
    assert pairs is not None
    assert links is not None
    frames = score_frames(tables.frames, identity)
    people = len(np.unique(pid))
    error = (len(np.unique(identity)) - people) / people
    return [pairs.f, links.precision, links.recall, frames.idf1, frames.hota, error]


def rows(model: Path, first: Path, sites: list[str], seeds: list[int], work: Path) -> Iterator[str]:
    """Yield the rows of the table of one model."""
    tables = [prepare(work, site, seed, model, first) for site in sites for seed in seeds]
    tracklets = [len(each.tracklets) for each in tables]
    yield f"{model.stem}: {len(tables)} sites, {min(tracklets)} to {max(tracklets)} tracklets\n"
    yield "| | " + " | ".join(COLUMNS) + " |"
    yield "|---|" + "---|" * len(COLUMNS)
    for name, variant in VARIANTS.items():
        values = np.array([scores_of(each, variant(each)) for each in tables])
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(len(COLUMNS))
        cells = [f"{mean:.2f} ± {deviation:.2f}" for mean, deviation in zip(values.mean(axis=0), spread, strict=True)]
        cells[-1] = f"{values[:, -1].mean():+.0%} (±{np.abs(values[:, -1]).mean():.0%})"
        yield f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--sites", nargs="+", default=["plaza", "campus", "station"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    for model in options.models:
        print("\n".join(rows(model, options.models[0], options.sites, options.seeds, options.work)), flush=True)
        print()


if __name__ == "__main__":
    main()
