"""Teachers that cannot teach are refused in one sentence."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from passerby.errors import UserError
from passerby.training.teacher import load_teacher, teacher_vectors
from passerby.types import NO_CAMERAS, CameraTable, Split


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            SimpleNamespace(recipe=SimpleNamespace(input_mask="foreground"), cameras=NO_CAMERAS),
            "a.onnx cannot be a teacher: it is tested with test.input_mask=foreground and needs masks",
        ),
        (
            SimpleNamespace(recipe=None, cameras=CameraTable(("plaza",), ((1, 2),))),
            "a.onnx cannot be a teacher: its vectors depend on the cameras of plaza",
        ),
    ],
    ids=["masks", "cameras"],
)
def test_a_model_that_needs_more_than_the_image_is_refused(monkeypatch, model, sentence):
    monkeypatch.setattr("passerby.training.teacher.load_model", lambda *_, **__: model)
    with pytest.raises(UserError, match=sentence):
        load_teacher("a.onnx")


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_useless_vector_names_its_image(value):
    vectors = np.ones((3, 2), np.float32)
    vectors[1] = value
    model = SimpleNamespace(vectors=lambda _: vectors)
    split = Split.of_paths(np.array(["a.png", "b.png", "c.png"]))
    with pytest.raises(UserError, match=r"t.onnx cannot be a teacher: 1 of 3 images get .* \(first: b.png\)"):
        teacher_vectors(model, split, source="t.onnx", device=torch.device("cpu"))
