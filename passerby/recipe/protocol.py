"""Settings of evaluation, of the protocol that is stamped on scores, and of computation."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from passerby.device import require_device_name
from passerby.evaluation import MULTI_NEEDS_CAMERAS
from passerby.settings import Settings
from passerby.types import Cameras, Queries, Rerank, VectorName


class RerankSettings(Settings):
    """k-reciprocal re-ranking (Zhong et al., CVPR 2017)."""

    k1: Annotated[int, Field(ge=1)] = 20
    k2: Annotated[int, Field(ge=1)] = 6
    weight: Annotated[float, Field(ge=0, le=1)] = Field(0.3, description="share of the original distance (lambda)")

    @property
    def parameters(self) -> Rerank:
        """The same as the core type of evaluation."""
        return Rerank(self.k1, self.k2, self.weight)


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
    queries: Queries = Field("single", description="multi averages the images of a query's identity and camera")
    rerank: RerankSettings | None = Field(RerankSettings(), description="null = never re-rank")
    input_mask: Literal["auto", "none", "foreground", "weighted"] = Field(
        "auto", description="auto: as trained, so without backgrounds or with weighted pooling where foreground says so"
    )
    background_bias: Literal["auto", "off"] = Field(
        "auto", description="auto: where all test images have masks, also test person and background alone"
    )
    keep_best: bool = Field(False, description="also keep the epoch that is best on the TEST images; not for tables")

    @model_validator(mode="after")
    def _nothing_leaks(self) -> Self:
        if self.queries == "multi" and self.cameras == "ignore":
            raise ValueError(MULTI_NEEDS_CAMERAS)
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
        "auto", description="auto: on a CPU what a short probe of the steps finds faster; on a GPU bf16 where it has it"
    )
    channels_last: Literal["auto"] | bool = Field("auto", description="layout of maps in memory; auto: as precision")
    threads: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="of a run on the processor; auto: as many as are fastest beside what else runs, which may change "
        "between steps, or what OMP_NUM_THREADS says; a number gives the same bits again",
    )
    grad_accum_steps: Annotated[int, Field(ge=1)] = Field(1, description="batches per optimiser step")
    batch_norm: Literal["local", "synchronised"] = Field("local", description="statistics with several processes")
    ghost_batch_size: Annotated[int, Field(ge=2)] | None = Field(
        None, description="images that share statistics, so that one device learns as several; null = the whole batch"
    )
    mining: Literal["gathered", "local"] = Field("gathered", description="features for mining with several processes")
    keep_stages: Literal["auto", "off"] = Field(
        "auto",
        description="auto: where stages learn from different data sets, keep the model of each as stage-N.safetensors",
    )
    track: Literal["none", "tensorboard", "wandb", "mlflow", "trackio"] = Field(
        "none", description="experiment tracker that also gets losses, learning rates and scores"
    )

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.batch_norm == "synchronised" and self.ghost_batch_size is not None:
            raise ValueError("ghost_batch_size has no effect with batch_norm: synchronised")
        return self
