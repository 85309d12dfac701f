"""Teachers that cannot teach are refused in one sentence."""

from types import SimpleNamespace

import pytest

from passerby.errors import UserError
from passerby.training.teacher import load_teacher
from passerby.types import NO_CAMERAS, CameraTable


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
