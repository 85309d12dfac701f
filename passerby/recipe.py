"""The typed tree of a run. What its classes list is all that exists; there is no other registry."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self, cast

from pydantic import Field, model_validator

from passerby.data.datasets import KINDS, DatasetSettings, dataset_settings
from passerby.data.loading import DataSettings
from passerby.errors import UserError, did_you_mean
from passerby.evaluate import MULTI_NEEDS_CAMERAS
from passerby.extract import Feature
from passerby.inputs import InputSettings
from passerby.losses.mix import LossSettings
from passerby.losses.softmax import SoftmaxSettings
from passerby.losses.triplet import TripletSettings
from passerby.models.embedder import ModelSettings
from passerby.optim import OptimSettings
from passerby.settings import Plain, Settings, build, dump_yaml, merge, override, parse_yaml, read_mapping, read_yaml
from passerby.types import Cameras, Queries, Rerank

Name = Annotated[str, Field(min_length=1)]


class MethodSettings(Settings):
    """The parts of a method, by name, in the order in which they speak."""


class StageSettings(Settings):
    """One leg of a run; what it leaves out comes from the recipe's own `optim`, `losses` and `method`."""

    train: Annotated[tuple[Name, ...], Field(min_length=1, description="data sets, trained jointly when several")]
    name: str | None = Field(None, description="how the journal calls it; default: its data sets")
    labelled: bool = True
    epochs: Annotated[int, Field(ge=1)] = 120
    optim: OptimSettings = OptimSettings()
    losses: LossSettings = LossSettings()
    method: MethodSettings = MethodSettings()

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.train)) != len(self.train):
            raise ValueError(f"train names a data set twice: {', '.join(self.train)}")
        return self

    @property
    def title(self) -> str:
        """The name, or the data sets."""
        return self.name or " + ".join(self.train)


class RerankSettings(Settings):
    """k-reciprocal re-ranking (Zhong et al., CVPR 2017)."""

    k1: Annotated[int, Field(ge=1)] = 20
    k2: Annotated[int, Field(ge=1)] = 6
    weight: Annotated[float, Field(ge=0, le=1)] = Field(0.3, description="share of the original distance (lambda)")

    @property
    def parameters(self) -> Rerank:
        """The same as the core type that evaluation takes."""
        return Rerank(self.k1, self.k2, self.weight)


class TestSettings(Settings):
    """How the model is tested; every value is part of the protocol that is stamped on the scores."""

    __test__ = False  # not a test case, whatever pytest makes of the name

    every: Annotated[int, Field(ge=0)] = Field(10, description="epochs between evaluations; 0 = only after the last")
    feature: Feature = "embedding"
    flip: bool = Field(False, description="average the vectors of each image and its mirror image")
    distance: Literal["cosine", "euclidean"] = "cosine"
    cameras: Cameras = "standard"
    queries: Queries = Field("single", description="multi averages the images of a query's identity and camera")
    rerank: RerankSettings | None = Field(RerankSettings(), description="null = never re-rank")
    keep_best: bool = Field(False, description="also keep the epoch that is best on the TEST images; not for tables")

    @model_validator(mode="after")
    def _nothing_leaks(self) -> Self:
        if self.queries == "multi" and self.cameras == "ignore":
            raise ValueError(MULTI_NEEDS_CAMERAS)
        return self


class EngineSettings(Settings):
    """How the arithmetic is done."""

    seed: Annotated[int, Field(ge=0)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the processor has instructions for it, else float32"
    )
    channels_last: bool = True
    accumulate: Annotated[int, Field(ge=1)] = Field(1, description="batches per optimiser step")
    batch_norm: Literal["local", "synchronised"] = Field("local", description="statistics with several processes")
    batch_norm_group: Annotated[int, Field(ge=2)] | None = Field(
        None, description="images that share statistics, so that one device learns as several; null = the whole batch"
    )
    mining: Literal["gathered", "local"] = Field("gathered", description="features for mining with several processes")
    tensorboard: bool = Field(False, description="also write TensorBoard events (extra: track)")

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.batch_norm == "synchronised" and self.batch_norm_group is not None:
            raise ValueError("batch_norm_group has no effect with batch_norm: synchronised")
        return self


