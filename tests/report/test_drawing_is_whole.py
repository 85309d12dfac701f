"""Whatever is changed in a recipe changes its drawing: the settings are walked one by one, so new ones are met too."""

from collections.abc import Iterator
from functools import cache
from itertools import islice
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import pytest

from passerby.clustering.algorithms import AnyClustering
from passerby.errors import UserError
from passerby.losses.mix import LossSettings
from passerby.methods.clustered import ClusteredSettings
from passerby.methods.pseudo import PseudoSettings
from passerby.methods.table import METHODS
from passerby.recipe import MethodSettings, Recipe, StageSettings, make_recipe
from passerby.report.diagrams import draw
from passerby.settings import Settings
from tests.report.test_diagrams import words

TECHNICAL = {
    # where things are and what they are called
    "description",
    "root",
    "datasets",
    "masks",
    "pattern",
    "reference",
    "reference_results",
    # on which machine, how fast, and with which dice
    "stages.0.data.cache",
    "stages.0.data.workers",
    "engine.seed",
    "engine.threads",
    "engine.device",
    "engine.precision",
    "engine.channels_last",
    "engine.track",
    # a recipe's own are the base of its stages, which are drawn
    "data",
    "foreground",
    "optim",
    "losses",
    "method",
    "freeze",
}
MOST_VARIANTS = 4
WALKED = PseudoSettings
SITES = {name: {"kind": "market1501", "root": name} for name in ("a", "b")}
STAGE = {"train": ["a", "b"], "epochs": 30}
BASES = [
    {"datasets": SITES, "stages": [{**STAGE, "optim": {"milestones": [10, 20]}}]},
    {
        "datasets": SITES,
        "stages": [{**STAGE, "optim": {"name": "sgd", "schedule": "cosine"}}],
        "data": {"augment": {"policy": {"kind": "rand"}}},
    },
    {
        "datasets": SITES,
        "stages": [{**STAGE, "epochs": 90, "losses": {name: {} for name in LossSettings.model_fields}}],
        "data": {"augment": {"jitter": {}, "blur": {}}},
        "model": {"backbone": "resnet18"},
        "test": {"cameras": "standard"},
        "foreground": {"use": "swap"},
    },
]


PARTS = {name: {} for name in MethodSettings.model_fields} | {
    "lwf": {"ce_dist": 1.0, "tr_dist": 1.0, "heads": 1.0},
    "distil": {"teacher": "teacher.onnx"},
}
TWO_SITES = {
    "datasets": SITES,
    "model": {"backbone": "resnet18"},
    "evaluate": [],
}


def in_two_stages(method: dict) -> dict:
    """Return a recipe whose stages have a method."""
    return {**TWO_SITES, "stages": [{"train": [name], "method": method} for name in ("b", "a")]}


def without_labels(method: dict) -> dict:
    """Return a recipe with a method whose second stage finds people by it, with known ones beside."""
    stages = [{"train": ["b"]}, {"train": ["a"], "labelled": False, "source": ["b"]}]
    stripes = 2 if method.keys() & {"ssg", "pplr"} else None
    return {**TWO_SITES, "model": {"backbone": "resnet18", "stripes": stripes}, "stages": stages, "method": method}


CLUSTERINGS = [kind.model_fields["kind"].default for kind in get_args(get_args(AnyClustering)[0])]
MAKERS = [name for name, kind in METHODS.items() if kind.assigns_labels]
"""An unlabelled stage has just one of them."""
NOBODY = {"labelled": False, "method": {"pseudo": {}}}
LABELLED_TOO = [name for name, kind in METHODS.items() if not (kind.assigns_labels or kind.unlabelled_only)]
APART = ("replay", "lstkc_pp", "prompts")
"""They exclude one of the others."""
PROMPTS = {
    "name": "words",
    "train": ["a"],
    "data": {"sampler": {"kind": "shuffle"}},
    "losses": {"softmax": None, "triplet": None},
    "method": {"prompts": {"text_tower": "clip.safetensors", "train": "prompts"}},
}
IMAGES = {**PROMPTS, "method": {"prompts": {"text_tower": "clip.safetensors", "weight": 0.5}}}
CLIP = {"backbone": "clip_vit", "weights": "clip.safetensors"}
BASES += [{**BASES[0], "test": {"rerank": {"distance": "ca_jaccard"}}}]
BASES += [{"datasets": SITES, "model": CLIP, "evaluate": [], "stages": [PROMPTS, stage]} for stage in (PROMPTS, IMAGES)]
BASES += [
    in_two_stages({name: method for name, method in PARTS.items() if name in LABELLED_TOO and name not in APART}),
    in_two_stages({"replay": {}, "lstkc_pp": {}, "ebll": {"place": "before_pooling", "autoencoders": ["ae", "ae_l1"]}}),
    in_two_stages({"ebll": {"distance": "bce"}}),
    in_two_stages({}),
    {**TWO_SITES, "stages": [{"train": ["b"]}, {"train": ["a"], "method": {"lwf": {"ce_dist": 1.0}}}]},
    *(without_labels({"pseudo": {"cluster": {"kind": kind}}, "dec": {"k": 3}}) for kind in CLUSTERINGS),
    without_labels({"pseudo": {"cluster": {"kind": "dbscan", "eps": "share"}, "stop": {}}}),
    without_labels(
        {"pseudo": {"cluster": {"kind": "dbscan", "distance": "ca_jaccard"}}, "camera_proxies": {"intra": 1}}
    ),
    *({**TWO_SITES, "stages": [*first, {"train": ["b"], **NOBODY}]} for first in ([], [{"train": ["a"]}])),
    *(without_labels({name: {}}) for name in MAKERS),
    *(without_labels({name: {}, "distil": {"teacher": "teacher.onnx"}}) for name in ("pseudo", "contrast")),
    without_labels({"ssg": {"oracle": "cluster", "cluster": {"kind": "hdbscan"}}}),
]


