"""What every method of a method must hold to; a new one is tested the moment it is listed in `MethodSettings`.

Each is tried in a tiny run of two stages on two sites, once as it comes and once broken off twice: killed where the
second stage begins, so that the end of the first one is done again, and stopped in the middle of the second one. For
methods that make labels the second stage has none.
"""

import json
import math

import pytest
import torch
from ignite.engine import Events
from pydantic import ValidationError

from passerby.methods.table import METHODS
from passerby.recipe import MethodSettings
from passerby.training import run_log
from passerby.training.session import Interrupted, train
from tests.methods.steps import TEACHER
from tests.models.tiny_clip import two_stages
from tests.training.runs import interrupt_after, optimiser_hash, state_hash, weights

CLUSTER = {"cluster": {"kind": "kmeans", "k": 3}}
CHANGES = {
    "lwf": [{"ce_dist": 1.0, "tr_dist": 1.0, "heads": 1.0}],
    "cal": [{"start": 0}],
    "dask": [{"backbone": "test_resnet", "steps": 3, "batch": 4}],
    "average": [{}, {"alpha": "adaptive"}],
    "distil": [
        {"teacher": TEACHER, "camera_norm": "standardise", "neighbours": 2},
        {"teacher": TEACHER, "cosine": 0, "distances": 1, "angles": 2, "affinity": 1},
    ],
    "pseudo": [CLUSTER],
    "contrast": [CLUSTER],
    "spcl": [{"cluster": {"k1": 6, "k2": 2, "min_samples": 2}}],
    "mmt": [CLUSTER],
    "pplr": [CLUSTER],
    "ssg": [CLUSTER],
    "camera_proxies": [{}, {"intra": 1.0, "other": 0.5, "reduction": "batch"}],
    "ebll": [{"code": 8, "epochs": 100, "lr": 0.01}, {"code": 8, "epochs": 60, "lr": 0.01, "place": "before_pooling"}],
}
"""Where a method needs to be told something, or has more than one face; all others are tried as they come."""

CASES = [(name, number) for name in MethodSettings.model_fields for number in range(len(CHANGES.get(name, [{}])))]

FAST = {
    ("affinity", 0),
    ("ebll", 0),
    ("ewc", 0),
    ("replay", 0),
    ("dkp", 0),
    ("lstkc_pp", 0),
    ("contrast", 0),
    ("distil", 0),
}
"""All other cases are slow together."""


def recipe_with(tiny, name, number, *overrides):
    """Return a recipe of two stages with the method, and with what it cannot do without."""
    if name == "prompts":
        return tiny(*two_stages(), "evaluate=[]", *overrides)
    told = CHANGES.get(name, [{}])[number]
    method = METHODS[name]
    unknown = method.assigns_labels or method.unlabelled_only
    beside = {"pseudo": CLUSTER} if method.unlabelled_only and not method.assigns_labels else {}
    labels = ", labelled: false" if unknown else ""
    first, second = ("dressed", "dressed_other") if name == "cal" else ("market1501", "other")
    return tiny(
        f"stages=[{{train: [{first}], epochs: 1, iterations: 2}}, "
        f"{{train: [{second}], epochs: 1, iterations: 3{labels}}}]",
        "evaluate=[]", f"method={json.dumps({name: told, **beside})}",
        *(["model.stripes=2"] if name in ("pplr", "ssg") else []),
        f"data.sampler.identities={2 if unknown else 3}", *overrides,
    )  # fmt: skip


class Killed(Exception):
    """Nothing is saved when it comes."""


def kill_at_start_of_second_stage(run, engine):
    @engine.on(Events.ITERATION_STARTED)
    def _kill():
        if run.state.counters.stage == 1:
            raise Killed


