"""Data and a trained run that the tests of all commands share; no test changes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.invoking import TINY, paint, run


@pytest.fixture(autouse=True)
def _undrawn(undrawn: None) -> None:
    """Most runs of the tests of commands end with a report; that of `trained` is drawn."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight people to learn and five to find, two cameras, in the Market-1501 layout."""
    root = tmp_path_factory.mktemp("site") / "market"
    for person in range(1, 9):
        for camera in (1, 2):
            for number in range(2):
                name = f"{person:04d}_c{camera}s1_{number:06d}_00.jpg"
                paint(root / "bounding_box_train" / name, 100 * person + 10 * camera + number)
    for person in range(11, 16):
        paint(root / "query" / f"{person:04d}_c1s1_000000_00.jpg", 100 * person)
        for number in range(2):
            paint(root / "bounding_box_test" / f"{person:04d}_c2s1_{number:06d}_00.jpg", 100 * person + 20 + number)
    return root


@pytest.fixture(scope="session")
def trained(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    found = run("train", "small", *TINY, "--data", site, "--out", folder)
    assert found.exit_code == 0, found.output
    return folder
