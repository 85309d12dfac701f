"""The small form of `benchmarks/gallery_kills.py`: nothing acknowledged is lost, nothing removed comes back."""

import importlib.util
import sys
from pathlib import Path

import pytest

from passerby.gallery import folder, shards, tidying

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gallery_kills.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_kills_at_random_moments_lose_nothing(tmp_path, monkeypatch):
    for module in (shards, folder, tidying):
        monkeypatch.setattr(module, "ROWS_PER_SHARD", 64)
    spec = importlib.util.spec_from_file_location("gallery_kills", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gallery_kills"] = module  # where dataclasses look for annotations
    try:
        spec.loader.exec_module(module)
        expected = module.run(tmp_path / "gallery", kills=8, seed=5, longest=0.1)
    finally:
        del sys.modules["gallery_kills"]
    assert expected.operations["add returned"] >= 3
