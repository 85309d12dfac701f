"""The exact search of a gallery over the workers of a Ray cluster: each searches some shards where they lie."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from passerby.errors import UserError
from passerby.gallery.scan import NearestRows, ShardPart, merge_nearest, parts_searched_by, search_part
from passerby.types import Floats

RETRIES = 3
"""How often a task is given out again after its worker ended."""
TASKS = 4
"""Tasks per core, so that a slow one does not hold up the others."""


def search_group(parts: Sequence[ShardPart], vectors: Floats, top: int) -> NearestRows:
    """Search some parts one after another, in one process; see `search_part`."""
    vectors = vectors if vectors.flags.writeable else vectors.copy()  # shared memory is read-only
    return merge_nearest([search_part(part, vectors, top=top) for part in parts], count=len(vectors), top=top)


def search_over(ray: Any, parts: Sequence[ShardPart], vectors: Floats, top: int) -> list[NearestRows]:
    """Search parts over a cluster, and return the answers of groups of them in order.

    Args:
        ray: the module, connected to a cluster.
        parts: of the shards, on storage that all nodes see at the same path.
        vectors: (Q, D) of unit length.
        top: answers per query at most.

    Raises:
        FileNotFoundError: a shard was replaced since.
        UserError: a shard that is there is not seen by a worker.

    """
    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    size = max(1, -(-len(parts) // (TASKS * cores)))
    search = ray.remote(num_cpus=1, max_retries=RETRIES)(search_group)
    queries = ray.put(vectors)
    groups = [parts[start : start + size] for start in range(0, len(parts), size)]
    try:
        return list(ray.get([search.remote(group, queries, top) for group in groups]))
    except ray.exceptions.RayTaskError as error:
        if not isinstance(error.cause, FileNotFoundError):
            raise
        if all(part.path.exists() for part in parts):
            raise UserError(
                f"a worker does not see {parts[0].path.parent}; put the gallery on storage that all nodes see at the "
                "same path"
            ) from error
        raise FileNotFoundError(str(error.cause)) from error


@contextlib.contextmanager
def galleries_over(ray: Any) -> Iterator[None]:
    """Search galleries in folders over a cluster within the block."""
    with parts_searched_by(partial(search_over, ray)):
        yield
