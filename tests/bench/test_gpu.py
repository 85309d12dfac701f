"""`make gpu` runs where there is no GPU too, on small sizes."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("gpu", ROOT / "benchmarks" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gpu"]


def test_it_measures_on_the_cpu(gpu, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--quick"])
    gpu.main()
    text = (tmp_path / "out" / "gpu.md").read_text()
    assert re.findall(r"^\| (\w+)", text, re.MULTILINE) == [
        "training",
        "embedding",
        "ranking",
        "re",
        "neighbours",
        "k",
    ]
    assert text.count("images/s") == 2
    assert "no GPU" in text
    assert str(tmp_path / "out" / "gpu.md") in capsys.readouterr().out


def test_it_sets_both_devices_side_by_side(gpu, monkeypatch, tmp_path):
    monkeypatch.setenv("OUT", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    monkeypatch.setattr(gpu, "find_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(gpu, "run_tests", lambda: "70 passed")
    monkeypatch.setattr(gpu, "FULL", gpu.QUICK)
    monkeypatch.setattr(gpu, "seconds", lambda row, device, rounds: 8.0 if device == "cpu" else 2.0)
    gpu.main()
    text = (tmp_path / "gpu.md").read_text()
    assert "; Some GPU. Medians" in text
    assert "| 1.0 images/s | 4.0 images/s | 4.0 x |" in text
    assert text.count("| 8 s | 2 s | 4.0 x |") == 4
    assert "Tests that need a GPU: 70 passed" in text


def test_make_runs_the_script():
    assert re.search(r"^gpu:.*\n\t.*benchmarks/gpu.py$", (ROOT / "Makefile").read_text(), re.MULTILINE)
