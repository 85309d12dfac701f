"""The algorithm and camera norm of `passerby cluster`: as given, or by the calibration of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from passerby.clustering.algorithms import AnyClustering, LinkageSettings, clustering_settings
from passerby.clustering.findings import usual_camera_norm
from passerby.errors import UserError
from passerby.thresholds import accepted_distance, domain_note
from passerby.types import CameraNorm, Embeddings


@dataclass(frozen=True)
class ClusteringChoice:
    """Settings of a clustering.

    Attributes:
        settings: of the algorithm.
        camera_norm: what is taken out of the vectors of each camera.
        notes: sentences on the threshold for the user.

    """

    settings: AnyClustering
    camera_norm: CameraNorm
    notes: tuple[str, ...] = ()


def choose_clustering(
    table: Embeddings,
    *,
    kind: str = "linkage",
    assignments: Sequence[str] = (),
    camera_norm: CameraNorm | None = None,
    run: Path | None = None,
    accept: float | None = None,
) -> ClusteringChoice:
    """Return the settings of a clustering, with the threshold of a calibrated model where a rate is given.

    Args:
        table: the vectors.
        kind: name of the algorithm.
        assignments: `key=value` that change its settings.
        camera_norm: None = that of the calibration, else the usual one of the algorithm.
        run: the model of the vectors; needed for `accept`, and has no effect else.
        accept: false accept rate of the threshold.

    Raises:
        UserError: no such algorithm or setting, a rate without model, a model that is not calibrated for it, or a
            threshold or camera norm that contradicts the calibration.

    """
    settings = clustering_settings(kind, assignments)
    if accept is None:
        if run is not None:
            raise UserError("--run has no effect without --accept RATE, the false accept rate of the threshold")
        return ClusteringChoice(settings, camera_norm or usual_camera_norm(table, settings))
    if run is None:
        raise UserError("--accept needs the calibrated model of the vectors: add --run MODEL")
    if not isinstance(settings, LinkageSettings):
        raise UserError(f"--accept is a threshold of average linkage, and the algorithm is {kind}; use --kind linkage")
    if settings.threshold != "auto":
        raise UserError("--accept finds the threshold of a false accept rate; leave out threshold=...")
    distance, calibration = accepted_distance(run, accept)
    if camera_norm not in (None, calibration.camera_norm):
        raise UserError(
            f"the model is calibrated with camera norm {calibration.camera_norm!r}, so --camera-norm {camera_norm} "
            "does not fit its thresholds; calibrate it with that one"
        )
    note = domain_note(calibration, table.dataset)
    return ClusteringChoice(
        settings.model_copy(update={"threshold": distance}), calibration.camera_norm, () if note is None else (note,)
    )
