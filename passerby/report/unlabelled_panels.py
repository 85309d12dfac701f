"""The panels of an unlabelled stage in the pipeline drawing: initial model and pseudo-labels."""

from __future__ import annotations

from collections.abc import Iterator

from passerby.clustering.algorithms import KmeansSettings
from passerby.methods.clustered import Clustered, ClusteredSettings
from passerby.recipe import Recipe, StageSettings
from passerby.report.boxes import Box, Column, Panel
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
    chosen, method = _maker(stage)
    views = (f"also {', '.join(method.views[1:])}",) if len(method.views) > 1 else ()
    group = (*facts(chosen.cluster, without=("kind",)), *views)
    return Panel(
        title,
        (
            Column("Embed", _looking(stage, method)),
            Column("Compare", (Box("compare", "Vectors at unit length", tuple(_compared(chosen)), "value"),)),
            Column("Cluster", (Box("group", f"Clusters: {chosen.cluster.kind}", group, "learning"),)),
            Column("Assign", (Box("name", "Pseudo-labels", tuple(_named(stage, chosen, method)), "learning"),)),
        ),
        (("network", "compare"), ("compare", "group"), ("group", "name")),
    )


def _maker(stage: StageSettings) -> tuple[ClusteredSettings, Clustered]:
    """Return the settings and the name of the method that assigns the pseudo-labels of a stage."""
    for chosen in stage.method.chosen.values():
        if isinstance(chosen, ClusteredSettings):
            method = chosen.make()
            assert isinstance(method, Clustered)
            return chosen, method
    raise AssertionError("every unlabelled stage has a method that assigns labels")


def _looking(stage: StageSettings, method: Clustered) -> tuple[Box, ...]:
    images = Box("look", "All images", (*stage.train, "identities not used", "not augmented"))
    return images, Box("network", method.eyes, (), "network")


def _compared(chosen: ClusteredSettings) -> Iterator[str]:
    yield f"the vector {chosen.feature} of each image"
    if chosen.cameras != "ignore":
        spread = " and spread" if chosen.cameras == "standardise" else ""
        yield f"without each camera's mean{spread}"


def _named(stage: StageSettings, chosen: ClusteredSettings, method: Clustered) -> Iterator[str]:
    everyone = isinstance(chosen.cluster, KmeansSettings)
    yield "every image is in a cluster" if everyone else method.alone
    if stage.source:
        yield f"identities of {', '.join(stage.source)} keep their labels"
    if chosen.outliers < 1 and not everyone:
        yield f"the run stops where more than {100 * chosen.outliers:g} % of the images are noise"
    if chosen.stop is not None:
        yield f"the stage ends when clusters have converged: {', '.join(facts(chosen.stop))}"
