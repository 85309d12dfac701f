"""Early stopping of an unlabelled stage, as soon as its clusters have converged.

Only figures of the training images count; no score of a test set has a part in it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from passerby.settings import Settings


class StopSettings(Settings):
    """End a stage before its last epoch, by its clusters alone; the learning rate falls as planned for all epochs."""

    when: Literal["agreement", "silhouette"] = Field(
        "agreement",
        description="agreement: clusters equal those of the epoch before; silhouette: it rises no further",
    )
    agreement: Annotated[float, Field(gt=0, le=1)] = Field(
        0.95, description="adjusted Rand index above which two clusterings count as equal"
    )
    patience: Annotated[int, Field(ge=1)] = Field(
        3, description="number of consecutive epochs with converged clusters after which the stage ends"
    )

    @property
    def idle(self) -> frozenset[str]:
        """The agreement, where the silhouette decides."""
        return frozenset({"agreement"}) if self.when == "silhouette" else frozenset()

    @model_validator(mode="after")
    def _nothing_idle(self) -> Self:
        if "agreement" in self.idle and self.agreement != type(self).model_fields["agreement"].default:
            raise ValueError(f"agreement has no effect with when: {self.when}")
        return self

    def has_converged(self, *, agreement: float | None, silhouette: float | None, best_silhouette: float) -> bool:
        """Whether the clusters of an epoch have converged.

        Args:
            agreement: adjusted Rand index with the epoch before, at most 1; None in the first epoch.
            silhouette: of the epoch, in [-1, 1]; None where there is no graph.
            best_silhouette: the highest silhouette of the epochs before.

        >>> stop = StopSettings(when="silhouette")
        >>> stop.has_converged(agreement=None, silhouette=0.3, best_silhouette=0.2)
        False
        >>> stop.has_converged(agreement=0.9, silhouette=0.25, best_silhouette=0.3)
        True
        """
        if self.when == "agreement":
            return agreement is not None and agreement >= self.agreement
        return not rises(silhouette, best_silhouette)


def rises(silhouette: float | None, best_silhouette: float) -> bool:
    """Whether the silhouette of an epoch is above the highest one before; NaN and None are not."""
    return silhouette is not None and silhouette > best_silhouette
