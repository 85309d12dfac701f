"""When to stop where nobody knows who is who: as soon as the clusters of a stage have come to rest.

Only what the training images themselves say is looked at; no score of a test set has a part in it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from passerby.settings import Settings


class StopSettings(Settings):
    """End a stage before its last epoch, by its clusters alone. The learning rate falls as if it did not."""

    when: Literal["agreement", "silhouette"] = Field(
        "agreement", description="agreement: clusters are those of the epoch before; silhouette: they get no tighter"
    )
    agreement: Annotated[float, Field(gt=0, le=1)] = Field(
        0.95, description="adjusted Rand index from which on two clusterings count as the same"
    )
    epochs: Annotated[int, Field(ge=1)] = Field(3, description="in a row")

    @property
    def idle(self) -> frozenset[str]:
        """The agreement, where the silhouette is looked at."""
        return frozenset({"agreement"}) if self.when == "silhouette" else frozenset()

    @model_validator(mode="after")
    def _nothing_idle(self) -> Self:
        if "agreement" in self.idle and self.agreement != type(self).model_fields["agreement"].default:
            raise ValueError(f"agreement has no effect with when: {self.when}")
        return self

    def judge(self, *, agreement: float | None, silhouette: float | None, tightest: float) -> tuple[bool, float]:
        """Return whether an epoch's clusters are at rest, and the highest silhouette so far.

        Args:
            agreement: adjusted Rand index with the epoch before, at most 1; None in the first epoch.
            silhouette: of the epoch, in [-1, 1]; None where there is no graph.
            tightest: the highest silhouette before.

        >>> stop = StopSettings(when="silhouette")
        >>> stop.judge(agreement=None, silhouette=0.3, tightest=0.2)
        (False, 0.3)
        >>> stop.judge(agreement=0.9, silhouette=0.25, tightest=0.3)
        (True, 0.3)
        """
        if self.when == "agreement":
            return agreement is not None and agreement >= self.agreement, tightest
        rises = silhouette is not None and silhouette > tightest
        return not rises, silhouette if rises and silhouette is not None else tightest