def watch_teacher(found):
    """Note the state of the teacher at the first and after every step of a stage, and whether it learns."""

    def attach(run, engine):
        @engine.on(Events.STARTED | Events.ITERATION_COMPLETED)
        def _note():
            if run.state.previous_model is not None:
                found.append(state_hash(run.state.previous_model.state_dict()))
                assert not any(p.requires_grad for p in run.state.previous_model.parameters())
                assert not any(module.training for module in run.state.previous_model.embedder.modules())

    return attach


@pytest.fixture(
    scope="module",
    params=[pytest.param(case, marks=() if case in FAST else pytest.mark.slow) for case in CASES],
    ids=["-".join(map(str, case)) for case in CASES],
)
def pair(request, tiny, tmp_path_factory):
    """Two runs of a method with the same seed: one that went through, one that was broken off."""
    name, number = request.param
    recipe = recipe_with(tiny, name, number)
    whole, broken, teacher = *(tmp_path_factory.mktemp("methods") / word for word in ("whole", "broken")), []
    train(recipe, whole, watch=[watch_teacher(teacher)])
    torch.manual_seed(7)
    with pytest.raises(Killed):
        train(recipe, broken, watch=[kill_at_start_of_second_stage])
    torch.manual_seed(8)
    with pytest.raises(Interrupted, match="stopped before stage 2, epoch 1, batch 3"):
        train(recipe, broken, start="resume", watch=[interrupt_after(2)])
    torch.manual_seed(9)
    train(recipe, broken, start="resume")
    return recipe, whole, broken, teacher


def test_broken_off_and_resumed_equals_never_broken_off(pair):
    _, whole, broken, _ = pair
    assert weights(broken) == weights(whole)
    assert optimiser_hash(broken) == optimiser_hash(whole)  # the teacher and what the method remembers are in it


def test_what_it_tells_is_finite_and_the_same(pair):
    _, whole, broken, _ = pair
    one, other = (run_log.read(folder / "log.jsonl") for folder in (whole, broken))
    terms = [record.terms for record in run_log.epochs(one)]
    assert terms == [record.terms for record in run_log.epochs(other)]
    assert all(math.isfinite(term.value) and math.isfinite(term.weighted) for found in terms for term in found.values())
    assert run_log.metrics(one) == run_log.metrics(other)
    assert all(math.isfinite(value) for record in run_log.metrics(one) for value in record.values.values())


def test_the_teacher_stands_still(pair):
    recipe, whole, _, found = pair
    wanted = any(chosen.uses_previous_model for chosen in recipe.method.chosen.values())
    assert bool(found) == wanted
    assert len(set(found)) == wanted
    checkpoint = torch.load(whole / "last.pt", weights_only=True)
    assert (checkpoint["previous_model"] is not None) == wanted


def test_it_says_what_it_is(pair):
    recipe, *_ = pair
    settings = list(recipe.method.chosen.values())[-1]
    method = settings.make()
    assert type(settings).__doc__
    assert type(method).__doc__
    verbs = ("pseudo_labels", "losses", "after_step", "on_stage_end")
    own = {verb for verb in verbs if getattr(type(method), verb) is not part_verb(verb)}
    assert own, "a method without hooks does nothing"


def part_verb(verb):
    from passerby.methods.method import Method

    return getattr(Method, verb)


@pytest.mark.parametrize("name", MethodSettings.model_fields)
def test_every_part_can_be_left_out_and_refuses_what_it_does_not_know(name):
    assert getattr(MethodSettings(), name) is None
    with pytest.raises(ValidationError):
        METHODS[name](no_such_setting=1)


@pytest.mark.parametrize(("name", "number"), CASES)
def test_a_part_that_needs_an_earlier_stage_is_refused_without_one(tiny, name, number):
    from passerby.errors import UserError

    recipe, text = recipe_with(tiny, name, number), f"method.{name}={json.dumps(CHANGES.get(name, [{}])[number])}"
    if recipe.method.chosen[name].needs_previous_model:
        with pytest.raises(UserError, match=f"method.{name} needs an earlier stage and has no effect here"):
            tiny(text)
