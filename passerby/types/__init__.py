"""The tables that everything speaks: frozen dataclasses of parallel arrays.

Columns, not lists of tuples: filters are one line, loader workers share the memory, and the same table travels from the
folder to the features to the report. Nothing here imports torch at run time, so reading a folder stays quick.
"""

from passerby.types.cameras import NO_CAMERAS, CameraTable, UnknownCamera, require_known_cameras, unknown_cameras_note
from passerby.types.columns import UNKNOWN, Bools, Doubles, Floats, Ints, Words
from passerby.types.embeddings import Embeddings, InputMask, Unit, read_input_mask, read_unit
from passerby.types.images import Dataset, Layout, Split, SplitName
from passerby.types.scores import (
    AnyRerank,
    CameraNorm,
    CameraRerank,
    Cameras,
    Clothes,
    EvaluationRules,
    Protocol,
    Queries,
    Rerank,
    Scores,
    camera_rule,
    mean_scores,
    read_camera_norm,
    read_clothes,
)
from passerby.types.tracklets import TRACKLETS_FILE, Tracklets
from passerby.types.training import Batch, Inputs, Output, Stage
from passerby.types.vectors import VECTOR_NAMES, VectorName, present_name

__all__ = [
    "NO_CAMERAS",
    "TRACKLETS_FILE",
    "UNKNOWN",
    "VECTOR_NAMES",
    "AnyRerank",
    "Batch",
    "Bools",
    "CameraNorm",
    "CameraRerank",
    "CameraTable",
    "Cameras",
    "Clothes",
    "Dataset",
    "Doubles",
    "Embeddings",
    "EvaluationRules",
    "Floats",
    "InputMask",
    "Inputs",
    "Ints",
    "Layout",
    "Output",
    "Protocol",
    "Queries",
    "Rerank",
    "Scores",
    "Split",
    "SplitName",
    "Stage",
    "Tracklets",
    "Unit",
    "UnknownCamera",
    "VectorName",
    "Words",
    "camera_rule",
    "mean_scores",
    "present_name",
    "read_camera_norm",
    "read_clothes",
    "read_input_mask",
    "read_unit",
    "require_known_cameras",
    "unknown_cameras_note",
]
