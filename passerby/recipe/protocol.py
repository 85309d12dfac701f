"""Settings of evaluation, of the protocol that is stamped on scores, and of computation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from passerby.device import require_device_name
from passerby.evaluation import MULTI_NEEDS_CAMERAS
from passerby.settings import Settings
from passerby.types import (
    AnyRerank,
    CameraNorm,
    CameraRerank,
    Cameras,
    Clothes,
    EvaluationRules,
    Queries,
    Rerank,
    Unit,
    VectorName,
)

RerankDistance = Literal["jaccard", "ca_jaccard"]
"""`jaccard`: neighbours among all images; `ca_jaccard`: neighbours in the same camera and in the other ones."""

OF_DISTANCE: Mapping[RerankDistance, tuple[str, ...]] = MappingProxyType(
    {"jaccard": ("k1", "k2"), "ca_jaccard": ("k1_intra", "k1_inter", "k2_intra", "k2_inter")}
)
"""The settings that belong to one distance of re-ranking."""


class RerankSettings(Settings):
    """k-reciprocal re-ranking (Zhong et al., CVPR 2017), or by cameras (CA-Jaccard, Chen et al., CVPR 2024)."""

    k1: Annotated[int, Field(ge=1)] = 20
    k2: Annotated[int, Field(ge=1)] = 6
    weight: Annotated[float, Field(ge=0, le=1)] = Field(0.3, description="weight of the original distance (lambda)")
    distance: RerankDistance = Field(
        "jaccard",
        description="ca_jaccard seeks neighbours in the same camera and in the others apart, and needs two cameras",
    )
    k1_intra: Annotated[int, Field(ge=1)] = Field(
        5, description="number of neighbours in the same camera among which reciprocal ones are sought, for ca_jaccard"
    )
    k1_inter: Annotated[int, Field(ge=1)] = Field(
        20, description="number of neighbours in other cameras among which reciprocal ones are sought, for ca_jaccard"
    )
    k2_intra: Annotated[int, Field(ge=1)] = Field(
        3, description="number of images of the same camera in the query expansion, itself included, for ca_jaccard"
    )
    k2_inter: Annotated[int, Field(ge=0)] = Field(
        3, description="number of images of other cameras in the query expansion, for ca_jaccard"
    )

    @property
    def idle(self) -> frozenset[str]:
        """The settings of the other distance."""
        return frozenset(OF_DISTANCE["jaccard" if self.distance == "ca_jaccard" else "ca_jaccard"])

    @model_validator(mode="after")
    def _nothing_idle(self) -> Self:
        for name in sorted(self.idle):
            if getattr(self, name) != type(self).model_fields[name].default:
                other = next(distance for distance, names in OF_DISTANCE.items() if name in names)
                raise ValueError(f"{name} has no effect with distance: {self.distance}; it belongs to {other}")
        return self

    @property
    def parameters(self) -> AnyRerank:
        """The same as the core type of evaluation."""
        return self.parameters_by(self.distance)

    def parameters_by(self, distance: RerankDistance) -> AnyRerank:
        """Return the parameters of a distance, those of another one than in the settings at their defaults."""
        if distance == "jaccard":
            return Rerank(self.k1, self.k2, self.weight)
        return CameraRerank(self.k1_intra, self.k1_inter, self.k2_intra, self.k2_inter, self.weight)


class TestSettings(Settings):
    """Settings of evaluation; every value is part of the protocol that is stamped on the scores."""

    __test__ = False  # not a test case, whatever pytest makes of the name

    every: Annotated[int, Field(ge=0)] = Field(10, description="epochs between evaluations; 0 = only after the last")
    start: Literal["auto", "off"] = Field(
        "auto", description="auto: where stages learn from different data sets, also test the model before the first"
    )
    feature: VectorName = "after_neck"
    flip: bool = Field(False, description="average the vectors of each image and its mirror image")
    distance: Literal["cosine", "euclidean"] = "cosine"
    cameras: Cameras = "standard"
    queries: Queries = Field("single", description="multi: average the images of a query's identity and camera")
    rerank: RerankSettings | None = Field(RerankSettings(), description="re-ranking by neighbours; null = none")
    camera_norm: CameraNorm = Field(
        "none", description="what is taken out of the vectors of each camera, by the statistics of query and gallery"
    )
    unit: Unit = Field(
        "image", description="what is compared: images, or tracklets by the mean of their images' vectors"
    )
    gallery_draws: Annotated[int, Field(ge=0)] = Field(
        0, description="mean over so many drawn galleries of one row of each identity (single shot); 0 = all of it"
    )
    clothes: Clothes = Field(
        "general",
        description="images of the query's identity that are looked for: in any clothes, changing or the same",
    )
    open_set: bool = Field(
        False, description="also score the identification with unknown people at the end, see the guide on scores"
    )
    input_mask: Literal["auto", "none", "foreground", "weighted"] = Field(
        "auto", description="input of the test; auto: as trained, see foreground"
    )
    background_bias: Literal["auto", "off"] = Field(
        "auto", description="auto: where all test images have masks, also evaluate person and background alone"
    )
    keep_best: bool = Field(
        False, description="also save the model of the epoch with the best TEST scores; not for reported results"
    )

    @property
    def rules(self) -> EvaluationRules:
        """The same as the core type of evaluation, without re-ranking."""
        return EvaluationRules(**{field.name: getattr(self, field.name) for field in fields(EvaluationRules)})

    @model_validator(mode="after")
    def _nothing_leaks(self) -> Self:
        if self.queries == "multi" and self.cameras == "ignore":
            raise ValueError(MULTI_NEEDS_CAMERAS)
        if self.open_set and self.clothes != "general":
            raise ValueError(f"open_set enrols people in any clothes; with clothes: {self.clothes} leave it out")
        return self


def _device_name(name: str) -> str:
    require_device_name(name)
    return name


class EngineSettings(Settings):
    """Settings of computation."""

    seed: Annotated[int, Field(ge=0)] = 0
    device: Annotated[str, AfterValidator(_device_name)] = Field(
        "auto", description="auto: a GPU where there is one; cpu; cuda; or one of several GPUs, as in cuda:1"
    )
    precision: Literal["auto", "float32", "bf16", "fp16"] = Field(
        "auto", description="auto: the fastest in a short probe on a CPU; bf16 on a GPU that supports it"
    )
    channels_last: Literal["auto"] | bool = Field(
        "auto", description="memory layout of feature maps; auto: as precision"
    )
    compile: bool = Field(
        False,
        description="compile the backbone with torch.compile: faster steps after a minute or more, for long runs; "
        "`passerby bench compile` measures from which number of epochs it is worth it",
    )
    threads: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="number of threads on the CPU; auto: the fastest number, which may change with the load, or "
        "OMP_NUM_THREADS; a fixed number gives bit-equal runs",
    )
    grad_accum_steps: Annotated[int, Field(ge=1)] = Field(1, description="batches per optimiser step")
    batch_norm: Literal["local", "synchronised"] = Field(
        "local", description="batch-norm statistics: local: of each process; synchronised: of all"
    )
    ghost_batch_size: Annotated[int, Field(ge=2)] | None = Field(
        None, description="ghost batch norm: number of images that share statistics; null = the batch of a process"
    )
    mining: Literal["gathered", "local"] = Field(
        "gathered", description="gathered: mine pairs in the batch of all processes; local: in that of each"
    )
    keep_stages: Literal["auto", "off"] = Field(
        "auto",
        description="auto: where stages learn from different data sets, keep the model of each as stage-N.safetensors",
    )
    track: Literal["none", "tensorboard", "wandb", "mlflow", "trackio"] = Field(
        "none", description="experiment tracker for losses, learning rates and scores"
    )

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.batch_norm == "synchronised" and self.ghost_batch_size is not None:
            raise ValueError("ghost_batch_size has no effect with batch_norm: synchronised")
        return self
