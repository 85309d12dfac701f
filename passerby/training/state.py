"""All that changes while a run goes on, apart from what it does: the whole of a checkpoint, in and out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from passerby.data.transforms import mix_seeds
from passerby.errors import UserError
from passerby.losses.mix import LossMix
from passerby.methods.method import Method, PreviousModel
from passerby.models.embedder import Embedder
from passerby.recipe import Recipe, StageSettings
from passerby.training import distributed
from passerby.training.checkpoint import Checkpoint, State
from passerby.training.compatibility import require_optimiser, require_state
from passerby.training.counters import Counters
from passerby.training.frozen import EMBEDDER, LOSSES, METHODS, Frozen
from passerby.training.process_state import differing_states, restore_process_state
from passerby.types import Batch, Stage


class StateDict(TypedDict):
    """The fields of a checkpoint that a `TrainState` fills; see `Checkpoint`."""

    recipe: str
    stage: int
    epoch: int
    iteration: int
    ended: bool
    embedder: dict[str, Tensor]
    ema: dict[str, Tensor] | None
    losses: dict[str, Tensor]
    methods: dict[str, Tensor]
    previous_model: dict[str, Tensor] | None
    optimiser: State
    scaler: State
    labels: Tensor | None
    earlier_labels: Tensor | None
    classes: int
    sums: dict[str, list[float]]
    processes: list[dict[str, Tensor]]


@dataclass(eq=False)
class TrainState:
    """The model, all that is trained or kept beside it, and the position of the run.

    Attributes:
        recipe: what runs; it does not change.
        embedder: the model, through all stages.
        stage: the present stage, with what methods add to it; it follows from the rest, so it is not saved.
        methods: all that any stage so far has named, and of those to come what the run started with.
        losses, optimiser, scaler: made anew for each stage.
        ema: the EMA of the weights where the present stage keeps one; the next stage goes on with it where it does too.
        previous_model: the model as the stage before left it, while a method of the present stage uses it.
        classes: number of identities that the losses know.
        counters: the position of the run, and what the present epoch has so far.
        batch: the batch of the present step; None between steps.
        is_updated: whether the optimiser has moved the weights after the present batch.
        frozen: what the present stage does not train; it follows from the recipe, so it is not saved.

    """

    recipe: Recipe
    embedder: Embedder
    stage: Stage
    methods: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    losses: LossMix = field(init=False)
    optimiser: torch.optim.Optimizer = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)
    ema: AveragedModel | None = None
    previous_model: PreviousModel | None = None
    classes: int = 1
    counters: Counters = field(default_factory=Counters)
    frozen: Frozen = field(default_factory=Frozen)
    batch: Batch | None = None
    is_updated: bool = False

    # ---- views

    @property
    def settings(self) -> StageSettings:
        """The settings of the present stage."""
        return self.recipe.stages[self.counters.stage]

    @property
    def seed(self) -> int:
        """The seed of whatever is drawn once in the present stage."""
        return mix_seeds(self.recipe.engine.seed, self.counters.stage)

    @property
    def all_methods(self) -> dict[str, Method]:
        """All methods there are, active or not, by name."""
        return {name: cast("Method", method) for name, method in self.methods.items()}

    @property
    def active_methods(self) -> list[Method]:
        """The methods of the present stage, in their order; none of pseudo-labels where labels are known."""
        return [cast("Method", self.methods[name]) for name in self.settings.active]

    @property
    def over(self) -> bool:
        """Whether the present stage is at its end, by its epochs or because a method stops it."""
        at = self.counters
        between = at.epoch > 0 and at.iteration == 0
        stopped = between and any(method.should_stop for method in self.active_methods)
        return stopped or at.epoch >= self.settings.epochs

    @property
    def modules(self) -> list[nn.Module]:
        """All that is trained or remembers."""
        return [self.embedder, self.losses, self.methods]

    @property
    def named_modules(self) -> dict[str, nn.Module]:
        """The same, by what the names of their parameters begin with."""
        return {EMBEDDER: self.embedder, LOSSES: self.losses, METHODS: self.methods}

    @property
    def followers(self) -> list[nn.Module]:
        """The models beside the trained one: its EMA and the previous model, where there are any."""
        return [module for module in (self.ema, self.previous_model) if module is not None]

    @property
    def tested(self) -> Embedder:
        """The model that is scored and kept: the EMA where there is one."""
        if self.ema is None:
            return self.embedder
        assert isinstance(self.ema.module, Embedder)
        return self.ema.module

    @property
    def models(self) -> list[Embedder]:
        """The model that is trained and, where it is another, the one that is scored."""
        return [self.embedder] if self.ema is None else [self.embedder, self.tested]

    # ---- changes

    def show(self, stage: Stage) -> None:
        """Train on other images, or on more of them."""
        self.stage = stage

    def compare_with_previous(self, *, keep: bool) -> None:
        """Keep a frozen copy of the model as it is now, or none."""
        self.previous_model = PreviousModel(self.tested) if keep else None

    def train_with(self, losses: LossMix, *, classes: int) -> None:
        """Take other losses, of so many identities."""
        self.losses, self.classes = losses, classes

    def average_in(self, ema: AveragedModel | None) -> None:
        """Take another EMA of the weights, or none; it begins where the one before stands."""
        if ema is not None and self.ema is not None:
            ema.load_state_dict(self.ema.state_dict())
        self.ema = ema

    def optimise_by(self, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None = None) -> None:
        """Take another optimiser, and another scaler of gradients unless it is None."""
        self.optimiser = optimiser
        if scaler is not None:
            self.scaler = scaler

    # ---- in and out

    def state_dict(self) -> StateDict:
        """Return all that a checkpoint holds of it; all processes must call it."""
        at = self.counters
        return StateDict(
            recipe=self.recipe.dump(),
            stage=at.stage,
            epoch=at.epoch,
            iteration=at.iteration,
            ended=at.ended,
            embedder=self.embedder.state_dict(),
            ema=None if self.ema is None else self.ema.state_dict(),
            losses=self.losses.state_dict(),
            methods=self.methods.state_dict(),
            previous_model=None if self.previous_model is None else self.previous_model.state_dict(),
            optimiser=self.optimiser.state_dict(),
            scaler=self.scaler.state_dict(),
            labels=at.labels,
            earlier_labels=at.earlier_labels,
            classes=self.classes,
            sums=at.sums,
            processes=differing_states(self._named, at.sums) if at.iteration else [],
        )

    def load_state_dict(self, checkpoint: Checkpoint) -> None:
        """Take what a checkpoint holds, apart from the methods, which `StageBuilder` restores before.

        Raises:
            UserError: it does not fit; nothing has been loaded then.

        """
        states = self._states(checkpoint)
        for name, (module, state) in states.items():
            require_state(state, module.state_dict(), name=name)
        if not checkpoint.ended:  # nothing is optimised after the last epoch, and methods have grown since
            require_optimiser(checkpoint.optimiser, self.optimiser)
            self.optimiser.load_state_dict(checkpoint.optimiser)
            if self.scaler.is_enabled() and checkpoint.scaler:
                self.scaler.load_state_dict(checkpoint.scaler)
        for module, state in states.values():
            module.load_state_dict(state)
        self.counters = Counters(
            checkpoint.stage,
            checkpoint.epoch,
            checkpoint.iteration,
            checkpoint.ended,
            checkpoint.labels,
            checkpoint.earlier_labels,
            checkpoint.sums,
        )
        if distributed.rank() < len(process_states := checkpoint.processes or []):
            restore_process_state(process_states[distributed.rank()], self._named, self.counters.sums)

    @property
    def _named(self) -> dict[str, nn.Module]:
        trained = {"embedder": self.embedder, "losses": self.losses, "methods": self.methods}
        beside = {"ema": self.ema, "previous model": self.previous_model}
        return {**trained, **{name: module for name, module in beside.items() if module is not None}}

    def _states(self, checkpoint: Checkpoint) -> dict[str, tuple[nn.Module, dict[str, Tensor]]]:
        """Return the modules that a checkpoint fills, with their states."""
        parts: dict[str, tuple[nn.Module | None, dict[str, Tensor] | None]] = {
            "embedder": (self.embedder, checkpoint.embedder),
            "previous model": (self.previous_model, checkpoint.previous_model),
            "EMA": (self.ema, checkpoint.ema),
            "losses": (None if checkpoint.ended else self.losses, checkpoint.losses),
        }
        for name, (module, state) in parts.items():
            if module is not None and state is None:
                raise UserError(f"last.pt does not fit the run: it holds no {name}")
        return {name: (m, state) for name, (m, state) in parts.items() if m is not None and state is not None}
