"""The command of a run, as a person can give it again."""

import shlex

import pytest

from passerby.training.environment import command_line


@pytest.mark.parametrize("program", ["/home/me/.venv/bin/passerby", "/lib/passerby/__main__.py", "passerby"])
def test_the_command_can_be_given_again(program):
    words = ["train", "my sites.yaml", "method={affinity: {}, average: {alpha: 0.5}}", "--out", "runs/held"]
    told = command_line([program, *words])
    assert shlex.split(told) == ["passerby", *words]
    assert told.startswith("passerby train 'my sites.yaml' 'method=")


def test_another_program_keeps_its_name():
    assert command_line(["scripts/table.py", "--seeds", "3"]) == "scripts/table.py --seeds 3"
