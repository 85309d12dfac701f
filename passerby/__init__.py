"""passerby: person re-identification from a folder of crops to a trained, exactly scored, pictured model.

The names below are loaded when they are first used, so that `import passerby` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from passerby.api.encoder import Encoder, distance, embed, load_model, search
    from passerby.api.reading import read_dataset
    from passerby.api.running import adapt, export, train
    from passerby.api.vectors import cluster, rerank
    from passerby.association.online import Associator
    from passerby.errors import UserError
    from passerby.evaluation import evaluate
    from passerby.gallery import GalleryRows, Where, open_gallery
    from passerby.recipe import Recipe, load_recipe
    from passerby.tracking import TrackletWriter
    from passerby.types import CameraRerank, Dataset, Embeddings, Rerank, Scores, Split, Tracklets

__version__ = "0.1.0"

__all__ = [
    "Associator",
    "CameraRerank",
    "Dataset",
    "Embeddings",
    "Encoder",
    "GalleryRows",
    "Recipe",
    "Rerank",
    "Scores",
    "Split",
    "TrackletWriter",
    "Tracklets",
    "UserError",
    "Where",
    "adapt",
    "cluster",
    "distance",
    "embed",
    "evaluate",
    "export",
    "load_model",
    "load_recipe",
    "open_gallery",
    "read_dataset",
    "rerank",
    "search",
    "train",
]

_MODULES = {
    "passerby.api.encoder": ("Encoder", "distance", "embed", "load_model", "search"),
    "passerby.api.reading": ("read_dataset",),
    "passerby.api.running": ("adapt", "export", "train"),
    "passerby.api.vectors": ("cluster", "rerank"),
    "passerby.association.online": ("Associator",),
    "passerby.errors": ("UserError",),
    "passerby.evaluation": ("evaluate",),
    "passerby.gallery": ("GalleryRows", "Where", "open_gallery"),
    "passerby.recipe": ("Recipe", "load_recipe"),
    "passerby.tracking": ("TrackletWriter",),
    "passerby.types": ("CameraRerank", "Dataset", "Embeddings", "Rerank", "Scores", "Split", "Tracklets"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'passerby' has no attribute {name!r}")
    value: object = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
