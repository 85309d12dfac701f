"""One function turns images into vectors: whatever else calls a model takes a step of training, or draws its map."""

import ast
from pathlib import Path

import passerby

ROOT = Path(passerby.__file__).parent
MODELS = {"embedder", "model", "student", "teacher", "previous_model"}
"""Names of variables and attributes that hold an `Embedder`."""
CALLERS = {
    "inference/embed.py",  # the one place
    "training/forward.py",  # a step of training
    "models/one_column.py",  # looks at the shapes of a blank image
    "training/probe.py",  # measures the time of a step
    "methods/method.py",  # the previous model, of a batch
    "methods/dkp.py",  # the images of a stage when it ends, and the shapes of a blank image
    "methods/mmt.py",  # the mean teachers, of a batch
    "methods/reconstruction.py",  # a step of an autoencoder
    "methods/weight_penalty.py",  # the gradient of each image
    "bench/embed.py",  # plain torch, which the one place is compared with
    "report/attention.py",  # feature maps and their gradients
}


def callers():
    """Return the modules that call something named like a model."""
    files = {}
    for file in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in MODELS:
                    files.setdefault(file.relative_to(ROOT).as_posix(), []).append(node.lineno)
    return files


def test_only_known_places_call_a_model():
    assert set(callers()) <= CALLERS


def test_the_one_place_is_found():
    assert "inference/embed.py" in callers()
