"""Where a picture's vectors come from, and what it is written as."""

import shutil

import numpy as np
import pytest

from passerby.device import InferenceSettings
from passerby.encoders import embed_dataset, load_trained
from passerby.errors import UserError
from passerby.evaluation import evaluate
from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings, save_embedder
from passerby.report.curves import cmc_curve
from passerby.report.figure_files import save_figure, subject_of_file, subjects_of_run
from passerby.types import Rerank
from tests.report.conftest import RERANK, plain_recipe, write_run


def test_a_run_is_drawn_as_its_recipe_compares(run):
    (subject,) = subjects_of_run(run.folder)
    assert subject.embeddings.fingerprint == run.embeddings.fingerprint
    assert (subject.cameras, subject.distance, subject.rerank) == ("standard", "cosine", RERANK)
    assert subjects_of_run(run.folder, on="plaza")[0].embeddings.dataset == "plaza"
    assert subject_of_file(run.folder / "embeddings" / "plaza.npz").rerank == Rerank()


def test_what_cannot_be_drawn_is_told(run, tmp_path):
    with pytest.raises(UserError, match=r"was tested on plaza; did you mean 'plaza'\?"):
        subjects_of_run(run.folder, on="plazza")
    with pytest.raises(UserError, match="is not a folder"):
        subjects_of_run(tmp_path / "nothing")
    folder = write_run(tmp_path).folder
    shutil.rmtree(folder / "embeddings")
    with pytest.raises(UserError, match="holds no embeddings of plaza"):
        subjects_of_run(folder)
    embedder = Embedder(ModelSettings(backbone="test_resnet"), InputSettings(size=(32, 16)))
    save_embedder(embedder, folder / "embedder.safetensors", recipe=(folder / "recipe.yaml").read_text())
    with pytest.raises(UserError, match="cannot be embedded again: market1501: nowhere does not exist"):
        subjects_of_run(folder)
    (folder / "scores.json").unlink()
    with pytest.raises(UserError, match="is not finished"):
        subjects_of_run(folder)


def test_a_data_set_without_embeddings_is_embedded_by_the_final_model(tmp_path, site):
    written = write_run(tmp_path, recipe=plain_recipe(root=str(site)))
    shutil.rmtree(written.folder / "embeddings")
    embedder = Embedder(ModelSettings(backbone="test_resnet", last_stride=1), InputSettings(size=(32, 16)))
    save_embedder(embedder, written.folder / "embedder.safetensors", recipe=plain_recipe(root=str(site)).dump())
    (subject,) = subjects_of_run(written.folder, inference=InferenceSettings(device="cpu", batch=3, workers=0))
    trained = load_trained(written.folder)
    expected = embed_dataset(trained, trained.recipe.open_dataset("plaza"))
    assert subject.embeddings.fingerprint == expected.fingerprint
    np.testing.assert_allclose(subject.embeddings.vectors, expected.vectors, atol=1e-5)


@pytest.mark.parametrize(
    ("ending", "begin"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_the_ending_decides_and_the_same_figure_gives_the_same_file(run, tmp_path, ending, begin):
    paths = [tmp_path / f"{number}.{ending}" for number in range(2)]
    for path in paths:
        save_figure(cmc_curve(evaluate(run.embeddings)), path)
    assert paths[0].read_bytes().startswith(begin)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("name", ["picture.jpg", "picture", "picture.pngg"])
def test_another_ending_is_refused_and_nothing_is_written(run, tmp_path, name):
    with pytest.raises(UserError, match=r"written as \.png, \.svg, \.pdf"):
        save_figure(cmc_curve(evaluate(run.embeddings)), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
