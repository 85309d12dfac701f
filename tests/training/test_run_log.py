"""The log: readable at any moment, whatever happened to the run."""

import json
from dataclasses import replace

import pytest

from passerby.errors import UserError
from passerby.training.run_log import (
    DrawnRecord,
    EpochRecord,
    GradientNorm,
    GradientRecord,
    MetricRecord,
    ScoreRecord,
    StageRecord,
    TermRecord,
    append,
    count_damaged,
    epochs,
    gradients,
    read,
    scores,
)


def epoch(number, *, stage=1, loss=1.0):
    terms = {"softmax": TermRecord(loss, loss), "triplet": TermRecord(2 * loss, loss)}
    return EpochRecord(stage, "market1501", number, 5, 1e-3, terms, 100.0, 0.9, 1.5)


def score(number, dataset="market1501", *, stage=1, value=0.5):
    return ScoreRecord(stage, number, dataset, value, value, value)


def first_step(stage=1, norm=3.0):
    return GradientRecord(stage, "market1501", {"softmax": GradientNorm(norm, 0.5)})


def write(path, *records):
    for record in records:
        append(path, record)
    return path


def test_what_is_written_is_read(tmp_path):
    records = [epoch(1), score(1), epoch(2), score(2), score(2, "msmt17"), epoch(1, stage=2)]
    found = read(write(tmp_path / "run" / "log.jsonl", *records))
    assert found == records
    assert epochs(found) == [epoch(1), epoch(2), epoch(1, stage=2)]
    assert scores(found) == [score(1), score(2), score(2, "msmt17")]
    assert epoch(1).loss == 2.0


def test_what_was_drawn_from_each_data_set_is_read_and_may_be_missing(tmp_path):
    joint = replace(epoch(1), drawn={"market1501": DrawnRecord(24, 6), "msmt17": DrawnRecord(24, 5)})
    path = write(tmp_path / "j", joint, epoch(2))
    assert read(path) == [joint, epoch(2)]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("\n".join(json.dumps({k: v for k, v in line.items() if k != "drawn"}) for line in lines))
    assert read(path) == [epoch(1), epoch(2)]


def test_first_steps_stand_before_the_epochs_of_their_stage(tmp_path):
    path = write(tmp_path / "j", first_step(), first_step(norm=2.0), epoch(1), first_step(2), epoch(1, stage=2))
    assert read(path) == [first_step(norm=2.0), epoch(1), first_step(2), epoch(1, stage=2)]
    assert gradients(read(path)) == [first_step(norm=2.0), first_step(2)]
    assert epochs(read(path)) == [epoch(1), epoch(1, stage=2)]


def test_no_log_is_an_empty_one(tmp_path):
    assert read(tmp_path / "none.jsonl") == []


def test_of_a_repeated_epoch_the_last_record_stands(tmp_path):
    path = write(tmp_path / "j", epoch(1), epoch(2), score(2), epoch(2, loss=3.0), score(2, value=0.7), epoch(3))
    assert read(path) == [epoch(1), epoch(2, loss=3.0), score(2, value=0.7), epoch(3)]


@pytest.mark.parametrize("keep", [1, 10, -1])
def test_a_cut_line_costs_itself_only(tmp_path, keep):
    path = write(tmp_path / "j", epoch(1), epoch(2))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].rstrip(b"\n")[:keep])
    assert read(path) == [epoch(1)]
    write(path, epoch(2), epoch(3))
    assert read(path) == [epoch(1), epoch(2), epoch(3)]


@pytest.mark.parametrize("line", ["", "5", "[]", "{}", '{"event": "epoch"}', '{"event": "scores", "mAP": 1}', "null"])
def test_lines_that_are_no_records_are_passed_over(tmp_path, line):
    path = write(tmp_path / "j", epoch(1))
    with path.open("a") as file:
        file.write(line + "\n")
    assert read(write(path, epoch(2))) == [epoch(1), epoch(2)]


def test_a_log_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*: is a directory"):
        append(tmp_path, epoch(1))


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\x00",
        b"{",
        b"[" * 100_000,
        b"3",
        b'{"event": "epoch"}',
        b'{"event": "unheard of", "stage": 1, "epoch": 1}',
        b'{"event": "scores", "stage": 1, "epoch": "x", "dataset": "a", "mAP": 1, "mINP": 1, "rank1": 1}',
        b'{"event": "scores", "stage": -1, "epoch": 1, "dataset": "a", "mAP": 1, "mINP": 1, "rank1": 1}',
        b'{"event": "scores", "stage": 1, "epoch": 1, "dataset": "\xff", "mAP": 1, "mINP": 1, "rank1": 1}',
        b'{"event": "gradients", "stage": 1, "title": "a", "epoch": 0, "terms": [1]}',
    ],
)
def test_a_line_that_is_no_record_is_left_out_and_counted(tmp_path, line):
    path = write(tmp_path / "j", epoch(1), score(1))
    path.write_bytes(path.read_bytes() + line + b"\n")
    append(path, epoch(2))
    assert read(path) == [epoch(1), score(1), epoch(2)]
    assert count_damaged(path) == 1


def test_a_figure_may_be_no_number(tmp_path):
    assert epochs(read(write(tmp_path / "j", epoch(1, loss=float("nan")))))[0].loss != 0
    assert count_damaged(tmp_path / "j") == 0
    assert count_damaged(tmp_path / "none") == 0


def test_logs_of_version_0_1_are_read_by_the_present_names(tmp_path):
    file = tmp_path / "log.jsonl"
    old = [
        {"event": "metrics", "stage": 1, "epoch": 2, "part": "ewc", "values": {"penalty": 0.5}, "note": ""},
        {
            "event": "stage",
            "stage": 1,
            "epoch": 2,
            "title": "",
            "seconds": 2.0,
            "held": {"a": {"x": 8}},
            "images": 0,
        },
    ]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in old) + '["part"]\n"held"\n')
    assert read(file) == [
        MetricRecord(stage=1, epoch=2, method="ewc", values={"penalty": 0.5}),
        StageRecord(1, 2, "", 2.0, {"a": {"x": 8}}, 0),
    ]
    assert count_damaged(file) == 2
