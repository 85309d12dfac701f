"""Freed memory is kept, which only a process of its own can show without harm to the others."""

import json
import platform
import subprocess
import sys

import pytest

COUNT = """
import json, resource, sys
from passerby.training.memory import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(40 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = keep_memory() if sys.argv[1] == "keep" else None
print(json.dumps([kept, *(faults() for _ in range(3))]))
"""


def counted(word):
    done = subprocess.run([sys.executable, "-c", COUNT, word], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_was_freed_is_not_faulted_in_again():
    kept, first, *again = counted("keep")
    assert kept is True
    assert first > 1000
    assert max(again) < 100


def test_other_systems_say_no(monkeypatch):
    from passerby.training.memory import keep_memory

    monkeypatch.setattr(sys, "platform", "elsewhere")
    assert keep_memory() is False
