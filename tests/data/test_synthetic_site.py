"""Sites of generated people: layouts, bytes, masks, and what is refused."""

import csv
import io
import json
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from passerby.data.synthetic.layout import ROOTS, SiteSize
from passerby.data.synthetic.site import MANIFEST, SITES, STARTED, TINY_SIZE, make_site
from passerby.errors import UserError

SMALLEST = SiteSize(count_train=2, count_test=2, images_per_identity=4)
NAMES = {
    "plaza": r"(-1|\d{4})_c(\d)s([1-6])_(\d{6})_(\d\d)\.jpg",
    "campus": r"(\d{4})_c(\d)_f(\d{7})\.jpg",
    "station": r"(\d{4})_\d{3}_(\d\d)_\d{4}(?:morning|noon|afternoon|night)_\d+\.jpg",
}


@pytest.fixture(scope="module", params=SITES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    directory = tmp_path_factory.mktemp(request.param)
    root = make_site(directory, request.param, seed=3, size=TINY_SIZE)
    assert root == directory / ROOTS[request.param]
    return request.param, directory


def pictures(directory: Path) -> list[Path]:
    return sorted(p for p in directory.rglob("*.jpg") if "masks" not in p.parts)


def split_of(directory: Path, site: str, part: str) -> list[tuple[int, int]]:
    """(pid, cam) of each image of a part, read from the file names or lists as the public sets define them."""
    root = directory / ROOTS[site]
    if site == "station":
        lists = ("train", "val") if part == "train" else (part,)
        lines = [line for name in lists for line in (root / f"list_{name}.txt").read_text().splitlines()]
        rows = []
        for line in lines:
            path, pid = line.split(" ")
            assert (root / ("train" if part == "train" else "test") / path).is_file()
            assert path.split("/")[0] == f"{int(pid):04d}"
            rows.append((int(pid), int(path.split("_")[2])))
        return rows
    folder = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}[part]
    names = [p.name for p in sorted((root / folder).iterdir())]
    return [(int(m[1]), int(m[2])) for m in (re.fullmatch(NAMES[site], name) for name in names) if m]


def test_every_name_has_the_form_of_the_layout(made: tuple[str, Path]) -> None:
    site, directory = made
    names = [p.name for p in pictures(directory)]
    assert len(names) > 60
    assert not [name for name in names if not re.fullmatch(NAMES[site], name)]
    assert len(names) == json.loads((directory / MANIFEST).read_text())["count_images"]


def test_every_query_has_a_match_in_another_camera(made: tuple[str, Path]) -> None:
    site, directory = made
    gallery = split_of(directory, site, "gallery")
    queries = split_of(directory, site, "query")
    assert len(queries) >= 2 * TINY_SIZE.count_test
    for pid, cam in queries:
        assert any(p == pid and c != cam for p, c in gallery)


def test_identities_are_disjoint_and_seen_by_two_or_more_cameras(made: tuple[str, Path]) -> None:
    site, directory = made
    train, query = split_of(directory, site, "train"), split_of(directory, site, "query")
    assert len({pid for pid, _ in train}) == TINY_SIZE.count_train
    assert len({pid for pid, _ in query}) == TINY_SIZE.count_test
    if site == "station":
        assert {pid for pid, _ in train} == set(range(TINY_SIZE.count_train))
    else:
        assert not {pid for pid, _ in train} & {pid for pid, _ in query}
    cameras = defaultdict(set)
    for pid, cam in train:
        cameras[pid].add(cam)
    assert min(map(len, cameras.values())) >= 2
    assert len({len(c) for c in cameras.values()}) > 1


def test_the_gallery_holds_what_its_layout_is_known_for(made: tuple[str, Path]) -> None:
    site, directory = made
    gallery = split_of(directory, site, "gallery")
    strangers = {pid for pid, _ in gallery} - {pid for pid, _ in split_of(directory, site, "query")}
    if site == "plaza":
        assert strangers == {0, -1}
    elif site == "campus":
        assert strangers
        for stranger in strangers:
            assert len({cam for pid, cam in gallery if pid == stranger}) == 1
    else:
        assert not strangers


