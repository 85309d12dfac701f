"""Base of the settings of methods: declared needs and effects, which recipe and report read without building it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from passerby.data.foreground import ForegroundSettings
from passerby.data.loading import DataSettings
from passerby.losses.mix import LossSettings
from passerby.optim import OptimSettings
from passerby.settings import Settings

if TYPE_CHECKING:
    from passerby.methods.method import Method


End = Literal["replaces", "interpolates", "remembers"]
"""Effect of `on_stage_end` on the final weights of a stage, in the order in which methods run."""


Adds = Literal["always", "later", "never"]
"""In which stages a method adds a loss; later: from the second one on."""


class MethodsView(Protocol):
    """The methods of a stage, by name."""

    @property
    def chosen(self) -> Mapping[str, BaseMethodSettings]: ...


class StageView(Protocol):
    """The part of a stage that `check` reads; see `StageSettings`."""

    @property
    def title(self) -> str: ...
    @property
    def train(self) -> Sequence[str]: ...
    @property
    def source(self) -> Sequence[str]: ...
    @property
    def labelled(self) -> bool: ...
    @property
    def epochs(self) -> int: ...
    @property
    def data(self) -> DataSettings: ...
    @property
    def foreground(self) -> ForegroundSettings: ...
    @property
    def optim(self) -> OptimSettings: ...
    @property
    def losses(self) -> LossSettings: ...
    @property
    def method(self) -> MethodsView: ...
    @property
    def freeze(self) -> Sequence[str]: ...


class EngineView(Protocol):
    """The part of the engine that `check` reads."""

    @property
    def batch_norm(self) -> str: ...


class RecipeView(Protocol):
    """The part of a recipe that `check` reads; see `Recipe`."""

    @property
    def stages(self) -> Sequence[StageView]: ...
    @property
    def engine(self) -> EngineView: ...
    @property
    def init_from(self) -> str | None: ...


class BaseMethodSettings(Settings):
    """Base of the settings of a method; the class variables declare its needs and effects."""

    method_class: ClassVar[type[Method]]
    """The method of these settings; set where it is defined: `class Name(Method, settings_class=NameSettings)`."""

    uses_previous_model: ClassVar[bool] = False
    """Whether it compares the model with that of the stage before, where there is one."""
    transfers: ClassVar[bool] = False
    """Whether its losses also hold for images that another method makes of the batch, such as images in the colours
    of an earlier data set; see `MethodContext.compute_transferred_losses`."""
    needs_previous_model: ClassVar[bool] = False
    """Whether it does nothing unless a stage came before."""
    assigns_labels: ClassVar[bool] = False
    """Whether it assigns pseudo-labels; such a method is not active in labelled stages."""
    labelled_only: ClassVar[bool] = False
    """Whether it is refused in unlabelled stages."""
    unlabelled_only: ClassVar[bool] = False
    """Whether it is not active in labelled stages, without assigning labels itself."""
    end: ClassVar[End] = "remembers"
    """Effect of `on_stage_end`: replace the trained weights, such as by those of a mean teacher, interpolate them with
    those of the previous model, or remember state of the final model for later stages."""
    trains_alone: ClassVar[bool] = False
    """Whether an unlabelled stage, or a labelled one where it is `labelled_only`, may do without further losses."""
    label_free: ClassVar[bool] = False
    """Whether it needs neither labels nor pseudo-labels, so that an unlabelled stage may do without a method that
    assigns them."""
    files: ClassVar[tuple[str, ...]] = ()
    """The settings that are paths of files or folders, which must exist when a run starts."""
    needs_losses: ClassVar[tuple[str, ...]] = ()
    """The losses that a stage must have."""
    needs_stripes: ClassVar[int | None] = None
    """Number of stripes of an image that it compares (`model.stripes`); None = whole images."""
    any_stripes: ClassVar[bool] = False
    """Whether any other number of stripes than `needs_stripes` is allowed."""
    excludes: ClassVar[tuple[str, ...]] = ()
    """The methods that a stage cannot have beside it."""
    reported: ClassVar[tuple[str, ...]] = ()
    """Metrics of the end of a stage that are written to scores.json, by their names in the log."""

    @property
    def needs_state(self) -> bool:
        """Whether it does nothing in a stage before which no stage had the method."""
        return False

    @property
    def reads_images(self) -> bool:
        """Whether it uses the output of the model for the images of a batch; default: yes."""
        return True

    @property
    def makes_images(self) -> bool:
        """Whether it makes images of a batch, and adds the losses of the stage and of methods that transfer of them."""
        return False

    @property
    def adds_loss(self) -> Adds:
        """In which stages it adds a loss; default: all, or those after another where it needs the previous model."""
        if not self.method_class.overrides("losses"):
            return "never"
        return "later" if self.needs_previous_model else "always"

    @property
    def reads_memory(self) -> bool:
        """Whether its losses compare with what it kept of earlier stages, beside the previous model."""
        return False

    @property
    def acts_at_end(self) -> bool:
        """Whether it does anything after the last epoch of a stage; default: where it has `on_stage_end`."""
        return self.method_class.overrides("on_stage_end")

    @property
    def note(self) -> str:
        """A note that is printed before a run starts; default: none."""
        return ""

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Raise `ValueError` where a stage does not fit the method, for conditions that no class variable can express.

        Called for each stage in which the method is active.
        """

    def key(self, stage: StageView) -> str:
        """Return the key of these settings in error texts: `method.NAME`."""
        return next((f"method.{name}" for name, method in stage.method.chosen.items() if method is self), "method")

    def is_active(self, *, labelled: bool) -> bool:
        """Return whether the method is active in a stage with labels, or without."""
        return not (labelled and (self.assigns_labels or self.unlabelled_only))

    def make(self) -> Method:
        """Build the method."""
        return self.method_class(self)
