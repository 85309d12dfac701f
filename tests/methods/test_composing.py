"""What methods of a method do beside one another, and beside a running mean; each pair is tried in `test_pairs.py`."""

import json

import pytest
import torch
from safetensors.torch import load_file

from passerby.errors import UserError
from passerby.training import run_log
from passerby.training.session import train
from passerby.types import Inputs

CLUSTER = {"cluster": {"kind": "kmeans", "k": 3}}
TWO = "stages=[{train: [market1501], epochs: 1}, {train: [other], epochs: 1}]"
UNLABELLED = "stages=[{train: [market1501], epochs: 1}, {train: [other], epochs: 1, labelled: false, iterations: 1}]"


def model_of(folder, name):
    return {key: value for key, value in load_file(folder / name).items() if value.is_floating_point()}


@pytest.mark.parametrize(
    ("stages", "beside", "change"),
    [
        (TWO, {}, "evaluate=[]"),
        (TWO, {}, "optim.ema_decay=0.5"),
        (UNLABELLED, {"pseudo": CLUSTER}, "evaluate=[]"),
        (UNLABELLED, {"mmt": CLUSTER}, "evaluate=[]"),
    ],
    ids=["last weights", "running mean", "clusters", "mean teacher"],
)
def test_the_scored_model_is_the_average_whatever_the_stage_leaves(tiny, tmp_path, stages, beside, change):
    for alpha in (0.001, 0.999):
        method = json.dumps({"average": {"alpha": alpha}, **beside})
        train(
            tiny(
                stages, f"method={method}", "data.sampler.identities=2", "evaluate=[]", "optim.warmup_epochs=0", change
            ),
            tmp_path / str(alpha),
        )
    before = model_of(tmp_path / "0.001", "stage-1.safetensors")
    little, much = (model_of(tmp_path / name, "embedder.safetensors") for name in ("0.001", "0.999"))
    for key, earlier in before.items():
        moved = (much[key] - earlier).abs().max()
        assert (little[key] - earlier).abs().max() <= 0.0021 * moved + 1e-6, key
    assert max(float((much[key] - earlier).abs().max()) for key, earlier in before.items()) > 1e-3


def test_the_divergence_behind_ce_dist_is_told(tiny, tmp_path):
    train(tiny(TWO, "method={lwf: {ce_dist: 1.0}}", "data.sampler.identities=3", "evaluate=[]"), tmp_path / "run")
    records = run_log.read(tmp_path / "run" / "log.jsonl")
    (told,) = [record for record in run_log.metrics(records) if record.method == "lwf"]
    above, whole = told.values["ce_dist above its least value"], run_log.epochs(records)[-1].terms["ce_dist"].value
    assert 0 <= above < 0.01 < whole


def test_more_centres_than_images_in_clusters_are_refused(tiny, tmp_path):
    method = json.dumps({"pseudo": CLUSTER, "dec": {"k": 23, "restarts": 1}})
    recipe = tiny(
        UNLABELLED.replace("epochs: 1, lab", "epochs: 2, lab"),
        f"method={method}",
        "evaluate=[]",
        "data.sampler.identities=2",
    )
    from passerby.methods import dec

    kept = dec.unlabelled_rows
    calls = []

    def fewer(stage):
        calls.append(1)
        rows = kept(stage).copy()
        if len(calls) > 1:
            rows[5:] = False
        return rows

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dec, "unlabelled_rows", fewer)
        with pytest.raises(
            UserError, match=r"method.dec has 23 centres, and only 5 images are in clusters; choose a smaller"
        ):
            train(recipe, tmp_path / "run")


def test_heads_need_a_classifier_before_anything_is_learnt(tiny):
    with pytest.raises(
        UserError, match=r"method.lwf.heads keeps the classifier of losses.softmax, and the stage has no"
    ):
        tiny(TWO, "method={lwf: {heads: 1.0}}", "losses.softmax=null")


def test_people_of_several_views_are_those_of_whole_images():
    from passerby.types import Batch

    labels = torch.tensor([[3, 1, 2], [4, 0, 0]])
    blank = torch.zeros(2)
    assert Batch(Inputs(blank, blank), labels, blank).identities.tolist() == [3, 4]
    assert Batch(Inputs(blank, blank), labels[:, 0], blank).identities.tolist() == [3, 4]
