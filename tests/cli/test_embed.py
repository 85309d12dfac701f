"""`passerby embed` on folders as they are: masks, hidden and damaged files, names in two forms."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from passerby.cli import app
from passerby.data.decoding import decode
from passerby.encoders import embedding
from passerby.types import NO_CAMERAS, Embeddings


def mean_colours(paths, *, progress=None, **_):
    """Stand for a network: the mean colour of each image."""
    found = np.stack([decode(path).mean(axis=(0, 1)) for path in paths]).astype(np.float32)
    if progress is not None:
        progress(len(paths), len(paths))
    return found


@pytest.fixture
def embed(monkeypatch, tmp_path):
    model = SimpleNamespace(
        recipe=None, feature="after_neck", flip=False, notes=(), cameras=NO_CAMERAS, unknown_camera="refuse"
    )
    model.vectors = mean_colours
    monkeypatch.setattr("passerby.commands.embedding.open_model", lambda *_, **__: model)
    monkeypatch.setattr(embedding, "CHUNK", 3)

    file = tmp_path / "mean_colours.onnx"
    file.write_bytes(b"stands for weights")

    def run(*arguments):
        return CliRunner().invoke(app, ["embed", str(file), *map(str, arguments), "--out", str(tmp_path / "out.npz")])

    return run


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "images"
    for number in range(8):
        path = place / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 8), (10 * number, 0, 0)).save(path)
    return place


def test_masks_and_hidden_files_are_no_images(embed, folder, tmp_path):
    for other in ("masks/0.png", ".trash/0.png", "._1.png"):
        (folder / other).parent.mkdir(exist_ok=True)
        (folder / other).write_bytes((folder / "0.png").read_bytes())
    result = embed(folder)
    assert result.exit_code == 0, result.output
    assert "Left out: 2 hidden files or folders (" in result.output
    assert "1 folder of masks (" in result.output
    assert len(Embeddings.load(tmp_path / "out.npz")) == 8


@pytest.mark.parametrize("damaged", [[2], [0, 3, 4, 5, 7], [6, 7]])
def test_damaged_images_are_left_out_and_named(embed, folder, tmp_path, damaged):
    for number in damaged:
        (folder / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    result = embed(folder)
    assert result.exit_code == 1
    assert f"left out: {len(damaged)} ({folder}/{damaged[0]}.png is not a readable image (" in result.output
    table = Embeddings.load(tmp_path / "out.npz")
    kept = [number for number in range(8) if number not in damaged]
    assert table.path.tolist() == [f"{folder}/{number}.png" for number in kept]
    assert table.vectors[:, 0].tolist() == [10 * number for number in kept]


def test_strict_stops_at_a_damaged_image(embed, folder, tmp_path):
    (folder / "5.png").write_bytes(b"")
    result = embed(folder, "--strict")
    assert result.exit_code == 2
    assert "5.png is empty" in result.output
    assert not (tmp_path / "out.npz").exists()


def test_nothing_but_damaged_images_is_refused(embed, folder, tmp_path):
    for path in folder.iterdir():
        path.write_bytes(b"")
    result = embed(folder)
    assert result.exit_code == 2
    assert "none of 8 images can be read" in result.output


def test_a_file_is_found_by_either_form_of_its_name(embed, folder, tmp_path):
    (folder / "0.png").rename(folder / "Jos\u00e9.png")
    assert embed(folder / "Jose\u0301.png").exit_code == 0
    assert Embeddings.load(tmp_path / "out.npz").path.tolist() == [f"{folder}/Jos\u00e9.png"]


def test_files_named_twice_are_reported_in_one_sentence(embed, folder, tmp_path):
    (folder / "link.png").symlink_to(folder / "3.png")
    result = embed(folder / "1.png", folder, folder / "1.png")
    assert result.exit_code == 0, result.output
    assert result.output.count("Listed more than once, by the same name, another name or a link: 3 (1.png twice).") == 1
    assert len(Embeddings.load(tmp_path / "out.npz")) == 11
