"""The whole of a recipe, and what of it fits together."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Self, cast

from pydantic import Field, model_validator

from passerby.data.datasets import READERS, DatasetSettings, dataset_settings, open_dataset
from passerby.data.foreground import ForegroundSettings
from passerby.data.loading import DataSettings
from passerby.errors import did_you_mean
from passerby.inputs import InputSettings
from passerby.losses.mix import LossSettings, default_losses
from passerby.models.embedder import ModelSettings
from passerby.optim import OptimSettings
from passerby.recipe.method import MethodSettings
from passerby.recipe.methods import require_useful
from passerby.recipe.protocol import EngineSettings, TestSettings
from passerby.recipe.stage import PER_STAGE, Name, NamePattern, StageSettings
from passerby.reference_results import ReferenceResult
from passerby.settings import Plain, Settings, difference, dump_yaml
from passerby.types import Dataset, InputMask


class Recipe(Settings):
    """All settings of a run."""

    description: str = ""
    root: str = Field("data", description="folder of the data sets that are named by kind alone")
    masks: str | None = Field(None, description="folder of their foreground masks; null = inside or beside each set")
    pattern: str | None = Field(
        None, description="template of file names for data sets that are named by kind alone; as in kind: folder"
    )
    datasets: dict[Name, DatasetSettings] = Field(
        default_factory=dict, description="data sets by name; the default of their root is that of the recipe"
    )
    input: InputSettings = InputSettings()
    data: DataSettings = DataSettings()
    foreground: ForegroundSettings = ForegroundSettings()
    model: ModelSettings = ModelSettings()
    losses: LossSettings = Field(default_factory=default_losses)
    optim: OptimSettings = OptimSettings()
    method: MethodSettings = MethodSettings()
    freeze: tuple[NamePattern, ...] = Field(
        (),
        description="patterns of names of parameters that are frozen, such as backbone.*; a pattern with `!` excludes "
        "names: ['*', '!losses.*'] trains the losses only",
    )
    init_from: str | None = Field(
        None,
        description="folder of a run at the end of a stage, whose model and state of methods are loaded; or a model "
        "file (.safetensors), whose model is loaded, neck included",
    )
    stages: Annotated[tuple[StageSettings, ...], Field(min_length=1)] = Field(
        default_factory=lambda: (StageSettings(train=("auto",)),)
    )
    evaluate: tuple[Name, ...] | None = Field(
        None, description="data sets to test on; null = those trained on; [] = none"
    )
    test: TestSettings = TestSettings()
    engine: EngineSettings = EngineSettings()
    reference: str | None = Field(None, description="the reference row that the recipe is derived from, if any")
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
        divided = [stage for stage in self.stages if stage.data.sampler.shares_evenly]
        if divided and all(len(stage.shown) == 1 for stage in divided):
            kind = divided[0].data.sampler.kind
            raise ValueError(f"data.sampler: {kind} has no effect: no stage trains on several data sets jointly")
        for stage in self.stages:
            if len(stage.shown) > 1:
                stage.data.sampler.check(stage.shown)
        return self

    @model_validator(mode="after")
    def _moving_norms(self) -> Self:
        frozen = all(stage.optim.batch_norm != "train" for stage in self.stages)
        if frozen and (self.engine.ghost_batch_size is not None or self.engine.batch_norm == "synchronised"):
            word = "ghost_batch_size" if self.engine.ghost_batch_size is not None else "batch_norm: synchronised"
            raise ValueError(f"engine.{word} has no effect: optim.batch_norm keeps the statistics of every stage")
        return self

    @model_validator(mode="after")
    def _methods(self) -> Self:
        require_useful(self)
        return self

    @property
    def tested(self) -> tuple[str, ...]:
        """The data sets to evaluate on, in order."""
        if self.evaluate is not None:
            return self.evaluate
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.train))

    @property
    def lifelong(self) -> bool:
        """Whether stages learn from different data sets, so that they may forget and are compared with each other."""
        return len({frozenset(stage.train) for stage in self.stages}) > 1

    @property
    def input_mask(self) -> InputMask:
        """Mask of the test images."""
        return self.trained_input_mask if self.test.input_mask == "auto" else self.test.input_mask

    @property
    def trained_input_mask(self) -> InputMask:
        """Mask of the training images of the last stage; see `StageSettings.input_mask`."""
        return self.stages[-1].input_mask

    def dataset(self, name: str) -> DatasetSettings:
        """Return the settings of a named data set: its reader and folder."""
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
        """Return every value, defaults included, as YAML that reads back to the same recipe.

        A stage lists only what differs from the top level, so that a change of the top level reaches it.
        """
        return self._dumped

    @cached_property
    def _dumped(self) -> str:
        """The YAML of `dump`, which every checkpoint holds; a recipe does not change."""
        return dump_yaml(self.uninherited_values())

    def dump_changes(self) -> str:
        """Return the values that differ from the defaults, as YAML that reads back to the same recipe."""
        data, defaults = self.uninherited_values(), cast("dict[str, Plain]", Recipe().model_dump(mode="json"))
        changes = difference({**defaults, "stages": []}, data)
        changes["stages"] = [_stage_changes(stage) for stage in cast("list[dict[str, Plain]]", data["stages"])]
        if "losses" in changes:  # named losses take the place of the default ones, instead of joining them
            losses = cast("dict[str, Plain]", data["losses"])
            changes["losses"] = {name: value for name, value in losses.items() if value is not None}
        return dump_yaml(changes)

    def uninherited_values(self) -> dict[str, Plain]:
        """Return every value as plain data, of stages without what they inherit."""
        data = cast("dict[str, Plain]", self.model_dump(mode="json"))
        for stage in cast("list[dict[str, Plain]]", data["stages"]):
            for key in PER_STAGE:
                base, value = data[key], stage[key]
                if base == value:
                    del stage[key]
                elif isinstance(base, dict) and isinstance(value, dict):
                    stage[key] = difference(base, value)
        return data


def _stage_changes(stage: dict[str, Plain]) -> dict[str, Plain]:
    """Return the settings of a stage that differ from the defaults or, where it inherits them, from the recipe's."""
    defaults = cast("dict[str, Plain]", StageSettings(train=("auto",)).model_dump(mode="json"))
    base = {key: value for key, value in defaults.items() if key not in ("train", *PER_STAGE)}
    return difference(base, stage)
