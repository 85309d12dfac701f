"""The drawing of the training pipeline of a recipe.

Everything in it is read off the recipe: a loss, a stage or a method that a recipe adds is in the drawing
without a word being changed here, and what the recipe does not have is not drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from passerby.data.samplers.sampler import GroupSamplerSettings
from passerby.methods.settings import BaseMethodSettings
from passerby.recipe import Recipe, StageSettings
from passerby.recipe.stage import PER_STAGE
from passerby.report.boxes import Box, Column, Panel, draw_panels
from passerby.report.method_captions import captions, end_caption
from passerby.report.schedule import falls
from passerby.report.setting_lines import changed_settings, counted, facts, summary, value_text
from passerby.report.unlabelled_panels import labels_panel, shared, source_panel
from passerby.settings import Settings
from passerby.types import VECTOR_NAMES

WIDE, NARROW = 1100.0, 360.0

# What boxes tell in words of their own. Everything else that is not as usual is listed by its name, so that a setting
# that is added is drawn; what changes nothing that is learnt or measured is left to the recipe.
_GROUPS = ("input", "data", "model", "losses", "optim", "method", "test", "engine")
_DATA = ("augment", "sampler", "cache", "workers")
_ENGINE = ("seed", "device", "precision", "channels_last", "threads", "track")
_OPTIM = (
    *("name", "lr", "weight_decay", "momentum", "schedule", "warmup_epochs", "warmup_factor", "milestones", "gamma"),
    *("flat_epochs", "min_lr", "ema_decay", "freeze_backbone_steps"),
)
_TEST = ("every", "feature", "distance", "cameras", "rerank", "flip", "queries", "unit", "gallery_draws")


def draw(recipe: Recipe, *, width: float = WIDE) -> str:
    """Return the drawing of a recipe as SVG text.

    Args:
        recipe: what is drawn.
        width: in pixels; below 700 everything stands in one column.

    """
    panels = [panel for number in range(len(recipe.stages)) for panel in _stage(recipe, number)]
    names = ", ".join(stage.title for stage in recipe.stages)
    tested = f"test on {', '.join(recipe.tested)}" if recipe.tested else "no test"
    label = f"From images to losses and scores: training on {names}, {tested}."
    return draw_panels([*panels, _test(recipe)], width=width, label=label)


def _stage(recipe: Recipe, number: int) -> Iterator[Panel]:
    """Yield the panels of a stage: initial model, pseudo-labels of an unlabelled stage, training."""
    stage = recipe.stages[number]
    several = f"Stage {number + 1} of {len(recipe.stages)}" if len(recipe.stages) > 1 else "Training"
    title = f"{several}: {stage.title}, {counted(stage.epochs, 'epoch')}"
    if number == 0 and recipe.init_from is not None:
        yield source_panel(recipe)
    if not stage.has_pseudo_labels:
        yield _training(recipe, number, title=title)
        return
    yield labels_panel(stage, title=f"{title}. Before each: pseudo-labels")
    training = _training(recipe, number, title=f"In each epoch of {stage.title}: training on these labels")
    yield replace(training, enter="labels for this epoch", again="next epoch")


def _training(recipe: Recipe, number: int, *, title: str) -> Panel:
    stage = recipe.stages[number]
    losses = _losses(stage, number)
    network, beside = _network(recipe, number), _beside(stage, number)
    sources = {box.key for box in network if box.tone == "value"}
    links = [("augment", network[0].key)]
    for box, source in losses:
        links += [(source if source in sources else network[-1].key, box.key), (box.key, "sum")]
    for box, methods in beside:
        links += [
            *([("augment", "teacher")] if box.key == "teacher" else []),
            *((box.key, method) for method in methods),
        ]
    return Panel(
        title,
        (
            Column("Images", _images(recipe, stage)),
            Column("Network", network, apart=tuple(box for box, _ in beside)),
            Column("Losses", tuple(box for box, _ in losses), chained=False),
            Column("Learning", _learning(recipe, stage, number)),
        ),
        tuple(links),
    )


def _images(recipe: Recipe, stage: StageSettings) -> tuple[Box, ...]:
    data = stage.data
    datasets = tuple(
        f"{name} ({kind})" if name != (kind := recipe.dataset(name).kind) else name for name in stage.train
    )
    hidden = "identities are clusters" if stage.has_pseudo_labels else "identities not used"
    known = "identities known" if stage.labelled else hidden
    sampler = data.sampler
    beside = (Box("beside", "Source images", (*stage.source, "identities known")),) if stage.source else ()
    joint = (sampler.sharing,) if len(stage.shown) > 1 else ()
    length = () if stage.iterations is None else (f"{stage.iterations} batches in an epoch",)
    first = () if stage.identities is None else (f"the first {stage.identities} identities of each set",)
    steps = tuple(facts(data.augment))
    batches = (*sampler.describe(), *changed_settings(data, without=_DATA))
    drawn = "P × K batches" if isinstance(sampler, GroupSamplerSettings) else "Batches"
    return (
        Box("data", "Training images", (*datasets, known, *first)),
        *beside,
        *_other_boxes(recipe, stage),
        Box("sampler", drawn, (*batches, *joint, *length)),
        Box("augment", "Augmentation" if steps else "No augmentation", steps),
    )


def _other_boxes(recipe: Recipe, stage: StageSettings) -> Iterator[Box]:
    """Yield a box for each group of settings that differs from the defaults and is in no other box."""
    for name in type(recipe).model_fields:
        group = getattr(stage if name in PER_STAGE else recipe, name)
        if name not in _GROUPS and isinstance(group, Settings) and (lines := tuple(changed_settings(group))):
            yield Box(f"group {name}", name.replace("_", " ").capitalize(), lines)


def _network(recipe: Recipe, number: int) -> tuple[Box, ...]:
    model, (height, width) = recipe.model, recipe.input.size
    if number:
        first = Box("backbone", "The same network", (f"after stage {number}",), "network")
        return first, *_vectors(recipe)
    begun = ("weights",) if recipe.init_from is not None else ()  # those of the other run
    others = facts(model, without=("backbone", "pool", "neck", *begun))
    pixels = (
        f"input {height} × {width} px, {recipe.input.colour}",
        *changed_settings(recipe.input, without=("size", "colour")),
    )
    start = () if recipe.init_from is None else (f"initialised from {recipe.init_from}",)
    backbone = Box("backbone", model.backbone, (*pixels, *others, *start), "network")
    return backbone, Box("pool", f"Pooling: {value_text(model.pool)}", (), "network"), *_vectors(recipe)


def _vectors(recipe: Recipe) -> tuple[Box, ...]:
    neck = recipe.model.neck
    before, after = (Box(name, name, (), "value") for name in VECTOR_NAMES)
    if neck == "none":
        return before, replace(after, lines=("no neck: the same vector",))
    return before, Box("neck", f"Neck: {value_text(neck)}", (), "network"), after


def _methods(stage: StageSettings, number: int) -> dict[str, BaseMethodSettings]:
    """Return the active methods of a stage: not those that lack a previous model or unlabelled images."""
    return {
        name: method
        for name, method in (stage.active if stage.labelled else stage.method.chosen).items()
        if number or not method.needs_previous_model or method.adds_loss != "never"
    }


def _with_loss(stage: StageSettings, number: int) -> dict[str, BaseMethodSettings]:
    """Return the methods that add a loss in a stage; those with a previous model add none in the first."""
    now = ("always", "later") if number else ("always",)
    return {name: method for name, method in _methods(stage, number).items() if method.adds_loss in now}


def _beside(stage: StageSettings, number: int) -> list[tuple[Box, list[str]]]:
    """Return the modules beside the network with the losses they feed: memories, second networks, teachers.

    What is left of earlier stages is there from the second stage on.
    """
    methods, losses = _methods(stage, number), _with_loss(stage, number)
    companions = [
        (Box(f"{name} {title}", title, (text,), "images"), [f"method {name}"] if name in losses else [])
        for name in methods
        for title, text in captions(name).companions.items()
    ]
    return companions if not number else [*companions, *_left_over(methods, losses, number)]


def _left_over(
    methods: Mapping[str, BaseMethodSettings], losses: Mapping[str, BaseMethodSettings], number: int
) -> list[tuple[Box, list[str]]]:
    """Return the model and the memories that earlier stages left."""
    users = [name for name, method in methods.items() if method.uses_previous_model]
    boxes = []
    if users:
        lines = (f"the model after stage {number}, frozen", f"used by {', '.join(users)}")
        fed = [f"method {name}" for name in users if name in losses]
        boxes.append((Box("teacher", "Previous model", lines, "network"), fed))
    for name, method in methods.items():
        if method.reads_memory:
            box = Box(f"memory {name}", f"Memory: {name}", (captions(name).memory,), "images")
            boxes.append((box, [f"method {name}"] if name in losses else []))
    return boxes


def _losses(stage: StageSettings, number: int) -> list[tuple[Box, str]]:
    """Return a box for each loss and each method that adds one, with its vector; those before the neck come first."""
    boxes = []
    for name, loss in stage.losses.chosen.items():
        source = str(getattr(loss, "feature", ""))
        sees = (f"input: the vector {source}",) if source else ()
        weight = getattr(loss, "weight", None)
        title = name if weight is None else f"{name} × {value_text(weight)}"
        lines = (*summary(loss), *sees, *facts(loss, without=("feature", "weight")))
        boxes.append((Box(f"loss {name}", title, lines, "loss"), source))
    for name in _with_loss(stage, number):
        method = stage.method.chosen[name]
        lines = (*summary(method), *facts(method, without=shared(method)))
        boxes.append((Box(f"method {name}", f"method: {name}", lines, "loss"), ""))
    order = [*VECTOR_NAMES, ""]
    return sorted(boxes, key=lambda box: order.index(box[1]))


def _ends(stage: StageSettings, number: int) -> tuple[Box, ...]:
    """Return the end-of-stage work of the methods, and methods without a loss."""
    boxes = []
    for name, method in _methods(stage, number).items():
        text = (*summary(method), *facts(method)) if method.adds_loss == "never" else ()
        if caption := end_caption(name, method):
            boxes.append(Box(f"end {name}", f"After the last epoch: {name}", (caption, *text), "learning"))
        elif method.adds_loss == "never" and not method.assigns_labels:
            boxes.append(Box(f"end {name}", f"method: {name}", text, "learning"))
    return tuple(boxes)


def _learning(recipe: Recipe, stage: StageSettings, number: int) -> tuple[Box, ...]:
    optim = stage.optim
    momentum = (f"momentum {value_text(optim.momentum)}",) if optim.name == "sgd" else ()
    decay = f"weight decay {value_text(optim.weight_decay)}"
    count = len(_losses(stage, number))
    mean = (f"EMA {value_text(optim.ema_decay)}", "evaluated in place of the last weights")
    average = (Box("average", "EMA of the weights", mean, "learning"),) if optim.ema_decay is not None else ()
    steps = tuple(changed_settings(recipe.engine, without=_ENGINE))
    return (
        Box("sum", "Sum" if count > 1 else "Total", (f"of {counted(count, 'weighted term')}",), "learning"),
        *((Box("step", "Step", steps, "learning"),) if steps else ()),
        Box(
            "optimiser",
            f"Optimiser: {optim.name}",
            (decay, *momentum, *changed_settings(optim, without=_OPTIM)),
            "learning",
        ),
        Box("schedule", f"Learning rate: {optim.schedule}", tuple(_schedule(stage)), "learning"),
        *average,
        *_ends(stage, number),
    )


def _schedule(stage: StageSettings) -> Iterator[str]:
    optim, epochs = stage.optim, stage.epochs
    if stage.freeze:
        yield f"frozen: {', '.join(stage.freeze)}"
    if optim.freeze_backbone_steps:
        yield f"backbone frozen for {counted(optim.freeze_backbone_steps, 'step')}"
    if optim.warmup_epochs:
        yield f"warm-up over {counted(optim.warmup_epochs, 'epoch')} from {value_text(optim.warmup_factor * optim.lr)}"
    yield f"learning rate {value_text(optim.lr)}"
    if optim.schedule == "multistep":
        reached = [str(step) for step in optim.milestones if step < epochs]
        yield f"× {value_text(optim.gamma)} at epoch {', '.join(reached)}" if reached else "no milestone is reached"
    elif optim.schedule == "cosine":
        after = f"after epoch {value_text(optim.flat_epochs)} " if optim.flat_epochs else ""
        text = f"{after}decaying to {value_text(optim.min_lr)} at epoch {epochs}"
        yield (text if falls(optim, epochs=epochs) else f"too few epochs to decay to {value_text(optim.min_lr)}")


def _test(recipe: Recipe) -> Panel:
    test = recipe.test
    if not recipe.tested:
        nothing = Box("tested", "No evaluation", ("`evaluate` is empty",), "test")
        return Panel("No evaluation", (Column("Images", (nothing,)),), ())
    left_out = (
        "without the query's own camera's images of the person" if test.cameras == "standard" else "of all cameras"
    )
    averaged: tuple[str, ...] = ("queries averaged over person and camera",) if test.queries == "multi" else ()
    if test.unit == "tracklet":
        averaged += ("tracklets, each the mean of its images",)
    draws = test.gallery_draws
    searched = f"gallery of one row of each identity, drawn {counted(draws, 'time')}" if draws else "gallery"
    mirror = ("averaged with the mirror image's",) if test.flip else ()
    compare = [
        Box("distance", f"Distance: {test.distance}", (), "test"),
        Box("ranking", "Ranking", (f"{searched}, nearest first, {left_out}",), "test"),
    ]
    if test.rerank is not None:
        compare.append(Box("rerank", "Re-ranking", ("k-reciprocal neighbours", *facts(test.rerank)), "test"))
    both = ("with and without re-ranking",) if test.rerank is not None else ()
    every = (f"every {counted(test.every, 'epoch')}, plain", "at the end") if test.every else ("at the end",)
    return Panel(
        "Test",
        (
            Column("Images", (Box("tested", "Query and gallery", (*recipe.tested, *averaged), "test"),)),
            Column(
                "Network",
                (Box("trained", "The trained network", (f"gives the vector {test.feature}", *mirror), "network"),),
            ),
            Column("Search", tuple(compare)),
            Column(
                "Scores",
                (Box("scores", "mAP, rank-k, mINP", (*every, *both, *changed_settings(test, without=_TEST)), "test"),),
            ),
        ),
        (("tested", "trained"), ("trained", "distance"), (compare[-1].key, "scores")),
    )
