"""Functions behind `passerby evaluate` and `passerby interpolate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from passerby.background_bias import measure_background_bias
from passerby.console import bar, with_notes
from passerby.data.naming import free_name
from passerby.device import InferenceSettings, find_device
from passerby.encoders import (
    Model,
    embed_dataset,
    select_dataset,
)
from passerby.errors import UserError
from passerby.evaluation import compared_rows, evaluate_by, evaluate_open_set, explain_skipped, scores_json
from passerby.inference.embed import View
from passerby.interpolate import ALPHAS, interpolate, load_pair, read_alphas
from passerby.metrics.spread import spread_notes
from passerby.recipe import RerankSettings, TestSettings
from passerby.recipe.protocol import RerankDistance
from passerby.scorable import camera_note, require_rerankable, require_scorable
from passerby.training.results import Result
from passerby.types import AnyRerank, CameraNorm, Cameras, Clothes, Dataset, Embeddings, EvaluationRules, Queries, Unit


@dataclass(frozen=True)
class ChangedRules:
    """The rules of an evaluation that a user changes; None = as in the recipe, and the default without one."""

    cameras: Cameras | None = None
    queries: Queries | None = None
    camera_norm: CameraNorm | None = None
    clothes: Clothes | None = None
    unit: Unit | None = None
    gallery_draws: int | None = None

    def of(self, rules: EvaluationRules) -> EvaluationRules:
        """Return the rules with these changes."""
        return replace(rules, **{name: value for name, value in vars(self).items() if value is not None})


@dataclass(frozen=True)
class Extras:
    """Measurements of an evaluation beside the plain ranking.

    Attributes:
        rerank: also the ranking by k-reciprocal neighbours.
        rerank_distance: the neighbours of re-ranking; None = as in the recipe, and jaccard without one.
        open_set: also the identification with unknown people.
        background_bias: also foregrounds and backgrounds alone.

    """

    rerank: bool = False
    open_set: bool = False
    background_bias: bool = False
    rerank_distance: RerankDistance | None = None

    def __post_init__(self) -> None:
        if self.rerank_distance is not None and not self.rerank:
            raise UserError("--rerank-distance has no effect without --rerank")

    def parameters(self, settings: RerankSettings | None) -> AnyRerank | None:
        """Return the parameters of re-ranking, from those of a recipe where it has some; None = no re-ranking."""
        settings = settings or RerankSettings()
        return settings.parameters_by(self.rerank_distance or settings.distance) if self.rerank else None


def evaluate_vectors(
    file: Path, *, changes: ChangedRules, extras: Extras, device: str = "auto", console: Console
) -> Result:
    """Evaluate a file of embeddings of any program."""
    rules = changes.of(EvaluationRules())
    _require_plain(rules, extras)
    device, embeddings = str(find_device(device)), compared_rows(Embeddings.load(file), rules)
    result = _result(embeddings, rules, extras, rerank=extras.parameters(None), device=device, console=console)
    if result.plain.protocol.cameras != rules.cameras:
        console.print("no image has a known camera, so matches from the query's camera are included", highlight=False)
    return result


def evaluate_run(
    model: Model,
    *,
    on: str | None,
    data: str | None,
    masks: str | None = None,
    pattern: str | None = None,
    changes: ChangedRules,
    flip: Literal["on", "off"] | None = None,
    extras: Extras,
    cameras_of: str | None = None,
    console: Console,
) -> Result:
    """Evaluate a trained model on a data set: that of the recipe, one by name, or a folder.

    None in `flip` = as in the recipe; for `cameras_of` see `embed_dataset`.
    """
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    test = model.recipe.test if model.recipe else TestSettings()
    rules, rerank = changes.of(test.rules), extras.parameters(test.rerank)
    dataset = select_dataset(model.recipe, on=on, data=data, masks=masks, pattern=pattern)
    for note in dataset.notes:
        console.print(note, highlight=False)
    _require_plain(rules, extras)
    require_scorable(dataset, rules, ignore="--cameras ignore")
    if rerank is not None:
        require_rerankable(dataset, rerank)
    if note := camera_note(dataset, rules.cameras):
        console.print(note, highlight=False, markup=False)
    if flip is not None:
        model = model.with_flip(flip == "on")

    def embedded(what: str, *, view: View | None = None, say: Callable[[str], None] | None = None) -> Embeddings:
        with bar(what, console) as advance:
            table = embed_dataset(model, dataset, cameras_of=cameras_of, view=view, progress=advance, say=say)
        return compared_rows(table, rules)

    embeddings = embedded(f"embedding {dataset.name}", say=say)
    result = _result(embeddings, rules, extras, rerank=rerank, device=model.device, console=console)
    if not extras.background_bias:
        return result
    bias = measure_background_bias(
        dataset,
        embeddings,
        embed=lambda view: embedded("embedding people and places alone", view=view),
        score=lambda table: evaluate_by(table, rules, device=model.device),
        cameras=rules.cameras,
    )
    return replace(result, background_bias=bias)


def _require_plain(rules: EvaluationRules, extras: Extras) -> None:
    """Raise `UserError` where a rule of clothes does not go with another measurement."""
    if rules.clothes == "general":
        return
    for option, chosen in (("--open-set", extras.open_set), ("--background-bias", extras.background_bias)):
        if chosen:
            raise UserError(f"{option} counts images in any clothes; leave it out with --clothes {rules.clothes}")


def _result(
    embeddings: Embeddings,
    rules: EvaluationRules,
    extras: Extras,
    *,
    rerank: AnyRerank | None,
    device: str,
    console: Console,
) -> Result:
    """Score embeddings plainly, re-ranked and with unknown people, as the extras ask for; print notes."""
    plain = evaluate_by(embeddings, rules, device=device)
    for note in spread_notes(embeddings.vectors):
        console.print(note, style="yellow", highlight=False, markup=False)
    if not plain.valid.all():
        skipped = explain_skipped(embeddings, cameras=plain.protocol.cameras, clothes=plain.protocol.clothes)
        console.print(f"queries not scored: {skipped}", highlight=False)
    again = None if rerank is None else evaluate_by(embeddings, rules, rerank=rerank, device=device)
    result = Result(embeddings.dataset or "vectors", plain, again)
    if not extras.open_set:
        return result
    open_set = evaluate_open_set(
        embeddings, cameras=rules.cameras, distance=rules.distance, camera_norm=rules.camera_norm, device=device
    )
    return replace(result, open_set=open_set)


def interpolate_models(
    old: Path,
    new: Path,
    *,
    on: Sequence[str],
    data: str | None,
    pattern: str | None = None,
    alphas: str | None,
    inference: InferenceSettings,
    console: Console,
) -> list[dict[str, object]]:
    """Evaluate interpolated models, print the table, and return it as JSON values.

    Args:
        old, new: run folders or files.
        on: data sets of the new one's recipe; none = all that it tests.
        data: a folder to test on instead.
        pattern: template of its file names.
        alphas: weights of the new model, separated by commas; None = 0, 0.1, ..., 1.
        inference: how the mixtures are run.
        console: where the table goes.

    """
    weights = ALPHAS if alphas is None else read_alphas(alphas)
    earlier, later = load_pair(old, new, inference=with_notes(inference, console))
    names: Sequence[str | None] = on or ([None] if data is not None else later.recipe.tested)
    datasets: list[Dataset] = []
    for name in names:
        dataset = select_dataset(later.recipe, on=name, data=data, pattern=pattern)
        datasets.append(replace(dataset, name=free_name(dataset.name, [other.name for other in datasets])))
    for dataset in datasets:
        require_scorable(dataset, later.recipe.test.rules)
    with bar("testing mixtures", console) as advance:
        mixtures = interpolate(earlier, later, datasets=datasets, alphas=weights, progress=advance)
    table = Table("alpha", *(f"{dataset.name} mAP" for dataset in datasets), "mean")
    for row in mixtures:
        values = [100 * scores.mAP for scores in row.scores.values()]
        table.add_row(f"{row.alpha:g}", *(f"{v:.1f}" for v in values), f"{sum(values) / len(values):.1f}")
    console.print(table)
    return [
        {"alpha": row.alpha, "scores": {name: scores_json(scores) for name, scores in row.scores.items()}}
        for row in mixtures
    ]
