"""The texts inside of a .safetensors, beside its tensors."""

from __future__ import annotations

import json
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


def with_safetensors_text(path: str | Path, name: str, text: str) -> bytes:
    """Return the content of a .safetensors with one more text, in place of one of that name; tensors stay as they are.

    Raises:
        UserError: not such a file.

    """
    texts = {**safetensors_texts(path), name: text}
    with reading(path, "a .safetensors file"):
        content = Path(path).read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(texts.items()))
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # tensors begin at a multiple of 8 bytes
    return len(encoded).to_bytes(8, "little") + encoded + content[8 + length :]
