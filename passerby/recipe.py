"""The typed tree of a run. What its classes list is all that exists; there is no other registry."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self, cast

from pydantic import Field, model_validator

from passerby.data.datasets import KINDS, DatasetSettings, dataset_settings
from passerby.data.foreground import ForegroundSettings
from passerby.data.loading import DataSettings
from passerby.data.samplers import recalled_people, share_of_each
from passerby.errors import UserError, did_you_mean
from passerby.evaluate import MULTI_NEEDS_CAMERAS
from passerby.extract import Feature
from passerby.inputs import InputSettings
from passerby.losses.mix import LossSettings
from passerby.losses.softmax import SoftmaxSettings
from passerby.losses.triplet import TripletSettings
from passerby.methods.anchors import EwcSettings, MasSettings, SiSettings
from passerby.methods.clustered import ClusteredSettings
from passerby.methods.consolidation import AffinitySettings, AverageSettings, FeatureSettings
from passerby.methods.contrast import ContrastSettings
from passerby.methods.dask import DaskSettings
from passerby.methods.dec import DecSettings
from passerby.methods.ebll import EbllSettings
from passerby.methods.growth import GrowSettings
from passerby.methods.lwf import LwfSettings
from passerby.methods.mmt import MmtSettings
from passerby.methods.pplr import PplrSettings
from passerby.methods.pseudo import PseudoSettings
from passerby.methods.replay import ReplaySettings
from passerby.methods.spcl import SpclSettings
from passerby.methods.ssg import STRIPES, SsgSettings
from passerby.models.embedder import ModelSettings
from passerby.optim import OptimSettings
from passerby.settings import Plain, Settings, build, dump_yaml, merge, override, parse_yaml, read_yaml
from passerby.targets import Goal, Target, shipped_files, shipped_recipes, shipped_targets
from passerby.types import Cameras, Pixels, Queries, Rerank

Name = Annotated[str, Field(min_length=1)]


AnyPart = (
    AverageSettings
    | FeatureSettings
    | AffinitySettings
    | LwfSettings
    | EbllSettings
    | EwcSettings
    | SiSettings
    | MasSettings
    | ReplaySettings
    | GrowSettings
    | DaskSettings
    | PseudoSettings
    | ContrastSettings
    | SpclSettings
    | MmtSettings
    | PplrSettings
    | SsgSettings
    | DecSettings
)
"""The settings of any part."""


class MethodSettings(Settings):
    """The parts of a method, by name, in the order in which they speak."""

    average: AverageSettings | None = None
    feature: FeatureSettings | None = None
    affinity: AffinitySettings | None = None
    lwf: LwfSettings | None = None
    ebll: EbllSettings | None = None
    ewc: EwcSettings | None = None
    si: SiSettings | None = None
    mas: MasSettings | None = None
    replay: ReplaySettings | None = None
    grow: GrowSettings | None = None
    dask: DaskSettings | None = None  # after those that ask the teacher of the batch itself, so that it answers once
    pseudo: PseudoSettings | None = None
    contrast: ContrastSettings | None = None
    spcl: SpclSettings | None = None
    mmt: MmtSettings | None = None
    pplr: PplrSettings | None = None
    ssg: SsgSettings | None = None
    dec: DecSettings | None = None

    @model_validator(mode="after")
    def _one_keeps_people(self) -> Self:
        if self.replay is not None and self.grow is not None:
            raise ValueError("method.grow and method.replay both keep earlier people in the classifiers; leave one out")
        return self

    @model_validator(mode="after")
    def _one_makes_labels(self) -> Self:
        makers = [name for name, chosen in self.chosen.items() if chosen.make().makes_labels]
        if len(makers) > 1:
            raise ValueError(f"method.{makers[0]} and method.{makers[1]} both make labels; leave one out")
        return self

    @property
    def chosen(self) -> dict[str, AnyPart]:
        """The parts that are present, by name, in the order of the class."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}


