"""Embed images over the workers of a Ray cluster: one part of the table for each block, made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from passerby.console import Advance
from passerby.errors import UserError
from passerby.lock import locked
from passerby.scale.blocks import BLOCK, BlockResult, ImageBlock, Workers, cut_blocks
from passerby.types.listed import ListedImages
from passerby.types.parts import TABLE_FILE, PartsList

RETRIES = 3
"""How often a block is given out again after its worker ended."""
RESTARTS = 10
"""How often a worker is started again. Ray does not count a block as tried whose worker it ended for want of memory."""


def embed_parts(
    ray: Any,
    images: ListedImages,
    workers: Workers,
    stamps: Mapping[str, str | bool],
    *,
    size: int = BLOCK,
    progress: Advance | None = None,
    notify: Callable[[str], None],
) -> None:
    """Make the missing parts of the table of images in the folder of the workers.

    Args:
        ray: the module, connected to a cluster.
        images: all images of the table.
        workers: make the parts.
        stamps: what the vectors depend on; a folder with other ones is refused.
        size: images of a part.
        progress: called with (images done, of how many).
        notify: called with sentences for the user.

    Raises:
        UserError: the folder holds another table, an image cannot be read and may not be left out, or a worker lacks
            the model, the images or the folder.

    """
    folder = workers.folder
    with locked(folder, command="embed --ray"):
        blocks = cut_blocks(images, size=size)
        table = PartsList(stamps, len(images), tuple(block.name for block in blocks))
        _require_same_table(folder, table)
        table.save(folder)
        absent = set(table.missing(folder))
        missing = [block for block in blocks if block.name in absent]
        if len(missing) < len(blocks):
            notify(f"{len(blocks) - len(missing):,} of {len(blocks):,} parts are there already")
        _run(ray, missing, workers, total=len(images), progress=progress, notify=notify)
        if unseen := table.missing(folder):
            raise UserError(
                f"the workers wrote {len(unseen):,} parts that are not in {folder} here; give a folder on "
                "storage that all nodes see at the same path"
            )
        _remove_former(folder, table)


def _require_same_table(folder: Path, table: PartsList) -> None:
    """Refuse a folder that holds a table with other settings, or something else than a table."""
    if not (folder / TABLE_FILE).is_file():
        if other := [file.name for file in folder.iterdir() if not file.name.startswith(".")]:
            raise UserError(f"{folder} holds {sorted(other)[0]} and no table of vectors; give a new folder")
        return
    before = PartsList.load(folder).settings
    for name in sorted({*before, *table.settings}):
        if before.get(name) != table.settings.get(name):
            raise UserError(
                f"{folder} holds vectors with {name} {before.get(name)!r}, and {table.settings.get(name)!r} is asked "
                "for; give another folder"
            )


def _run(
    ray: Any,
    blocks: Sequence[ImageBlock],
    workers: Workers,
    *,
    total: int,
    progress: Advance | None,
    notify: Callable[[str], None],
) -> None:
    """Give out blocks to actors as they are ready, until all are done."""
    waiting, left, said = list(reversed(blocks)), len(blocks), set[str]()
    done = total - sum(len(block.images) for block in blocks)
    actors = _start_actors(ray, workers, most=left)
    running: dict[Any, tuple[Any, ImageBlock | None]] = {
        actor.__ray_ready__.remote(): (actor, None) for actor in actors
    }
    while left:
        ready, _ = ray.wait(list(running), num_returns=1)
        actor, block = running.pop(ready[0])
        result: BlockResult = ray.get(ready[0])
        ahead = 2 if block is None and len(waiting) > len(actors) else 1  # the second one waits beside the worker
        for _ in range(min(ahead, len(waiting))):
            following = waiting.pop()
            running[actor.embed.remote(following)] = actor, following
        if block is None:
            continue
        for note in set(result.notes) - said:
            notify(f"{result.node}: {note}")
        said.update(result.notes)
        if result.fault:
            raise UserError(result.fault)
        left, done = left - 1, done + len(block.images)
        if progress is not None:
            progress(done, total)


def _start_actors(ray: Any, workers: Workers, *, most: int) -> list[Any]:
    """Return one actor for each GPU or core of the cluster, and no more than there are blocks."""
    unit = "GPU" if workers.device == "cuda" else "CPU"
    count = int(ray.cluster_resources().get(unit, 0))
    if most and not count:
        raise UserError(f"the Ray cluster has no {unit}")
    share = {"num_gpus": 1} if unit == "GPU" else {"num_cpus": 1}
    actor = ray.remote(max_restarts=RESTARTS, max_task_retries=RETRIES, **share)(workers.make)
    return [actor.remote(workers.settings) for _ in range(min(count, most))]


def uses_gpus(ray: Any, device: str) -> bool:
    """Whether the workers of a cluster run a model on GPUs.

    Args:
        ray: the module, connected to a cluster.
        device: `auto` = GPUs where the cluster has any, `cpu`, or `cuda`.

    Raises:
        UserError: `cuda`, and the cluster has no GPU.

    """
    gpus = ray.cluster_resources().get("GPU", 0) >= 1
    if device == "cuda" and not gpus:
        raise UserError("--device cuda: the Ray cluster has no GPU; use --device auto or cpu")
    return gpus and device != "cpu"


def _remove_former(folder: Path, table: PartsList) -> None:
    """Remove the parts of files that have changed since."""
    current = set(table.parts)
    for file in folder.glob("part-*.parquet"):
        if file.name not in current:
            file.unlink(missing_ok=True)
