"""Finished tracklets on disk: written in parts, so that a killed run continues, and joined at the end.

DIR/crops/CAMERA/PART/*.jpg   the crops
DIR/part-00000.npz ...        tracklets so far, removed when all are joined
DIR/progress.json             settings of the run and where it stands, written after each part
DIR/tracklets.npz             the result
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from passerby.data.decoding import Pixels, decode, decode_bytes
from passerby.distances.units import unit_rows
from passerby.encoders import Model
from passerby.errors import UserError
from passerby.files import read_json, write_file, write_json
from passerby.tracking.candidates import BoxCandidate
from passerby.tracking.robust_mean import robust_mean
from passerby.tracking.tracks import BoxTrack, Written
from passerby.types import TRACKLETS_FILE, Floats, Tracklets

PROGRESS = "progress.json"
FORMAT = 1


@dataclass(frozen=True)
class TrackletOrigin:
    """Where tracklets come from.

    Attributes:
        camera: its name.
        clip: name of the video or stream.
        has_clock: whether the times are of a clock common to all cameras.
        dataset: name of the site, `""` = unknown.
        model: stamp of the model.

    """

    camera: str
    clip: str
    has_clock: bool = False
    dataset: str = ""
    model: str = ""


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Attributes:
        parts: number of parts on disk.
        count: tracklets in them.
        resume_frame: first frame of which an open track needs boxes; None = from the beginning.
        written: tracklets in the parts that have boxes from that frame on.
        complete: whether the result is written.

    """

    parts: int = 0
    count: int = 0
    resume_frame: int | None = None
    written: tuple[Written, ...] = ()
    complete: bool = False


def run_settings(out: Path) -> dict[str, object]:
    """Return the settings of the run that wrote a folder of tracklets.

    Raises:
        UserError: the folder has none.

    """
    content = read_json(out / PROGRESS) if (out / PROGRESS).is_file() else None
    settings = content.get("settings") if isinstance(content, dict) else None
    if not isinstance(settings, dict):
        raise UserError(f"{out} has no {PROGRESS} of `passerby tracklets`, so the source of its tracklets is unknown")
    return settings