class StageSettings(Settings):
    """One leg of a run; what it leaves out comes from the recipe's own `optim`, `losses` and `method`."""

    train: Annotated[tuple[Name, ...], Field(min_length=1, description="data sets, trained jointly when several")]
    name: str | None = Field(None, description="how the journal calls it; default: its data sets")
    labelled: bool = Field(True, description="false: nothing of the people is used, a part of the method makes labels")
    beside: tuple[Name, ...] = Field((), description="labelled data sets that are shown together with unlabelled ones")
    identities: Annotated[int, Field(ge=2)] | None = Field(
        None, description="learn from the first so many people of each data set, by their numbers; null = all"
    )
    epochs: Annotated[int, Field(ge=1)] = 120
    iterations: Annotated[int, Field(ge=1)] | None = Field(
        None, description="batches in an epoch; null = as many as show each image once"
    )
    optim: OptimSettings = OptimSettings()
    losses: LossSettings = LossSettings(softmax=SoftmaxSettings(), triplet=TripletSettings())
    method: MethodSettings = MethodSettings()

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.train)) != len(self.train):
            raise ValueError(f"train names a data set twice: {', '.join(self.train)}")
        if self.identities is not None and not self.labelled:
            raise ValueError("identities chooses people by their numbers, which labelled: false does not look at")
        return self

    @model_validator(mode="after")
    def _beside(self) -> Self:
        if self.beside and self.labelled:
            raise ValueError(
                "beside shows labelled data sets together with unlabelled ones; with labelled: true use train"
            )
        if both := [name for name in self.beside if name in self.train]:
            raise ValueError(f"{both[0]!r} is both in train, without labels, and in beside, with them")
        return self

    @model_validator(mode="after")
    def _known_people(self) -> Self:
        for name in ("ewc", "replay", "grow"):
            if not self.labelled and name in self.method.chosen:
                raise ValueError(f"method.{name} must know who is who, and stage {self.title!r} is unlabelled")
        if "ewc" in self.method.chosen and self.losses.softmax is None:
            raise ValueError("method.ewc asks the classifier of losses.softmax, and the stage has no such loss")
        return self

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        """Refuse what an unlabelled stage would never come to."""
        for name, chosen in self.method.chosen.items() if not self.labelled else ():
            stop = chosen.stop if isinstance(chosen, ClusteredSettings) else None
            if stop is not None and stop.epochs + 1 >= self.epochs:
                raise ValueError(
                    f"method.{name}.stop has no effect: the stage ends before {stop.epochs} epochs at rest"
                )
        ssg = None if self.labelled else self.method.ssg
        if ssg is not None and ssg.ask != "none" and ssg.ask_after >= self.epochs:
            raise ValueError(f"method.ssg.ask_after is {ssg.ask_after}, and the stage has {self.epochs} epochs")
        if ssg is not None and not self.beside and ssg.source != SsgSettings.model_fields["source"].default:
            raise ValueError("method.ssg.source has no effect: the stage shows no known people beside")
        return self

    @model_validator(mode="after")
    def _second_network(self) -> Self:
        if self.method.mmt is None or self.labelled:
            return self
        if self.optim.ema is not None:
            raise ValueError("method.mmt keeps running means of its own and leaves one of them; leave out optim.ema")
        for name in ("freeze_iterations", "batch_norm"):
            if getattr(self.optim, name) != OptimSettings.model_fields[name].default:
                raise ValueError(f"method.mmt trains a second network, which optim.{name} does not reach; leave it out")
        return self

    @property
    def norms_apart(self) -> bool:
        """Whether labelled images beside unlabelled ones have batch norms of their own."""
        return bool(self.beside) and self.method.spcl is not None and self.method.spcl.norms == "apart"

    @property
    def shown(self) -> tuple[str, ...]:
        """All data sets that the stage learns from, the unlabelled ones first."""
        return (*self.train, *self.beside)

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
    start: Literal["auto", "off"] = Field(
        "auto", description="auto: where stages follow one another, also test the model before the first"
    )
    feature: Feature = "embedding"
    flip: bool = Field(False, description="average the vectors of each image and its mirror image")
    distance: Literal["cosine", "euclidean"] = "cosine"
    cameras: Cameras = "standard"
    queries: Queries = Field("single", description="multi averages the images of a query's identity and camera")
    rerank: RerankSettings | None = Field(RerankSettings(), description="null = never re-rank")
    pixels: Literal["auto", "whole", "foreground", "weighted"] = Field(
        "auto", description="auto: as trained, so without backgrounds or with weighted pooling where foreground says so"
    )
    reliance: Literal["auto", "off"] = Field(
        "auto", description="auto: where all test images have masks, also test person and background alone"
    )
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
    keep_stages: Literal["auto", "off"] = Field(
        "auto", description="auto: where stages follow one another, keep the model of each as stage-N.safetensors"
    )
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
    masks: str | None = Field(None, description="folder of their foreground masks; null = inside or beside each set")
    datasets: dict[Name, DatasetSettings] = Field(
        default_factory=dict, description="data sets by name; one without a root lies in the recipe's"
    )
    input: InputSettings = InputSettings()
    data: DataSettings = DataSettings()
    foreground: ForegroundSettings = ForegroundSettings()
    model: ModelSettings = ModelSettings()
    losses: LossSettings = LossSettings(softmax=SoftmaxSettings(), triplet=TripletSettings())
    optim: OptimSettings = OptimSettings()
    method: MethodSettings = MethodSettings()
    start: str | None = Field(
        None, description="folder of a run at the end of a stage: go on from its model and what its parts remember"
    )
    stages: Annotated[tuple[StageSettings, ...], Field(min_length=1)] = (StageSettings(train=("auto",)),)
    evaluate: tuple[Name, ...] | None = Field(
        None, description="data sets to test on; null = those trained on; [] = none"
    )
    test: TestSettings = TestSettings()
    engine: EngineSettings = EngineSettings()
    target: str | None = Field(None, description="the target that the recipe was made from, if any")
    expected: dict[Name, Goal] = Field(
        default_factory=dict, description="figures to aim at, by data set; never results"
    )

    @model_validator(mode="after")
    def _names(self) -> Self:
        trained = (name for stage in self.stages for name in stage.shown)
        for name in (*trained, *(self.evaluate or ()), *self.expected):
            if name not in self.datasets and name not in KINDS:
                known = sorted({*self.datasets, *KINDS})
                hint = did_you_mean(name, known) or f"; known: {', '.join(known)}"
                raise ValueError(f"data set {name!r} is neither in `datasets` nor a kind{hint}")
        return self

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if self.start is not None and self.model.weights not in ("none", "pretrained"):
            raise ValueError("model.weights has no effect beside start, which brings the weights of another run")
        return self

    @model_validator(mode="after")
    def _shares(self) -> Self:
        joint = [stage for stage in self.stages if len(stage.shown) > 1]
        if self.data.sampling == "datasets":
            if not joint:
                raise ValueError("data.sampling: datasets has no effect: no stage trains on several data sets jointly")
            for stage in joint:
                share_of_each(self.data.identities, stage.shown)
                if (replay := stage.method.replay) is not None:
                    recalled = recalled_people(self.data.identities, replay.share)
                    share_of_each(self.data.identities - recalled, stage.train)
        return self

    @model_validator(mode="after")
    def _moving_norms(self) -> Self:
        frozen = all(stage.optim.batch_norm != "train" for stage in self.stages)
        if frozen and (self.engine.batch_norm_group is not None or self.engine.batch_norm == "synchronised"):
            word = "batch_norm_group" if self.engine.batch_norm_group is not None else "batch_norm: synchronised"
            raise ValueError(f"engine.{word} has no effect: optim.batch_norm keeps the statistics of every stage")
        return self

    @model_validator(mode="after")
    def _whole_images(self) -> Self:
        if self.foreground.use == "mask" and any(stage.method.dask is not None for stage in self.stages):
            raise ValueError(
                "method.dask learns the colours of whole images, and foreground.use: mask covers what stands behind "
                "people; use pool or swap, or leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _norms_apart(self) -> Self:
        told = [(stage, spcl) for stage in self.stages if (spcl := stage.method.spcl) and not stage.labelled]
        if any(spcl.norms == "shared" for _, spcl in told) and not any(stage.beside for stage, _ in told):
            raise ValueError("method.spcl.norms: shared has no effect: no stage shows labelled data sets beside")
        for stage in self.stages:
            if stage.norms_apart and self.engine.batch_norm == "synchronised":
                raise ValueError(
                    "method.spcl.norms: apart and engine.batch_norm: synchronised exclude each other, since processes "
                    "that see other kinds of images would wait for one another; use local or shared"
                )
            if stage.norms_apart and stage.optim.batch_norm != "train":
                raise ValueError(
                    f"method.spcl.norms: apart has no effect with optim.batch_norm: {stage.optim.batch_norm}, under "
                    "which all images have the same norms; use shared"
                )
        return self

    @model_validator(mode="after")
    def _earlier(self) -> Self:
        later = {name for stage in self.stages[self.start is None :] for name in stage.method.chosen}
        for stage in self.stages:
            for name, chosen in stage.method.chosen.items():
                if name not in later and chosen.make().needs_earlier:
                    only = "the recipe has one stage" if len(self.stages) == 1 else "only the first stage names it"
                    raise ValueError(f"method.{name} holds on to an earlier stage and has no effect here: {only}")
        return self

    @model_validator(mode="after")
    def _somebody_teaches(self) -> Self:
        for stage in self.stages:
            parts = [] if stage.labelled else [chosen.make() for chosen in stage.method.chosen.values()]
            if not stage.labelled and not any(part.makes_labels for part in parts):
                raise ValueError(f"stage {stage.title!r} is unlabelled, and no part of its method makes labels")
            if not stage.losses.chosen and not any(part.teaches_alone for part in parts):
                raise ValueError("losses: at least one loss is needed, for example losses: {softmax: {}, triplet: {}}")
        return self

    @model_validator(mode="after")
    def _unlabelled(self) -> Self:
        spoken = {name for stage in self.stages if not stage.labelled for name in stage.method.chosen}
        for stage in self.stages:
            for name, chosen in stage.method.chosen.items():
                part = chosen.make()
                if name not in spoken and (part.makes_labels or part.unlabelled_only):
                    word = "makes labels" if part.makes_labels else "looks at clusters"
                    raise ValueError(f"method.{name} {word} and has no effect here: no stage is labelled: false")
        return self

    @model_validator(mode="after")
    def _stripes(self) -> Self:
        if self.model.stripes != STRIPES and any(stage.method.ssg is not None for stage in self.stages):
            given = "null" if self.model.stripes is None else self.model.stripes
            raise ValueError(f"method.ssg looks at upper and lower bodies: set model.stripes to {STRIPES}, not {given}")
        return self

    @model_validator(mode="after")
    def _remembered(self) -> Self:
        before = {name for stage in self.stages[:-1] for name in stage.method.chosen}
        for name, chosen in self.stages[-1].method.chosen.items():
            if len(self.stages) > 1 and self.start is None and name not in before and chosen.make().hollow:
                raise ValueError(
                    f"method.{name} holds on to what it kept of an earlier stage and has no effect here: only the last "
                    "stage names it"
                )
        return self

    @property
    def tested(self) -> tuple[str, ...]:
        """The data sets to evaluate on, in order."""
        if self.evaluate is not None:
            return self.evaluate
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.train))

    @property
    def pixels(self) -> Pixels:
        """What the model is shown of a test image."""
        return self.learnt_pixels if self.test.pixels == "auto" else self.test.pixels

    @property
    def learnt_pixels(self) -> Pixels:
        """What the model is shown of a training image, apart from augmentation and what is done by chance."""
        if self.foreground.use == "pool":
            return "weighted"
        return "foreground" if self.foreground.use == "mask" and self.foreground.chance == 1 else "whole"

    def dataset(self, name: str) -> DatasetSettings:
        """Where a named data set is read from."""
        return self.datasets[name] if name in self.datasets else dataset_settings(name, self.root, masks=self.masks)

    def dump(self) -> str:
        """Every value, defaults included, as YAML that reads back to the same recipe."""
        return dump_yaml(self)


