"""Blocks: every module, block and network against numbers computed elsewhere with the same names and weights."""

import copy
import json
from pathlib import Path

import pytest
import timm
import torch
from timm.models.resnet import BasicBlock, Bottleneck

from passerby.errors import UserError
from passerby.models.backbones import load_backbone, make_backbone
from passerby.models.blocks import (
    NonLocal,
    SplitNorm,
    SqueezeExcitation,
    add_ibn,
    norm_after_sum,
    split_norm,
)
from passerby.models.fitting import blocks_beyond, fit_plain
from tests.models.rule import check, drawn, ruled

DATA = Path(__file__).parents[1] / "oracles_data"
IBN = json.loads((DATA / "ibn.json").read_text())
NON_LOCAL = json.loads((DATA / "non_local.json").read_text())
SE = json.loads((DATA / "se.json").read_text())
SIZE = (64, 32)


def body(name):
    return timm.create_model(name, num_classes=0)


def stem(network, x):
    return network.maxpool(network.act1(network.bn1(network.conv1(x))))


def instance_norms(network):
    return [name for name, module in network.named_modules() if isinstance(module, torch.nn.InstanceNorm2d)]


def test_the_split_norm_gives_the_known_numbers():
    wanted, norm, x = IBN["IBN_module_planes8"], ruled(SplitNorm(8)), drawn(0, 2, 8, 4, 3)
    assert norm.IN.weight.tolist() == pytest.approx(wanted["IN_weight"], rel=1e-6)
    torch.testing.assert_close(norm(x), torch.tensor(wanted["eval_out"]).double(), atol=1e-6, rtol=1e-6)
    check(norm.train()(x), wanted["train_out_checksum"])
    assert norm.BN.running_mean.tolist() == pytest.approx(wanted["train_BN_running_mean_after"], rel=1e-6)
    assert norm.BN.running_var.tolist() == pytest.approx(wanted["train_BN_running_var_after"], rel=1e-6)


@pytest.mark.parametrize("kind", ["bottleneck_none", "bottleneck_a", "bottleneck_b", "basic_a", "basic_b"])
def test_blocks_give_the_known_names_and_numbers(kind):
    wanted = IBN["blocks"][kind]
    block = Bottleneck(16, 4) if "bottleneck" in kind else BasicBlock(16, 16)
    if kind.endswith("_a"):
        split_norm(block)
    elif kind.endswith("_b"):
        norm_after_sum(block)
    assert sorted(block.state_dict()) == wanted["keys"]
    check(ruled(block)(drawn(1, 2, 16, 4, 3)), wanted)


@pytest.mark.parametrize("net", IBN["nets"])
def test_networks_give_the_known_norms_and_numbers(net):
    name, _, kind = net.split("_")
    wanted = IBN["nets"][net]
    with torch.device("cpu" if "layer4_out" in wanted else "meta"):
        network = body(name)
        add_ibn(network, name, kind=kind)
    assert sum(p.numel() for p in network.parameters()) == wanted["n_params_without_fc"]
    norms, known = instance_norms(network), wanted["instance_norms"]
    if isinstance(known, dict):
        assert len(norms) == known["count"]
        assert (norms[:4], norms[-2:]) == (known["first"], known["last"])
    else:
        assert norms == known
    if "layer4_out" in wanted:
        x = drawn(2, 2, 3, 64, 32)
        with torch.inference_mode():
            check(stem(ruled(network), x), wanted["stem_out"])
            check(network.forward_features(x), wanted["layer4_out"])


@pytest.mark.parametrize("pad", ["fastreid", "torchvision"])
def test_ibn_a_with_last_stride_1_gives_the_known_numbers(pad):
    known = IBN["fastreid_backbone"]
    wanted = known["r50_ibn_laststride1" if pad == "fastreid" else "same_weights_torchvision_stem_pad1"]
    network = make_backbone("resnet50", SIZE, last_stride=1, ibn="a", stem_pool=pad).body
    with torch.inference_mode():
        check(ruled(network).forward_features(drawn(2, 2, 3, 64, 32)), wanted["layer4_out"])


