"""Exported models in the programs that they are for: each from PyPI, in a virtual environment of its own.

    python benchmarks/consumers.py MODEL [--only boxmot ultralytics openvino reid] [--envs FOLDER] [--shared FOLDER]

exports MODEL for each program, loads the file by the program itself, and compares its vectors of boxes in a frame with
those of passerby.Encoder. Boxes have the size of the model, so that no two ways of resizing are compared; ultralytics
adds a margin to boxes, which is taken off before. Needs the network, and minutes for each program that is installed for
the first time. `--shared` names a folder of site-packages that the environments see besides, such as those with torch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np

from passerby import Encoder
from passerby.exporting.consumers import export_for

PACKAGES = {
    "boxmot": ("boxmot", "onnxruntime", "onnx"),
    "ultralytics": ("ultralytics", "lap", "onnxruntime", "onnx"),
    "openvino": ("openvino",),
    "reid": ("--pre", "reid"),
}
"""Packages of each program."""

BOXMOT = """
from boxmot.reid.core.runtime import ReID
import boxmot
model = ReID(path=job["file"], device="cpu", half=False)
backend = model.get_backend()
vectors = backend.get_features(boxes, frame)
version = boxmot.__version__
"""

ULTRALYTICS = """
import ultralytics
from ultralytics.trackers.utils.reid import ReID
model = ReID(job["file"], device="cpu")
model._crop_detections = lambda image, rows: [image[y1:y2, x1:x2] for x1, y1, x2, y2 in boxes.astype(int)]
vectors = np.stack(model(frame, boxes))
version = ultralytics.__version__
"""

OPENVINO = """
import openvino
model = openvino.compile_model(job["file"], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
crops = [frame[y1:y2, x1:x2].transpose(2, 0, 1)[None].astype(np.float32) for x1, y1, x2, y2 in boxes.astype(int)]
vectors = np.concatenate([model(crop)["reid_embedding"] for crop in crops])
version = openvino.__version__
"""

REID = """
from importlib.metadata import version as version_of
import supervision
from reid import ReIDModel
model = ReIDModel.from_pretrained(job["file"], device="cpu")
vectors = model.extract_embeddings(supervision.Detections(xyxy=boxes), frame)
version = version_of("reid")
"""

PROGRAMS = {"boxmot": BOXMOT, "ultralytics": ULTRALYTICS, "openvino": OPENVINO, "reid": REID}

AROUND = """
import json, sys
import numpy as np
job = json.load(open(sys.argv[1]))
frame, boxes = np.load(job["frame"]), np.load(job["boxes"])
{body}
np.save(job["vectors"], np.asarray(vectors, np.float32))
print(json.dumps({{"version": str(version)}}))
"""


def frame_with_boxes(size: tuple[int, int], count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Return a BGR frame of random patches and boxes (N, 4) of the size of the model, side by side."""
    height, width = size
    colours = np.random.default_rng(0).integers(0, 256, (8, 4 * count, 3), dtype=np.uint8)
    frame = np.kron(colours, np.ones((height // 8, width // 4, 1), np.uint8))
    left = width * np.arange(count)
    return frame, np.stack([left, 0 * left, left + width, 0 * left + height], axis=1).astype(np.float32)


def environment(name: str, folder: Path, shared: Path | None) -> Path:
    """Return the Python of the environment of a program, made and filled where it is missing."""
    place = folder / name
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
    if shared is not None:
        (site,) = place.glob("lib/python3*/site-packages")
        (site / "shared.pth").write_text(f"{shared}\n")
    subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES[name]], check=True)
    return python


def check(name: str, model: Path, python: Path, folder: Path) -> dict[str, object]:
    """Return version, largest cosine distance and file of one program."""
    exported = export_for(
        model, folder / (f"resnet50_{name}" + {"openvino": ".xml", "reid": ""}.get(name, ".onnx")), name
    )
    size = exported.trained.embedder.input.size
    frame, boxes = frame_with_boxes(size)
    files = {key: str(folder / f"{name}_{key}.npy") for key in ("frame", "boxes", "vectors")}
    np.save(files["frame"], frame)
    np.save(files["boxes"], boxes)
    job, script = folder / f"{name}.json", folder / f"run_{name}.py"
    job.write_text(json.dumps({"file": str(exported.path), **files}))
    script.write_text(AROUND.format(body=PROGRAMS[name]))
    done = subprocess.run([python, script, job], capture_output=True, text=True, cwd=folder)
    if done.returncode:
        return {"program": name, "error": done.stderr.strip().splitlines()[-1]}
    ours = Encoder(exported.trained, device="cpu")(frame, boxes)
    theirs = np.load(files["vectors"])
    theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    between = np.abs(1 - ours @ ours.T).max()
    return {
        "program": name,
        **json.loads(done.stdout.strip().splitlines()[-1]),
        "cosine distance": float((1 - (ours * theirs).sum(axis=1)).max()),
        "of different images": float(between),
    }


def main() -> None:
    """Check each program and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--only", nargs="+", choices=sorted(PROGRAMS), default=sorted(PROGRAMS))
    parser.add_argument("--envs", type=Path, help="folder of the environments; default: a temporary one")
    parser.add_argument("--shared", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, failed = Path(temporary), False
        for name in options.only:
            python = environment(name, options.envs or folder / "envs", options.shared)
            row = check(name, options.model, python, folder)
            failed |= not float(str(row.get("cosine distance", "nan"))) < 1e-4
            print(json.dumps(row), flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
