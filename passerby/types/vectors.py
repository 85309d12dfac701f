"""The two vectors of an image, before and after the neck, by name."""

from __future__ import annotations

from typing import Literal, get_args

VectorName = Literal["before_neck", "after_neck"]
"""`before_neck`: pooled; `after_neck`: normalised by the neck, or the same vector in a model without a neck."""

FORMER_NAMES: dict[str, VectorName] = {"feature": "before_neck", "embedding": "after_neck"}
"""The names that files of earlier versions use."""

VECTOR_NAMES: tuple[VectorName, ...] = get_args(VectorName)


def present_name(stamp: str) -> str:
    """Return the name of a vector as it is written today; words that are no vector of an embedder stay as they are.

    >>> present_name("embedding"), present_name("before_neck"), present_name("")
    ('after_neck', 'before_neck', '')
    """
    return FORMER_NAMES.get(stamp, stamp)
