"""Every pair of methods that may be combined has an effect, and remembers the model that the stage leaves.

Each pair is tried in a tiny run of two stages of a few steps. What must differ without either method of the pair are
the final weights, or what the other one remembers. Without labels a stage cannot do without a method that assigns them,
so that there another one takes its place.
"""

import copy
import itertools
import json

import pytest
import torch

from passerby.data.transforms import mix_seeds
from passerby.methods.method import Method
from passerby.methods.weight_penalty import flat
from passerby.recipe import MethodSettings
from passerby.training import run_log
from passerby.training.session import train
from passerby.training.trainer import Trainer, make_trainer
from tests.methods.steps import TEACHER, some
from tests.training.runs import optimiser_hash, weights

CLUSTER = {"cluster": {"kind": "kmeans", "k": 3}}
SETTINGS = {
    "average": {}, "feature": {}, "affinity": {"rectified": True}, "lstkc_pp": {"weight": 10.0, "scale": 10.0},
    "lwf": {"ce_dist": 1.0, "tr_dist": 1.0, "heads": 1.0},
    "ebll": {"code": 8, "epochs": 20, "lr": 0.02}, "ewc": {"images": 2}, "si": {"strength": 100.0},
    "mas": {"images": 2}, "replay": {"identities": 2, "match": 1.0}, "grow": {},
    "dkp": {}, "dask": {"backbone": "test_resnet", "steps": 1, "batch": 2},
    "cal": {"start": 0, "lr": 0.1, "weight": 10.0}, "distil": {"teacher": TEACHER}, "prompts": {}, "prototypes": {},
    "pseudo": CLUSTER, "contrast": CLUSTER,
    "spcl": {"cluster": {"k1": 6, "k2": 2, "min_samples": 2}}, "mmt": CLUSTER,
    "pplr": CLUSTER, "ssg": {**CLUSTER, "margin": 50.0}, "dec": {},
    "camera_proxies": {},
}  # fmt: skip
MAKERS = ("pseudo", "contrast", "spcl", "mmt", "pplr", "ssg")
LABELLED_ONLY = ("ewc", "replay", "grow", "lstkc_pp", "prototypes", "cal", "dkp")
EXCLUSIVE = {("replay", "grow"), ("average", "lstkc_pp")}
HOLDING = tuple(name for name in SETTINGS if name not in (*MAKERS, "dec", "camera_proxies", "prompts"))
STEPS = (1, 2)
"""Of each stage; the first of the second stage leaves the weights that penalties hold to."""
CASES = [
    *(pair for pair in itertools.combinations(HOLDING, 2) if pair not in EXCLUSIVE),
    *((maker, name) for maker in MAKERS for name in (*HOLDING, "dec", "camera_proxies") if name not in LABELLED_ONLY),
    *(("pseudo", "dec", name) for name in HOLDING if name not in LABELLED_ONLY),
    ("pseudo", "dec", "camera_proxies"),
]


def examples() -> list[tuple[str, ...]]:
    """Return cases that have every method: for the first that is missing, the case with most of those missing."""
    found, missing = [], [name for name in SETTINGS if name != "prompts"]
    while missing:
        cases = [case for case in CASES if missing[0] in case]
        found.append(max(cases, key=lambda case: len({*case} & {*missing})))
        missing = [name for name in missing if name not in found[-1]]
    return found


FAST = examples()
"""All other cases are slow together."""
EVERY_CASE = [
    pytest.param(names, marks=() if names in FAST else pytest.mark.slow, id="-".join(names)) for names in CASES
]


def test_all_parts_are_tried():
    assert list(SETTINGS) == list(MethodSettings.model_fields)


class Left:
    """What a run of two stages leaves: the run, and copies of its methods and its weights from before they remember."""

    def __init__(self, tiny, folder, names, *changes):
        unknown, method = any(name in MAKERS for name in names), {name: SETTINGS[name] for name in names}
        labels = ", labelled: false" if unknown else ""
        first, second = ("dressed", "dressed_other") if "cal" in names else ("market1501", "other")
        self.run = make_trainer(
            tiny(
                f"stages=[{{train: [{first}], epochs: 1}}, {{train: [{second}], epochs: 1{labels}}}]",
                "evaluate=[]", f"method={json.dumps(method)}", "data.sampler.identities=2", "optim.lr=0.01",
                "optim.warmup_epochs=0", "data.sampler.instances=2", *changes,
                *(["model.stripes=2"] if {"pplr", "ssg"} & set(names) else []),
            ),
            folder,
        )  # fmt: skip
        self.run.save = lambda: None
        for number, count in enumerate(STEPS):
            self.run.open_stage(number)
            labels = self.run.assign_labels()
            for first in range(count):
                self.run.state.counters.iteration = first
                batch = some(self.run, rows=range(first, len(labels), 6), labels=self.run.state.counters.labels)
                self.run.step(batch, count=count)
            self.run.state.counters.epoch, self.run.state.counters.iteration = 1, 0
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(self.run, "go_through", self.go_through)
                self.run.end_stage()

    def go_through(self, phase):
        run = self.run
        if phase == "remembers" and run.state.counters.stage:
            self.methods, self.weights = (
                copy.deepcopy(run.state.methods),
                copy.deepcopy(run.state.embedder.state_dict()),
            )
        Trainer.go_through(run, phase)

    def remembered(self, name):
        return tensors(self.run.state.methods[name])

    def differs(self, other, name):
        """How far the final weights are apart, or what a method remembers; infinite where that has other sizes."""
        models = [each.run.state.embedder.state_dict() for each in (self, other)]
        pairs = [models, (self.remembered(name), other.remembered(name))]
        return max(map(apart, *zip(*pairs, strict=True)))