@pytest.mark.parametrize("kind", ["a", "b"])
def test_plain_weights_give_the_same_before_and_after_the_surgery(tmp_path, kind):
    plain = ruled(body("resnet18")).float()
    torch.save(plain.state_dict(), tmp_path / "plain.pt")
    loaded = make_backbone("resnet18", SIZE, ibn=kind).eval()
    report = load_backbone(loaded, tmp_path / "plain.pt")
    stem = tuple(k for k in plain.state_dict() if k.startswith("bn1."))
    assert report.unused == (tuple(sorted(stem)) if kind == "b" else ())  # what has no place in an instance norm
    new = [k for k in loaded.body.state_dict() if ".IN." in k] + ["bn1.weight", "bn1.bias"] * (kind == "b")
    assert sorted(report.kept) == sorted(new)
    assert report.count_matched + len(new) == len(loaded.body.state_dict())
    operated = copy.deepcopy(plain)
    add_ibn(operated, "resnet18", kind=kind)
    assert list(operated.state_dict()) == list(loaded.body.state_dict())
    for key, value in operated.state_dict().items():
        assert torch.equal(value, loaded.body.state_dict()[key]), key
    if kind == "a":
        split, whole = operated.layer1[0].bn1, plain.layer1[0].bn1
        assert torch.equal(split.BN.running_var, whole.running_var[32:])
        assert torch.equal(split.IN.weight, torch.ones(32))


@pytest.mark.parametrize("kind", ["a", "b"])
def test_a_file_with_the_blocks_loads_whole_and_one_with_some_of_them_is_told(tmp_path, kind):
    published = body("resnet18")
    add_ibn(published, "resnet18", kind=kind)
    state = ruled(published).float().state_dict() | {"fc.weight": torch.zeros(10, 512)}
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.pt")
    target = make_backbone("resnet18", SIZE, ibn=kind)
    assert load_backbone(target, tmp_path / "w.pt").unused == ()
    assert all(torch.equal(v, state[k]) for k, v in target.body.state_dict().items())

    dropped = next(k for k in state if k.endswith("IN.bias"))
    torch.save({k: v for k, v in state.items() if k != dropped}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=rf"tensors match; 1 missing \({dropped}\)$"):
        load_backbone(target, tmp_path / "w.pt")
    with pytest.raises(UserError, match="does not fit the backbone"):
        load_backbone(make_backbone("resnet34", SIZE, ibn=kind), tmp_path / "w.pt")


def test_a_copy_of_the_network_stands_alone():
    network = body("resnet18")
    add_ibn(network, "resnet18", kind="b")
    twin = copy.deepcopy(network).eval()
    before = twin.forward_features(torch.ones(1, 3, *SIZE))
    torch.nn.init.zeros_(network.layer2[1].IN.weight)
    assert torch.equal(twin.forward_features(torch.ones(1, 3, *SIZE)), before)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet", "res2net50_26w_4s", "resnet50_gn"])
@pytest.mark.parametrize("kind", ["a", "b"])
def test_ibn_where_it_has_no_place_is_told(name, kind):
    with torch.device("meta"), pytest.raises(UserError, match=rf"model\.ibn: .*'{name}' has .*leave it at 'none'"):
        make_backbone(name, SIZE, ibn=kind)


def test_squeeze_and_excitation_gives_the_known_names_and_numbers():
    gate = SqueezeExcitation(16, reduction=4)
    assert {k: list(v.shape) for k, v in gate.state_dict().items()} == SE["keys"]
    torch.testing.assert_close(
        ruled(gate)(drawn(4, 2, 16, 3, 2)), torch.tensor(SE["out"]).double(), atol=1e-6, rtol=1e-6
    )


def test_a_network_with_squeeze_and_excitation_gives_the_known_numbers():
    wanted = IBN["fastreid_backbone"]["r50_se_laststride1"]
    network = make_backbone("resnet50", SIZE, last_stride=1, attention="se", stem_pool="fastreid").body
    assert sum(p.numel() for p in network.parameters()) == wanted["n_params"]
    with torch.inference_mode():
        check(ruled(network).forward_features(drawn(2, 2, 3, 64, 32)), wanted["layer4_out"])


def test_plain_weights_leave_new_gates_as_they_were(tmp_path):
    torch.save(body("resnet18").state_dict(), tmp_path / "plain.pt")
    target = make_backbone("resnet18", SIZE, attention="se", ibn="a")
    before = {k: v.clone() for k, v in target.body.state_dict().items() if ".se." in k}
    report = load_backbone(target, tmp_path / "plain.pt")
    assert report.unused == ()
    assert len(before) == 16
    assert set(before) < set(report.kept)
    assert all(torch.equal(v, target.body.state_dict()[k]) for k, v in before.items())


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "seresnet18", "ecaresnet50t"])
def test_attention_where_it_has_no_place_is_told(name):
    with torch.device("meta"), pytest.raises(UserError, match=rf"model\.attention: .*'{name}' .*leave it at 'none'"):
        make_backbone(name, SIZE, attention="se")


def test_the_non_local_block_gives_the_known_names_and_numbers():
    block = NonLocal(6, inner=1)
    assert {k: list(v.shape) for k, v in block.state_dict().items()} == NON_LOCAL["keys"]
    wanted = torch.tensor(NON_LOCAL["eval_out"]).double()
    torch.testing.assert_close(ruled(block)(drawn(3, 2, 6, 3, 2)), wanted, atol=1e-5, rtol=1e-6)


