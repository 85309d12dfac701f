"""A gallery that lasts: rows with vectors in a folder or a database, searched exactly and forgotten for good."""

from passerby.gallery.gallery import (
    AuditLine,
    Gallery,
    GalleryInfo,
    IndexedGallery,
    open_gallery,
    require_indexed,
    require_model,
)
from passerby.gallery.rows import EVERYTHING, GalleryRows, Hits, Where

__all__ = [
    "EVERYTHING",
    "AuditLine",
    "Gallery",
    "GalleryInfo",
    "GalleryRows",
    "Hits",
    "IndexedGallery",
    "Where",
    "open_gallery",
    "require_indexed",
    "require_model",
]
