"""Stamps of models: vectors of unequal stamps do not compare."""

from __future__ import annotations

import hashlib
from pathlib import Path

from passerby.errors import UserError

HASH_DIGITS = 16


def model_stamp(path: str | Path) -> str:
    """Return the name of a model and the hash of its weights: `NAME SHA256`, the first 16 hex digits.

    Args:
        path: as for `load_model`: a run folder, an `embedder.safetensors`, an ONNX file, or an OpenVINO .xml, of which
            the .bin is hashed too.

    Raises:
        UserError: there is no such file.

    """
    path = Path(path)
    file = path / "embedder.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"no trained model at {file}")
    name = file.resolve().parent.name if file.name == "embedder.safetensors" else file.stem
    digest = hashlib.sha256()
    for part in (file, *([file.with_suffix(".bin")] if file.suffix.lower() == ".xml" else [])):
        if part.is_file():
            with part.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return f"{name} {digest.hexdigest()[:HASH_DIGITS]}"
