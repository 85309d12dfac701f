"""`hf://owner/name/file`: a file on the Hugging Face Hub, fetched only where a person names it."""

from __future__ import annotations

import re
from pathlib import Path

from passerby.errors import UserError, first_line

_ADDRESS = re.compile(r"hf:/{1,2}([^/]+/[^/]+)/(.+)")


def local_file(place: str | Path) -> Path:
    """Return a file on this machine: the path itself, or what the Hub holds under `hf://owner/name/file`.

    Raises:
        UserError: an incomplete address, no huggingface_hub, or a file that cannot be fetched.

    """
    text = str(place)
    if not text.startswith("hf:/"):
        return Path(place)
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise UserError(f"{text}: write hf://OWNER/NAME/FILE")
    repository, file = match.groups()
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise UserError(f"{text}: needs huggingface_hub; install it with: pip install 'passerby[hub]'") from error
    try:
        return Path(hf_hub_download(repository, file))
    except Exception as error:  # the Hub's, requests' and the file system's
        raise UserError(
            f"{text} cannot be fetched ({first_line(error)}); download "
            f"https://huggingface.co/{repository}/resolve/main/{file} elsewhere and import that file"
        ) from error
