"""The panels of an unlabelled stage in the pipeline drawing: initial model and pseudo-labels."""

from __future__ import annotations

from collections.abc import Iterator

from passerby.clustering.algorithms import KmeansSettings
from passerby.methods.clustered import ClusteredSettings
from passerby.recipe import Recipe, StageSettings
from passerby.report.boxes import Box, Column, Panel
from passerby.report.method_captions import captions
from passerby.report.setting_lines import facts
from passerby.settings import Settings


def shared(settings: Settings) -> tuple[str, ...]:
    """Return the settings shown in the panel of pseudo-labels, which the losses of the method omit."""
    return tuple(ClusteredSettings.model_fields) if isinstance(settings, ClusteredSettings) else ()


def source_panel(recipe: Recipe) -> Panel:
    """Return the panel of the initial model."""
    beside = dict.fromkeys(name for stage in recipe.stages for name in stage.source)
    images = f"images of {', '.join(beside)} are trained on jointly" if beside else "its images are not used"
    return Panel(
        "Source: a finished run",
        (
            Column("Run", (Box("run", str(recipe.init_from), (images,)),)),
            Column("Initial model", (Box("model", "Network", ("weights and batch-norm statistics",), "network"),)),
        ),
        (("run", "model"),),
    )


def labels_panel(stage: StageSettings, *, title: str) -> Panel:
    """Return the panel of pseudo-labels: embed, compare, cluster, assign."""
    name, settings = _clustering(stage)
    views = settings.views[1:]
    group = (*facts(settings.cluster, without=("kind",)), *((f"also {', '.join(views)}",) if views else ()))
    return Panel(
        title,
        (
            Column("Embed", _embedding(stage, name, settings)),
            Column("Compare", (Box("compare", "Vectors at unit length", tuple(_compared(settings)), "value"),)),
            Column("Cluster", (Box("group", f"Clusters: {settings.cluster.kind}", group, "learning"),)),
            Column("Assign", (Box("name", "Pseudo-labels", tuple(_assigned(stage, name, settings)), "learning"),)),
        ),
        (("network", "compare"), ("compare", "group"), ("group", "name")),
    )


def _clustering(stage: StageSettings) -> tuple[str, ClusteredSettings]:
    """Return the name and the settings of the method that assigns the pseudo-labels of a stage."""
    for name, settings in stage.method.chosen.items():
        if isinstance(settings, ClusteredSettings):
            return name, settings
    raise AssertionError("every unlabelled stage has a method that assigns labels")


def _embedding(stage: StageSettings, name: str, settings: ClusteredSettings) -> tuple[Box, ...]:
    images = Box("look", "All images", (*stage.train, "identities not used", "not augmented"))
    return images, Box(
        "network", "The teacher" if settings.clusters_teacher else captions(name).embedded_by, (), "network"
    )


def _compared(settings: ClusteredSettings) -> Iterator[str]:
    yield f"the vector {settings.feature} of each image"
    if settings.camera_norm != "none":
        removed = {"centre": "mean", "standardise": "mean and spread", "auto": "shrunk mean"}
        yield f"without each camera's {removed[settings.camera_norm]}"


def _assigned(stage: StageSettings, name: str, settings: ClusteredSettings) -> Iterator[str]:
    everyone = isinstance(settings.cluster, KmeansSettings)
    yield "every image is in a cluster" if everyone else captions(name).noise
    if stage.source:
        yield f"identities of {', '.join(stage.source)} keep their labels"
    if settings.max_noise_ratio < 1 and not everyone:
        yield f"the run stops where more than {100 * settings.max_noise_ratio:g} % of the images are noise"
    if settings.stop is not None:
        yield f"the stage ends when clusters have converged: {', '.join(facts(settings.stop))}"
