"""Captions of methods are one table, and a method without an entry is drawn by what it declares."""

from typing import ClassVar

import pytest

from passerby.methods.method import Method
from passerby.methods.settings import BaseMethodSettings, End
from passerby.methods.table import METHODS
from passerby.report import method_captions
from passerby.report.diagrams import draw
from passerby.report.method_captions import CAPTIONS, MethodCaptions, captions, end_caption
from tests.report.conftest import plain_recipe
from tests.report.test_diagrams import SEQUENCE, without_labels, words


def test_each_caption_belongs_to_a_method_and_each_method_that_acts_at_the_end_has_one():
    assert set(CAPTIONS) <= set(METHODS)
    acting = {name for name, kind in METHODS.items() if kind.method_class.overrides("on_stage_end")}
    assert acting == {name for name, entry in CAPTIONS.items() if entry.at_end}


def test_what_is_read_of_earlier_stages_has_a_caption():
    reading = {name for name, kind in METHODS.items() if kind.reads_memory is not BaseMethodSettings.reads_memory}
    assert reading == {name for name, entry in CAPTIONS.items() if entry.memory != MethodCaptions().memory}


class PlainSettings(BaseMethodSettings):
    """Hooks of its own, and no caption."""


class Plain(Method, settings_class=PlainSettings):
    """Adds a loss, and acts at the end."""

    def losses(self, ctx, batch, out):
        return {}

    def on_stage_end(self, ctx):
        pass


class QuietSettings(BaseMethodSettings):
    """No hooks."""


class Quiet(Method, settings_class=QuietSettings):
    """Nothing."""


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("replaces", "Replace the trained weights"),
        ("interpolates", "Interpolate the weights with those of the stage before"),
        ("remembers", "Keep what later stages need"),
    ],
)
def test_without_a_caption_the_end_is_described_by_what_is_declared(end: End, told):
    class EndSettings(PlainSettings):
        """With another end."""

    EndSettings.end = end
    assert end_caption("plain", EndSettings()) == told
    assert captions("plain") == MethodCaptions()


def test_facts_follow_from_the_hooks_unless_they_are_declared():
    class EarlierSettings(PlainSettings):
        """With the previous model."""

        needs_previous_model: ClassVar[bool] = True

    plain, quiet, earlier = PlainSettings(), QuietSettings(), EarlierSettings()
    assert (plain.adds_loss, quiet.adds_loss, earlier.adds_loss) == ("always", "never", "later")
    assert (plain.acts_at_end, quiet.acts_at_end, plain.reads_memory) == (True, False, False)
    assert end_caption("quiet", quiet) == ""


def test_methods_without_captions_are_drawn(monkeypatch):
    monkeypatch.setattr(method_captions, "CAPTIONS", {})
    drawn = words(draw(plain_recipe(stages=SEQUENCE, method={"lwf": {"heads": 1.0}, "average": {}})))
    assert "After the last epoch: average Interpolate the weights with those of the stage before" in drawn
    assert "Memory: lwf what the method kept of earlier stages" in drawn
    unlabelled = words(draw(without_labels({"spcl": {}})))
    assert "The network as it is now" in unlabelled
    assert "an image in no cluster is left out" in unlabelled


def test_drawing_builds_no_method(monkeypatch):
    def build(self, settings):
        raise AssertionError("a drawing reads settings alone")

    monkeypatch.setattr(Method, "__init__", build)
    assert "Hybrid memory" in words(draw(without_labels({"spcl": {}})))
    assert "Previous model" in words(draw(plain_recipe(stages=SEQUENCE, method={"average": {}, "ebll": {}})))