# ---- finding and reading


def find_recipe(name: str, folder: Path = Path()) -> Path | dict[str, Plain]:
    """Return the file of a recipe given by path (relative to `folder`) or by the name of a shipped one.

    A target has no file of its own; what it comes to is returned instead, as plain data.
    """
    given = folder / Path(name).expanduser()
    if given.is_file():
        return given
    word = name.removesuffix(".yaml")
    if (shipped := _shipped(word)) is not None:
        return shipped
    hint = did_you_mean(word, (*shipped_recipes(), *shipped_targets()))
    known = f"; shipped: {', '.join(shipped_recipes())}, and the targets that `passerby recipe list` shows"
    raise UserError(f"no recipe {name!r}: neither a file nor a shipped name{hint or known}")


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe or a target with all that it extends, apply `key=value` overrides, and validate it.

    Raises:
        UserError: no such recipe, bad YAML, an unknown key, a wrong value: every mistake at once.

    """
    return make_recipe(_changed(_read(find_recipe(name)), overrides), source=f"recipe {name}")


def _read(found: Path | dict[str, Plain]) -> dict[str, Plain]:
    return read_yaml(found, find_recipe) if isinstance(found, Path) else found


def _shipped(name: str) -> Path | dict[str, Plain] | None:
    target = shipped_targets().get(name)
    return shipped_files().get(name) if target is None else _of_target(name, target)


def _of_target(name: str, target: Target) -> dict[str, Plain]:
    """Return what a target is based on, changed as it says, with its name and its goals."""
    base = _shipped(target.based_on)
    assert base is not None, "targets stand on what is shipped"
    goals: dict[str, Plain] = {dataset: goal.model_dump(mode="json") for dataset, goal in target.goals.items()}
    about: dict[str, Plain] = {"description": f"{name}: {target.differs}", "target": name, "expected": goals}
    return {**_changed(_read(base), target.overrides), **about}


def _changed(data: dict[str, Plain], overrides: Sequence[str]) -> dict[str, Plain]:
    for assignment in overrides:
        data = override(_with_defaults(data), assignment)
    return data


def recipe_from_text(text: str, overrides: Sequence[str] = (), *, source: str) -> Recipe:
    """Read a resolved recipe, as runs and models carry it, and apply `key=value` overrides."""
    data = parse_yaml(text, source=source)
    if not isinstance(data, dict):
        raise UserError(f"{source} carries no recipe")
    return make_recipe(_changed(data, overrides), source=source)


def make_recipe(data: dict[str, Plain], *, source: str) -> Recipe:
    """Validate plain data, after every stage was completed with the recipe's own `optim`, `losses` and `method`."""
    data = _with_defaults(data)
    _place(data)
    stages = data["stages"]
    if isinstance(stages, list):
        data["stages"] = [_complete(stage, data) if isinstance(stage, dict) else stage for stage in stages]
    return build(Recipe, data, source=source)


def _place(data: dict[str, Plain]) -> None:
    """Let data sets that are described without a root lie where those named by kind alone lie."""
    datasets = data.get("datasets")
    for described in datasets.values() if isinstance(datasets, dict) else ():
        if isinstance(described, dict) and described.get("kind") != "csv" and described.get("root") is None:
            described["root"] = data.get("root") or Recipe.model_fields["root"].default
            described.setdefault("masks", data.get("masks"))


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
