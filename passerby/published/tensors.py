"""The tensors of a published file, of which each one must be used or be known to have no influence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from passerby.errors import UserError
from passerby.models.weights_file import few_names

_COUNTERS = r"(.*\.)?num_batches_tracked"
"""Batches that a batch norm has seen, which only matter without a momentum."""


class FileTensors(Mapping[str, Tensor]):
    r"""Tensors of a file by name, with a record of those that a conversion has taken.

    Looking at a tensor (`tensors[key]`, its shape) does not take it.

    Args:
        tensors: all of the file, without wrappers and leading `module.`.
        source: how error texts call the file.

    >>> import torch
    >>> tensors = FileTensors({"base.weight": torch.ones(2), "classifier.weight": torch.ones(3)}, source="a.pth")
    >>> list(tensors.take_below("base."))
    ['weight']
    >>> tensors.left((r"classifier\..*",)), tensors.left(())
    ([], ['classifier.weight'])
    """

    def __init__(self, tensors: Mapping[str, Tensor], *, source: str) -> None:
        self.source = source
        self._tensors = dict(tensors)
        self._taken: set[str] = set()

    def __getitem__(self, key: str) -> Tensor:
        return self._tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def require(self, key: str) -> Tensor:
        """Return a tensor without taking it.

        Raises:
            UserError: the file lacks it.

        """
        if key not in self._tensors:
            raise UserError(
                f"{self.source} lacks {key!r}, which files of its family have; it is cut or of another kind"
            )
        return self._tensors[key]

    def take(self, key: str) -> Tensor:
        """Return a tensor as used.

        Raises:
            UserError: the file lacks it.

        """
        self._taken.add(key)
        return self.require(key)

    def take_below(self, prefix: str, *, but: str | None = None) -> dict[str, Tensor]:
        """Return all tensors whose names begin with a prefix, without it, as used.

        Args:
            prefix: with its dot.
            but: regular expression of names, in full and without the prefix, that are left alone.

        """
        names = {key: key.removeprefix(prefix) for key in self if key.startswith(prefix)}
        return {name: self.take(key) for key, name in names.items() if not (but and re.fullmatch(but, name))}

    def take_matching(self, pattern: str) -> dict[str, Tensor]:
        """Return all tensors whose whole names match a regular expression, by their full names, as used."""
        return {key: self.take(key) for key in self if re.fullmatch(pattern, key)}

    def count_numbers(self, pattern: str) -> int:
        r"""Return how many different numbers the first group of a regular expression matches at the start of names.

        >>> import torch
        >>> names = ("layer1.0.a", "layer1.1.a", "layer1.1.b", "layer2.0.a")
        >>> FileTensors(dict.fromkeys(names, torch.ones(1)), source="").count_numbers(r"layer1\.(\d+)\.")
        2
        """
        return len({match[1] for key in self if (match := re.match(pattern, key))})

    def left(self, without_influence: Sequence[str]) -> list[str]:
        """Return the names that were not taken and match none of the regular expressions (nor count batches)."""
        patterns = [re.compile(pattern) for pattern in (*without_influence, _COUNTERS)]
        unused = [key for key in self if key not in self._taken]
        return [key for key in unused if not any(pattern.fullmatch(key) for pattern in patterns)]

    def require_all_used(self, without_influence: Sequence[str], *, family: str) -> None:
        """Raise `UserError` with the names of tensors that nothing was made of."""
        if left := self.left(without_influence):
            raise UserError(
                f"{self.source}: {len(left)} of {len(self)} tensors have no place in the family {family} "
                f"({few_names(left, most=12)}), and nothing is dropped in silence; the file is of another family or "
                "variant, see `passerby models`"
            )
