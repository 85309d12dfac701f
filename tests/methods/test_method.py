"""The contract of methods: its hooks are those that the guide lists."""

import inspect
import re
from pathlib import Path

from passerby.methods.heads import HasEarlierHeads
from passerby.methods.method import Method
from passerby.methods.table import METHODS

GUIDE = Path(__file__).parents[2] / "docs" / "extend" / "method.md"
HOOKS = ["on_stage_start", "pseudo_labels", "on_epoch_start", "losses", "after_step", "on_stage_end"]


def test_the_contract_has_the_six_hooks_of_the_guide_and_the_extension_of_a_stage():
    with_context = [name for name, value in vars(Method).items() if "ctx" in getattr(value, "__annotations__", {})]
    assert sorted(with_context) == sorted([*HOOKS, "extend_stage"])
    listed = re.findall(r"^    (\w+)\(ctx", GUIDE.read_text(), re.M)
    assert listed == HOOKS


def test_each_hook_is_defined_by_a_method():
    for hook in [*HOOKS, "extend_stage"]:
        assert any(kind.method_class.overrides(hook) for kind in METHODS.values()), hook
    assert not Method.overrides("losses")


def test_methods_with_classifiers_of_earlier_stages_follow_the_protocol():
    keepers = {name for name, kind in METHODS.items() if issubclass(kind.method_class, HasEarlierHeads)}
    assert keepers == {"lwf", "replay", "grow", "dkp"}
    wanted = inspect.signature(HasEarlierHeads.interpolate_heads)
    for name in keepers:
        assert inspect.signature(METHODS[name].method_class.interpolate_heads) == wanted


def test_the_guide_names_what_settings_declare():
    from passerby.methods.settings import BaseMethodSettings

    rows = re.findall(r"^\| (`.*?`) \|", GUIDE.read_text(), re.M)
    names = {name for row in rows for name in re.findall(r"`(\w+)", row)}
    assert names
    assert not {name for name in names if name not in dir(BaseMethodSettings)}
