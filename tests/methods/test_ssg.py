"""Self-similarity grouping: the distance from a source, triplets by label, and which label is whose."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from passerby.clustering.graph import SMALLEST
from passerby.distances.sparse import SparseRows
from passerby.losses.triplet import triplet_loss
from passerby.methods.clustered import unit
from passerby.methods.ssg import SsgSettings, away_from_source, known_triplets
from tests.methods.steps import some

ORACLE = json.loads((Path(__file__).parents[1] / "oracles_data" / "ssg_eps.json").read_text())


def rows(count=30, length=6, seed=0):
    found = np.random.default_rng(seed).normal(size=(count, length)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("share", [0.0016, 0.01, 0.05, 0.1])
def test_the_radius_and_the_clusters_equal_the_known_ones_and_the_radius_stays(share):
    whole = np.array(ORACLE["dist"])
    graph = SparseRows(np.arange(0, 37 * 36, 36), np.tile(np.arange(36), 36), np.maximum(whole, SMALLEST), 36)
    graph = SparseRows(graph.start, graph.column, graph.value.ravel().astype(np.float32), 36)
    method = SsgSettings(cluster={"eps": "share", "share": share, "kind": "dbscan"}).make()
    known = ORACLE["by_rho"][str(share)]
    for view in (0, 2):
        clusters, _ = method.find(rows(36), graph, view=view)
        assert float(method.eps[view]) == pytest.approx(known["eps"], rel=1e-4)
        assert clusters.labels.tolist() == known["labels_min4"]
    assert torch.isnan(method.eps[1])
    farther = SparseRows(graph.start, graph.column, np.minimum(2 * graph.value, 1), 36)
    assert method.find(rows(36), farther)[0].eps == float(method.eps[0])  # of the first epoch


def test_the_distance_from_the_source_equals_the_loop():
    vectors, source = rows(700), rows(20, seed=1)
    wanted = np.array([min(1 - np.exp(-((v - s) ** 2).sum()) for s in source) for v in vectors])
    np.testing.assert_allclose(away_from_source(vectors, source), wanted / wanted.max(), atol=1e-5)
    assert away_from_source(source, source).max() <= 1


def test_images_of_the_source_are_at_0_even_when_all_are():
    source = np.eye(3, dtype=np.float32)
    assert away_from_source(source, source).tolist() == [0, 0, 0]


def test_triplets_go_by_label_and_not_by_position():
    x = torch.from_numpy(rows(12)).double()
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 0, 1, 2, 3, -1, -1])
    loss = known_triplets(x, labels)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(known_triplets(x[order], labels[order]).item())
    assert loss.item() == pytest.approx(triplet_loss(x[:10], labels[:10], margin=0.5).item())
    alone = triplet_loss(x[:9], labels[:9], margin=0.5)  # the lone image of 3 is no anchor, but a negative
    assert loss.item() >= alone.item()


@pytest.mark.parametrize("labels", [[-1, -1, -1], [0, 0, 0], [0, 1, 2], [0, -1, -1]])
def test_without_a_triplet_there_is_a_loss_of_0_with_a_gradient_of_0(labels):
    x = torch.randn(3, 4, requires_grad=True)
    loss = known_triplets(x, torch.tensor(labels))
    loss.backward()
    assert loss.item() == 0
    assert not x.grad.any()


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"oracle_after": 3}, "oracle_after has no effect with oracle: none"),
        ({"cluster": {"kind": "kmeans"}, "oracle": "cluster"}, "oracle needs the nearest images on the graph"),
        ({"cluster": {"kind": "kmeans"}, "source": 0.2}, "source changes distances on the graph"),
    ],
)
def test_what_would_have_no_effect_is_refused(told, message):
    with pytest.raises(ValidationError, match=message):
        SsgSettings(**told)


# ---- in a run

HALVES = ["method.ssg={cluster: {kind: kmeans, k: 3}, weight: 2.0, margin: 0.7}", "model.stripes=2"]


@pytest.mark.parametrize("with_oracle", [False, True])
def test_the_whole_and_each_half_learn_by_labels_of_their_own(unknown, with_oracle):
    run = unknown(*HALVES)
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(-1, 3, (24, 4 if with_oracle else 3), generator=generator)  # the views do not agree
    batch = some(run, rows=range(0, 24, 2), labels=labels)
    out = run.state.embedder(batch.inputs)
    terms = run.state.methods["ssg"].losses(run.context, batch, out)
    seen = {
        "ssg after_neck": (out.after_neck, 0),
        "ssg whole": (out.before_neck, 0),
        "ssg upper": (out.stripes[:, 0], 1),
        "ssg lower": (out.stripes[:, 1], 2),
    }
    wanted = {name: known_triplets(x, batch.labels[:, n], margin=0.7) for name, (x, n) in seen.items()}
    if with_oracle:
        wanted["ssg oracle"] = sum(known_triplets(x, batch.labels[:, 3], margin=0.7) for x, _ in seen.values())
    assert terms.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(terms[name].value, value)
        assert terms[name].weight == 2.0


def test_each_column_of_labels_is_found_in_what_its_name_says(unknown):
    run = unknown(*HALVES, "method.ssg.cluster.k=7")  # more than there are people, so that views differ
    found, cluster = run.context.vectors(), run.state.methods["ssg"].settings.cluster
    views = [found.before_neck, found.stripes[:, 0], found.stripes[:, 1]]
    wanted = np.stack([cluster.fit(unit(vectors)).labels for vectors in views], axis=1)
    assert run.state.counters.labels.tolist() == wanted.tolist()
    assert len({tuple(column) for column in wanted.T}) == 3, "no two views are alike"
