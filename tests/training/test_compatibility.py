"""A checkpoint that does not fit is told in a sentence, before a tensor of it reaches an optimiser's kernels."""

import copy

import pytest
import torch

from passerby.errors import UserError
from passerby.training.checkpoint import load_checkpoint, parse_checkpoint
from passerby.training.compatibility import take_over
from passerby.training.session import Interrupted, train
from tests.training.runs import interrupt_after

VALUES = {
    "nothing": None,
    "a word": "x",
    "below 0": -1,
    "a fraction": 0.5,
    "far too much": 10**9,
    "beyond machines": 10**30,
    "a truth value": True,
    "not a number": float("nan"),
    "a list": [1, "x", None],
    "a table": {"x": {"y": 1}},
    "a table of numbers": {"x": 1},
    "a tensor": torch.ones(3),
    "words for tensors": {"x": "y"},
    "numbers as keys": {1: torch.ones(1)},
    "a huge view": {"x": torch.ones(1).expand(10**12)},
    "an empty table": {},
}
FINE = {  # (field, value) that are in their form; whether they fit a run is another question
    "recipe": {"a word"},
    "stage": {"far too much"},
    "epoch": {"far too much"},
    "iteration": {"far too much"},
    "classes": {"nothing", "far too much"},
    "threads": {"nothing", "far too much"},
    "precision": {"nothing"},
    "channels_last": {"nothing", "a truth value"},
    "labels": {"nothing"},
    "earlier_labels": {"nothing"},
    "ema": {"nothing", "an empty table"},
    "previous_model": {"nothing", "an empty table"},
    "ended": {"a truth value"},
    "scaler": {"a table of numbers", "an empty table"},
    "sums": {"an empty table"},
    "images": {"nothing", "words for tensors", "an empty table"},
    "machine": {"nothing", "words for tensors", "an empty table"},
    "processes": {"nothing"},
    "cameras": {"nothing", "an empty table"},
    **{name: {"an empty table"} for name in ("embedder", "losses", "methods")},
}


@pytest.fixture(scope="module")
def stopped(tiny, tmp_path_factory):
    """A run that was stopped after the third step, and its checkpoint as torch reads it."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(Interrupted):
        train(tiny(), folder, watch=[interrupt_after(3)])
    return folder, torch.load(folder / "last.pt", weights_only=True)


def test_every_field_in_every_form(stopped):
    folder, whole = stopped
    assert set(parse_checkpoint(whole, folder).__dict__) == set(whole)
    for name in whole:
        for word, value in VALUES.items():
            if word in FINE.get(name, set()):
                parse_checkpoint(whole | {name: value}, folder)
                continue
            with pytest.raises(UserError, match=f"is not a readable checkpoint \\({name} is not"):
                parse_checkpoint(whole | {name: value}, folder)


def test_fields_that_are_missing_or_unknown(stopped):
    folder, whole = stopped
    with pytest.raises(UserError, match="without stage and with more"):
        parse_checkpoint({k: v for k, v in whole.items() if k != "stage"} | {"more": 1}, folder)
    with pytest.raises(UserError, match="no table of fields"):
        parse_checkpoint([whole], folder)


def test_a_checkpoint_of_an_earlier_version_is_read(stopped):
    folder, whole = stopped
    since = {"images", "machine", "threads", "precision", "channels_last", "classes", "ended", "earlier_labels"}
    parse_checkpoint({key: value for key, value in whole.items() if key not in since}, folder)


def change(**fields):
    return lambda whole: whole.update(fields)


def reshape(whole):
    whole["optimiser"]["state"][0]["exp_avg"] = torch.zeros(1)


def widen_step(whole):
    whole["optimiser"]["state"][0]["step"] = torch.zeros(5)


def forget(whole):
    del whole["optimiser"]["state"][0]["exp_avg"]


def add_parameter(whole):
    whole["optimiser"]["state"][999] = whole["optimiser"]["state"][0]


def drop_group(whole):
    whole["optimiser"]["param_groups"].pop()


def twice(whole):
    whole["optimiser"]["param_groups"][0]["params"][1] = 0


def other_betas(whole):
    whole["optimiser"]["param_groups"][0]["betas"] = "x"


def cut_tensor(whole):
    name, value = next(iter(whole["embedder"].items()))
    whole["embedder"][name] = value[:1]


def not_finite(whole):
    whole["embedder"]["neck.weight"][0] = torch.nan


DAMAGE = {
    "stage 6, and the run has 1": change(stage=5),
    "after 9 epochs of stage 1, which has 2": change(epoch=9),
    "before batch 1,000,000,001": change(iteration=10**9),
    "holds labels of 3 images": change(labels=torch.zeros(3, dtype=torch.int64)),
    "labels beyond the 6 identities": change(labels=torch.full((48,), 6)),
    "of its losses": change(classes=3),
    "its losses": change(losses={}),
    "its embedder lacks": change(embedder={}),
    "weight of its embedder is": cut_tensor,
    "the state of an optimiser": change(optimiser={}),
    "exp_avg of parameter 0": reshape,
    "step of parameter 0": widen_step,
    "holds exp_avg_sq, step of parameter 0": forget,
    "has a state of parameter 999": add_parameter,
    "its optimiser has": drop_group,
    "its optimiser has [": twice,
    "'betas' of its optimiser": other_betas,
    "NaN or infinity": not_finite,
}


@pytest.mark.parametrize("told", DAMAGE)
def test_what_does_not_fit_the_run(stopped, tiny, tmp_path, told):
    _, whole = stopped
    damaged = copy.deepcopy(whole)
    DAMAGE[told](damaged)
    (tmp_path / "run").mkdir()
    torch.save(damaged, tmp_path / "run" / "last.pt")
    with pytest.raises(UserError) as caught:
        train(tiny(), tmp_path / "run", start="resume")
    assert "\n" not in str(caught.value)
    assert told in str(caught.value)


def test_what_a_part_stumbles_over_is_told():
    def load(parts):
        raise KeyError("rows")

    with pytest.raises(UserError, match="the state of its methods is damaged"):
        take_over({}, load)


def test_losses_of_a_hundred_million_identities_are_refused_without_making_them(stopped, tiny, tmp_path):
    (tmp_path / "run").mkdir()
    torch.save(stopped[1] | {"classes": 10**8}, tmp_path / "run" / "last.pt")
    with pytest.raises(UserError, match="of its losses is float32"):
        train(tiny(), tmp_path / "run", start="resume")
    assert load_checkpoint(tmp_path / "run" / "last.pt").classes == 10**8
