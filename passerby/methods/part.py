"""A method is a list of parts. A part is an `nn.Module`, so device moves, parameters and saved state come free.

A part may speak at several moments; each verb does nothing unless the part says otherwise. What a part remembers must
be a buffer or a submodule, or it is gone after a resume.

The end of a stage has three phases, each of all parts before the next one begins: `replace_weights` puts another model
in the place of the trained one, `interpolate_weights` moves it towards the previous model, and `end` remembers. Weights
are final by then: whatever a part keeps in `end` belongs to the model that the stage leaves, whichever parts there are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from passerby.extract import View
from passerby.losses.mix import LossMix, Term
from passerby.models.embedder import Embedder
from passerby.settings import Settings
from passerby.types import Batch, Floats, Ints, Output, Scores, Split, Stage

M = TypeVar("M", bound=nn.Module)

Adds = Literal["always", "later", "never"]
"""In which stages a part adds a loss; later: from the second one on."""

Gathering = Literal["memory", "mean", "mining"]
"""What the rows of all processes are joined for; only `mining` can be kept local, by `engine.mining`."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """What a model makes of all training images of a stage, without augmentation.

    Attributes:
        feature: (N, D) float32, pooled, before the neck.
        embedding: (N, D) float32, after it.
        parts: (N, P, D) float32, one row per stripe of an image; None where the model has no stripes.

    """

    feature: Floats
    embedding: Floats
    parts: Floats | None


END_OF_STAGE = ("replace_weights", "interpolate_weights", "end")
"""The hooks after the last epoch of a stage: all parts go through the first before any goes through the second."""


class RunState(Protocol):
    """What a part may know of the run it takes part in.

    Attributes:
        embedder: the model that is trained.
        tested: the model that is scored and that the next stage's teacher will be; the running mean where there is one.
        losses: the losses of the present stage.
        teacher: the model as the stage before left it, for parts that ask for it; None in the first stage of a run that
            does not start from another.
        stages: all stages of the run as the recipe has them, without what parts add.
        stage: the present one, with what they add.
        device: where all of them are.
        seed: a number for what is drawn at random once in the present stage.
        sums: of each loss term in the present epoch so far: the sums of its values and of what was added, the weight.
        stage_number, epoch, iteration: each from 0; the iteration counts batches in the epoch.

    """

    embedder: Embedder
    losses: LossMix
    teacher: Teacher | None
    stages: list[Stage]
    stage: Stage
    device: torch.device
    sums: dict[str, list[float]]
    stage_number: int
    epoch: int
    iteration: int

    @property
    def tested(self) -> Embedder:
        """See above."""

    @property
    def models(self) -> list[Embedder]:
        """The model that is trained and, where it is another, the one that is scored; both go on in the next stage."""

    @property
    def seed(self) -> int:
        """See above."""

    @property
    def speaking_parts(self) -> Sequence[Part]:
        """The parts of the present stage, in the recipe's order."""

    def autocast(self) -> AbstractContextManager[object]:
        """Return the block in which the network runs in the precision of the run."""

    def rehearse(self, batch: Batch) -> dict[str, Term]:
        """Return what the losses, and the parts that ask the teacher, say of a batch that a part has made."""

    def view(self, split: Split) -> View:
        """Return how training images are shown where nothing is augmented: with their masks where they matter."""

    def tell(self, part: str, values: dict[str, float], *, note: str = "") -> None:
        """Write figures that a part found into the journal, where people and reports read them, and a sentence."""

    def vectors(self, model: Embedder | None = None) -> Vectors:
        """Embed all training images of the stage, by the model that is trained unless another is given."""

    def scores(self, model: Embedder) -> dict[str, Scores]:
        """Score a model, not re-ranked, on every data set that the run tests."""

    def gather(self, *rows: Tensor, use: Gathering = "memory") -> tuple[Tensor, ...]:
        """Join what each of several processes holds of a batch, (B / world, ...) to (B, ...), in the batch's order.

        A memory must move by the whole batch, or each process would remember something else. The mean over some images
        of a batch is taken over those of all processes, or an image would count more where there are fewer of its kind.
        Pairs are mined in the whole batch where the recipe says so (`engine.mining`). Gradients reach every process.
        """


class Teacher(nn.Module):
    """A model that no longer learns, asked about the batches that the present one learns from.

    It sees the same augmented images, always in `eval` mode, so that its batch-norm statistics stand still. One answer
    serves all parts that ask in a step.
    """

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = frozen(embedder)
        self._asked: Tensor | None = None
        self._answer: Output | None = None

    def answer(self, run: RunState, batch: Batch) -> Output:
        """Return what the earlier model makes of a batch."""
        if self._answer is None or self._asked is not batch.images:
            with torch.no_grad(), run.autocast():
                self._asked, self._answer = batch.images, self.embedder(batch.images, batch.mask)
        return self._answer

    def train(self, mode: bool = True) -> Self:
        """Stay as it is, whatever is asked."""
        return self


