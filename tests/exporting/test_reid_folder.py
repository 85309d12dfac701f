"""A folder for `reid`: its network and preprocessing give the vectors of the run, or the refusal names the reasons."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

from passerby.encoders import load_model, load_trained
from passerby.errors import UserError
from passerby.exporting.consumers import ExportOptions, export_for
from passerby.exporting.reid_folder import obstacles
from tests.exporting.runs import BLOCKS, OTHER_INPUT, cosine_distance, write_run

FITTING = ("model.backbone=test_resnet", "model.last_stride=2", "model.neck=none", "test.feature=before_neck")


def reid_vectors(folder, paths):
    """Embed files as `reid` does: PIL resize, ToTensor, Normalize, and a model of timm with its own pooling."""
    config = json.loads((folder / "reid_config.json").read_text())
    prepared, rows = config["preprocessing"], []
    network = timm.create_model(config["architecture"].removeprefix("timm:"), pretrained=False, num_classes=0).eval()
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    height, width = prepared["input_size"]
    for path in paths:
        image = (
            Image.open(path).convert("RGB").resize((width, height), Image.Resampling[prepared["interpolation"].upper()])
        )
        rows.append((np.asarray(image, np.float32) / 255 - np.float32(prepared["mean"])) / np.float32(prepared["std"]))
    with torch.inference_mode():
        return network(torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2)).numpy()


def test_reid_gets_the_vectors_of_the_run(tiny, site, tmp_path):
    run = write_run(tmp_path / "run", tiny(*FITTING, *OTHER_INPUT))
    exported = export_for(run, tmp_path / "out", "reid")
    assert exported.difference.cosine < 1e-6
    files = np.array([str(path) for path in sorted((site / "query").iterdir())])
    assert cosine_distance(load_model(run).vectors(files), reid_vectors(tmp_path / "out", files)) < 1e-4
    assert any("ReIDModel.from_pretrained" in line for line in exported.lines)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (("model.neck=bnneck", "test.feature=after_neck"), "it has no neck .--feature before_neck"),
        (("model.last_stride=1",), "it has no last stride of 1"),
        (("model.pool=gem_learned",), "it has no pooling 'gem_learned', only the average"),
        (("model.ibn=a",), "it has no model.ibn=a"),
        (("model.attention=se",), "it has no model.attention=se"),
        (("input.colour=bgr",), "it takes RGB images, and this model BGR"),
        (("model.backbone=osnet_ain_x0_25",), "it has no osnet_ain_x0_25"),
        (("model={backbone: swin, last_stride: 2, neck: none, architecture: {width: 4, depths: [2, 2], heads: [1, 2]}}",
          "input.size=[64,32]"), "it has no 'swin', only OSNets and models of timm"),
    ],
)  # fmt: skip
def test_what_reid_has_no_place_for_is_named(tiny, tmp_path, changes, reason):
    run = write_run(tmp_path / "run", tiny(*FITTING, *changes))
    with pytest.raises(UserError, match=f"cannot take this model: .*{reason}"):
        export_for(run, tmp_path / "out", "reid")
    assert not (tmp_path / "out").exists()


def test_all_reasons_are_given_at_once(tiny, tmp_path):
    run = write_run(tmp_path / "run", tiny(*BLOCKS))
    assert len(list(obstacles(load_trained(run)))) == 7


def test_reid_takes_float32_only(tiny, tmp_path):
    run = write_run(tmp_path / "run", tiny(*FITTING))
    with pytest.raises(UserError, match="reid takes weights in float32"):
        export_for(run, tmp_path / "out", "reid", ExportOptions(precision="half"))