class Recipe(Settings):
    """All that a run is made of."""

    description: str = ""
    root: str = Field("data", description="folder of the data sets that are named by kind alone")
    datasets: dict[Name, DatasetSettings] = Field(default_factory=dict)
    input: InputSettings = InputSettings()
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    losses: LossSettings = LossSettings(softmax=SoftmaxSettings(), triplet=TripletSettings())
    optim: OptimSettings = OptimSettings()
    method: MethodSettings = MethodSettings()
    stages: Annotated[tuple[StageSettings, ...], Field(min_length=1)] = (StageSettings(train=("auto",)),)
    evaluate: tuple[Name, ...] | None = Field(
        None, description="data sets to test on; null = those trained on; [] = none"
    )
    test: TestSettings = TestSettings()
    engine: EngineSettings = EngineSettings()

    @model_validator(mode="after")
    def _names(self) -> Self:
        for name in (*(n for stage in self.stages for n in stage.train), *(self.evaluate or ())):
            if name not in self.datasets and name not in KINDS:
                known = sorted({*self.datasets, *KINDS})
                hint = did_you_mean(name, known) or f"; known: {', '.join(known)}"
                raise ValueError(f"data set {name!r} is neither in `datasets` nor a kind{hint}")
        return self

    @property
    def tested(self) -> tuple[str, ...]:
        """The data sets to evaluate on, in order."""
        if self.evaluate is not None:
            return self.evaluate
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.train))

    def dataset(self, name: str) -> DatasetSettings:
        """Where a named data set is read from."""
        return self.datasets[name] if name in self.datasets else dataset_settings(name, self.root)

    def dump(self) -> str:
        """Every value, defaults included, as YAML that reads back to the same recipe."""
        return dump_yaml(self)


# ---- finding and reading


def _shipped() -> Path:
    return Path(str(resources.files("passerby"))) / "recipes"


def shipped_recipes() -> dict[str, str]:
    """Return the names of the recipes in the package, with their one-line descriptions."""
    files = sorted(_shipped().glob("*.yaml"))
    return {file.stem: str(read_mapping(file).get("description", "")) for file in files}


def find_recipe(name: str, folder: Path = Path()) -> Path:
    """Return the file of a recipe given by path (relative to `folder`) or by the name of a shipped one."""
    given = folder / Path(name).expanduser()
    if given.is_file():
        return given
    shipped = _shipped() / f"{name.removesuffix('.yaml')}.yaml"
    if shipped.is_file():
        return shipped
    hint = did_you_mean(name.removesuffix(".yaml"), shipped_recipes()) or f"; shipped: {', '.join(shipped_recipes())}"
    raise UserError(f"no recipe {name!r}: neither a file nor a shipped name{hint}")


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe with all that it extends, apply `key=value` overrides, and validate it.

    Raises:
        UserError: no such recipe, bad YAML, an unknown key, a wrong value: every mistake at once.

    """
    data = read_yaml(find_recipe(name), find_recipe)
    for assignment in overrides:
        data = override(_with_defaults(data), assignment)
    return make_recipe(data, source=f"recipe {name}")


def recipe_from_text(text: str, overrides: Sequence[str] = (), *, source: str) -> Recipe:
    """Read a resolved recipe, as runs and models carry it, and apply `key=value` overrides."""
    data = parse_yaml(text, source=source)
    if not isinstance(data, dict):
        raise UserError(f"{source} carries no recipe")
    for assignment in overrides:
        data = override(data, assignment)
    return make_recipe(data, source=source)


def make_recipe(data: dict[str, Plain], *, source: str) -> Recipe:
    """Validate plain data, after every stage was completed with the recipe's own `optim`, `losses` and `method`."""
    data = _with_defaults(data)
    stages = data["stages"]
    if isinstance(stages, list):
        data["stages"] = [_complete(stage, data) if isinstance(stage, dict) else stage for stage in stages]
    return build(Recipe, data, source=source)


_PER_STAGE = ("optim", "losses", "method")


def _with_defaults(data: dict[str, Plain]) -> dict[str, Plain]:
    """Spell out what overrides and stages must be able to reach although the file does not name it."""
    data = copy.deepcopy(data)
    data.setdefault("losses", {"softmax": {}, "triplet": {}})
    data.setdefault("stages", [{"train": ["auto"]}])
    return data


def _complete(stage: dict[str, Plain], data: dict[str, Plain]) -> dict[str, Plain]:
    completed = dict(stage)
    for key in _PER_STAGE:
        base = data.get(key) or {}
        if isinstance(base, dict):
            completed[key] = merge(base, cast("dict[str, Plain]", stage.get(key) or {}))
    return completed
