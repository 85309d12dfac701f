"""What a stage freezes: parameters and batch-norm statistics stay, the rest learns, and a resume is exact."""

import pytest
import torch
from torch import nn

from passerby.errors import UserError
from passerby.training.frozen import Frozen, named_parameters
from passerby.training.session import train
from passerby.training.trainer import make_trainer
from tests.training.runs import run, run_interrupted
from tests.training.runs import weights as weights_of

TWO_ON_ONE = (
    "stages=[{train: [market1501], name: head, epochs: 1, freeze: ['*', '!losses.softmax.*'],"
    " data: {sampler: {kind: shuffle, size: 8},"
    " augment: {flip: 0, pad: 0, jitter: null, erase: null}}, losses: {triplet: null}},"
    " {train: [market1501], name: all, epochs: 1}]"
)
"""A stage that trains a classifier only, then one that trains everything, on one data set."""


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items() if value.is_floating_point()}


def moved(before, module):
    return {name for name, value in weights(module).items() if not torch.equal(value, before[name])}


def go(running):
    running.run_stage(stop=lambda: False, epoch_done=lambda _: None)


def test_names_begin_with_the_place_of_a_parameter():
    modules = {
        "": nn.ModuleDict({"neck": nn.BatchNorm1d(2)}),
        "losses": nn.ModuleDict({"losses": nn.ModuleDict({"softmax": nn.Linear(1, 1)})}),
    }
    assert list(named_parameters(modules)) == [
        "neck.weight", "neck.bias", "losses.softmax.weight", "losses.softmax.bias",
    ]  # fmt: skip


def test_what_is_frozen_stays_and_learns_again_in_the_next_stage(tiny, tmp_path):
    running = make_trainer(tiny(TWO_ON_ONE), tmp_path / "run")
    running.open_stage(0)
    before, classifier = weights(running.state.embedder), weights(running.state.losses)
    go(running)
    assert moved(before, running.state.embedder) == set()  # nor do the statistics of batch norms
    assert moved(classifier, running.state.losses) == {"losses.softmax.classifier.weight"}
    running.open_stage(1)
    assert running.state.frozen.parameters == []
    go(running)
    assert moved(before, running.state.embedder) >= {"neck.weight", "neck.running_mean", "backbone.body.conv1.0.weight"}


def test_patterns_take_modules_and_their_statistics(tiny, tmp_path):
    running = make_trainer(tiny("freeze=['backbone.body.layer*', '!*.layer4.*']"), tmp_path / "run")
    running.open_stage(0)
    before = weights(running.state.embedder)
    go(running)
    still = {name for name in before if ".layer" in name and ".layer4." not in name}
    assert still
    assert moved(before, running.state.embedder) == set(before) - still - {"neck.bias"}


def test_a_batch_norm_with_a_frozen_shift_alone_goes_on_counting():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2, affine=False))
    frozen = Frozen()
    frozen.freeze({"": model}, ["*.bias"])
    assert (len(frozen.parameters), frozen.modules) == (1, [])
    frozen.freeze({"": model}, ["0.*"])
    frozen.hold()
    assert [norm.training for norm in model] == [False, True]
    frozen.release()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_run_with_a_frozen_stage_resumes_bit_for_bit(tiny, tmp_path):
    recipe = tiny(TWO_ON_ONE, "stages.1.optim.groups=[{match: neck.*, lr_scale: 0.1}]")
    whole = run(recipe, tmp_path / "whole")
    assert weights_of(whole) == weights_of(run_interrupted(recipe, tmp_path / "broken", steps=[4, 3]))


def test_two_stages_on_one_data_set_are_not_lifelong(tiny, tmp_path):
    folder = run(tiny(TWO_ON_ONE, "test.rerank=null"), tmp_path / "run")
    assert not [*folder.glob("stage-*.safetensors"), *folder.glob("continual_metrics.json")]
    assert '"stage": 0' not in (folder / "log.jsonl").read_text()
    assert not tiny(TWO_ON_ONE).lifelong
    assert tiny("stages=[{train: [market1501]}, {train: [other]}]").lifelong


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["freeze=[backbnoe.*]"], "freeze: 'backbnoe.*' matches no parameter of stage 'market1501'; their names begin"),
        (["freeze=[method.pseudo.*]"], "freeze: 'method.pseudo.*' matches no parameter"),
        (["optim.groups=[{match: head.*, lr_scale: 2}]"], "optim.groups.0.match: 'head.*' matches no parameter"),
        (["optim.groups=[{match: neck.*}]"], "the group 'neck.*' has no effect; give it lr_scale or weight_decay"),
        (["freeze=['!neck.*']"], "'!neck.*', which excludes names from an empty list; put '*' before it"),
        (["freeze=['*']"], "all parameters are frozen, so nothing can be trained; remove patterns from `freeze`"),
        (["freeze=['losses.*', 'neck.*', 'backbone.*']"], "all parameters are frozen"),
        (["model.backbone=osnet_x0_25", "model.last_stride=2", "input.size=[64, 32]", "optim.layer_decay=0.5"],
         "optim.layer_decay: this backbone has no numbered layers; leave it out"),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_refused(tiny, tmp_path, changes, sentence):
    with pytest.raises(UserError) as error:
        train(tiny(*changes), tmp_path / "run")
    assert sentence in str(error.value)


def test_parameters_have_rates_of_their_own(tiny, tmp_path):
    changes = ["optim.groups=[{match: losses.*, lr_scale: 10, weight_decay: 0}]", "optim.layer_decay=0.5"]
    running = make_trainer(tiny(*changes, "model.backbone=test_vit", "model.last_stride=2"), tmp_path / "run")
    running.open_stage(0)
    names = {id(p): name for name, p in named_parameters(running.state.named_modules).items()}
    found = {
        names[id(p)]: (group["lr"], group["lr_scale"], group["weight_decay"])
        for group in running.state.optimiser.param_groups
        for p in group["params"]
    }
    optim = running.setup.recipe.optim
    blocks = 1 + max(int(name.split(".")[3]) for name in found if name.startswith("backbone.body.blocks."))
    assert found["losses.softmax.classifier.weight"] == (10 * optim.lr, 10, 0)
    assert found["neck.weight"] == (optim.lr, 1, optim.weight_decay)
    assert (
        found[f"backbone.body.blocks.{blocks - 1}.attn.qkv.weight"][1] == found["backbone.body.norm.weight"][1] == 0.5
    )
    assert found["backbone.body.blocks.0.attn.qkv.weight"][1] == 0.5**blocks
    assert found["backbone.body.patch_embed.proj.weight"][1] == 0.5 ** (blocks + 1)


def test_what_a_stage_freezes_is_inherited_and_may_be_taken_back(tiny):
    stages = "stages=[{train: [market1501]}, {train: [market1501], name: b, freeze: []}]"
    recipe = tiny(stages, "freeze=[backbone.*]")
    assert [stage.freeze for stage in recipe.stages] == [("backbone.*",), ()]
    from passerby.recipe import recipe_from_text

    assert recipe_from_text(recipe.dump(), source="again") == recipe
    again = recipe_from_text(recipe.dump(), ["freeze=[neck.*]"], source="again")
    assert [stage.freeze for stage in again.stages] == [("neck.*",), ()]
