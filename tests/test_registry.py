"""Registry tables: what is registered is in the recipe at once, and what cannot be is one sentence."""

from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field

from passerby.choices import ChoiceSettings, follow_table, settings_in
from passerby.errors import UserError
from passerby.registry import OneOf, Table
from passerby.settings import Settings, build


class Fruit(Settings):
    pass


class Apple(Fruit):
    weight: int = 1


class Pear(Fruit):
    length: int = 2


class Vessel(Settings):
    kind: str


class Cup(Vessel):
    kind: Literal["cup"] = "cup"
    volume: int = 1


class Jug(Vessel):
    kind: Literal["jug"] = "jug"
    handles: int = 2


class Misnamed(Vessel):
    kind: Literal["pot"] = "pot"


@pytest.fixture
def tables():
    """Two tables, the settings that derive from them, and settings that hold those."""
    fruits, vessels = Table("fruit", Fruit, {"apple": Apple}), Table("vessel", Vessel, {"cup": Cup})
    follow_table(vessels)

    class Fruits(ChoiceSettings):
        table: ClassVar[Table[Fruit]] = fruits

    class Course(Settings):
        fruits: Fruits = Field(default_factory=Fruits)
        vessel: Annotated[Vessel, OneOf(vessels)] = Cup()

    class Menu(Settings):
        courses: tuple[Course, ...] = ()

    return fruits, vessels, Menu


def mistake(kind, data):
    with pytest.raises(UserError) as caught:
        build(kind, data, source="here")
    return str(caught.value)


def test_an_entry_is_known_as_soon_as_it_is_registered(tables):
    fruits, vessels, menu = tables
    before = [{"fruits": {"pear": {"length": 3}}, "vessel": {"kind": "jug"}}]
    assert "unknown key courses.0.fruits.pear" in mistake(menu, {"courses": before})
    fruits.register("pear", Pear)
    vessels.register("jug", Jug)
    (course,) = build(menu, {"courses": before}, source="here").courses
    assert course.fruits.chosen == {"pear": Pear(length=3)}
    assert course.vessel == Jug()
    assert menu().model_dump() == {"courses": ()}
    names = menu.model_json_schema()["$defs"]
    assert {"Apple", "Pear", "Cup", "Jug"} <= names.keys()
    assert list(names["Fruits"]["properties"]) == ["apple", "pear"]


def test_mistakes_are_named_with_their_path(tables):
    fruits, vessels, menu = tables
    fruits.register("pear", Pear)
    vessels.register("jug", Jug)
    assert mistake(menu, {"courses": [{"fruits": {"paer": {}}}]}).endswith("did you mean 'pear'?")
    assert mistake(menu, {"courses": [{"fruits": {"pear": {"lenght": 1}}}]}).endswith("did you mean 'length'?")
    assert mistake(menu, {"courses": [{"vessel": {"kind": "jugg"}}]}) == (
        "here: courses.0.vessel.kind is 'jugg', allowed: 'cup', 'jug'; did you mean 'jug'?"
    )
    assert mistake(menu, {"courses": [{"vessel": {}}]}) == "here: courses.0.vessel must say its kind: cup, jug"
    assert mistake(menu, {"courses": [{"vessel": {"kind": "jug", "handle": 1}}]}) == (
        "here: unknown key courses.0.vessel.handle; did you mean 'handles'?"
    )
    assert mistake(menu, {"courses": [{"vessel": {"kind": "jug", "handles": "x"}}]}) == (
        'here: courses.0.vessel.handles is "x": must be a whole number'
    )


def test_null_means_the_default_below_a_kind(tables):
    _, vessels, menu = tables
    vessels.register("jug", Jug)
    found = build(menu, {"courses": [{"vessel": {"kind": "jug", "handles": None}}]}, source="here")
    assert found.courses[0].vessel == Jug()


def test_an_entry_can_be_placed_before_another(tables):
    fruits, _, menu = tables
    fruits.register("pear", Pear, before="apple")
    course = build(menu, {"courses": [{"fruits": {"apple": {}, "pear": {}}}]}, source="here").courses[0]
    assert list(course.fruits.chosen) == ["pear", "apple"]


def test_the_same_definition_may_be_registered_again(tables):
    fruits, _, _ = tables
    again = type("Apple", (Fruit,), {"__module__": Apple.__module__, "__qualname__": Apple.__qualname__})
    fruits.register("apple", again)
    assert fruits["apple"] is again


@pytest.mark.parametrize(
    ("name", "entry", "place", "sentence"),
    [
        ("apple", Pear, {}, "the fruit 'apple' exists already"),
        ("a-b", Pear, {}, "'a-b' cannot name a fruit"),
        ("cup", Cup, {}, "the fruit 'cup' must be a class derived from"),
        ("pear", Pear, {"before": "plum"}, "is to stand before 'plum', which is not registered"),
        ("chosen", Pear, {}, "the fruit 'chosen' needs another name"),
    ],
)
def test_what_cannot_be_registered_is_refused_and_leaves_no_trace(tables, name, entry, place, sentence):
    fruits, _, menu = tables
    with pytest.raises(UserError, match=sentence):
        fruits.register(name, entry, **place)
    assert dict(fruits) == {"apple": Apple}
    assert build(menu, {"courses": [{"fruits": {"apple": {}}}]}, source="here").courses[0].fruits.chosen


def test_a_kind_must_be_the_name(tables):
    _, vessels, menu = tables
    with pytest.raises(UserError, match=r"the vessel 'can' needs the field kind: Literal\['can'\] = 'can'"):
        vessels.register("can", Misnamed)
    assert list(vessels) == ["cup"]
    assert build(menu, {"courses": [{"vessel": {"kind": "cup"}}]}, source="here").courses[0].vessel == Cup()


def test_a_missing_entry_is_named_with_the_nearest(tables):
    fruits, _, _ = tables
    assert fruits.require("apple") is Apple
    with pytest.raises(UserError, match="fruit 'appel' is not known; did you mean 'apple'"):
        fruits.require("appel")


def test_the_classes_inside_an_annotation_are_those_of_the_table(tables):
    _, vessels, _ = tables
    vessels.register("jug", Jug)
    assert list(settings_in(dict[str, Annotated[Vessel, OneOf(vessels)]])) == [Cup, Jug]
