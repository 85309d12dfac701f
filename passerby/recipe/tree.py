"""The whole of a recipe, and what of it fits together."""

from __future__ import annotations

from typing import Annotated, Self, cast

from pydantic import Field, model_validator

from passerby.data.datasets import READERS, DatasetSettings, dataset_settings, open_dataset
from passerby.data.foreground import ForegroundSettings
from passerby.data.loading import DataSettings
from passerby.data.samplers import recalled_people, share_of_each
from passerby.errors import did_you_mean
from passerby.inputs import InputSettings
from passerby.losses.mix import LossSettings, default_losses
from passerby.methods.ssg import STRIPES
from passerby.models.embedder import ModelSettings
from passerby.optim import OptimSettings
from passerby.recipe.method import MethodSettings
from passerby.recipe.protocol import EngineSettings, TestSettings
from passerby.recipe.stage import PER_STAGE, Name, StageSettings
from passerby.reference_results import ReferenceResult
from passerby.settings import Plain, Settings, difference, dump_yaml
from passerby.types import Dataset, InputMask


class Recipe(Settings):
    """All that a run is made of."""

    description: str = ""
    root: str = Field("data", description="folder of the data sets that are named by kind alone")
    masks: str | None = Field(None, description="folder of their foreground masks; null = inside or beside each set")
    pattern: str | None = Field(
        None, description="template of file names for data sets that are named by kind alone; as in kind: folder"
    )
    datasets: dict[Name, DatasetSettings] = Field(
        default_factory=dict, description="data sets by name; one without a root lies in the recipe's"
    )
    input: InputSettings = InputSettings()
    data: DataSettings = DataSettings()
    foreground: ForegroundSettings = ForegroundSettings()
    model: ModelSettings = ModelSettings()
    losses: LossSettings = Field(default_factory=default_losses)
    optim: OptimSettings = OptimSettings()
    method: MethodSettings = MethodSettings()
    init_from: str | None = Field(
        None, description="folder of a run at the end of a stage: go on from its model and what its methods remember"
    )
    stages: Annotated[tuple[StageSettings, ...], Field(min_length=1)] = Field(
        default_factory=lambda: (StageSettings(train=("auto",)),)
    )
    evaluate: tuple[Name, ...] | None = Field(
        None, description="data sets to test on; null = those trained on; [] = none"
    )
    test: TestSettings = TestSettings()
    engine: EngineSettings = EngineSettings()
    reference: str | None = Field(None, description="the reference row that the recipe was made from, if any")
    reference_results: dict[Name, ReferenceResult] = Field(
        default_factory=dict, description="reference results by data set; never measured results"
    )

    @model_validator(mode="after")
    def _names(self) -> Self:
        trained = (name for stage in self.stages for name in stage.shown)
        for name in (*trained, *(self.evaluate or ()), *self.reference_results):
            if name not in self.datasets and name not in READERS:
                known = sorted({*self.datasets, *READERS})
                hint = did_you_mean(name, known) or f"; known: {', '.join(known)}"
                raise ValueError(f"data set {name!r} is neither in `datasets` nor a kind{hint}")
        return self

    @model_validator(mode="after")
    def _patterned(self) -> Self:
        shown = {name for stage in self.stages for name in stage.shown} | set(self.evaluate or ())
        if self.pattern is not None and shown <= self.datasets.keys():
            raise ValueError(
                "pattern has no effect: all data sets are described in `datasets`; give each its pattern there"
            )
        return self

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if self.init_from is not None and self.model.weights not in ("none", "pretrained"):
            raise ValueError("model.weights has no effect beside init_from, which brings the weights of another run")
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
        if frozen and (self.engine.ghost_batch_size is not None or self.engine.batch_norm == "synchronised"):
            word = "ghost_batch_size" if self.engine.ghost_batch_size is not None else "batch_norm: synchronised"
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
    def _moved_masks(self) -> Self:
        if self.foreground.use != "none" and self.data.augment.policy is not None:
            raise ValueError(
                "data.augment.policy turns and shears images and would leave the masks of foreground.use: "
                f"{self.foreground.use} behind; leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _norms_apart(self) -> Self:
        told = [(stage, spcl) for stage in self.stages if (spcl := stage.method.spcl) and not stage.labelled]
        if any(spcl.norms == "shared" for _, spcl in told) and not any(stage.source for stage, _ in told):
            raise ValueError("method.spcl.norms: shared has no effect: no stage has source data sets")
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
        later = {name for stage in self.stages[self.init_from is None :] for name in stage.method.chosen}
        for stage in self.stages:
            for name, chosen in stage.method.chosen.items():
                if name not in later and chosen.make().needs_previous_model:
                    only = "the recipe has one stage" if len(self.stages) == 1 else "only the first stage names it"
                    raise ValueError(f"method.{name} holds on to an earlier stage and has no effect here: {only}")
        return self

    @model_validator(mode="after")
    def _somebody_teaches(self) -> Self:
        for stage in self.stages:
            methods = [] if stage.labelled else [chosen.make() for chosen in stage.method.chosen.values()]
            if not stage.labelled and not any(method.assigns_labels for method in methods):
                raise ValueError(f"stage {stage.title!r} is unlabelled, and no method assigns labels")
            if not stage.losses.chosen and not any(method.trains_alone for method in methods):
                raise ValueError("losses: at least one loss is needed, for example losses: {softmax: {}, triplet: {}}")
            if not stage.losses.apart and not any(method.trains_alone for method in methods):
                raise ValueError(
                    f"losses: nothing in {', '.join(stage.losses.chosen)} tells people apart (center only draws images "
                    "together, a weight of 0 does nothing); add softmax or triplet"
                )
        return self

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        for name in (name for stage in self.stages for name in stage.losses.of_pairs):
            if self.data.instances == 1:
                raise ValueError(
                    f"losses.{name} compares images of one person, and data.instances: 1 draws one image of each into "
                    f"a batch, so it would always be 0; set data.instances to 2 or more, or losses.{name} to null"
                )
        return self

    @model_validator(mode="after")
    def _unlabelled(self) -> Self:
        spoken = {name for stage in self.stages if not stage.labelled for name in stage.method.chosen}
        for stage in self.stages:
            for name, chosen in stage.method.chosen.items():
                method = chosen.make()
                if name not in spoken and (method.assigns_labels or method.unlabelled_only):
                    word = "assigns labels" if method.assigns_labels else "looks at clusters"
                    raise ValueError(f"method.{name} {word} and has no effect here: no stage is labelled: false")
        return self

    @model_validator(mode="after")
    def _stripes(self) -> Self:
        stripes, named = self.model.stripes, {name for stage in self.stages for name in stage.method.chosen}
        if "ssg" in named and stripes != STRIPES:
            given = "null" if stripes is None else stripes
            raise ValueError(f"method.ssg looks at upper and lower bodies: set model.stripes to {STRIPES}, not {given}")
        if "pplr" in named and stripes is None:
            raise ValueError("method.pplr looks at stripes of the images, and the model has none; set model.stripes=3")
        if stripes is not None and not named & {"ssg", "pplr"}:
            raise ValueError("model.stripes has no effect: only method.ssg and method.pplr look at stripes")
        return self

    @model_validator(mode="after")
    def _remembered(self) -> Self:
        before = {name for stage in self.stages[:-1] for name in stage.method.chosen}
        for name, chosen in self.stages[-1].method.chosen.items():
            if len(self.stages) > 1 and self.init_from is None and name not in before and not chosen.make().has_state:
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
    def input_mask(self) -> InputMask:
        """What the model is shown of a test image."""
        return self.trained_input_mask if self.test.input_mask == "auto" else self.test.input_mask

    @property
    def trained_input_mask(self) -> InputMask:
        """What the model is shown of a training image, apart from augmentation and what is done by chance."""
        if self.foreground.use == "pool":
            return "weighted"
        return "foreground" if self.foreground.use == "mask" and self.foreground.chance == 1 else "none"

    def dataset(self, name: str) -> DatasetSettings:
        """Where a named data set is read from."""
        if name in self.datasets:
            return self.datasets[name]
        return dataset_settings(name, self.root, masks=self.masks, pattern=self.pattern)

    def open_dataset(self, name: str) -> Dataset:
        """Read a named data set; `auto` is called after its folder, with a number where that name is taken."""
        if name != "auto" or name in self.datasets:
            return open_dataset(self.dataset(name), name)
        shown = {other for stage in self.stages for other in stage.shown}
        return open_dataset(self.dataset(name), taken={*self.datasets, *shown, *self.tested} - {name})

    def dump(self) -> str:
        """Every value, defaults included, as YAML that reads back to the same recipe.

        A stage lists only what differs from the top level, so that a change of the top level reaches it.
        """
        return dump_yaml(self.own_values())

    def dump_changes(self) -> str:
        """What differs from the defaults, as YAML that reads back to the same recipe."""
        data, defaults = self.own_values(), cast("dict[str, Plain]", Recipe().model_dump(mode="json"))
        changes = difference({**defaults, "stages": []}, data)
        changes["stages"] = [_stage_changes(stage) for stage in cast("list[dict[str, Plain]]", data["stages"])]
        if "losses" in changes:  # named losses take the place of the default ones, instead of joining them
            losses = cast("dict[str, Plain]", data["losses"])
            changes["losses"] = {name: value for name, value in losses.items() if value is not None}
        return dump_yaml(changes)

    def own_values(self) -> dict[str, Plain]:
        """Return every value as plain data, of stages without what they inherit."""
        data = cast("dict[str, Plain]", self.model_dump(mode="json"))
        for stage in cast("list[dict[str, Plain]]", data["stages"]):
            for key in PER_STAGE:
                base, whole = (cast("dict[str, Plain]", level[key]) for level in (data, stage))
                stage[key] = difference(base, whole)
                if not stage[key]:
                    del stage[key]
        return data


def _stage_changes(stage: dict[str, Plain]) -> dict[str, Plain]:
    """Return what a stage has of its own, without defaults but of what it would otherwise inherit."""
    defaults = cast("dict[str, Plain]", StageSettings(train=("auto",)).model_dump(mode="json"))
    base = {key: value for key, value in defaults.items() if key not in ("train", *PER_STAGE)}
    return difference(base, stage)
