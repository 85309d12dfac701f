"""Distillation from any embedder: the vectors of a fixed teacher, a file of any program, guide those of a student.

The teacher only has to run: an ONNX file, an OpenVINO .xml, a model file, or a run folder. It embeds the training
images of a stage once, without augmentation, and the student learns from augmented ones. No label is used, so an
unlabelled stage may train with this method alone. About half of what the vectors of a teacher differ by is not the
person but camera and pose; `camera_norm` and `neighbours` take much of it out of the targets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.data.transforms import mix_seeds
from passerby.distances.camera_norm import normalise_cameras
from passerby.errors import UserError
from passerby.losses.mining import to_full_precision
from passerby.losses.mix import LossTerm
from passerby.methods.distillation import affinity, affinity_divergence, feature_gap
from passerby.methods.method import Method
from passerby.methods.settings import BaseMethodSettings, RecipeView, StageView
from passerby.types import Batch, CameraNorm, Output, VectorName

if TYPE_CHECKING:
    from passerby.training.context import MethodContext

FEWEST_RELATED = 3
"""Images in a batch of which distances, relative to their mean, and angles can differ at all."""
BLOCK = 512
"""Rows of similarities that are computed at a time."""


def distance_gap(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the mean Huber loss between the pairwise distances of two models, each divided by its mean distance.

    Args:
        teacher: (B, D), B >= 2.
        student: (B, E).

    Reference: Park et al., "Relational Knowledge Distillation", CVPR 2019, equations 4 to 6 (RKD-D).
    Differs from the paper: vectors are L2-normalised, since re-identification compares directions.

    >>> x = torch.eye(3)
    >>> distance_gap(x, 2 * x).item()
    0.0
    """
    return F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher).detach())


def _relative_distances(vectors: Tensor) -> Tensor:
    """Return the distances (B (B - 1) / 2,) of all pairs of directions, divided by their mean."""
    directions = F.normalize(to_full_precision(vectors))
    first, second = torch.triu_indices(len(directions), len(directions), 1, device=directions.device)
    squared = 2 - 2 * (directions @ directions.T)[first, second]
    distances = squared.clamp_min(1e-8).sqrt()  # equal vectors have no gradient, rather than an infinite one
    return distances / distances.mean()


