import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from passerby.data.check import CameraFacts, SplitFacts, check_dataset, describe_dataset, render_check, skipped_queries
from passerby.types import Dataset, Split


def split_of(folder, rows):
    names, pids, cams = zip(*rows, strict=True)
    return Split(np.array([f"{folder}/{name}" for name in names]), np.array(pids), np.array(cams))


@pytest.fixture
def site(tmp_path, make_images):
    """A sound set: two people to learn, one to search for."""
    rows = {
        "train": [("a.png", 1, 1), ("b.png", 1, 2), ("c.png", 2, 1), ("d.png", 2, 2)],
        "query": [("e.png", 3, 1)],
        "gallery": [("f.png", 3, 2), ("g.png", 0, 1)],
    }
    make_images(tmp_path, [name for part in rows.values() for name, _, _ in part])
    return Dataset("site", **{name: split_of(tmp_path, part) for name, part in rows.items()}, notes=("Made up.",))


def check(dataset, cameras="standard", **settings):
    return check_dataset(dataset, cameras=cameras, **settings)


def test_a_sound_set(site):
    report = check(site)
    assert (report.problems, report.warnings) == ((), ())
    assert report.splits == (SplitFacts("train", 4, 2, 2), SplitFacts("query", 1, 1, 1), SplitFacts("gallery", 2, 2, 2))
    assert report.per_camera == (CameraFacts(1, 2, 2, 2, 2), CameraFacts(2, 2, 2, 1, 1))
    assert (report.sizes.width, report.sizes.height) == ((20, 20, 20), (40, 40, 40))


def test_the_report_as_text(site):
    assert render_check(check(site)).splitlines() == [
        "site",
        "  note: Made up.",
        "  split     images  identities  cameras   masks",
        "  train          4           2        2       0",
        "  query          1           1        1       0",
        "  gallery        2           2        2       0",
        "",
        "          camera     train ids        images      test ids        images",
        "               1             2             2             2             2",
        "               2             2             2             1             1",
        "  width 20 to 20 pixels, median 20",
        "  height 40 to 40 pixels, median 40",
        "",
        "  fit for:",
        "    training with labels: 4 images, 2 identities (passerby train)",
        "    evaluation: queries 1, gallery images 2 (passerby evaluate)",
        "    adaptation without labels: 4 images (passerby adapt)",
        "    embedding, search and clustering: 7 images (passerby embed)",
        "",
        "  no problem and no warning",
    ]
    assert render_check(check(site)).startswith(describe_dataset(site))


def test_problems_and_warnings_are_told_in_the_text(site):
    one = site.train.select(site.train.pid == 1)
    text = render_check(check(replace(site, query=Split.empty(), train=one)))
    assert text.splitlines()[-6:] == [
        "",
        "  1 problem:",
        "    Training has one identity only; it needs two or more.",
        "",
        "  1 warning:",
        "    There is no query, so nothing can be evaluated.",
    ]


def test_a_set_without_a_test_is_fit_for_other_uses(site):
    labelled = Dataset("site", site.train, Split.empty(), Split.empty())
    unlabelled = replace(labelled, train=replace(site.train, pid=np.full(4, -1)))
    assert check(labelled).problems == check(unlabelled).problems == ()
    others = (
        "adaptation without labels: 4 images (passerby adapt)",
        "embedding, search and clustering: 4 images (passerby embed)",
    )
    assert check(labelled).uses == (
        "training with labels: 4 images, 2 identities (passerby train)",
        *others,
        "no evaluation: add folders query and gallery, or let identities be drawn by test_share of kind folder",
    )
    assert check(unlabelled).uses == (
        *others,
        "no evaluation and no training with labels: identities are unknown; where names hold them, give --pattern",
    )


