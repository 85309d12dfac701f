"""Construction of a stage from the recipe and the state of earlier stages."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from passerby.errors import UserError, first_line
from passerby.losses.mix import LossMix
from passerby.methods.method import Method
from passerby.models.cameras import move_camera_rows
from passerby.models.embedder import load_state
from passerby.models.layers import layer_scales
from passerby.models.pooling import Pool
from passerby.optim import make_average, make_optimiser
from passerby.training import distributed
from passerby.training.checkpoint import Checkpoint
from passerby.training.compatibility import require_losses, require_place, take_over
from passerby.training.context import MethodContext
from passerby.training.frozen import named_parameters
from passerby.training.init_from import read_initial_state
from passerby.training.norms import set_norm_statistics
from passerby.training.setup import Setup
from passerby.training.state import TrainState


class StageBuilder:
    """Builder of stages, new or from checkpoints: data, methods, losses, previous model, EMA, optimiser."""

    def __init__(self, setup: Setup, state: TrainState, context: MethodContext) -> None:
        self.setup, self.state, self.context = setup, state, context

    def open(self, number: int) -> None:
        """Begin a stage; the model is kept."""
        recipe, state = self.setup.recipe, self.state
        start = None if recipe.init_from is None or number > 0 else read_initial_state(Path(recipe.init_from), recipe)
        if start is not None:
            model = move_camera_rows(start.embedder, state.embedder, before=start.cameras, after=state.embedder.cameras)
            load_state(state.embedder, model, source=f"init_from: {recipe.init_from}")
        self._make_methods(number)
        if start is not None:
            self._restore_methods(start.methods)
            self._require_no_stored_images()
            self._require_memories()
        self._enter(number)
        for method in state.active_methods:
            method.on_stage_start(self.context)
        self._equip()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the stage and state of a checkpoint.

        Raises:
            UserError: it does not fit the run; nothing of it but the state of methods has been loaded then.

        """
        recipe, state = self.setup.recipe, self.state
        for number in range(checkpoint.stage + 1):  # methods of earlier stages have state too
            self._make_methods(number)
        take_over(checkpoint.methods, self._restore_methods)
        self._enter(checkpoint.stage, extended=not checkpoint.ended)
        require_place(checkpoint, state.stage, state.settings.data.sampler, accumulate=recipe.engine.grad_accum_steps)
        if checkpoint.classes is not None:
            if not checkpoint.ended:
                losses, dimension = state.settings.losses, state.embedder.dimension
                require_losses(checkpoint, losses, dimension=dimension, classes=checkpoint.classes)
            self.make_losses(checkpoint.classes)
        self._equip()
        state.load_state_dict(checkpoint)

    # ---- methods

    def _make_methods(self, number: int) -> None:
        """Make the methods that a stage names first, and configure all of its methods by its settings."""
        for name, settings in self.setup.recipe.stages[number].method.chosen.items():
            if name in self.state.methods:
                cast("Method", self.state.methods[name]).configure(settings)
            else:
                self.state.methods[name] = settings.make()

    def _restore_methods(self, saved: dict[str, Tensor]) -> None:
        """Restore the methods of all stages that have saved state; the others are unchanged."""
        methods = self.state.methods
        names = {key.split(".")[0] for key in saved}
        for stage in self.setup.recipe.stages:
            for name, settings in stage.method.chosen.items():
                if name in names and name not in methods:
                    methods[name] = settings.make()
        for name, method in self.state.all_methods.items():
            state = {key.removeprefix(f"{name}."): v for key, v in saved.items() if key.startswith(f"{name}.")}
            if state:
                try:
                    method.load_state_dict(state)
                except RuntimeError as error:
                    raise UserError(f"method.{name}: the saved state does not fit ({first_line(error)})") from error
        methods.to(self.setup.device)

    def _require_no_stored_images(self) -> None:
        start = self.setup.recipe.init_from
        for name, method in self.state.all_methods.items():
            if method.stored_images:
                raise UserError(
                    f"init_from: method.{name} keeps {method.stored_images:,} images of the stages of {start}, which "
                    f"this run does not read; learn all stages in one recipe, or leave out method.{name}"
                )

    def _require_memories(self) -> None:
        recipe = self.setup.recipe
        for name, settings in recipe.stages[0].method.chosen.items():
            if settings.needs_state and not self.state.all_methods[name].has_state:
                raise UserError(
                    f"init_from: the run in {recipe.init_from} left nothing that method.{name} could hold on to; start "
                    f"from a run whose method has it, or leave it out of the first stage"
                )

    # ---- losses and optimiser

    def _enter(self, number: int, *, extended: bool = True) -> None:
        """Build data, losses and previous model of a stage, after its methods have their state."""
        state = self.state
        state.counters.begin_stage(number)
        state.frozen.release()  # or a copy of the network that a method makes would never be trained
        torch.manual_seed(state.seed)
        state.show(self.setup.stages[number])
        for method in state.active_methods if extended else ():
            state.show(method.extend_stage(self.context, state.stage))
        self.make_losses(max(1, state.stage.classes))
        used = any(method.settings.uses_previous_model for method in state.active_methods)
        state.compare_with_previous(keep=self.context.has_past and used)

    def make_losses(self, classes: int) -> None:
        """Make the losses of the stage for a number of identities."""
        state = self.state
        losses = LossMix(state.settings.losses, dimension=state.embedder.dimension, classes=classes)
        state.train_with(losses.to(self.setup.device), classes=classes)

    def _equip(self) -> None:
        """Make the EMA and the optimiser of a stage whose methods are ready."""
        setup, state = self.setup, self.state
        state.methods.to(setup.device)
        for method in state.active_methods:
            set_norm_statistics(method, setup.recipe.engine)
        distributed.share_state(state.modules)
        decay = state.settings.optim.ema_decay
        state.average_in(None if decay is None else make_average(state.embedder, decay=decay))
        scaler = torch.amp.GradScaler(setup.device.type, enabled=setup.precision == "fp16")
        state.optimise_by(self._make_optimiser(), scaler)

    def _make_optimiser(self) -> torch.optim.Optimizer:
        state = self.state
        of_methods = (p for method in state.active_methods for p in method.no_weight_decay)
        pools = (m for module in state.modules for m in module.modules() if isinstance(m, Pool))  # of all networks
        of_pools = (p for pool in pools for p in pool.parameters())
        no_weight_decay = [*state.losses.no_weight_decay, *of_pools, *of_methods]
        state.frozen.freeze(state.named_modules, state.settings.freeze)
        parameters, optim = named_parameters(state.named_modules), state.settings.optim
        return make_optimiser(optim, parameters, no_weight_decay=no_weight_decay, scales=self._layer_scales())

    def _layer_scales(self) -> dict[str, float]:
        """Return the factors of the learning rate of the layers of the backbone, by name of parameter."""
        decay, body = self.state.settings.optim.layer_decay, self.state.embedder.backbone.body
        scales = {} if decay is None else layer_scales(body, decay)
        return {f"backbone.body.{name}": scale for name, scale in scales.items()}

    def renew_optimiser(self) -> None:
        """Make the optimiser for the present parameters; it keeps the state of those it had before."""
        state = self.state
        state.methods.to(self.setup.device)
        distributed.share_state([state.losses, state.methods])
        earlier, renewed = state.optimiser.state, self._make_optimiser()
        for group in renewed.param_groups:
            for parameter in group["params"]:
                if parameter in earlier:
                    renewed.state[parameter] = earlier[parameter]
        state.optimise_by(renewed)