class TrackletFolder:
    """The folder of a run.

    Args:
        out: the folder.
        settings: everything that the result depends on, as plain values; a run continues only under equal ones.

    Raises:
        UserError: the folder holds tracklets of other settings.

    """

    def __init__(self, out: str | Path, settings: dict[str, object]) -> None:
        self.out = Path(out)
        self.settings = settings | {"format": FORMAT}
        self.progress = self._read()
        self._written = list(self.progress.written)

    def _read(self) -> RunState:
        file = self.out / PROGRESS
        if not file.is_file():
            if (self.out / TRACKLETS_FILE).exists():
                raise UserError(f"{self.out} holds tracklets of another origin; give another folder by -o")
            return RunState()
        content = read_json(file)
        if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
            raise UserError(f"{file} is not as `passerby tracklets` writes it; give another folder by -o")
        earlier = content["settings"]
        different = sorted(key for key in {*earlier, *self.settings} if earlier.get(key) != self.settings.get(key))
        if different:
            values = ", ".join(
                f"{key}: {earlier.get(key)!r} there, {self.settings.get(key)!r} now" for key in different
            )
            raise UserError(f"{self.out} holds tracklets of other settings ({values}); give another folder by -o")
        try:
            written = tuple(Written(**values) for values in content["written"])
            frame = content["resume_frame"]
            return RunState(content["parts"], content["count"], frame, written, content["complete"])
        except (KeyError, TypeError) as error:
            raise UserError(f"{file} is not as `passerby tracklets` writes it; give another folder by -o") from error

    def write(
        self,
        tracks: Sequence[BoxTrack],
        crops: Sequence[Sequence[BoxCandidate]],
        *,
        origin: TrackletOrigin,
        model: Model,
        open_from: int | None,
    ) -> None:
        """Embed the crops of finished tracks and write them as the next part.

        Args:
            tracks: at least one.
            crops: of each track, at least one.
            origin: of the tracks.
            model: makes the vectors.
            open_from: first frame of the earliest open track, None = there is none.

        """
        number = self.progress.parts
        table = self._table(tracks, crops, origin, model, number)
        table.save(self._part(number))
        self._written += [Written(track.id, track.first_frame, track.last_frame) for track in tracks]
        resume = open_from if open_from is not None else max(track.last_frame for track in tracks) + 1
        self._written = [old for old in self._written if old.last_frame >= resume]
        self._save(RunState(number + 1, self.progress.count + len(tracks), resume, tuple(self._written)))

    def _part(self, number: int) -> Path:
        return self.out / f"part-{number:05d}.npz"

    def _save(self, progress: RunState) -> None:
        self.progress = progress
        write_json(self.out / PROGRESS, {"settings": self.settings} | asdict(progress))

    def _table(
        self,
        tracks: Sequence[BoxTrack],
        crops: Sequence[Sequence[BoxCandidate]],
        origin: TrackletOrigin,
        model: Model,
        number: int,
    ) -> Tracklets:
        names = [f"{origin.clip}/{track.name}" for track in tracks]
        paths = self._write_crops(tracks, crops, self.out / "crops" / plain_name(origin.camera) / f"{number:05d}")
        flat = [candidate for candidates in crops for candidate in candidates]
        vectors = _unit_vectors(model.embed([_pixels(candidate) for candidate in flat]))
        start = np.cumsum([0, *map(len, crops)])
        return Tracklets(
            vectors=np.stack([robust_mean(vectors[begin:end]) for begin, end in itertools.pairwise(start)]),
            camera=np.array([track.camera or origin.camera for track in tracks]),
            name=np.array(names),
            first=np.array([track.first for track in tracks]),
            last=np.array([track.last for track in tracks]),
            has_clock=np.array([origin.has_clock and not np.isnan(track.first) for track in tracks]),
            pid=np.array([track.pid for track in tracks]),
            crop_start=start,
            crop_path=np.array(paths),
            crop_time=np.array([candidate.time for candidate in flat]),
            crop_vectors=vectors,
            dataset=origin.dataset,
            model=origin.model,
        )

    def _write_crops(
        self, tracks: Sequence[BoxTrack], crops: Sequence[Sequence[BoxCandidate]], folder: Path
    ) -> list[str]:
        """Write the crops that no file holds yet, and return the files of all."""
        paths = []
        for row, (track, candidates) in enumerate(zip(tracks, crops, strict=True)):
            for candidate in candidates:
                path = Path(candidate.path or folder / f"{row:04d}_{plain_name(track.id)}_{candidate.frame}.jpg")
                if not candidate.path:
                    folder.mkdir(parents=True, exist_ok=True)
                    write_file(path, candidate.jpeg)
                paths.append(str(path))
        return paths

    def finish(self) -> Tracklets:
        """Join the parts to the result, remove them, and return the result, sorted by first time and name.

        Raises:
            UserError: there is no part.

        """
        if not self.progress.parts:
            raise UserError("no tracklet with a usable crop")
        if not self.progress.complete:
            whole = Tracklets.join([Tracklets.load(self._part(number)) for number in range(self.progress.parts)])
            order = np.lexsort([whole.name, whole.first])
            whole.select(order).save(self.out / TRACKLETS_FILE)
            self._save(RunState(self.progress.parts, len(whole), complete=True))
        for number in range(self.progress.parts):
            self._part(number).unlink(missing_ok=True)
        return Tracklets.load(self.out / TRACKLETS_FILE)


def _pixels(candidate: BoxCandidate) -> Pixels:
    return decode(candidate.path) if candidate.path else decode_bytes(candidate.jpeg)


def _unit_vectors(vectors: Floats) -> Floats:
    """Return vectors (M, D) at unit length; one of zeros, which has no direction, becomes the first axis."""
    units = unit_rows(vectors)
    units[~units.any(axis=1), 0] = 1
    return units


def plain_name(text: str) -> str:
    """Return text as a part of a file name: letters, digits, `-`, `_` and `.`, at most 60 characters.

    >>> plain_name("door/3 left")
    'door_3_left'
    """
    return re.sub(r"[^\w.-]", "_", text)[:60].strip(".") or "_"