def test_masks_fit_and_show_somebody(made: tuple[str, Path]) -> None:
    _, directory = made
    shares = []
    for path in pictures(directory):
        mask_path = (directory / "masks" / path.relative_to(directory)).with_suffix(".png")
        with Image.open(path) as picture, Image.open(mask_path) as mask:
            assert mask.mode == "1"
            assert mask.size == picture.size == (64, 128)
            share = float(np.asarray(mask).mean())
        if path.name.startswith("0000_c"):
            assert share == 0.0
        elif not path.name.startswith("-1_"):
            assert share > 0.02, path.name
            shares.append(share)
    assert 0.15 < np.median(shares) < 0.45


def test_attributes_tell_of_every_identity(made: tuple[str, Path]) -> None:
    site, directory = made
    rows = list(csv.DictReader(io.StringIO((directory / "attributes.csv").read_text())))
    for role, part in (("train", "train"), ("test", "query")):
        assert {int(r["pid"]) for r in rows if r["role"] == role} == {pid for pid, _ in split_of(directory, site, part)}
    assert "No real person is shown" in (directory / "README.md").read_text()


def test_same_seed_same_bytes_and_another_seed_other_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_site(tmp_path / name, "campus", seed=seed, size=SMALLEST)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) > 30
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert not {p.read_bytes() for p in pictures(tmp_path / "a")} & {p.read_bytes() for p in pictures(tmp_path / "c")}


def test_no_picture_occurs_twice(made: tuple[str, Path]) -> None:
    _, directory = made
    contents = [p.read_bytes() for p in pictures(directory)]
    assert len(set(contents)) == len(contents)


def test_a_finished_site_is_used_again(tmp_path: Path) -> None:
    make_site(tmp_path, "plaza", seed=0, size=SMALLEST)
    calls: list[tuple[int, int]] = []
    make_site(tmp_path, "plaza", seed=0, size=SMALLEST, progress=lambda done, total: calls.append((done, total)))
    assert not calls


def test_an_interrupted_site_is_made_again(tmp_path: Path) -> None:
    make_site(tmp_path, "plaza", seed=0, size=SMALLEST)
    whole = pictures(tmp_path)
    before = whole[0].read_bytes()
    (tmp_path / MANIFEST).rename(tmp_path / STARTED)
    whole[0].write_bytes(before[:50])
    held = json.loads((tmp_path / STARTED).read_text())
    del held["count_images"]
    (tmp_path / STARTED).write_text(json.dumps(held))
    calls: list[tuple[int, int]] = []
    make_site(tmp_path, "plaza", seed=0, size=SMALLEST, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (len(whole), len(whole))
    assert whole[0].read_bytes() == before
    assert not (tmp_path / STARTED).exists()


def test_an_unknown_site_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'plaza'"):
        make_site(tmp_path, "plazza", seed=0)


@pytest.mark.parametrize("size", [replace(SMALLEST, count_train=1), replace(SMALLEST, images_per_identity=3)])
def test_a_size_without_matches_is_refused(tmp_path: Path, size: SiteSize) -> None:
    with pytest.raises(UserError, match="at least 2 identities"):
        make_site(tmp_path, "plaza", seed=0, size=size)


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="got -1"):
        make_site(tmp_path, "plaza", seed=-1, size=SMALLEST)


def test_another_site_or_seed_in_the_directory_is_refused(tmp_path: Path) -> None:
    make_site(tmp_path, "plaza", seed=0, size=SMALLEST)
    with pytest.raises(UserError, match=r"already holds plaza with seed 0 .* asked for plaza with seed 1"):
        make_site(tmp_path, "plaza", seed=1, size=SMALLEST)
    with pytest.raises(UserError, match="asked for campus"):
        make_site(tmp_path, "campus", seed=0, size=SMALLEST)


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="holds other files"):
        make_site(tmp_path, "plaza", seed=0, size=SMALLEST)
    with pytest.raises(UserError, match="is a file"):
        make_site(tmp_path / "thesis.tex", "plaza", seed=0, size=SMALLEST)
