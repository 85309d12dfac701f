"""Downloads of published models, each only when a person asks for it by name.

A file is written to NAME.part, continued there after an interruption, and renamed once it is whole and its SHA-256 is
right. A file that is there already and right is not fetched again.
"""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from passerby.errors import UserError, did_you_mean

PIECE = 1 << 20
TIMEOUT = 30.0
"""Seconds without an answer."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a model.

    Attributes:
        name: that it gets here.
        address: URL.
        size: in bytes; None = not published.
        sha256: 64 hex digits; None = not published.

    """

    name: str
    address: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class RemoteModel:
    """A published model that can be fetched.

    Attributes:
        summary: in a few words.
        licence: of the weights, as published.
        files: the first one is what passerby reads.
        use: command that takes the first file, with FILE in its place.
        page: where a person chooses a file, for a model without fixed files.

    """

    summary: str
    licence: str
    files: tuple[RemoteFile, ...] = ()
    use: str = "passerby embed FILE IMAGES"
    page: str = ""


def _zoo(number: str, release: str, xml: tuple[int, str], weights: tuple[int, str]) -> tuple[RemoteFile, ...]:
    """Return the two files of a model of the Open Model Zoo, in half precision."""
    name = f"person-reidentification-retail-{number}"
    base = f"https://storage.openvinotoolkit.org/repositories/open_model_zoo/{release}/{name}/FP16/{name}"
    return (
        RemoteFile(f"{name}.xml", f"{base}.xml", *xml),
        RemoteFile(f"{name}.bin", f"{base}.bin", *weights),
    )


def _drive(name: str, number: str) -> tuple[RemoteFile, ...]:
    return (RemoteFile(name, f"https://drive.google.com/uc?export=download&id={number}"),)


_ZOO = "Apache-2.0"
_TORCHREID = "MIT (code); the weights learnt from ImageNet, for research"
_IMPORT = "passerby import FILE -o model.safetensors"

MODELS: dict[str, RemoteModel] = {
    "omz-0277": RemoteModel(
        "Open Model Zoo person-reidentification-retail-0277, the largest",
        _ZOO,
        _zoo(
            "0277",
            "2021.1/models_bin/2",
            (504725, "cc7612d775eef845ae28e1723f9ffe816da1d0d6a0e700882837f798e1949df6"),
            (4178812, "105f5897019274c6373c00ecaee2f2cbbb6f7e9cc8e371796536fc95bd1a1167"),
        ),
    ),
    "omz-0286": RemoteModel(
        "Open Model Zoo person-reidentification-retail-0286",
        _ZOO,
        _zoo(
            "0286",
            "2021.1/models_bin/2",
            (503939, "0c50b99e0a81ac102af700c88aa48dad1b265f16fba866d176b06f221e2e9a66"),
            (2452658, "b505697b2cae65ed09025193ec04c61c9fba9f9e4f558a32ef326cd60bf923ed"),
        ),
    ),
    "omz-0287": RemoteModel(
        "Open Model Zoo person-reidentification-retail-0287",
        _ZOO,
        _zoo(
            "0287",
            "2021.2/models_bin/3",
            (503978, "1b9a34caecea292e855b69010b1611c4fa0fd0d57290e829725bbddfcc8040b1"),
            (1181130, "72fcb96efd983a928d847caf0c5877ba95c139d4c93c2819b9c6269466f8ed71"),
        ),
    ),
    "omz-0288": RemoteModel(
        "Open Model Zoo person-reidentification-retail-0288, the smallest",
        _ZOO,
        _zoo(
            "0288",
            "2021.2/models_bin/3",
            (503499, "1c306970309834f98bb4a7117c8c6f4bc72f04a6b620b0d01d072fa7a42d7260"),
            (364360, "643492c3d210465d19155a76a4f21f01e74157d2e6afd9a8436685089e538331"),
        ),
    ),
    "osnet_x1_0": RemoteModel(
        "torchreid's OSNet x1.0, ImageNet: a start for training",
        _TORCHREID,
        _drive("osnet_x1_0_imagenet.pth", "1LaG1EJpHrxdAxKnSCJ_i0u-nbxSAeiFY"),
        _IMPORT,
    ),
    "osnet_x0_75": RemoteModel(
        "torchreid's OSNet x0.75, ImageNet: a start for training",
        _TORCHREID,
        _drive("osnet_x0_75_imagenet.pth", "1uwA9fElHOk3ZogwbeY5GkLI6QPTX70Hq"),
        _IMPORT,
    ),
    "osnet_x0_5": RemoteModel(
        "torchreid's OSNet x0.5, ImageNet: a start for training",
        _TORCHREID,
        _drive("osnet_x0_5_imagenet.pth", "16DGLbZukvVYgINws8u8deSaOqjybZ83i"),
        _IMPORT,
    ),
    "osnet_x0_25": RemoteModel(
        "torchreid's OSNet x0.25, ImageNet: a start for training",
        _TORCHREID,
        _drive("osnet_x0_25_imagenet.pth", "1rb8UN5ZzPKRc_xvtHlyDh-cSz88YX9hs"),
        _IMPORT,
    ),
    "osnet_ibn_x1_0": RemoteModel(
        "torchreid's OSNet-IBN x1.0, ImageNet: a start for training",
        _TORCHREID,
        _drive("osnet_ibn_x1_0_imagenet.pth", "1sr90V6irlYYDd4_4ISU2iruoRG8J__6l"),
        _IMPORT,
    ),
    "osnet_x0_25_msmt17": RemoteModel(
        "OSNet x0.25 trained on MSMT17, as trackers use it",
        "MIT (code); MSMT17 is for research",
        _drive("osnet_x0_25_msmt17.pt", "1sSwXSUlj4_tHZequ_iZ8w_Jh0VaRQMqF"),
        _IMPORT,
    ),
    "personvit": RemoteModel(
        "PersonViT, self-supervised and fine-tuned ViTs",
        "see the page",
        use="passerby import hf://lakeAGI/PersonViTReID/FILE -o model.safetensors",
        page="https://huggingface.co/lakeAGI/PersonViTReID/tree/main",
    ),
}
"""What `passerby models get` knows, by name; addresses, sizes and hashes as their projects publish them."""


