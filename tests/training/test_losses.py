"""Every loss that a recipe may name takes part in a run and is told apart in its log."""

from passerby.losses.mix import LossSettings
from passerby.training import run_log
from tests.training.runs import run


def test_all_losses_together(tiny, tmp_path):
    names = list(LossSettings.model_fields)
    folder = run(tiny(*(f"losses.{name}.weight=0.1" for name in names)), tmp_path / "run")
    first, *_, last = run_log.epochs(run_log.read(folder / "log.jsonl"))
    assert sorted(first.terms) == sorted(names)
    assert last.loss < first.loss


def test_a_learnt_weight_stands_in_the_log(tiny, tmp_path):
    folder = run(tiny("losses.softmax.weight=learned"), tmp_path / "run")
    last = run_log.epochs(run_log.read(folder / "log.jsonl"))[-1].terms["softmax"]
    assert 0.5 < last.weight < 1  # a cross-entropy above 1/2 is worth less than at the start
    assert last.weight * last.value < last.weighted < last.value  # s / 2 is in it


def test_the_first_step_of_each_stage_stands_in_the_log_and_is_printed(tiny, tmp_path):
    from rich.console import Console

    from passerby.training.progress import ProgressBar

    console = Console(record=True, width=200)
    second = "{train: [market1501], name: again, epochs: 1, losses: {softmax: null}}"
    stages = f"stages=[{{train: [market1501], epochs: 1}}, {second}]"
    folder = run(
        tiny(stages, "test.start=off", "losses.triplet.weight=2"), tmp_path / "run", listen=[ProgressBar(console).tell]
    )
    records = run_log.read(folder / "log.jsonl")
    first, second = run_log.gradients(records)
    assert (first.stage, first.title, list(first.terms)) == (1, "market1501", ["softmax", "triplet"])
    assert (second.stage, second.title, list(second.terms)) == (2, "again", ["triplet"])
    assert first.terms["triplet"].norm > 0
    assert first.terms["triplet"].weight == 2
    events = [record.event for record in records if getattr(record, "dataset", "market1501") == "market1501"]
    assert [event for event in events if event in ("gradients", "epoch", "scores")] == [
        *("gradients", "epoch", "scores"),
        *("gradients", "epoch", "scores"),
    ]
    told = [line for line in console.export_text().splitlines() if line.startswith("gradient norm at the first step: ")]
    assert len(told) == 2
    assert "(weight 1), triplet" in told[0]