def tensors(module):
    return {key: value for key, value in module.state_dict().items() if isinstance(value, torch.Tensor)}


def apart(one, other):
    if {key: value.shape for key, value in one.items()} != {key: value.shape for key, value in other.items()}:
        return float("inf")
    gaps = [(one[key].double() - other[key].double()).nan_to_num().abs() for key in one if one[key].numel()]
    return max((float(gap.max()) for gap in gaps), default=0.0)


@pytest.fixture(scope="module")
def left(tiny, tmp_path_factory):
    """Return what combinations of methods leave; those of fewer methods than a case has are needed again."""
    known, folder = {}, tmp_path_factory.mktemp("pairs")

    def find(*names):
        key = tuple(name for name in SETTINGS if name in names)
        if key not in known:
            known[key] = Left(tiny, folder, key)
        return known[key]

    return find


@pytest.mark.parametrize("names", EVERY_CASE)
def test_either_part_of_a_pair_has_an_effect(left, names):
    both, (*others, last) = left(*names), names
    assert both.differs(left(*others), others[-1]) > 1e-6, f"{last} has no effect"
    instead = ["contrast" if name == "pseudo" else "pseudo" for name in others[:1] if name in MAKERS]
    assert both.differs(left(*instead, *others[1:-1], last), last) > 1e-6, f"{others[-1]} has no effect"


@pytest.mark.parametrize("names", EVERY_CASE)
def test_what_is_remembered_is_the_model_that_the_stage_leaves(left, names):
    both = left(*names)
    run, remembered = both.run, copy.deepcopy(tensors(both.run.state.methods))
    assert apart(both.weights, run.state.embedder.state_dict()) == 0, "the weights changed while methods remembered"
    kept, run.state.methods = run.state.methods, both.methods
    for method in reversed(run.state.active_methods):  # in any order, by the final weights alone
        torch.manual_seed(mix_seeds(run.setup.recipe.engine.seed, run.state.counters.stage, run.state.counters.epoch))
        if method.settings.end == "remembers":
            method.on_stage_end(run.context)
    again = tensors(run.state.methods)
    run.state.methods = kept
    assert again.keys() == remembered.keys()
    for key, value in remembered.items():
        torch.testing.assert_close(again[key], value, rtol=0, atol=0, equal_nan=True, msg=key)


def test_of_a_running_mean_the_mean_is_remembered(tiny, tmp_path):
    run = Left(tiny, tmp_path, ("ewc", "si", "mas", "replay"), "optim.ema_decay=0.5").run
    scored, trained = (flat(model.parameters()).detach() for model in (run.state.tested, run.state.embedder))
    assert float((scored - trained).abs().max()) > 1e-4
    for name in ("ewc", "si", "mas"):
        assert torch.equal(run.state.methods[name].reference, scored)
    memory = run.state.methods["replay"]
    rows = memory.rows[memory.stages == 1].numpy()
    seen = run.context.vectors_of(run.setup.stages[1].train.select(rows), "after_neck", model=run.state.tested)
    torch.testing.assert_close(memory.stored[-len(rows) :], seen)


class Killed(Exception):
    """Nothing is saved when it comes."""


TOGETHER = {
    "mean teacher": ("average", "lwf", "ebll", "si", "mas", "dask", "mmt", "dec"),
    "memory": ("average", "ewc", "si", "replay"),
}


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(TOGETHER["mean teacher"], id="mean teacher", marks=pytest.mark.slow),
        pytest.param(TOGETHER["memory"], id="memory"),
    ],
)
def test_a_run_killed_after_any_hook_of_the_end_goes_on_bit_for_bit(tiny, tmp_path, monkeypatch, names):
    unknown = ", labelled: false, iterations: 1" if "mmt" in names else ""
    recipe = tiny(
        f"stages=[{{train: [market1501], epochs: 1, iterations: 2}}, {{train: [other], epochs: 1{unknown}}}]",
        "evaluate=[]", f"method={json.dumps({name: SETTINGS[name] for name in names})}", "data.sampler.identities=2",
        "optim.lr=0.01", "optim.warmup_epochs=0",
    )  # fmt: skip
    train(recipe, tmp_path / "whole")
    done, going_through = [], Trainer.go_through

    def kill_after_a_new_hook(run, phase):
        for method in run.state.active_methods if run.state.counters.stage else ():
            if method.settings.end == phase and type(method).on_stage_end is not Method.on_stage_end:
                monkeypatch.setattr(method, "on_stage_end", then_kill(method, phase), raising=False)
        going_through(run, phase)

    def then_kill(method, phase):
        def hook(run):
            type(method).on_stage_end(method, run)
            if (phase, type(method)) not in done:
                done.append((phase, type(method)))
                raise Killed

        return hook

    monkeypatch.setattr(Trainer, "go_through", kill_after_a_new_hook)
    start = "fresh"
    while True:
        try:
            train(recipe, tmp_path / "broken", start=start)
            break
        except Killed:
            start = "resume"
    assert {phase for phase, _ in done} >= {"interpolates", "remembers"}
    assert len(done) >= len(names)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert weights(broken) == weights(whole)
    assert optimiser_hash(broken) == optimiser_hash(whole)
    findings = [run_log.metrics(run_log.read(folder / "log.jsonl")) for folder in (whole, broken)]
    assert findings[0] == findings[1]