def test_the_non_local_block_equals_its_formula_with_the_full_matrix():
    block, x = ruled(NonLocal(8, inner=4)), drawn(3, 2, 8, 3, 2)
    g, theta, phi = (project(x).flatten(2) for project in (block.g, block.theta, block.phi))
    gathered = torch.zeros_like(g)
    for i in range(6):
        for j in range(6):
            gathered[:, :, i] += (theta[:, :, i] * phi[:, :, j]).sum(1, keepdim=True) * g[:, :, j] / 6
    torch.testing.assert_close(block(x), x + block.W(gathered.unflatten(2, (3, 2))))


def test_a_new_non_local_block_changes_nothing_yet_learns():
    block, x = NonLocal(8, inner=4), drawn(3, 2, 8, 3, 2).float()
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.W[1].weight.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_non_local_block_keeps_float32_inside_under_autocast(dtype):
    block, x = ruled(NonLocal(8, inner=4)).float(), 200 * drawn(3, 2, 8, 3, 2).float()
    with torch.autocast("cpu", dtype):
        found, low = block(x), block(x.to(dtype))
    assert torch.equal(found, block(x))
    assert found.abs().max() > torch.finfo(torch.float16).max
    assert low.dtype == dtype


def test_a_network_with_non_local_blocks_gives_the_known_numbers():
    wanted = IBN["fastreid_backbone"]["r50_ibn_nl_laststride1"]
    network = make_backbone("resnet50", SIZE, last_stride=1, ibn="a", non_local="single", stem_pool="fastreid").body
    assert sum(p.numel() for p in network.parameters()) == wanted["n_params"]
    ruled(network)
    for block in (m for m in network.modules() if isinstance(m, NonLocal)):
        torch.nn.init.zeros_(block.W[1].weight)
        torch.nn.init.zeros_(block.W[1].bias)
    with torch.inference_mode():
        check(network.forward_features(drawn(2, 2, 3, 64, 32)), wanted["layer4_out"])


@pytest.mark.parametrize(("depth", "third"), [(50, range(3, 6)), (101, range(14, 23)), (152, range(27, 36))])
def test_where_non_local_blocks_stand(depth, third):
    with torch.device("meta"):
        network = make_backbone(f"resnet{depth}", SIZE, non_local="half").body
    last = len(network.layer2)
    wanted = [f"layer2.{i}.NL" for i in (last - 2, last - 1)] + [f"layer3.{i}.NL" for i in third]
    assert [n for n, m in network.named_modules() if isinstance(m, NonLocal)] == wanted
    assert network.layer3[-1].NL.g.out_channels == 512


def test_non_local_blocks_are_found_under_their_names_in_fast_reid():
    with torch.device("meta"):
        network = make_backbone("resnet50", SIZE, non_local="single").body
        plain = make_backbone("resnet50", SIZE).body
    places = {
        "layer2.2": "NL_2.0",
        "layer2.3": "NL_2.1",
        "layer3.3": "NL_3.0",
        "layer3.4": "NL_3.1",
        "layer3.5": "NL_3.2",
    }
    wanted = network.state_dict()
    theirs = dict(wanted)
    for ours, name in places.items():
        for key in [k for k in theirs if k.startswith(f"{ours}.NL.")]:
            theirs[key.replace(f"{ours}.NL.", f"{name}.")] = theirs.pop(key)
    assert set(IBN["fastreid_backbone"]["r50_ibn_nl_laststride1"]["nl_keys"]) < set(theirs)
    found = fit_plain(theirs, network)
    assert set(found) == set(wanted)
    assert all(found[k] is wanted[k] for k in wanted)
    assert blocks_beyond(fit_plain(theirs, plain), plain) == ["non-local blocks (model.non_local)"]


def test_non_local_blocks_have_room_beside_ibn_b():
    network = make_backbone("resnet50", SIZE, ibn="b", non_local="half", attention="se").body
    assert {"IN", "NL", "se"} <= {name for name, _ in network.layer2[3].named_children()}
    assert isinstance(network.layer2[3].IN, torch.nn.InstanceNorm2d)
    assert isinstance(network.layer2[3].last_act, torch.nn.ReLU)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet26", "test_vit", "test_convnext"])
def test_non_local_where_it_has_no_place_is_told(name):
    with torch.device("meta"), pytest.raises(UserError, match=rf"model\.non_local: .*'{name}' .*leave it at 'none'"):
        make_backbone(name, SIZE, non_local="half")