def leaves(kind: type[Settings], path: str = "") -> Iterator[tuple[str, object]]:
    """Yield (dotted path, type) of every setting below a class; the first stage stands for all."""
    shared = ClusteredSettings.model_fields if issubclass(kind, ClusteredSettings) and kind is not WALKED else {}
    for name, field in kind.model_fields.items():
        if name in shared:  # one of those who have it stands for all
            continue
        here = f"{path}.{name}" if path else name
        if here in TECHNICAL:
            continue
        if here == "stages":
            yield from leaves(StageSettings, "stages.0")
            continue
        if here == "stages.0.method":  # methods hold on to an earlier stage, so they are changed in the second
            yield from leaves(MethodSettings, "stages.1.method")
            continue
        groups = [one for one in members(field.annotation) if isinstance(one, type) and issubclass(one, Settings)]
        always = [*groups] == [*members(field.annotation)]
        if (not always or len(groups) > 1) and name not in (*MAKERS, "kind"):  # else it is no choice by itself
            yield here, field.annotation
        for group in groups:
            yield from leaves(group, here)


def members(kind: object) -> tuple[object, ...]:
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        return tuple(inner for member in get_args(kind) for inner in members(member))
    return (kind,)


def others(kind: object, value: object) -> list[object]:
    """Values of a type that differ from the present one; which of them are allowed is for the recipe to say."""
    found: list[object] = []
    for member in members(kind):
        if get_origin(member) is Literal:
            found += list(get_args(member))
        elif member is bool:
            found += [True, False]
        elif member is type(None):
            found.append(None)
        elif member in (int, float) or not isinstance(member, type):
            found += [2, 1, 7, 0.5, 0.25, 3.0, 0]
        elif issubclass(member, Settings):
            found.append({"kind": member.model_fields["kind"].default} if "kind" in member.model_fields else {})
    if isinstance(value, str):
        found += ["a", "resnet34", "pretrained", "learned"]
    if isinstance(value, list):
        found += [value[:1], [*value[:-1], 12], [0.1, 0.2], [64, 32], [0.4, 0.4, 0.4], ["a"]]
        found.append([{"match": "neck.*", "lr_scale": 0.5}])
    if isinstance(value, dict):
        found += [{"width": 32}]
    if value is None:
        found += ["a", ["a"]]
    return [one for one in found if one != value or type(one) is not type(value)]


def with_value(recipe: dict, path: str, value: object) -> dict:
    head, _, rest = path.partition(".")
    if isinstance(recipe, list):
        at = int(head)
        return [*recipe[:at], with_value(recipe[at], rest, value) if rest else value, *recipe[at + 1 :]]
    return {**recipe, head: with_value(recipe[head], rest, value) if rest else value}


def value_at(recipe: object, path: str) -> object:
    for name in path.split("."):
        recipe = recipe[int(name)] if isinstance(recipe, list) else recipe[name]
    return recipe


@cache
def bases() -> list[tuple[Recipe, dict]]:
    recipes = [make_recipe(base, source="a base") for base in BASES]
    return [(recipe, recipe.model_dump(mode="json")) for recipe in recipes]


@cache
def drawn_base(number: int) -> str:
    """Return the words of the drawing of a base, which many variants are compared with."""
    return words(draw(bases()[number][0]))


def variants(path: str, kind: object) -> Iterator[tuple[int, Recipe]]:
    """Yield the numbers of bases, each with a recipe that differs from it in this setting alone."""
    for number, (recipe, data) in enumerate(bases()):
        if path.startswith("test.") and not recipe.tested:  # how it would be tested is not drawn
            continue
        try:
            value = value_at(data, path)
        except (IndexError, KeyError, TypeError):
            continue
        for other in others(kind, value):
            try:
                changed = make_recipe(with_value(data, path, other), source="a change")
            except UserError:
                continue
            if changed != recipe:
                yield number, changed


@pytest.mark.parametrize(("path", "kind"), [pytest.param(*leaf, id=leaf[0]) for leaf in leaves(Recipe)])
@pytest.mark.parametrize("most", [1, pytest.param(MOST_VARIANTS, marks=pytest.mark.slow)])
def test_a_changed_setting_is_a_changed_drawing(path, kind, most):
    pairs = list(islice(variants(path, kind), most))
    assert pairs, f"no way is known to change {path}; give BASES or `others` what it needs"
    for number, changed in pairs:
        assert drawn_base(number) != words(draw(changed)), f"{path} can be changed without a trace in the drawing"


def test_who_makes_the_labels_is_drawn_where_they_are_made():
    recipes = [make_recipe(without_labels({name: {}}), source="a base") for name in MAKERS]
    drawn = [words(draw(recipe)) for recipe in recipes]
    assert len(set(drawn)) == len(MAKERS)
    for name, text in zip(MAKERS, drawn, strict=True):
        first, second = text.split("Stage 2 of 2")
        assert "pseudo-labels" not in first, name
        assert "pseudo-labels" in second, name