def angle_gap(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the mean Huber loss between the cosines of the angles of all triplets of distinct images of two models.

    Memory grows with B^2 x max(B, D).

    Args:
        teacher: (B, D), B >= 3.
        student: (B, E).

    Reference: Park et al., "Relational Knowledge Distillation", CVPR 2019, equations 7 and 8 (RKD-A).
    Differs from the paper: vectors are L2-normalised, and only triplets of distinct images count.

    >>> x = torch.eye(3)
    >>> angle_gap(x, 2 * x).item()
    0.0
    """
    count = len(student)
    gaps = F.smooth_l1_loss(_angles(student), _angles(teacher).detach(), reduction="sum")
    return gaps / max(1, count * (count - 1) * (count - 2))  # other triplets are equal in both models


def _angles(vectors: Tensor) -> Tensor:
    """Return the cosines (B, B, B) of the angles at image j between i and k."""
    directions = F.normalize(to_full_precision(vectors))
    edges = F.normalize(directions[None] - directions[:, None], dim=2)  # (B, B, D), from j to i
    return edges @ edges.transpose(1, 2)


def aligned_vectors(teacher: Tensor, dimension: int, *, seed: int) -> Tensor:
    """Return vectors (N, E) whose cosines are those of the teacher's directions less their mean.

    The directions are rotated by a fixed random map, so that every dimension has its share. With E < D they are reduced
    to their first E principal components before, which keep as much of the cosines as E dimensions can.

    Args:
        teacher: (N, D).
        dimension: E, that of the student.
        seed: of the rotation.

    """
    directions = F.normalize(to_full_precision(teacher))
    centred = directions - directions.mean(dim=0)
    if dimension < centred.shape[1]:
        centred = centred @ torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -dimension:]  # ascending
    return centred @ _isometry(dimension, centred.shape[1], seed=seed).to(centred).T


def neighbour_means(directions: Tensor, count: int) -> Tensor:
    """Return the mean (N, D) of each direction and its `count` - 1 most similar ones; of equal ones the first.

    Rows are compared in blocks, so that memory grows with N and not with its square.

    Args:
        directions: (N, D) of unit length.
        count: in [1, N]; 1 returns the directions.

    Reference: Arandjelovic and Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012,
    database-side feature augmentation.

    >>> neighbour_means(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), 2).tolist()
    [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    """
    if count == 1:
        return directions
    means = [
        directions[(block @ directions.T).argsort(dim=1, descending=True, stable=True)[:, :count]].mean(dim=1)
        for block in directions.split(BLOCK)
    ]
    return torch.cat(means)


NonNegative = Annotated[float, Field(ge=0)]


class DistilSettings(BaseMethodSettings):
    """Distillation from the vectors of another embedder, which only has to run."""

    label_free: ClassVar[bool] = True
    trains_alone: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = ("teacher",)

    teacher: Annotated[str, Field(min_length=1)] = Field(
        description="model that is learnt from: .onnx, OpenVINO .xml, .safetensors, or a run folder"
    )
    teacher_input: tuple[str, ...] = Field(
        (), description="input settings, key=value, of a graph of another program, as --input of `passerby embed`"
    )
    camera_norm: CameraNorm = Field(
        "none", description="normalisation of the teacher's vectors per camera, as for clustering, before all else"
    )
    neighbours: Annotated[int, Field(ge=1)] = Field(
        1,
        description="number of images, the most similar ones by the teacher, itself included, whose mean is the target",
    )
    cosine: NonNegative = Field(1.0, description="weight of the cosine distance to the vectors of the teacher")
    distances: NonNegative = Field(0.0, description="weight of the relative distances within the batch (RKD-D)")
    angles: NonNegative = Field(0.0, description="weight of the angles within the batch (RKD-A)")
    affinity: NonNegative = Field(0.0, description="weight of the divergence of the similarity matrices of the batch")
    temperature: Annotated[float, Field(gt=0)] = Field(0.1, description="temperature of affinity")
    feature: VectorName = Field("after_neck", description="vector of the student that is compared")

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if not (self.cosine or self.distances or self.angles or self.affinity):
            raise ValueError("give at least one of cosine, distances, angles and affinity a weight above 0")
        return self

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require batches in which the relations of images can differ."""
        size = stage.data.sampler.batch_size
        for name, fewest in (("distances", FEWEST_RELATED), ("angles", FEWEST_RELATED), ("affinity", 2)):
            if getattr(self, name) and size < fewest:
                raise ValueError(
                    f"{self.key(stage)}.{name} compares the images of a batch with each other and needs at least "
                    f"{fewest}, and data.sampler draws {size}; make the batch larger, or set {name} to 0"
                )


class Distil(Method, settings_class=DistilSettings):
    """The losses of `DistilSettings` against the vectors of the teacher.

    Where the dimensions differ, or the coordinates are not the teacher's any more (`camera_norm`), the cosine form
    compares with `aligned_vectors`, so that the student's distances become those of the targets. The other forms
    compare images with images, and need no map.
    """

    settings: DistilSettings
    embedded: Tensor
    targets: Tensor
    aligned: Tensor

    def __init__(self, settings: DistilSettings) -> None:
        super().__init__(settings)
        self.register_buffer("embedded", torch.empty(0, 0))  # (N, D) of the teacher; a resume does not embed again
        self.register_buffer("targets", torch.empty(0, 0))  # (N, D) without cameras, means of neighbours
        self.register_buffer("aligned", torch.empty(0, 0))  # (N, E) what the cosine form compares with

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Embed the images of the stage by the teacher, and make the targets of the student."""
        settings = self.settings
        self.embedded = ctx.teacher_vectors(settings.teacher, given=settings.teacher_input)  # (N, D)
        self.targets = self._targets(ctx).to(self.embedded)
        width = ctx.embedder.dimension
        if settings.cosine and (self.targets.shape[1] != width or settings.camera_norm != "none"):
            self.aligned = aligned_vectors(self.targets, width, seed=mix_seeds(ctx.seed, 2))

    def _targets(self, ctx: MethodContext) -> Tensor:
        """Return the targets (N, D) of the images of the stage."""
        settings, cam = self.settings, ctx.stage.train.cam
        count = len(cam)
        if settings.neighbours > count:
            raise UserError(
                f"method.distil.neighbours is {settings.neighbours}, and {ctx.stage.name} has {count} images; "
                "choose at most so many"
            )
        if settings.camera_norm == "none" and settings.neighbours == 1:
            return self.embedded
        directions = F.normalize(to_full_precision(self.embedded))
        if settings.camera_norm != "none":
            directions = torch.from_numpy(normalise_cameras(directions.cpu().numpy(), cam, how=settings.camera_norm))
        return neighbour_means(F.normalize(directions), settings.neighbours)

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the losses that have a weight."""
        settings, terms = self.settings, {}
        teacher, student = self.targets[batch.index], out.vector(settings.feature)  # (B, D), (B, E)
        if settings.cosine:
            goal = self.aligned[batch.index] if len(self.aligned) else teacher
            terms["distil cosine"] = LossTerm(feature_gap(goal, student), settings.cosine)
        if settings.distances or settings.angles or settings.affinity:
            terms |= self._relations(*ctx.gather(teacher, student, use="mean"))
        return terms

    def _relations(self, teacher: Tensor, student: Tensor) -> dict[str, LossTerm]:
        """Return the losses that compare the images of the whole batch with each other."""
        settings, terms = self.settings, {}
        if settings.distances:
            terms["distil distances"] = LossTerm(distance_gap(teacher, student), settings.distances)
        if settings.angles:
            terms["distil angles"] = LossTerm(angle_gap(teacher, student), settings.angles)
        if settings.affinity:
            target = affinity(teacher, temperature=settings.temperature)
            divergence = affinity_divergence(target, student, temperature=settings.temperature)
            terms["distil affinity"] = LossTerm(divergence, settings.affinity)
        return terms

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Discard the vectors of the teacher."""
        self.embedded, self.targets, self.aligned = self.embedded[:0], self.targets[:0], self.aligned[:0]


def _isometry(dimension: int, width: int, *, seed: int) -> Tensor:
    """Return a matrix (E, D), E >= D, with orthonormal columns that depends on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.init.orthogonal_(torch.empty(dimension, width))
