"""Commands on a trained model or a table of vectors: what works says what it made, every mistake is one sentence."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

from passerby.cli import app
from passerby.types import Embeddings
from tests.cli.invoking import TINY, flat, refused, run


def test_evaluate_a_run_writes_the_agreed_json(trained: Path, site: Path, tmp_path: Path) -> None:
    found = run("evaluate", trained, "--json", tmp_path / "scores.json")
    assert found.exit_code == 0, found.output
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert {"mAP", "mINP", "cmc", "queries", "protocol"} <= set(scores)
    assert set(scores["cmc"]) == {"1", "5", "10"}
    assert scores["queries"] == 5
    stored = json.loads((trained / "scores.json").read_text())[site.name]["plain"]
    assert scores["mAP"] == pytest.approx(stored["mAP"], abs=0.01)


def test_embeddings_go_out_and_their_scores_come_back_the_same(trained: Path, site: Path, tmp_path: Path) -> None:
    table = tmp_path / "site.npz"
    assert run("embed", trained, "--data", site, "-o", table).exit_code == 0
    for flags in ((), ("--rerank",)):
        for source in ((trained,), ("--embeddings", table)):
            target = tmp_path / f"{len(flags)}{len(source)}.json"
            assert run("evaluate", *source, *flags, "--json", target).exit_code == 0
        first, second = (json.loads((tmp_path / f"{len(flags)}{n}.json").read_text()) for n in (1, 2))
        assert first == second
        assert ("reranked" in first) == bool(flags)
        assert first["protocol"]["rerank"] is None
        if flags:
            assert first["reranked"]["protocol"]["rerank"] is not None


def test_reranking_by_camera_stamps_its_parameters_and_needs_cameras(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    role = ["query", "gallery", "gallery"] * 4
    for name, cam in (("known", np.arange(12) % 3), ("unknown", np.full(12, -1))):
        Embeddings(vectors, np.repeat([1, 2, 3, 4], 3), cam, role, np.arange(12).astype(str)).save(
            tmp_path / f"{name}.npz"
        )
    by_camera = ("--rerank", "--rerank-distance", "ca_jaccard")
    target = tmp_path / "scores.json"
    result = run("evaluate", "--embeddings", tmp_path / "known.npz", *by_camera, "--json", target)
    assert result.exit_code == 0
    assert "re-ranking by cameras (CA-Jaccard), k1 5 and 20, k2 3 and 3, weight 0.3" in flat(result.output)
    assert json.loads(target.read_text())["reranked"]["protocol"]["rerank"] == {
        "k1_intra": 5, "k1_inter": 20, "k2_intra": 3, "k2_inter": 3, "weight": 0.3,
    }  # fmt: skip
    for file, flags, message in (
        ("unknown.npz", by_camera, "re-ranking by ca_jaccard needs two cameras, and no image has a camera number"),
        ("known.npz", by_camera[1:], "--rerank-distance has no effect without --rerank"),
        ("known.npz", (*by_camera, "--ray", "auto"), "--ray searches neighbours among all images; leave it out"),
    ):
        result = run("evaluate", "--embeddings", tmp_path / file, *flags)
        assert (result.exit_code, message in flat(result.output)) == (2, True), result.output


def test_vectors_that_have_collapsed_are_told(tmp_path: Path) -> None:
    rows = np.ones((6, 4), np.float32)
    table = Embeddings(rows, [1, 2, 1, 2, 1, 2], [0, 0, 1, 1, 2, 2], ["query"] * 2 + ["gallery"] * 4)
    table.save(tmp_path / "same.npz")
    assert "all 6 vectors are equal: the model has collapsed" in flat(
        run("evaluate", "--embeddings", tmp_path / "same.npz").output
    )
    assert "all 6 vectors are equal" in run("cluster", tmp_path / "same.npz", "--kind", "dbscan", "k1=2").output


def test_clusters_by_a_distance_that_needs_cameras_fall_back_with_a_sentence(tmp_path: Path) -> None:
    rows = np.repeat(np.eye(3, 8, dtype=np.float32), 6, axis=0)
    pids, cams = np.repeat([1, 2, 3], 6), np.arange(18) % 2
    chosen = ("distance=ca_jaccard", "k1_intra=2", "k1_inter=2", "k1=5", "k2=1", "eps=0.5")
    for name, cam in (("two", cams), ("one", 0 * cams)):
        Embeddings(rows, pids, cam, ["gallery"] * 18).save(tmp_path / f"{name}.npz")
        found = run("cluster", tmp_path / f"{name}.npz", "--kind", "dbscan", *chosen)
        assert found.exit_code == 0, found.output
        assert "3 clusters of 18 images" in found.output
        assert ("all images are of one camera: the plain Jaccard distance is used" in flat(found.output)) == (
            name == "one"
        )


def test_a_run_is_evaluated_by_its_own_protocol(site: Path, tmp_path: Path) -> None:
    folder, file = tmp_path / "run", tmp_path / "scores.json"
    changes = ("test.distance=euclidean", "test.cameras=ignore", "test.feature=before_neck", "stages.0.epochs=1")
    assert run("train", "small", *TINY, *changes, "--data", site, "--out", folder).exit_code == 0
    assert run("evaluate", folder, "--json", file).exit_code == 0
    stored = json.loads((folder / "scores.json").read_text())[site.name]["plain"]
    assert json.loads(file.read_text())["protocol"] == stored["protocol"]
    assert stored["protocol"]["distance"] == "euclidean"


def test_flip_and_averaged_queries_by_recipe_and_by_option(trained: Path, site: Path, tmp_path: Path) -> None:
    folder, file = tmp_path / "run", tmp_path / "scores.json"
    changes = ("test.flip=true", "test.queries=multi")
    assert run("train", "small", *TINY, *changes, "--data", site, "--out", folder).exit_code == 0
    stored = json.loads((folder / "scores.json").read_text())[site.name]["plain"]
    assert (stored["protocol"]["flip"], stored["protocol"]["queries"]) == (True, "multi")
    assert "averaged with the mirror image" in (folder / "report.html").read_text()
    for words in ((folder,), (trained, "--flip", "on", "--queries", "multi")):
        assert run("evaluate", *words, "--json", file).exit_code == 0
        assert json.loads(file.read_text())["protocol"] == stored["protocol"]
    assert run("evaluate", folder, "--flip", "off", "--queries", "single", "--json", file).exit_code == 0
    assert json.loads(file.read_text())["protocol"] == {**stored["protocol"], "flip": False, "queries": "single"}
    table = folder / "embeddings" / f"{site.name}.npz"
    assert "give a run folder instead of --embeddings" in refused("evaluate", "--embeddings", table, "--flip", "on")
    sentence = "averages the images that cameras: 'standard' leaves out"
    assert sentence in refused("evaluate", folder, "--cameras", "ignore")
    assert sentence in refused("evaluate", "--embeddings", table, "--queries", "multi", "--cameras", "ignore")


def test_search_finds_the_image_itself_first(trained: Path, site: Path, tmp_path: Path) -> None:
    gallery = site / "bounding_box_test"
    assert run("embed", trained, gallery, "-o", tmp_path / "g.npz").exit_code == 0
    image = sorted(gallery.iterdir())[3]
    found = run("search", tmp_path / "g.npz", image, "--run", trained, "--count", 3)
    assert "-0.0000" not in found.output
    assert found.exit_code == 0, found.output
    assert str(image) in found.output.splitlines()[0]
    assert len(found.output.splitlines()) == 3


def test_vectors_of_another_model_are_not_searched(trained: Path, site: Path, tmp_path: Path) -> None:
    gallery = site / "bounding_box_test"
    run("embed", trained, gallery, "-o", tmp_path / "g.npz")
    image = sorted(gallery.iterdir())[3]
    other = run("train", "small", *TINY, "engine.seed=5", "--data", site, "--out", tmp_path / "other")
    assert other.exit_code == 0, other.output
    said = refused("search", tmp_path / "g.npz", image, "--run", tmp_path / "other")
    assert "the table was made by another model, or" in said
    table = replace(Embeddings.load(tmp_path / "g.npz"), path=None)
    table.save(tmp_path / "nameless.npz")
    assert run("search", tmp_path / "nameless.npz", image, "--run", tmp_path / "other").exit_code == 0


def test_cameras_are_read_off_the_names_where_most_tell_one(trained: Path, site: Path, tmp_path: Path) -> None:
    gallery = site / "bounding_box_test"
    assert run("embed", trained, gallery, "-o", tmp_path / "g.npz").exit_code == 0
    told = [int(re.search(r"_c(\d)s", path.name)[1]) for path in sorted(gallery.glob("*.jpg"))]
    assert Embeddings.load(tmp_path / "g.npz").cam.tolist() == told
    shutil.copy(min(gallery.glob("*.jpg")), tmp_path / "someone.jpg")
    assert run("embed", trained, gallery, tmp_path / "someone.jpg", "-o", tmp_path / "g.npz").exit_code == 0
    assert Embeddings.load(tmp_path / "g.npz").cam.tolist() == [*told, -1]


def test_report_can_be_written_again(trained: Path) -> None:
    (trained / "report.html").unlink()
    assert run("report", trained).exit_code == 0
    assert (trained / "report.html").stat().st_size > 10_000


def test_gallery_without_matches(trained: Path, site: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(site, tmp_path / "site")
    for path in sorted((copied / "bounding_box_test").iterdir()):
        path.rename(path.with_name("09" + path.name[2:]))
    assert "no query can be scored" in refused("evaluate", trained, "--data", copied)


def _table(count: int = 6) -> Embeddings:
    vectors = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    pid, cam = np.arange(count) // 2, np.arange(count) % 2
    return Embeddings(vectors, pid, cam, np.where(cam == 0, "query", "gallery"))


def test_vectors_of_another_program(tmp_path: Path) -> None:
    file = tmp_path / "v.npz"
    _table().save(file)
    assert run("evaluate", "--embeddings", file).exit_code == 0
    with np.load(file) as archive:
        columns = dict(archive)
    broken = columns["vectors"].copy()
    broken[2, 1] = np.nan
    np.savez(tmp_path / "nan.npz", **(columns | {"vectors": broken}))
    assert "1 of 6 vectors hold NaN" in refused("evaluate", "--embeddings", tmp_path / "nan.npz")
    np.savez(tmp_path / "short.npz", vectors=columns["vectors"], pid=columns["pid"])
    assert "lacks cam, role" in refused("evaluate", "--embeddings", tmp_path / "short.npz")
    (tmp_path / "text.npz").write_text("no archive")
    assert "text.npz is no .npz file, as `passerby embed` writes it" in refused(
        "evaluate", "--embeddings", tmp_path / "text.npz"
    )
    assert "give either" in refused("evaluate")


RUNNING = {"--device", "--batch", "--workers", "--precision"}


MODEL_COMMANDS = {
    **dict.fromkeys(("evaluate", "embed", "search"), RUNNING | {"--engine"}),
    **dict.fromkeys(("verify", "interpolate", "adapt", "report"), RUNNING),
    **{f"visualise {name}": RUNNING for name in ("ranks", "features", "clusters", "distances", "attention")},
    **{name: {"--device"} for name in ("cluster", "export", "segment train", "segment score")},
    "segment apply": {"--device", "--batch"},
}


@pytest.mark.parametrize("command", MODEL_COMMANDS)
def test_commands_that_run_a_model_share_their_options(command: str) -> None:
    group = typer.main.get_command(app)
    for word in command.split():
        group = group.commands[word]
    assert MODEL_COMMANDS[command] <= {name for option in group.params for name in option.opts}


@pytest.mark.parametrize("words", [("--device", "gpu"), ("--device", "cuda"), ("--precision", "fp16")])
def test_a_device_that_is_not_there_is_one_sentence(
    trained: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = run("embed", trained, site / "query", *words, "-o", tmp_path / "x.npz")
    assert found.exit_code == 2
    assert found.output.startswith("Error: ")
    assert len(found.output.splitlines()) == 1


def test_batch_and_workers_do_not_change_the_vectors(trained: Path, site: Path, tmp_path: Path) -> None:
    tables = []
    for words in ((), ("--batch", "2", "--workers", "1", "--device", "cpu", "--precision", "float32")):
        found = run("embed", trained, site / "query", *words, "-o", tmp_path / "x.npz")
        assert found.exit_code == 0, found.output
        tables.append(Embeddings.load(tmp_path / "x.npz").vectors)
    np.testing.assert_allclose(*tables, rtol=1e-4, atol=1e-5)


def test_memory_that_runs_out_is_one_sentence(
    trained: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("passerby.evaluation.rank_matches", full)
    found = run("evaluate", trained)
    assert found.exit_code == 2
    assert "\nError: out of memory; " in found.output


def test_search_writes_what_it_finds(trained: Path, site: Path, tmp_path: Path) -> None:
    table, told, picture = tmp_path / "x.npz", tmp_path / "found.json", tmp_path / "found.png"
    assert run("embed", trained, site / "bounding_box_test", "-o", table).exit_code == 0
    words = ("search", table, site / "query", "--run", trained, "--count", "3", "--json", told, "--picture", picture)
    found = run(*words, "--other-cameras", "--threshold", "2")
    assert found.exit_code == 0, found.output
    answers = json.loads(told.read_text())["queries"]
    assert [Path(answer["query"]).parent.name for answer in answers] == ["query"] * 5
    assert all([one["rank"] for one in answer["found"]] == [1, 2, 3] for answer in answers)
    assert all(answer["camera"] == 1 and {one["cam"] for one in answer["found"]} == {2} for answer in answers)
    assert found.output.count("distance") == 15
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "nothing within the threshold" in run(*words, "--threshold", "0").output


def test_search_refuses_a_picture_of_no_kind_before_it_looks(trained: Path, site: Path, tmp_path: Path) -> None:
    found = run("search", tmp_path / "no.npz", site, "--run", trained, "--picture", tmp_path / "x.gif")
    assert found.exit_code == 2
    assert "a figure is written as .png, .svg, .pdf" in found.output


def test_verify_compares_two_images(trained: Path, site: Path, tmp_path: Path) -> None:
    first, second = sorted((site / "query").iterdir())[:2]
    found = run("verify", trained, first, first, "--threshold", "0.1", "--json", tmp_path / "x.json")
    assert found.exit_code == 0, found.output
    assert "same person at threshold 0.1" in found.output
    assert json.loads((tmp_path / "x.json").read_text())["same"] is True
    assert "a decision needs --threshold" in run("verify", trained, first, second).output
