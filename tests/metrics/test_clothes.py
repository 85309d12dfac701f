"""The rules of clothes against known lists, a slow loop, and from a file of vectors on the command line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from passerby.distances.pairwise import pairwise
from passerby.errors import UserError
from passerby.evaluation import evaluate, explain_skipped
from passerby.metrics.ranking import LEFT_OUT, average_precision, cumulative_matches, nearest, rank_matches
from passerby.metrics.relevance import relevance
from passerby.types import Embeddings, Split
from tests.cli.invoking import flat, refused, run
from tests.oracles import market_scores

KNOWN = json.loads((Path(__file__).parents[1] / "oracles_data" / "cal_clothes.json").read_text())["protocol"]
RULES = {"general": "general", "clothes_changing": "changing", "same_clothes": "same"}


class Held:
    """Known distances (Q, G), as a source of one block."""

    offset, bounds = 0.0, (0.0, 1.0)

    def __init__(self, distances):
        import torch

        self.distances = torch.tensor(distances, dtype=torch.float32)
        self.shape = tuple(self.distances.shape)

    def blocks(self):
        yield 0, self.distances.clone()


def split_of(side):
    person, camera, clothes = (np.array(KNOWN[side][name]) for name in ("person", "camera", "clothes"))
    return Split(np.full(len(person), ""), person, camera, clothes=clothes)


@pytest.mark.parametrize("name", RULES)
def test_the_lists_and_scores_of_a_rule_equal_the_known_ones(name):
    allowed = relevance(split_of("query"), split_of("gallery"), clothes=RULES[name])
    source, known = Held(KNOWN["distance"]), KNOWN[name]
    listed = nearest(source, allowed, count=7, left_out="show")
    kept = [row[relation != LEFT_OUT].tolist() for row, relation in zip(listed.row, listed.relation, strict=True)]
    assert kept == known["kept_order"]
    ranking = rank_matches(source, allowed)
    assert np.flatnonzero(~ranking.valid).tolist() == known["skipped_queries"]
    assert np.nanmean(average_precision(ranking)) == pytest.approx(known["mAP"], rel=1e-6)
    assert cumulative_matches(ranking, 5)[0] == pytest.approx(known["rank1"], rel=1e-6)


def random_table(seed=0, count=120):
    generator = np.random.default_rng(seed)
    pid = generator.integers(0, 6, count)
    clothes = np.where(generator.random(count) < 0.1, -1, 4 * pid + generator.integers(0, 3, count))
    role = np.where(generator.random(count) < 0.3, "query", "gallery")
    vectors = generator.normal(size=(count, 6)).astype(np.float32)
    return Embeddings(vectors, pid, generator.integers(0, 3, count), role, clothes=clothes)


def slow(table, rule):
    """Return AP, INP and CMC of a loop that leaves out pair by pair."""
    query, gallery, lists = table.query, table.gallery, []
    (_, distances), *_ = pairwise(query.vectors, gallery.vectors).blocks()
    for q, row in enumerate(distances.numpy()):
        kept = []
        for g in sorted(range(len(row)), key=lambda g: (row[g], g)):
            if gallery.pid[g] == query.pid[q]:
                worn, shown = query.clothes[q], gallery.clothes[g]
                alike = worn == shown
                if gallery.cam[g] == query.cam[q] or -1 in (worn, shown) or alike == (rule == "changing"):
                    continue
            kept.append(g)
        lists.append((kept, [gallery.pid[g] == query.pid[q] for g in kept]))
    return market_scores(lists, 20)


@pytest.mark.parametrize("rule", ["changing", "same"])
@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_the_slow_loop(rule, seed):
    table = random_table(seed)
    scores = evaluate(table, clothes=rule, count_ranks=20)
    ap, inp, cmc = slow(table, rule)
    np.testing.assert_allclose(scores.ap, ap, rtol=1e-9)
    np.testing.assert_allclose(scores.cmc, cmc, rtol=1e-9)
    assert scores.mINP == pytest.approx(np.nanmean(inp), rel=1e-9)
    assert scores.protocol.clothes == rule
    assert explain_skipped(table, clothes=rule).count == int(np.isnan(ap).sum())


def test_without_a_rule_clothes_change_no_bit_of_the_scores():
    table = random_table()
    bare = Embeddings(table.vectors, table.pid, table.cam, table.role)
    one, other = evaluate(table), evaluate(bare)
    assert (one.mAP, one.mINP, one.protocol) == (other.mAP, other.mINP, other.protocol)
    assert (one.ap.tobytes(), one.cmc.tobytes()) == (other.ap.tobytes(), other.cmc.tobytes())
    splits = [Split(np.full(len(each), ""), each.pid, each.cam) for each in (table.query, table.gallery)]
    pairs = zip(splits, (table.query, table.gallery), strict=True)
    worn = [replace(split, clothes=each.clothes) for split, each in pairs]
    first, second = relevance(*splits), relevance(*worn)
    assert first.left_out_row.tobytes() == second.left_out_row.tobytes()


def test_skipped_queries_are_explained_by_their_clothes():
    vectors, roles = np.eye(4, dtype=np.float32), ["query", "query", "gallery", "gallery"]
    table = Embeddings(vectors, [1, 2, 1, 2], [0, 0, 1, 1], roles, clothes=[1, 5, 1, 6])
    assert str(explain_skipped(table, clothes="changing")) == (
        "of 2 queries, 1 match nothing but an image of the query's own camera or the same clothes"
    )
    assert "own camera or other clothes" in str(explain_skipped(table, clothes="same"))
    with pytest.raises(UserError, match="no query can be scored: of 1 queries, 1 match nothing"):
        evaluate(table.select(np.array([0, 2])), clothes="changing")


# ---- on the command line


def test_a_file_of_vectors_is_scored_by_the_rule_that_the_option_names(tmp_path):
    table = random_table()
    table.save(tmp_path / "t.npz")
    assert Embeddings.load(tmp_path / "t.npz").clothes.tolist() == table.clothes.tolist()
    for rule in ("general", "changing", "same"):
        result = run("evaluate", "--embeddings", tmp_path / "t.npz", "--clothes", rule, "--json", tmp_path / "s.json")
        assert result.exit_code == 0, result.output
        scores = json.loads((tmp_path / "s.json").read_text())
        assert scores["mAP"] == pytest.approx(100 * evaluate(table, clothes=rule).mAP, rel=1e-9)
        assert scores["protocol"]["clothes"] == rule
        note = "clothes changing: people are looked for in other clothes"
        assert (note in flat(result.output)) == (rule == "changing")


def test_what_cannot_be_is_refused_in_a_sentence(tmp_path):
    table = random_table()
    table.save(tmp_path / "t.npz")
    Embeddings(table.vectors, table.pid, table.cam, table.role).save(tmp_path / "bare.npz")
    text = refused("evaluate", "--embeddings", tmp_path / "bare.npz", "--clothes", "changing")
    assert "clothes: 'changing' needs to know the clothes of each image, and there is no column 'clothes'" in text
    text = refused("evaluate", "--embeddings", tmp_path / "t.npz", "--clothes", "same", "--open-set")
    assert "--open-set counts images in any clothes; leave it out with --clothes same" in text
    columns = {name: getattr(table, name) for name in ("vectors", "pid", "cam", "role")}
    np.savez(tmp_path / "short.npz", clothes=[1, 2], **columns)
    text = refused("evaluate", "--embeddings", tmp_path / "short.npz")
    assert "column 'clothes' has shape (2,), expected (120,)" in text


def test_a_recipe_with_a_rule_needs_clothes_in_its_data(tiny):
    from passerby.training.setup import make_setup

    with pytest.raises(UserError, match=r"market1501.*there is no column 'clothes'"):
        make_setup(tiny("test.clothes=changing"), Path("unused"))
    with pytest.raises(UserError, match="with clothes: same leave it out"):
        tiny("test.clothes=same", "test.open_set=true")
