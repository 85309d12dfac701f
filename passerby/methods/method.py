"""The contract of methods: hooks around the training of a stage, each doing nothing unless a method overrides it.

A method is an `nn.Module`, so device moves, parameters and saved state come free. What it keeps must be a buffer or a
submodule, or it is gone after a resume.

Methods that replace the final weights come before those that interpolate them, and these before those that remember
them (`BaseMethodSettings.end`): whatever a method keeps at the end of a stage belongs to the model that the stage
leaves, whichever other methods there are.
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
"""What the rows of all processes are joined for; only `mining` can be kept local, by `engine.mining`."""


END_OF_STAGE = get_args(End)
"""The kinds of work at the end of a stage, in their order."""


class PreviousModel(nn.Module):
    """The model as the stage before left it, frozen, beside the one that is trained.

    It sees the same augmented images, always in `eval` mode, so that its batch-norm statistics are frozen. The output
    for a batch is computed once.
    """

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = frozen(embedder)
        self._asked: Tensor | None = None
        self._answer: Output | None = None

    def output(self, ctx: MethodContext, batch: Batch) -> Output:
        """Return its output for a batch."""
        if self._answer is None or self._asked is not batch.inputs.images:
            with torch.no_grad(), ctx.autocast():
                self._asked, self._answer = batch.inputs.images, self.embedder(batch.inputs)
        return self._answer

    def train(self, mode: bool = True) -> Self:
        """Stay as it is, whatever is asked."""
        return self


class Method(nn.Module):
    """Base of all methods.

    A method lives through all stages of a run and is active in those that name it. Its settings are those of the
    present stage.
    """

    settings: BaseMethodSettings

    def __init_subclass__(cls, *, settings_class: type[BaseMethodSettings] | None = None, **keywords: object) -> None:
        """Make a class the one that its settings build."""
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
        """Take the settings of another stage."""
        self.settings = settings

    def extend_stage(self, ctx: MethodContext, stage: Stage) -> Stage:
        """Return the stage with what the method adds to it; called before its losses are made, also by a resume."""
        return stage

    @property
    def has_state(self) -> bool:
        """Whether earlier stages have left it something; asked where its settings need that."""
        return True

    @property
    def stored_images(self) -> int:
        """How many images of earlier stages it keeps."""
        return 0

    @property
    def no_weight_decay(self) -> list[nn.Parameter]:
        """The parameters excluded from weight decay."""
        return []

    @property
    def should_stop(self) -> bool:
        """Whether the stage is to end now, before its last epoch; asked between epochs, also by a resume."""
        return False

    def memory_footprint(self) -> dict[str, int]:
        """Return the bytes of what it keeps in memory, by name; default: submodules, and tensors of more than a number.

        Images that stay in files count in `stored_images`, unless the method says what they weigh.
        """
        state = {name: value for name, value in self.state_dict().items() if isinstance(value, Tensor)}
        own = {name: tensor for name, tensor in state.items() if "." not in name and tensor.ndim}
        found = {name: bytes_of({name: tensor}) for name, tensor in own.items()}
        found |= {name: bytes_of(child.state_dict()) for name, child in self.named_children()}
        return {name: count for name, count in found.items() if count}

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Build what the stage needs; called once, before its optimiser is made, and not again after a resume."""

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = True) -> Any:
        """Take over a state, of whatever sizes: buffers and parameters are those of the state, not copies.

        A method whose submodules change with the stages describes them by `get_extra_state`, in plain data, and builds
        them in `set_extra_state`, on the meta device where they may be large; a resume calls nothing else.
        """
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def pseudo_labels(self, ctx: MethodContext) -> Ints | None:
        """Return (N,) or (N, V) pseudo-labels of the coming epoch, -1 = leave out; None = this method assigns none."""
        return None

    def on_epoch_start(self, ctx: MethodContext, labels: Ints) -> None:
        """Get ready for an epoch of an unlabelled stage, whose labels have just been made; not called by a resume.

        Losses are new by then, their classifiers begin at the mean vectors of the clusters. What learns may be made
        anew here; the optimiser takes it up afterwards, and keeps what it knew of all else.
        """

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return named terms to be added to the loss of this step."""
        return {}

    def after_step(self, ctx: MethodContext, batch: Batch, out: Output) -> None:
        """Move memories of images, and where `ctx.is_updated` also averages of weights; called without a graph.

        It is called for each batch, after its backward pass and the step of the optimiser, if it came to one; the
        gradients of the step are still there.
        """

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Change the weights of `ctx.models`, or keep what later stages need of `ctx.tested`, as `settings.end` says.

        Called once, after the last epoch; a method that keeps something leaves the weights alone. A resume begins with
        the first method of the end again.
        """


def _take_sizes(method: nn.Module, state: Mapping[str, Any], prefix: str, *_: object) -> None:
    """Give the buffers and parameters of a method itself the sizes of those that are about to be loaded."""
    for name, value in [*method.named_buffers(recurse=False), *method.named_parameters(recurse=False)]:
        found = state.get(prefix + name)
        if isinstance(found, Tensor):
            empty = torch.empty_like(found, device="meta")
            is_parameter = isinstance(value, nn.Parameter)
            setattr(method, name, nn.Parameter(empty, requires_grad=value.requires_grad) if is_parameter else empty)


def bytes_of(state: Mapping[str, Any]) -> int:
    """Return how many bytes the tensors of a state take."""
    return sum(each.numel() * each.element_size() for each in state.values() if isinstance(each, Tensor))


def frozen(module: M) -> M:
    """Return a copy that never learns: `eval` mode, so its batch-norm statistics stand still, and no gradients."""
    return copy.deepcopy(module).eval().requires_grad_(False)
