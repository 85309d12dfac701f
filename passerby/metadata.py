"""The texts inside of a .safetensors, beside its tensors."""

from __future__ import annotations

from pathlib import Path

from passerby.errors import UserError
from passerby.files import reading


def safetensors_texts(path: str | Path) -> dict[str, str]:
    """Return the metadata of a .safetensors by name, without reading its tensors.

    Raises:
        UserError: not such a file.

    """
    from safetensors import safe_open

    with reading(path, "a .safetensors file"), safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def safetensors_text(path: str | Path, name: str) -> str:
    """Return one text of a .safetensors.

    Raises:
        UserError: not such a file, or one without that text.

    """
    texts = safetensors_texts(path)
    if name not in texts:
        raise UserError(f"{path} contains no {name!r}; it was written or modified by another program")
    return texts[name]
