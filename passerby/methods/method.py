"""The contract of methods: hooks around the training of a stage, each doing nothing unless a method overrides it.

A method is an `nn.Module`, so device moves, parameters and saved state come free. State must be a buffer or a
submodule, or it is gone after a resume.

Methods that replace the final weights come before those that interpolate them, and these before those that remember
them (`BaseMethodSettings.end`): the state that a method keeps at the end of a stage belongs to the final model of the
stage, whichever other methods there are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, get_args

import torch
from torch import Tensor, nn

from passerby.losses.mix import LossTerm
from passerby.methods.settings import BaseMethodSettings, End
from passerby.models.embedder import Embedder
from passerby.types import Batch, Ints, Output, Stage

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

M = TypeVar("M", bound=nn.Module)

Gathering = Literal["memory", "mean", "mining"]
"""Purpose of the gathered rows of all processes; only `mining` can be kept local, by `engine.mining`."""


END_OF_STAGE = get_args(End)
"""The kinds of work at the end of a stage, in their order."""


class PreviousModel(nn.Module):
    """The model as the stage before left it, frozen, beside the one that is trained.

    It gets the same augmented images, always in `eval` mode, so that its batch-norm statistics are frozen. The output
    for a batch is computed once.
    """

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = frozen(embedder)
        self._images: Tensor | None = None
        self._output: Output | None = None

    def output(self, ctx: MethodContext, batch: Batch) -> Output:
        """Return the output for a batch."""
        if self._output is None or self._images is not batch.inputs.images:
            with torch.no_grad(), ctx.autocast():
                self._images, self._output = batch.inputs.images, self.embedder(batch.inputs)
        return self._output

    def train(self, mode: bool = True) -> Self:
        """Stay in `eval` mode."""
        return self


class Method(nn.Module):
    """Base of all methods.

    A method lives through all stages of a run and is active in those that name it. Its settings are those of the
    present stage.
    """

    settings: BaseMethodSettings

    def __init_subclass__(cls, *, settings_class: type[BaseMethodSettings] | None = None, **keywords: object) -> None:
        """Set the class as the one that its settings build."""
        super().__init_subclass__(**keywords)
        if settings_class is not None:
            settings_class.method_class = cls

    def __init__(self, settings: BaseMethodSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_load_state_dict_pre_hook(_take_sizes)  # type: ignore[no-untyped-call]

    @classmethod
    def overrides(cls, hook: str) -> bool:
        """Return whether the class defines a hook that does nothing in the contract."""
        return getattr(cls, hook) is not getattr(Method, hook)

    def configure(self, settings: BaseMethodSettings) -> None:
        """Set the settings of another stage."""
        self.settings = settings

    def extend_stage(self, ctx: MethodContext, stage: Stage) -> Stage:
        """Return the stage with images or classes of earlier ones; called before losses are made, also by a resume."""
        return stage

    @property
    def has_state(self) -> bool:
        """Whether there is state of earlier stages; checked where `needs_state` of the settings is true."""
        return True

    @property
    def stored_images(self) -> int:
        """Number of images of earlier stages that are kept."""
        return 0

    @property
    def no_weight_decay(self) -> list[nn.Parameter]:
        """The parameters excluded from weight decay."""
        return []

    @property
    def should_stop(self) -> bool:
        """Whether the stage ends now, before its last epoch; read between epochs, also by a resume."""
        return False

    def memory_footprint(self) -> dict[str, int]:
        """Return the bytes of the state in memory, by name; default: submodules, and tensors of more than one number.

        Images that stay in files count in `stored_images`, unless the method adds their bytes.
        """
        state = {name: value for name, value in self.state_dict().items() if isinstance(value, Tensor)}
        tensors = {name: tensor for name, tensor in state.items() if "." not in name and tensor.ndim}
        sizes = {name: bytes_of({name: tensor}) for name, tensor in tensors.items()}
        sizes |= {name: bytes_of(child.state_dict()) for name, child in self.named_children()}
        return {name: size for name, size in sizes.items() if size}

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Build modules and buffers for the stage; called once, before its optimiser is made, not by a resume."""

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = True) -> Any:
        """Load a state of any sizes: buffers and parameters become those of the state, not copies.

        A method whose submodules change with the stages describes them in `get_extra_state`, as plain data, and builds
        them in `set_extra_state`, on the meta device where they may be large; a resume calls no other hook.
        """
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def pseudo_labels(self, ctx: MethodContext) -> Ints | None:
        """Return (N,) or (N, V) pseudo-labels of the coming epoch, -1 = leave out; None = this method assigns none."""
        return None

    def on_epoch_start(self, ctx: MethodContext, labels: Ints) -> None:
        """Build memories and heads for the labels of an epoch; not called by a resume in the middle of one.

        In an unlabelled stage losses are new by then, with classifiers that start at the mean vectors of the clusters.
        Parameters may be made anew there; the optimiser is renewed afterwards, and keeps its state of all others.
        """

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return named loss terms of this step."""
        return {}

    def after_step(self, ctx: MethodContext, batch: Batch, out: Output) -> None:
        """Update memories of images, and where `ctx.is_updated` averages of weights too; called without a graph.

        It is called for each batch, after its backward pass and, with `ctx.is_updated`, the step of the optimiser; the
        gradients of the step are still there.
        """

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Change the weights of `ctx.models`, or keep state of `ctx.tested` for later stages, by `end` of the settings.

        Called once, after the last epoch; a method that keeps state does not change the weights. A resume starts with
        the first method of the end again.
        """


def _take_sizes(method: nn.Module, state: Mapping[str, Any], prefix: str, *_: object) -> None:
    """Give the buffers and parameters of a method itself the sizes of those in a state."""
    for name, value in [*method.named_buffers(recurse=False), *method.named_parameters(recurse=False)]:
        tensor = state.get(prefix + name)
        if isinstance(tensor, Tensor):
            empty = torch.empty_like(tensor, device="meta")
            is_parameter = isinstance(value, nn.Parameter)
            setattr(method, name, nn.Parameter(empty, requires_grad=value.requires_grad) if is_parameter else empty)


def bytes_of(state: Mapping[str, Any]) -> int:
    """Return the number of bytes of the tensors of a state."""
    return sum(each.numel() * each.element_size() for each in state.values() if isinstance(each, Tensor))


def frozen(module: M) -> M:
    """Return a frozen copy: in `eval` mode, so that batch-norm statistics are fixed, and without gradients."""
    return copy.deepcopy(module).eval().requires_grad_(False)