class Part(nn.Module):
    """Base of all parts.

    A part lives through all stages of a run and speaks in those that name it. Its settings are those of the present
    stage.
    """

    settings: Settings
    wants_teacher = False
    """Whether the part asks about the model of the stage before."""
    needs_earlier = False
    """Whether it does nothing unless a stage came before."""
    keeps_images = False
    """Whether the part shows images of earlier stages again, so that a run with it is no longer free of exemplars."""
    makes_labels = False
    """Whether it says who is who where a stage does not know; such a part is silent in labelled stages."""
    unlabelled_only = False
    """Whether it is silent in labelled stages without making labels itself."""
    teaches_alone = False
    """Whether an unlabelled stage may do without further losses beside it."""

    def widen(self, run: RunState, stage: Stage) -> Stage:
        """Return the stage with what the part adds to it; called before its losses are made, also by a resume."""
        return stage

    @property
    def hollow(self) -> bool:
        """Whether it has nothing to hold on to in the coming stage, because no stage so far has left it anything."""
        return False

    @property
    def note(self) -> str:
        """What a person must know before a run with it begins, in a sentence; default: nothing."""
        return ""

    @property
    def at_end(self) -> str:
        """What it does after the last epoch of a stage, for the drawing; default: the first lines of those hooks."""
        own = [getattr(type(self), name) for name in END_OF_STAGE]
        changed = [hook for hook in own if hook is not getattr(Part, hook.__name__)]
        lines = ((hook.__doc__ or "Acts after the last epoch.").split("\n")[0] for hook in changed)
        return "; ".join(line.removesuffix(".") for line in lines)

    @property
    def adds_loss(self) -> Adds:
        """In which stages it adds a loss, for the drawing; default: in all, but for parts that need an earlier one."""
        if type(self).terms is Part.terms:
            return "never"
        return "later" if self.needs_earlier else "always"

    @property
    def remembers(self) -> str:
        """What it keeps of earlier stages beside the model, in a few words for the drawing."""
        return ""

    @property
    def companions(self) -> dict[str, str]:
        """What it keeps beside the network while a stage goes on: titles and a few words, for the drawing."""
        return {}

    @property
    def stored_images(self) -> int:
        """How many images of earlier stages it keeps."""
        return 0

    @property
    def undecayed(self) -> list[nn.Parameter]:
        """The parameters that weight decay would pull to where they do not belong."""
        return []

    @property
    def had_enough(self) -> bool:
        """Whether the stage is to end now, before its last epoch; asked between epochs, also by a resume."""
        return False

    def held(self) -> dict[str, int]:
        """Return the bytes of what it keeps in memory, by name; default: submodules, and tensors of more than a number.

        Images that stay in files count in `stored_images`, unless the part says what they weigh.
        """
        own = {name: tensor for name, tensor in self.state_dict().items() if "." not in name and tensor.ndim}
        found = {name: bytes_of({name: tensor}) for name, tensor in own.items()}
        found |= {name: bytes_of(child.state_dict()) for name, child in self.named_children()}
        return {name: count for name, count in found.items() if count}

    def begin(self, run: RunState, stage: Stage) -> None:
        """Build what the stage needs; called once, before its optimiser is made, and not again after a resume."""

    def make_room(self, run: RunState, state: Mapping[str, Tensor]) -> None:
        """Build what `state` fills, where `begin` or `end` of earlier stages had built it; called by a resume.

        Buffers get their sizes here; submodules and further buffers are the part's own affair.
        """
        for name, value in state.items():
            if name in self._buffers:
                setattr(self, name, torch.empty_like(value, device=run.device))

    def labels(self, run: RunState, stage: Stage) -> Ints | None:
        """Return (N,) or (N, V) labels for the coming epoch, -1 = leave out; None = not mine to say."""
        return None

    def evidence(self) -> dict[str, Floats]:
        """Return what the labels were read off, by name, for pictures: `vectors` (M, D), `curve` (M,).

        Rows are the images of unknown identity, in order; asked once, right after `labels`.
        """
        return {}

    def prepare(self, run: RunState, stage: Stage, labels: Ints) -> None:
        """Get ready for an epoch of an unlabelled stage, whose labels have just been made; not called by a resume.

        Losses are new by then, their classifiers begin at the mean vectors of the clusters. What learns may be made
        anew here; the optimiser takes it up afterwards, and keeps what it knew of all else.
        """

    def before_batch(self, run: RunState, batch: Batch) -> None:
        """See a batch before the network does."""

    def terms(self, run: RunState, batch: Batch, out: Output) -> dict[str, Term]:
        """Return named terms to be added to the loss of this step."""
        return {}

    def after_batch(self, run: RunState, batch: Batch, out: Output) -> None:
        """Move memories of what was seen; called without a graph, and after the step if the batch is its last."""

    def after_step(self, run: RunState) -> None:
        """Move averages of weights; called without a graph after each step, whose gradients still stand."""

    def replace_weights(self, run: RunState, stage: Stage) -> None:
        """Put another model in the place of `run.models`, such as a mean teacher; called after the last epoch."""

    def interpolate_weights(self, run: RunState, stage: Stage) -> None:
        """Move `run.models` towards the previous model; called after all parts have replaced what they replace."""

    def blend_earlier(self, run: RunState, *, alpha: float) -> None:
        """Set what it learnt on for earlier stages, beside the model, to alpha x now + (1 - alpha) x before the stage.

        Called by whoever interpolates the model's weights.
        """

    def end(self, run: RunState, stage: Stage) -> None:
        """Remember what must not be forgotten, of `run.tested`, whose weights are final and must stay as they are.

        Called once, after the last epoch. A resume begins with the first phase of the end again.
        """


def bytes_of(state: Mapping[str, Tensor]) -> int:
    """Return how many bytes named tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def frozen(module: M) -> M:
    """Return a copy that never learns: `eval` mode, so its batch-norm statistics stand still, and no gradients."""
    return copy.deepcopy(module).eval().requires_grad_(False)
