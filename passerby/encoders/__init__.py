"""Trained models in use: load them, select a data set, embed it or loose images."""

from passerby.encoders.cameras import UNGIVEN, GivenCamera, unknown_camera_note
from passerby.encoders.dataset import select_dataset
from passerby.encoders.embedding import embed_dataset, embed_images, readable_vectors
from passerby.encoders.listing import images_of, list_dataset, list_images, read_split_names
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
    "list_dataset",
    "list_images",
    "load_model",
    "load_trained",
    "model_stamp",
    "read_split_names",
    "readable_vectors",
    "require_maskless",
    "select_dataset",
    "unknown_camera_note",
]
