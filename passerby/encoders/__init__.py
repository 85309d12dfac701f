"""Trained models in use: load them, select a data set, embed it or loose images."""

from passerby.encoders.cameras import UNGIVEN, GivenCamera, unknown_camera_note
from passerby.encoders.dataset import select_dataset
from passerby.encoders.embedding import embed_dataset, embed_images
from passerby.encoders.listing import images_of, read_split_names
from passerby.encoders.loading import load_model, load_trained
from passerby.encoders.model import Model, Progress, Trained, TrainedOnnx, require_maskless
from passerby.encoders.stamps import model_stamp

__all__ = [
    "UNGIVEN",
    "GivenCamera",
    "Model",
    "Progress",
    "Trained",
    "TrainedOnnx",
    "embed_dataset",
    "embed_images",
    "images_of",
    "load_model",
    "load_trained",
    "model_stamp",
    "read_split_names",
    "require_maskless",
    "select_dataset",
    "unknown_camera_note",
]