def remote_model(name: str) -> RemoteModel:
    """Return a model by its name.

    Raises:
        UserError: no such name.

    """
    if name not in MODELS:
        hint = did_you_mean(name, MODELS) or f"; known: {', '.join(MODELS)}"
        raise UserError(f"no model {name!r} to fetch{hint}")
    return MODELS[name]


def list_remote() -> list[str]:
    """Return three lines for each model: name and size, content, licence; at most 80 columns."""
    lines = []
    for name, model in MODELS.items():
        sizes = [file.size for file in model.files]
        known = [size for size in sizes if size is not None]
        size = f"{sum(known) / 1e6:.1f} MB" if known and len(known) == len(sizes) else "size not published"
        lines += [f"{name:20}{size}", f"    {model.summary}", f"    {model.licence}"]
    return lines


def describe_remote(name: str, model: RemoteModel) -> list[str]:
    """Return the facts of a model line by line: what it is, licence, addresses and sizes."""
    lines = [f"{name}  {model.summary}", f"    licence   {model.licence}"]
    for file in model.files:
        size = "size not published" if file.size is None else f"{file.size:,} bytes"
        lines.append(f"    {file.name}  {file.address} ({size})")
    if model.page:
        lines += [f"    choose a file at {model.page}", f"    use: {model.use}"]
    return lines


def fetch(file: RemoteFile, folder: Path, *, progress: Callable[[int, int], None] | None = None) -> Path:
    """Fetch a file into a folder, unless it is there, and return its path.

    Args:
        file: what is fetched.
        folder: is made where it is not there.
        progress: called with (bytes so far, of how many), where the server says how many.

    Raises:
        UserError: no network, an address that is gone, or content that is not what was published.

    """
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / file.name, folder / f"{file.name}.part"
    if path.is_file() and file.sha256 is not None and hash_of(path) == file.sha256:
        return path
    if path.is_file():
        raise UserError(
            f"{path} is there already and "
            + ("is not the published file" if file.sha256 else "no hash is published to compare it with")
            + "; move it away to fetch it again"
        )
    _download(file, part, progress)
    if file.sha256 is not None and (digest := hash_of(part)) != file.sha256:
        part.unlink()
        raise UserError(
            f"{file.address} gives another file than was published (SHA-256 {digest}, expected {file.sha256}); it was "
            "removed"
        )
    part.replace(path)
    return path


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(file: RemoteFile, part: Path, progress: Callable[[int, int], None] | None) -> None:
    """Append what is missing of a file to its part, or write all of it where the server cannot continue."""
    done = part.stat().st_size if part.exists() else 0
    if file.size is not None and done == file.size:
        return
    if not file.address.startswith(("https://", "http://")):
        raise UserError(f"{file.address} is no http address")
    request = urllib.request.Request(file.address, headers={"User-Agent": "passerby"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            if answer.status != 206:  # the server begins anew
                done = 0
            length = answer.headers.get("Content-Length")
            total = file.size if length is None else done + int(length)
            if file.size is not None and total != file.size:
                raise UserError(f"{file.address} is {total:,} bytes long, and {file.size:,} were published")
            if "text/html" in (answer.headers.get("Content-Type") or ""):
                raise UserError(f"{file.address} answers with a web page instead of a file; fetch it with a browser")
            with part.open("ab" if done else "wb") as opened:
                while piece := answer.read(PIECE):
                    opened.write(piece)
                    done += len(piece)
                    if progress is not None and total is not None:
                        progress(done, total)
            if total is not None and done < total:
                raise UserError(f"{file.address} ended after {done:,} of {total:,} bytes; the same command goes on")
    except urllib.error.HTTPError as error:
        raise UserError(f"{file.address} cannot be fetched: the server answers {error.code} {error.reason}") from error
    except OSError as error:  # URLError, timeouts and lost connections
        reason = getattr(error, "reason", error)
        raise UserError(
            f"{file.address} cannot be fetched ({reason}); what is there is kept, and the same command goes on"
        ) from error
