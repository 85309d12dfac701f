"""Replay: some images of earlier stages are kept, and every batch has some of them beside the new ones.

The memory is a table of (stage, row), not of pixels: a resumed run reads the same images from the same data sets. Its
identities come after the new ones in the labels and keep their rows of the classifiers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from passerby.data.joining import join
from passerby.data.samplers.parts import replayed_identities
from passerby.data.samplers.sampler import GroupSamplerSettings
from passerby.losses.mix import LossTerm
from passerby.methods.herding import herd
from passerby.methods.identity_rows import RowStore
from passerby.methods.method import Method
from passerby.methods.settings import Adds, BaseMethodSettings, RecipeView, StageView
from passerby.types import Batch, Floats, Ints, Output, Split, Stage

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

Choice = Literal["herding", "far", "random"]
"""`herding`: the images whose mean follows the mean of the identity; `far`: the farthest from it; `random`: any."""


def choose(features: Floats, count: int, generator: np.random.Generator, *, by: Choice = "herding") -> Ints:
    """Return the rows of the images of one identity that are kept.

    Args:
        features: (N, D), of any length; only directions count.
        count: number of images, at most N are returned.
        generator: source of randomness, for `random`.
        by: see `Choice`.

    Returns:
        (min(count, N),) rows.

    Reference: Rebuffi et al., "iCaRL: Incremental Classifier and Representation Learning", CVPR 2017, algorithm 4
    (herding); Ge et al., "Lifelong Person Re-identification by Pseudo Task Knowledge Preservation", AAAI 2022 (far).

    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], dtype=np.float32)
    >>> choose(x, 1, np.random.default_rng(0), by="far").tolist()
    [2]
    """
    if by == "random":
        return np.sort(generator.permutation(len(features))[:count])
    directions = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    if by == "herding":
        return herd(directions, count)
    return np.argsort(directions @ directions.mean(axis=0), kind="stable")[:count]


def match_gap(embeddings: Tensor, stored: Tensor, place: Tensor) -> Tensor:
    """Return the mean squared difference between the embeddings of replayed images and the stored ones.

    Args:
        embeddings: (B, D) of all images of a batch.
        stored: (M, D) of the memory.
        place: (B,) row of each image of the batch in the memory; outside [0, M): it is left out.

    Returns:
        () mean over replayed images and dimensions; 0 when there are none.

    Reference: Buzzega et al., "Dark Experience for General Continual Learning: a Strong, Simple Baseline", NeurIPS
    2020 (DER++).
    Differs from the paper: embeddings for logits, because classifiers change from stage to stage and a search compares
    embeddings; the stored embedding is that of the final model of the stage, of the image without augmentation.

    """
    replayed = (place >= 0) & (place < len(stored))
    if not bool(replayed.any()):
        return embeddings.sum() * 0
    return F.mse_loss(embeddings[replayed].float(), stored[place[replayed]])


class ReplaySettings(BaseMethodSettings):
    """Replay of stored images, and DER++ on top of it."""

    labelled_only: ClassVar[bool] = True

    identities: Annotated[int, Field(ge=1)] = Field(250, description="identities kept of each stage, drawn at random")
    instances: Annotated[int, Field(ge=2)] = Field(2, description="images kept of each identity")
    choose: Choice = Field(
        "herding",
        description="images that are kept: herding | far: farthest from the mean of the identity (PTKP) | random",
    )
    ratio: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="share of the identities in a batch that come from the memory, and so their weight in losses"
    )
    match: Annotated[float, Field(gt=0)] | None = Field(
        None, description="DER++: weight of the distance to the stored embeddings (0.3); null = plain replay"
    )

    @property
    def adds_loss(self) -> Adds:
        """Only the distance of replayed images to their stored embeddings, from the second stage on."""
        return "later" if self.match is not None else "never"

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require batches of identities, and a share for each data set beside the memory."""
        sampler = stage.data.sampler
        if not isinstance(sampler, GroupSamplerSettings):
            raise ValueError(
                "method.replay fills a share of the identities of a batch; set data.sampler to pk or pk_cameras"
            )
        if len(stage.train) + len(stage.source) > 1:
            replayed = replayed_identities(sampler.identities, self.ratio)
            sampler.with_identities(sampler.identities - replayed).check(stage.train)


