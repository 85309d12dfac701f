"""Every loss that a recipe may name takes part in a run and is told apart in its journal."""

from passerby.losses.mix import LossSettings
from passerby.train import journal
from tests.train.runs import run


def test_all_losses_together(tiny, tmp_path):
    names = list(LossSettings.model_fields)
    folder = run(tiny(*(f"losses.{name}.weight=0.1" for name in names)), tmp_path / "run")
    first, *_, last = journal.epochs(journal.read(folder / "journal.jsonl"))
    assert sorted(first.terms) == sorted(names)
    assert last.loss < first.loss


def test_a_learnt_weight_stands_in_the_journal(tiny, tmp_path):
    folder = run(tiny("losses.softmax.weight=learned"), tmp_path / "run")
    last = journal.epochs(journal.read(folder / "journal.jsonl"))[-1].terms["softmax"]
    assert 0.5 < last.weighted / last.value < 1  # a cross-entropy above 1/2 is worth less than at the start
