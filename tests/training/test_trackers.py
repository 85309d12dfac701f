"""Trackers get every figure of the log, named by stage, and are closed."""

import sys
from types import ModuleType

import pytest

from passerby.errors import UserError
from passerby.training.run_log import EpochRecord, GradientNorm, GradientRecord, MetricRecord, ScoreRecord, TermRecord
from passerby.training.trackers import figures_of, tracked

RECORDS = [
    GradientRecord(1, "plaza", {"softmax": GradientNorm(2.0, 1.0)}),
    EpochRecord(1, "plaza", 1, 2, 1e-3, {"softmax": TermRecord(3.0, 6.0, 2.0)}, 100.0, 0.9, 10.0),
    ScoreRecord(1, 2, "a:b", 0.5, 0.25, 0.75),
    MetricRecord(stage=1, epoch=1, method="ewc", values={"penalty": 0.5}),
]
NAMES = ["gradient/softmax", "loss/softmax", "weighted/softmax", "lr", "images_per_second"]
NAMES += ["a:b/mAP", "a:b/mINP", "a:b/rank1", "ewc/penalty"]


class Fake(ModuleType):
    """Stands for wandb, mlflow and trackio: keeps what it is given."""

    def __init__(self, name):
        super().__init__(name)
        self.begun, self.logged, self.closed = [], [], 0

    def init(self, **about):
        self.begun.append(about)
        return self

    def start_run(self, **about):
        self.begun.append(about)

    def log(self, values):
        self.logged.append(values)

    def log_metrics(self, values, step):
        self.logged.append({**values, "epoch": step})

    def log_dict(self, values, name):
        self.begun[-1]["config"] = values

    def finish(self):
        self.closed += 1

    end_run = finish


@pytest.mark.parametrize("tracker", ["wandb", "mlflow", "trackio"])
def test_a_tracker_gets_every_figure_and_is_closed(tracker, tmp_path, monkeypatch):
    fake = Fake(tracker)
    monkeypatch.setitem(sys.modules, tracker, fake)
    with tracked(tracker, tmp_path / "mine", {"a": 1}) as (listen,):
        for record in RECORDS:
            listen(record)
        assert fake.closed == 0
    assert fake.closed == 1
    assert fake.begun[0]["config"] == {"a": 1}
    assert "mine" in fake.begun[0].values()
    names = [name.replace("a:b", "a_b") if tracker == "mlflow" else name for name in NAMES]
    assert [name for values in fake.logged for name in values if name != "epoch"] == [f"stage1/{n}" for n in names]
    assert [values["epoch"] for values in fake.logged] == [record.epoch for record in RECORDS]


def test_tensorboard_writes_events(tmp_path):
    with tracked("tensorboard", tmp_path, {}) as (listen,):
        for record in RECORDS:
            listen(record)
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with (
        pytest.raises(UserError, match=r"engine.track: wandb is not installed; pip install wandb"),
        tracked("wandb", tmp_path, {}),
    ):
        pass


def test_none_listens_to_nothing(tmp_path):
    with tracked("none", tmp_path, {}) as listeners:
        assert listeners == []
    assert len(figures_of(RECORDS[1])) == 4
