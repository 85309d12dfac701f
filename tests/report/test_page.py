"""The page: self-contained, escaped, honest about what is missing, and with the figures of the run."""

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from passerby.console import duration
from passerby.errors import UserError
from passerby.evaluation import evaluate, scores_json
from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings, save_embedder
from passerby.report.explanations import of_hundred
from passerby.report.page import write_report
from passerby.report.pair_distances import count_pairs
from passerby.report.projection import camera_pull, project
from tests.report.conftest import PEOPLE, plain_recipe, write_run

pytestmark = pytest.mark.usefixtures("undrawn")


class Page(HTMLParser):
    """Collects what a page refers to, its text, and its open tags."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.words, self.open = [], [], []
        self.classes, self.signs = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.addresses += [found[key] for key in ("src", "href", "srcset", "data", "xlink:href") if key in found]
        self.classes += (found.get("class") or "").split()
        self.signs += [found["data-sign"]] if "data-sign" in found else []
        if tag not in ("meta", "img", "source", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass  # the strokes of the signs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def html(run):
    path = write_report(run.folder)
    assert path == run.folder / "report.html"
    return path.read_text(encoding="utf-8")


def test_nothing_is_fetched(html):
    page = Page(html)
    assert page.open == []
    assert len(page.addresses) > 20
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert not re.search(r"url\(|@import|<script|<link|<iframe", html)
    assert len(html) < 1_500_000  # 2.5 MB with photographs


def test_the_headline_and_the_table_say_the_scores(html, run):
    plain = evaluate(run.embeddings)
    text = Page(html).text
    assert f"For {100 * plain.rank(1):.0f} of 100 queries the first image found shows the same person" in text
    for share in (plain.mAP, plain.mINP, plain.rank(5)):
        assert f"{100 * share:.1f}" in text
    assert run.embeddings.fingerprint in text
    assert f"{PEOPLE} queries" in text
    assert "k1 4, k2 2, weight 0.3" in text


def test_marks_are_more_than_colour(html):
    page = Page(html)
    key = 1  # the explanation above the lists shows each sign once
    assert page.signs.count("tick") == page.classes.count("same") + key
    assert page.signs.count("cross") == page.classes.count("other") + key
    assert page.signs.count("bar") == page.classes.count("own") + key > key
    assert page.classes.count("same") > 3
    assert page.classes.count("other") > 3
    assert re.search(r"\.other img[^}]*dashed", html)
    assert not re.search(r"\.same img[^}]*dashed", html)


def test_features_and_distances_are_shown_with_what_they_say(html, run):
    page = Page(html)
    pairs, projection = count_pairs(run.embeddings), project([run.embeddings])
    assert str(pairs) in page.text
    assert str(camera_pull(projection)) in page.text
    for caption in ("Images coloured by identity", "The same points, coloured by camera", "Distances of all pairs"):
        assert caption in page.text


def test_without_a_model_the_maps_are_told_to_be_missing(html):
    assert "No activation maps: no trained model at" in Page(html).text


def test_maps_lie_over_the_best_and_the_worst_list(tmp_path):
    written = write_run(tmp_path)
    before = Page(write_report(written.folder).read_text())
    embedder = Embedder(ModelSettings(backbone="test_resnet"), InputSettings(size=(128, 64)))
    recipe = (written.folder / "recipe.yaml").read_text()
    save_embedder(embedder, written.folder / "embedder.safetensors", recipe=recipe)
    page = Page(write_report(written.folder).read_text())
    assert "The best list." in page.text
    assert "The worst list." in page.text
    assert "last feature map has 4 × 2 cells" in page.text
    assert page.classes.count("list") == before.classes.count("list") + 4  # two lists, as they are and under maps
    shutil.rmtree(written.images)
    assert "No activation maps: activation maps need the images" in Page(write_report(written.folder).read_text()).text


def test_collapsed_vectors_and_a_damaged_log_are_reported(tmp_path):
    written = write_run(tmp_path)
    text = Page(write_report(written.folder).read_text()).text
    assert "collapsed" not in text
    assert "cannot be read and" not in text
    written.embeddings.vectors[:] = 1
    written.embeddings.save(written.folder / "embeddings" / "plaza.npz")
    with (written.folder / "log.jsonl").open("ab") as file:
        file.write(b'{"event": "epo')
    text = Page(write_report(written.folder).read_text()).text
    count = len(written.embeddings)
    assert f"plaza: all {count} vectors are equal: the model has collapsed, and any ranking of them is only" in text
    assert "1 line of log.jsonl cannot be read and is left out below." in text
    with (written.folder / "log.jsonl").open("ab") as file:
        file.write(b"\nnothing\n")
    assert "2 lines of log.jsonl cannot be read and are left out below." in write_report(written.folder).read_text()


def test_maps_of_few_cells_are_left_out(tmp_path):
    written = write_run(tmp_path)
    embedder = Embedder(ModelSettings(backbone="test_resnet"), InputSettings(size=(64, 32)))
    recipe = (written.folder / "recipe.yaml").read_text()
    save_embedder(embedder, written.folder / "embedder.safetensors", recipe=recipe)
    text = Page(write_report(written.folder).read_text()).text
    assert "No activation maps: the last feature map has 2 × 1 cells, too few" in text
    assert "The best list." not in text


def test_too_few_images_for_a_plane_are_told(tmp_path):
    written = write_run(tmp_path)
    few = written.embeddings.select(np.flatnonzero(np.isin(written.embeddings.pid, [0, 1]))[[0, 1, 2, 4, 7, 9, 12]])
    few.save(written.folder / "embeddings" / "plaza.npz")
    scores = {"plaza": {"plain": scores_json(evaluate(few))}}
    (written.folder / "scores.json").write_text(json.dumps(scores))
    text = Page(write_report(written.folder).read_text()).text
    assert "No projection of the features: t-SNE needs at least 10 images of known identity, got 7" in text


def test_several_data_sets_share_a_plane(tmp_path):
    recipe = plain_recipe(stages=[{"train": ["plaza"], "epochs": 1}], evaluate=["plaza", "market1501"])
    written = write_run(tmp_path, recipe=recipe)
    other = dataclasses.replace(written.embeddings, dataset="market1501")
    other.save(written.folder / "embeddings" / "market1501.npz")
    scores = json.loads((written.folder / "scores.json").read_text())
    scores["market1501"] = {"plain": scores_json(evaluate(other))}
    (written.folder / "scores.json").write_text(json.dumps(scores))
    text = Page(write_report(written.folder).read_text()).text
    assert "All data sets in one projection" in text
    assert text.count("Images coloured by identity") == 2


def test_what_ran_is_there(html, run):
    text = Page(html).text
    assert "passerby train <x> & y" in text
    assert "backbone: test_resnet" in text
    assert f"--out {run.folder.name}-again" in text


def test_names_are_escaped(tmp_path):
    written = write_run(tmp_path, name="<b>")
    html = write_report(written.folder).read_text()
    assert "<b>plaza" not in html
    assert "&lt;b&gt;" in html
    assert Page(html).open == []


def test_moved_images_are_told_in_a_sentence(tmp_path):
    written = write_run(tmp_path)
    shutil.rmtree(written.images)
    text = Page(write_report(written.folder).read_text()).text
    assert "have moved or were deleted since the run" in text
    assert "image not found" in text


def test_how_hard_each_loss_pulls_stands_in_a_table(html):
    assert "Gradient norm of each loss" in Page(html).text
    assert "triplet 0.625 2 1.25" in Page(html).text


def test_a_data_set_that_is_gone_is_told_in_a_sentence(html):
    assert "It cannot be read any more" in Page(html).text


def test_embeddings_of_other_images_are_not_shown(tmp_path):
    written = write_run(tmp_path)
    other = written.embeddings.select(written.embeddings.pid != 1)
    other.save(written.folder / "embeddings" / "plaza.npz")
    html = write_report(written.folder).read_text()
    assert "was written for other images than the scores" in Page(html).text
    assert "shot" not in Page(html).classes


def test_a_run_that_goes_on_has_a_report_too(tmp_path):
    written = write_run(tmp_path)
    (written.folder / "scores.json").unlink()
    lines = (written.folder / "log.jsonl").read_text().splitlines()
    (written.folder / "log.jsonl").write_text("\n".join(lines[:3]) + "\n")
    text = Page(write_report(written.folder).read_text()).text
    assert "This run is not finished" in text
    assert "Trained for 2 of 3 epochs" in text
    (written.folder / "log.jsonl").unlink()
    assert "No epoch is finished yet" in Page(write_report(written.folder).read_text()).text


def test_without_re_ranking_none_is_shown(tmp_path):
    written = write_run(tmp_path, recipe=plain_recipe(test={"rerank": None}))
    scores = json.loads((written.folder / "scores.json").read_text())
    del scores["plaza"]["reranked"]
    (written.folder / "scores.json").write_text(json.dumps(scores))
    assert "with re-ranking" not in Page(write_report(written.folder).read_text()).text


def test_reference_and_measured_results_stand_side_by_side(tmp_path, html):
    written = write_run(tmp_path)
    path = written.folder / "scores.json"
    scores = json.loads(path.read_text())
    scores["plaza"]["plain"]["mAP"], scores["plaza"]["reranked"]["mAP"] = 60.0, 70.0
    result = {"mAP": 62.5, "rank1": 0.0, "mean": None, "reranked": {"mAP": 69.0, "rank1": 100.0}}
    scores["plaza"]["reference"] = {"row": "a/row-1", "result": result, "caveats": ["Run with changes: <x>=1."]}
    path.write_text(json.dumps(scores))
    text = Page(write_report(written.folder).read_text()).text
    for row in ("mAP 62.5 60.0 -2.5", "re-ranked mAP 69.0 70.0 +1.0", "Run with changes: <x>=1."):
        assert row in " ".join(text.split())
    assert "The reference results are those of a/row-1. Reference results are taken from published" in text
    assert "Reference and measured results" not in Page(html).text


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no recipe\.yaml, so it is not a run folder"):
        write_report(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        write_report(tmp_path / "nothing")
    assert not (tmp_path / "report.html").exists()


def test_broken_scores_are_refused(tmp_path):
    written = write_run(tmp_path)
    (written.folder / "scores.json").write_text('{"plaza": {"plain": {"mAP": "high"}}}')
    with pytest.raises(UserError, match=r"scores\.json is not scores"):
        write_report(written.folder)


def test_rates_are_never_rounded_to_all_or_none():
    assert of_hundred(100) == "100 of 100"
    assert of_hundred(99.9) == "more than 99 of 100"
    assert of_hundred(0.1) == "fewer than 1 of 100"
    assert of_hundred(0) == "0 of 100"


def test_durations_carry_over():
    assert duration(59.6) == "1 min 0 s"
    assert duration(3599.7) == "1 h 0 min"


def test_a_report_names_no_folder_of_this_machine(tmp_path):
    weights = tmp_path / "secret" / "weights.pth"
    recipe = plain_recipe(
        root=str(tmp_path / "secret" / "plaza"), model={"backbone": "test_resnet", "weights": str(weights)}
    )
    written = write_run(tmp_path, recipe=recipe)
    command = f"passerby train small --data {tmp_path}/secret/plaza model.weights={weights} --out {tmp_path}/run"
    (written.folder / "environment.json").write_text(json.dumps({"command": command}))
    page = write_report(written.folder).read_text()
    assert str(tmp_path) not in page
    assert "secret" not in page
    assert "--data …/plaza model.weights=…/weights.pth" in page


def test_contents_lead_to_every_section(run):
    text = write_report(run.folder).read_text()
    links = re.findall(r'<li><a href="#([^"]+)">([^<]+)</a>', text)
    assert links == re.findall(r'<section id="([^"]+)">\s*<h2>(.*?)</h2>', text)
    assert len(links) >= 5
    assert "prefers-color-scheme: dark" in text


def test_notes_show_code_instead_of_backticks(tmp_path):
    written = write_run(tmp_path, recipe=plain_recipe(description="as `small` & more"))
    page = write_report(written.folder).read_text()
    assert "as <code>small</code> &amp; more" in page


def test_a_run_of_one_stage_is_set_beside_another(tmp_path):
    written = write_run(tmp_path / "a")
    other = write_run(tmp_path / "b", recipe=plain_recipe(data={"sampler": {"identities": 8}}))
    text = Page(write_report(written.folder, against=other.folder).read_text()).text
    assert "Comparison of runs" in text
    assert "data.sampler.identities=8 (here 16)" in text
    again = write_run(tmp_path / "c", recipe=plain_recipe(engine={"seed": 1}))
    text = Page(write_report(written.folder, against=again.folder).read_text()).text
    assert "Both runs have the same recipe" in text
    assert " ± 0.0" in text


def test_an_environment_without_a_command_and_names_that_are_not_text_are_reported(tmp_path):
    written = write_run(tmp_path)
    (written.folder / "environment.json").write_text('{"passerby": "0.1.0", "system": "\\ud800"}')
    assert write_report(written.folder).read_text().count("\\ud800") == 1


def test_scores_without_rank_1_are_refused(tmp_path):
    written = write_run(tmp_path)
    scores = json.loads((written.folder / "scores.json").read_text())
    del scores["plaza"]["plain"]["cmc"]["1"]
    (written.folder / "scores.json").write_text(json.dumps(scores))
    with pytest.raises(UserError, match=r"scores\.json is not scores .*cmc 1 is missing"):
        write_report(written.folder)


def test_a_damaged_log_is_reported_without_its_damaged_lines(tmp_path):
    written = write_run(tmp_path)
    log = written.folder / "log.jsonl"
    lines = log.read_bytes().splitlines()
    log.write_bytes(b"\n".join([b"\xff\xfe", *lines[:-1], lines[-1][:20]]))
    assert write_report(written.folder).is_file()
