"""The untrained model that engines run."""

import pytest
import torch

from passerby.models.embedder import Embedder, save_embedder


@pytest.fixture(scope="session")
def file(tiny, tmp_path_factory):
    """A model of 32 x 16 pixels in a file; no test changes it."""
    recipe, file = tiny("input.size=[32,16]"), tmp_path_factory.mktemp("model") / "embedder.safetensors"
    torch.manual_seed(0)
    save_embedder(Embedder(recipe.model, recipe.input), file, recipe=recipe.dump())
    return file