class Replay(Method, settings_class=ReplaySettings):
    """A memory of images, chosen at the end of every stage and joined to the training images of every later one.

    Reference: Rebuffi et al., "iCaRL: Incremental Classifier and Representation Learning", CVPR 2017; for `match`
    Buzzega et al., "Dark Experience for General Continual Learning", NeurIPS 2020.
    Differs from the paper: DER++ weights the classification of replayed images by beta; here they are part of the
    batch, so that beta is ratio / (1 - ratio): 1/3 gives 0.5.

    """

    settings: ReplaySettings
    stages: Tensor
    rows: Tensor
    sizes: Tensor
    stored: Tensor

    def __init__(self, settings: ReplaySettings) -> None:
        super().__init__(settings)
        for name in ("stages", "rows", "sizes"):  # (M,) number of the stage, row of its images, bytes of the file
            self.register_buffer(name, torch.empty(0, dtype=torch.int64))
        self.register_buffer("stored", torch.empty(0, 0))  # (M', D) embeddings of the first M' of them
        self.known = RowStore()  # of each loss with a row per identity (I, D): those of the identities in the memory

    def extend_stage(self, ctx: MethodContext, stage: Stage) -> Stage:
        """Join the memory to the images of the stage, as one more source."""
        if not len(self.rows):
            return stage
        train = join([stage.train, *self._splits(ctx)])
        again = np.full(len(self.rows), len(stage.sources))
        return replace(
            stage,
            train=train,
            truth=train.pid,
            sources=(*stage.sources, "memory"),
            origin=np.concatenate([stage.origin, again]),
            replay_ratio=self.settings.ratio,
        )

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Set the rows of the identities in the memory, in classifiers and centres, to the stored ones."""
        self.known.adopt(ctx.losses.losses)

    def interpolate_heads(self, ctx: MethodContext, *, alpha: float) -> None:
        """Set the rows of the identities in the memory to alpha x present + (1 - alpha) x those before the stage."""
        self.known.interpolate(ctx.losses.losses, alpha=alpha)

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the distance of replayed images from their stored embeddings, where `match` is set."""
        if self.settings.match is None or not len(self.stored):
            return {}
        place = batch.index - len(ctx.stages[ctx.stage_number].train)
        embedding, place = ctx.gather(out.after_neck, place, use="mean")
        return {"match": LossTerm(match_gap(embedding, self.stored, place), self.settings.match)}

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Choose images of the stage, and keep the rows of all identities in the memory."""
        selected = self._choose(ctx, ctx.stage)
        paths, rows = ctx.stage.train.path[selected], torch.from_numpy(selected).to(ctx.device)
        self.stages = torch.cat([self.stages, torch.full_like(rows, ctx.stage_number)])
        self.rows = torch.cat([self.rows, rows])
        sizes = torch.tensor([Path(path).stat().st_size for path in paths.tolist()], dtype=torch.int64)
        self.sizes = torch.cat([self.sizes, sizes.to(ctx.device)])
        earlier, new = np.unique(ctx.stage.train.pid[~ctx.stage.is_new]), np.unique(ctx.stage.train.pid[selected])
        identities = torch.from_numpy(np.concatenate([earlier, new])).to(ctx.device)
        is_earlier = torch.arange(len(identities), device=ctx.device) < len(earlier)
        self.known = self.known.renewed(ctx.losses.losses, identities=identities, is_earlier=is_earlier)
        if self.settings.match is not None:
            self._store(ctx)
        footprint = {f"bytes of {name}": float(count) for name, count in self.memory_footprint().items()}
        ctx.log_metrics("replay", {"stored images": float(self.stored_images), **footprint})

    @property
    def stored_images(self) -> int:
        """Number of images of earlier stages in the memory."""
        return len(self.rows)

    def memory_footprint(self) -> dict[str, int]:
        """Return the bytes of the tables, and of the files of the images."""
        return {**super().memory_footprint(), "image files": int(self.sizes.sum())}

    def _splits(self, ctx: MethodContext) -> list[Split]:
        """Return the stored images of each earlier stage, in order."""
        numbers = sorted(set(self.stages.tolist()))
        return [ctx.stages[n].train.select(self.rows[self.stages == n].cpu().numpy()) for n in numbers]

    def _choose(self, ctx: MethodContext, stage: Stage) -> Ints:
        """Return the rows of new images that are kept, identity by identity."""
        generator = np.random.default_rng(ctx.seed)
        names, counts = np.unique(stage.train.pid[stage.is_new], return_counts=True)
        identities = np.sort(generator.permutation(names[counts >= 2])[: self.settings.identities])
        if not len(identities):
            return np.empty(0, np.int64)
        rows = np.flatnonzero(np.isin(stage.train.pid, identities))
        features = ctx.vectors_of(stage.train.select(rows), "before_neck", model=ctx.tested).cpu().numpy()
        images = [np.flatnonzero(stage.train.pid[rows] == identity) for identity in identities]
        count, by = self.settings.instances, self.settings.choose
        selected = [each[choose(features[each], count, generator, by=by)] for each in images]
        return rows[np.concatenate(selected)]

    def _store(self, ctx: MethodContext) -> None:
        """Store the embeddings of all images that have none yet."""
        memory = join([Split.empty(), *self._splits(ctx)])
        if len(memory) > len(self.stored):
            rows = np.arange(len(self.stored), len(memory))
            new = ctx.vectors_of(memory.select(rows), "after_neck", model=ctx.tested)
            self.stored = torch.cat([self.stored, new]) if len(self.stored) else new
