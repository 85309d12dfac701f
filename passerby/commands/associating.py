"""`passerby associate`: read tracklets, find identities, write the table, the JSON and the sentences."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from passerby.association.associate import Association, AssociationSettings
from passerby.association.frame_scores import FrameScores, TruthFrame, true_identities
from passerby.association.scores import AssociationScores, score_identities
from passerby.association.topology import read_topology
from passerby.errors import UserError
from passerby.files import atomic_write
from passerby.thresholds import accepted_distance, domain_note, require_no_threshold
from passerby.types import TRACKLETS_FILE, CameraNorm, Tracklets

_SOURCES = {
    "given": "as given",
    "overlaps": "from the distances of tracklets that overlap in time at one camera",
    "silhouette": "with the best silhouette",
}


def read_tracklets(folders: Sequence[Path]) -> Tracklets:
    """Return the tracklets of folders of `passerby tracklets` as one table.

    Args:
        folders: with tracklets, or with such folders in them.

    Raises:
        UserError: a folder without tracklets, or tracklets that do not compare.

    """
    return Tracklets.join([Tracklets.load(folder) for place in folders for folder in _tracklet_folders(place)])


def with_truth(tracklets: Tracklets, folders: Sequence[Path], site: Path) -> tuple[Tracklets, list[TruthFrame]]:
    """Return the tracklets with the true identities of their boxes, and all frames.

    Args:
        tracklets: of `read_tracklets`.
        folders: as given to it.
        site: folder with the ground truth of each camera.

    Raises:
        UserError: no truth of a camera, or the source of the tracklets is not known.

    """
    from passerby.tracking.truth import read_truth

    places = [folder for place in folders for folder in _tracklet_folders(place)]
    frames = read_truth(site, places, [Tracklets.load(place) for place in places])
    return replace(tracklets, pid=true_identities(frames, len(tracklets))), frames


def _tracklet_folders(place: Path) -> list[Path]:
    """Return the folders below a place that hold tracklets, or the place itself."""
    if not place.is_dir() or (place / TRACKLETS_FILE).is_file():
        return [place]
    return [folder for folder in sorted(place.iterdir()) if (folder / TRACKLETS_FILE).is_file()] or [place]


def choose_association(
    tracklets: Tracklets,
    *,
    threshold: float | None = None,
    camera_norm: CameraNorm = "auto",
    topology: Path | None = None,
    run: Path | None = None,
    accept: float | None = None,
    device: str = "cpu",
) -> tuple[AssociationSettings, list[str]]:
    """Return the settings of an association, with the threshold of a calibrated model where a rate is given, and notes.

    Args:
        tracklets: of all cameras.
        threshold: largest mean distance; None = of the rate, or from the tracklets.
        camera_norm: that of a calibration replaces `auto`.
        topology: file of travel times; None = learnt.
        run: the model of the vectors; needed for `accept`, and has no effect else.
        accept: false accept rate of the threshold.
        device: where nearest neighbours are computed.

    Raises:
        UserError: a rate without model, a threshold beside a rate, or a model that is not calibrated for it.

    """
    travel = None if topology is None else read_topology(topology)
    if accept is None:
        if run is not None:
            raise UserError("--run has no effect without --accept RATE, the false accept rate of the threshold")
        return AssociationSettings(threshold, camera_norm, travel, device=device), []
    require_no_threshold(threshold)
    if run is None:
        raise UserError("--accept needs the calibrated model of the vectors: add --run MODEL")
    distance, calibration = accepted_distance(run, accept)
    if camera_norm not in ("auto", calibration.camera_norm):
        raise UserError(
            f"the model is calibrated with camera norm {calibration.camera_norm!r}, so --camera-norm {camera_norm} "
            "does not fit its thresholds; calibrate it with that one"
        )
    note = domain_note(calibration, tracklets.dataset)
    settings = AssociationSettings(distance, calibration.camera_norm, travel, device=device)
    return settings, [] if note is None else [note]


def write_identities(path: Path, association: Association) -> None:
    """Write a row for each tracklet: `identity,camera,tracklet,first,last,confidence,alone`; by identity and time."""
    table = association.tracklets
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["identity", "camera", "tracklet", "first", "last", "confidence", "alone"])
    for row in np.lexsort((table.name, table.camera, np.nan_to_num(table.first), association.identity)).tolist():
        times = [_seconds(float(value)) for value in (table.first[row], table.last[row])]
        names = [str(table.camera[row]), str(table.name[row])]
        confidence = f"{association.confidence[row]:.3f}"
        alone = str(bool(association.alone[row])).lower()
        writer.writerow([int(association.identity[row]), *names, *times, confidence, alone])
    with atomic_write(path) as file:
        file.write(text.getvalue().encode(errors="surrogatepass"))


def _seconds(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def describe_association(
    association: Association, scores: AssociationScores | None, by_frame: FrameScores | None = None
) -> list[str]:
    """Return the results as sentences."""
    sentences = list(_sentences(association, scores))
    if by_frame is not None:
        parts = f"HOTA {by_frame.hota:.3f} (detection {by_frame.deta:.3f}, association {by_frame.assa:.3f})"
        of = f"{by_frame.boxes:,} true boxes of {by_frame.frames:,} frames of all cameras"
        sentences.append(f"  by frame: IDF1 {by_frame.idf1:.3f}, {parts}; {of}")
    return sentences


def _sentences(association: Association, scores: AssociationScores | None) -> Iterator[str]:
    table, alone = association.tracklets, int(association.alone.sum())
    cameras = len(set(table.camera.tolist()))
    interval = f"{association.fewest:,} to {association.most:,} at thresholds up to a tenth smaller or larger"
    yield f"{association.count:,} people ({interval}) in {len(table):,} tracklets of {cameras} cameras"
    yield f"tracklets that fit no other: {alone:,}"
    yield f"threshold {association.threshold:.3f} {_SOURCES[association.source]}"
    yield from _travel_times(association)
    doubt = association.contradictions
    if doubt.many:
        yield (
            f"warning: {doubt.impossible} of {doubt.matches} pairs of tracklets that look like one person are at two "
            "cameras at one time, or too soon at the next one; unless views overlap, a clock or a travel time is wrong"
        )
    if scores is not None:
        yield f"against {scores.people:,} known people of {scores.tracklets:,} tracklets:"
        links = f"precision {scores.precision:.3f}, recall {scores.recall:.3f}, F {scores.f:.3f}"
        yield f"  links across cameras: {links}; IDF1 {scores.idf1:.3f}"
        merged, split = len(scores.merged), len(scores.split)
        yield f"  identities of several people: {merged}; people with several identities: {split}"


def _travel_times(association: Association) -> Iterator[str]:
    """Yield the travel times that were used, and of learnt ones the number of matches that they come from."""
    learnt = {entry.cameras: entry for entry in association.learnt}
    for entry in association.topology.travel:
        most = "" if entry.most is None else f", at most {entry.most:g} s"
        source = f", learnt from {learnt[entry.cameras].matches} matches" if entry.cameras in learnt else ""
        yield f"from {entry.cameras[0]} to {entry.cameras[1]}: at least {entry.least:g} s{most}{source}"
    unknown = [each for each in association.learnt if each.least is None]
    if unknown:
        pairs = ", ".join(f"{' and '.join(each.cameras)} ({each.matches} matches)" for each in unknown)
        yield f"no travel time could be learnt between {pairs}"


def association_json(
    association: Association, scores: AssociationScores | None, by_frame: FrameScores | None = None
) -> dict[str, object]:
    """Return the results as plain values, with the entries of each camera over time; unknown times are null."""
    table = association.tracklets
    order = np.lexsort((table.name, np.nan_to_num(table.first)))
    entries: dict[str, list[dict[str, object]]] = {str(camera): [] for camera in sorted(set(table.camera.tolist()))}
    for row in order.tolist():
        times = {name: _or_none(float(getattr(table, name)[row])) for name in ("first", "last")}
        entry: dict[str, object] = {
            "identity": int(association.identity[row]),
            "tracklet": str(table.name[row]),
            **times,
        }
        entries[str(table.camera[row])].append(entry)
    return {
        "people": association.count,
        "people_range": [association.fewest, association.most],
        "tracklets": len(table),
        "alone": int(association.alone.sum()),
        "threshold": association.threshold,
        "threshold_source": association.source,
        "topology": association.topology.model_dump(mode="json"),
        "learnt_travel_times": [asdict(each) for each in association.learnt],
        "contradictions": asdict(association.contradictions),
        "people_of_camera": {name: len({entry["identity"] for entry in rows}) for name, rows in entries.items()},
        "entries": entries,
        "scores": None if scores is None else _plain(asdict(scores)),
        "scores_by_frame": None if by_frame is None else asdict(by_frame),
    }


def _plain(values: dict[str, object]) -> dict[str, object]:
    return {name: _or_none(value) if isinstance(value, float) else value for name, value in values.items()}


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def scores_of(association: Association) -> AssociationScores | None:
    """Return the scores of an association, None where no true identity is known."""
    return score_identities(association.tracklets, association.identity)
