"""Settings as lines of text in drawings: one line for each value with an effect."""

from __future__ import annotations

from collections.abc import Iterator

from passerby.settings import Settings


def facts(settings: Settings, *, without: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield one line for each setting with an effect, except some names."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        off = value is None or value is False or value == {} or (isinstance(value, int | float) and value == 0)
        off = off or (value == "none" and name != "weights")  # weights: none is a start of its own, from scratch
        if name not in without and name not in settings.idle and not off:
            yield f"{name.replace('_', ' ')} {value_text(value)}".rstrip()


def changed_settings(settings: Settings, *, without: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield one line for each setting that differs from its default, except some names."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if name not in without and value != field.get_default(call_default_factory=True):
            yield f"{name.replace('_', ' ')} {value_text(value)}".rstrip()


def value_text(value: object) -> str:
    """Return a value of a recipe as YAML-like text."""
    if value is None:
        return "off"
    if isinstance(value, Settings):
        return f"({', '.join(facts(value))})" if list(facts(value)) else ""
    if isinstance(value, dict):
        return ", ".join(f"{str(key).replace('_', ' ')} {value_text(inner)}" for key, inner in value.items())
    if isinstance(value, tuple | list):
        return " to ".join(map(value_text, value)) if len(value) == 2 else ", ".join(map(value_text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def counted(number: float, noun: str) -> str:
    return f"{value_text(float(number))} {noun}{'' if number == 1 else 's'}"


def summary(settings: Settings) -> tuple[str, ...]:
    """Return the first line of the settings' docstring."""
    first = (type(settings).__doc__ or "").strip().split("\n")[0].removesuffix(".")
    return (first,) if first else ()
