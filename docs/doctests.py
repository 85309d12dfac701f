"""An extension of griffe that shows the doctests of docstrings as code; markdown would take `>>>` for a quotation."""

from __future__ import annotations

import griffe


def fenced(text: str) -> str:
    r"""Return a docstring with a fence of its own around every paragraph that starts with `>>>`.

    >>> print(fenced("Add.\n\n>>> 1 + 1\n2"))
    Add.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    paragraphs = text.split("\n\n")
    return "\n\n".join(f"```pycon\n{part}\n```" if part.startswith(">>>") else part for part in paragraphs)


class Doctests(griffe.Extension):
    """Fences the examples of every object that has a docstring."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Change the docstring of an object that was read."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
