"""Recipes that runs and models of earlier versions carry, in the words of today.

A recipe that a person gives is never changed: a former word is refused with the present one in the hint.
"""

from __future__ import annotations

from passerby.settings import Plain
from passerby.types import present_name


def in_present_words(data: Plain) -> Plain:
    """Return plain data of a stored recipe with former values replaced by those of today.

    >>> in_present_words({"test": {"feature": "embedding"}, "method": {"feature": {"weight": 1.0}}})
    {'test': {'feature': 'after_neck'}, 'method': {'feature': {'weight': 1.0}}}
    """
    if isinstance(data, list):
        return [in_present_words(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {key: _value(key, value) for key, value in data.items()}


def _value(key: str, value: Plain) -> Plain:
    return present_name(value) if key == "feature" and isinstance(value, str) else in_present_words(value)