def test_broken_files_are_named(site, tmp_path):
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "e.png").write_text("hello")
    content = (tmp_path / "f.png").read_bytes()
    (tmp_path / "f.png").write_bytes(content[: len(content) // 2])
    report = check(site)
    assert [file.path for file in report.broken] == [f"{tmp_path}/{name}.png" for name in "abef"]
    assert report.problems == (
        f"4 files cannot be used: {tmp_path}/a.png is missing, {tmp_path}/b.png is empty, {tmp_path}/e.png is not an "
        "image and 1 more.",
    )
    assert report.duplicates == report.contradictions == ()


def test_nothing_readable_at_all(site, tmp_path):
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    report = check(site)
    assert report.sizes is None
    assert "7 files cannot be used" in render_check(report)


def test_an_empty_set():
    report = check(Dataset("nothing", Split.empty(), Split.empty(), Split.empty()))
    assert report.problems == ("There is no image.",)
    assert report.warnings == ("There is nothing to train on.",)
    assert report.uses == ()
    assert "nothing" in render_check(report)


def test_one_identity_cannot_be_learnt(site):
    report = check(replace(site, train=site.train.select(site.train.pid == 1)))
    assert report.problems == ("Training has one identity only; it needs two or more.",)


def test_no_valid_query(site):
    report = check(replace(site, gallery=replace(site.gallery, cam=np.array([1, 1]))))
    assert report.problems == (
        "No query can be evaluated: 1 with gallery images of the identity only in the camera of the query (such as "
        f"{site.query.path[0]}); `cameras: ignore` counts images of the same camera.",
    )
    assert report.warnings == ()
    assert check(report.dataset, cameras="ignore").problems == ()


def test_some_queries_are_left_out(site, tmp_path, make_images):
    make_images(tmp_path, ["h.png", "i.png"])
    query = split_of(tmp_path, [("e.png", 3, 1), ("h.png", -1, 1), ("i.png", 9, 1)])
    report = check(replace(site, query=query))
    assert report.problems == ()
    assert report.warnings == (
        "2 of 3 queries would be left out of an evaluation: 1 of unknown identity "
        f"(such as {tmp_path}/h.png), 1 with no image of the identity in the gallery (such as {tmp_path}/i.png).",
    )


def test_copies_leaks_and_contradictions(site, tmp_path):
    shutil.copy(tmp_path / "e.png", tmp_path / "f.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "g.png")
    report = check(site)
    assert report.duplicates == ((f"{tmp_path}/e.png", f"{tmp_path}/f.png"),)
    assert report.leaked_duplicates == ((f"{tmp_path}/a.png", f"{tmp_path}/g.png"),)
    assert report.warnings == (
        f"Query and gallery files with the same image: 1 ({tmp_path}/e.png = {tmp_path}/f.png).",
        f"Training and test files with the same image: 1 ({tmp_path}/a.png = {tmp_path}/g.png).",
        f"Images with two identities: 1 ({tmp_path}/a.png = {tmp_path}/g.png).",
    )


def test_an_unknown_identity_contradicts_nothing(site, tmp_path):
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    report = check(replace(site, train=replace(site.train, pid=np.array([1, -1, 2, 2]))))
    assert report.contradictions == ()


def test_missing_files_are_not_copies(site, tmp_path):
    (tmp_path / "e.png").unlink()
    (tmp_path / "f.png").unlink()
    report = check(site)
    assert (report.duplicates, len(report.broken)) == ((), 2)


def test_tested_people_must_not_be_trained_on(site):
    report = check(replace(site, train=replace(site.train, pid=np.array([1, 1, 3, 3]))))
    assert report.leaked == (3,)
    assert report.warnings == ("1 identity both in training and in the test, so scores are inflated: 3.",)


def test_people_who_teach_little(site):
    report = check(replace(site, train=replace(site.train, pid=np.array([1, 5, 1, 2]))))
    assert (report.lonely, report.one_camera) == ((2, 5), (1,))
    assert report.warnings == (
        "2 training identities with a single image, which has no pair: 2, 5.",
        "1 training identity seen by one camera only, which gives no pair across cameras: 1.",
    )


def test_one_camera_is_no_fault_where_there_is_only_one(site):
    assert check(replace(site, train=replace(site.train, cam=np.zeros(4, dtype=np.int64)))).one_camera == ()


def test_an_unknown_camera_is_not_one_camera(site):
    train = replace(site.train, pid=np.array([1, 1, 2, 2]), cam=np.array([-1, -1, 1, 2]))
    assert check(replace(site, train=train)).one_camera == ()


def test_unknown_identities(site):
    dataset = replace(
        site,
        train=replace(site.train, pid=np.full(4, -1)),
        gallery=replace(site.gallery, pid=np.array([3, -1])),
    )
    assert check(dataset).problems == ()
    assert check(dataset).warnings == (
        "4 training images of unknown identity: only training without labels uses these.",
        "1 gallery image of unknown identity: an evaluation leaves these out.",
    )


def test_small_images_and_missing_masks(site, tmp_path):
    Image.new("RGB", (15, 30), "red").save(tmp_path / "a.png")
    masks = np.array([f"{tmp_path}/b.png", f"{tmp_path}/gone.png", "", f"{tmp_path}/b.png"])
    report = check(replace(site, train=replace(site.train, mask_path=masks)))
    assert report.sizes.width == (15, 20, 20)
    assert report.warnings == (
        f"1 image with a side below 16 pixels: {tmp_path}/a.png.",
        f"2 images without a mask: {tmp_path}/b.png, {tmp_path}/c.png.",
    )


def test_headers_only(site, tmp_path):
    Image.effect_noise((30, 60), 50).save(tmp_path / "a.png", "JPEG")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-100])
    assert check(site, decode=False).problems == ()
    assert len(check(site).problems) == 1


rows = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(-1, 3), st.integers(-1, 2)), min_size=1, max_size=12)


@given(rows, rows, st.sampled_from(["standard", "ignore"]))
def test_skipped_queries_equal_a_slow_loop(query_rows, gallery_rows, cameras):
    query, gallery = split_of("x", query_rows), split_of("x", gallery_rows)
    found = skipped_queries(query, gallery, cameras=cameras)
    reasons = {int(row): name for name in ("unknown", "absent", "same_camera") for row in getattr(found, name)}
    told = any(cam != -1 for _, _, cam in query_rows + gallery_rows)  # cameras that nobody knows are not one camera
    for row, (name, pid, cam) in enumerate(query_rows):
        same = [(n, c) for n, p, c in gallery_rows if p == pid]
        kept = [(n, c) for n, c in same if (c != cam if cameras == "standard" and told else n != name)]
        expected = "unknown" if pid == -1 else "absent" if not same else "same_camera" if not kept else None
        assert reasons.get(row) == expected
    assert found.count == len(reasons)
