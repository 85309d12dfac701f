"""Distillation from a file: its losses against loops, its targets, and a stage that trains with it alone."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from passerby.data.transforms import mix_seeds
from passerby.distances.camera_norm import normalise_cameras
from passerby.encoders import load_model
from passerby.errors import UserError
from passerby.methods.clustered import unit
from passerby.methods.distil import aligned_vectors, angle_gap, distance_gap, neighbour_means
from passerby.report.diagrams import draw
from passerby.report.page import write_report
from passerby.training import run_log
from passerby.training.session import train
from passerby.training.trainer import make_trainer
from tests.methods.steps import TEACHER, some
from tests.onnx_graphs import helper, write_graph
from tests.report.test_diagrams import words
from tests.training.runs import optimiser_hash, run, run_interrupted, weights

ALONE = ["losses={softmax: null, triplet: null}", "stages=[{train: [market1501], epochs: 4, labelled: false}]"]
SHUFFLED = "data.sampler={kind: shuffle, size: 8}"


def distil(**settings):
    return f"method.distil={json.dumps({'teacher': TEACHER, **settings})}"


@pytest.fixture
def vectors():
    generator = torch.Generator().manual_seed(3)
    return torch.randn(5, 4, generator=generator), torch.randn(5, 6, generator=generator)


def directions(vectors):
    return [F.normalize(vector, dim=0) for vector in vectors]


def huber(gap):
    return gap**2 / 2 if abs(gap) < 1 else abs(gap) - 0.5


def test_distances_equal_a_loop_over_pairs(vectors):
    relative = []
    for each in vectors:
        distances = [float((a - b).norm()) for a, b in itertools.combinations(directions(each), 2)]
        relative.append([distance / np.mean(distances) for distance in distances])
    expected = np.mean([huber(a - b) for a, b in zip(*relative, strict=True)])
    assert distance_gap(*vectors).item() == pytest.approx(expected, rel=1e-4)


def test_angles_equal_a_loop_over_triplets(vectors):
    cosines = []
    for each in vectors:
        triplets = itertools.permutations(directions(each), 3)
        cosines.append([float(F.cosine_similarity(a - b, c - b, dim=0)) for a, b, c in triplets])
    expected = np.mean([huber(a - b) for a, b in zip(*cosines, strict=True)])
    assert angle_gap(*vectors).item() == pytest.approx(expected, rel=1e-4)


def gram(vectors):
    return F.normalize(vectors) @ F.normalize(vectors).T


@pytest.mark.parametrize("dimension", [9, 4, 3, 2])
def test_aligned_vectors_have_the_cosines_of_the_teacher_or_the_nearest_of_their_rank(dimension):
    teacher = torch.randn(12, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 2
    directions = F.normalize(teacher)
    left, values, _ = torch.linalg.svd(directions - directions.mean(dim=0), full_matrices=False)
    rank = min(4, dimension)
    aligned = aligned_vectors(teacher, dimension, seed=7)
    assert aligned.shape == (12, dimension)
    torch.testing.assert_close(gram(aligned), gram(left[:, :rank] * values[:rank]), rtol=1e-4, atol=1e-6)
    spread = aligned.std(dim=0)
    assert spread.min() > 0.05 * spread.max(), "no dimension is left empty"


@pytest.mark.parametrize("count", [1, 3, 12])
def test_means_of_neighbours_equal_a_loop_over_images(count, monkeypatch):
    monkeypatch.setattr("passerby.methods.distil.BLOCK", 5)
    directions = F.normalize(torch.randn(12, 4, generator=torch.Generator().manual_seed(5)))
    for each, mean in zip(directions, neighbour_means(directions, count), strict=True):
        nearest = sorted(directions, key=lambda other: float(each @ other), reverse=True)[:count]
        torch.testing.assert_close(mean, sum(nearest) / count)


def test_of_equally_similar_images_the_first_are_neighbours():
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    torch.testing.assert_close(neighbour_means(directions, 2)[0], torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("gap", [distance_gap, angle_gap])
def test_relations_of_repeated_images_have_finite_gradients(gap, vectors):
    teacher, student = (each[[0, 0, 1, 2]].clone() for each in vectors)
    gap(teacher, student.requires_grad_()).backward()
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() > 0


def test_targets_are_the_vectors_of_the_teacher_for_images_without_augmentation(tiny, tmp_path):
    run = make_trainer(tiny(*ALONE, distil(), "evaluate=[]"), tmp_path / "run")
    run.open_stage(0)
    method = run.state.methods["distil"]
    np.testing.assert_array_equal(method.targets.numpy(), load_model(TEACHER).vectors(run.state.stage.train.path))
    goals = aligned_vectors(method.targets, run.state.embedder.dimension, seed=mix_seeds(run.context.seed, 2))
    batch = some(run, rows=(5, 0, 9, 20))
    out = run.state.embedder(batch.inputs)
    (term,) = method.losses(run.context, batch, out).values()
    expected = 1 - F.cosine_similarity(out.after_neck, goals[[5, 0, 9, 20]]).mean()
    torch.testing.assert_close(term.value, expected)


def test_vectors_of_the_same_length_are_compared_without_a_map(tiny, tmp_path):
    pool = helper.make_node("AveragePool", ["images"], ["rows"], kernel_shape=[1, 16])
    flat = helper.make_node("Flatten", ["rows"], ["vectors"], axis=1)
    teacher = write_graph(tmp_path / "rows.onnx", shape=("batch", 3, 32, 16), nodes=[pool, flat])
    run = make_trainer(tiny(*ALONE, distil(teacher=str(teacher)), "evaluate=[]"), tmp_path / "run")
    run.open_stage(0)
    method, batch = run.state.methods["distil"], some(run)
    assert method.targets.shape == (48, run.state.embedder.dimension)
    out = run.state.embedder(batch.inputs)
    expected = 1 - F.cosine_similarity(out.after_neck, method.targets[batch.index]).mean()
    torch.testing.assert_close(method.losses(run.context, batch, out)["distil cosine"].value, expected)


def test_targets_are_means_of_neighbours_without_what_cameras_add(tiny, tmp_path):
    changes = distil(camera_norm="standardise", neighbours=3, affinity=1)
    run = make_trainer(tiny(*ALONE, changes, "evaluate=[]"), tmp_path / "run")
    run.open_stage(0)
    method, train = run.state.methods["distil"], run.state.stage.train
    vectors = load_model(TEACHER).vectors(train.path)
    np.testing.assert_array_equal(method.embedded.numpy(), vectors)
    expected = neighbour_means(
        torch.from_numpy(unit(normalise_cameras(unit(vectors), train.cam, how="standardise"))), 3
    )
    torch.testing.assert_close(method.targets, expected)
    goals = aligned_vectors(expected, run.state.embedder.dimension, seed=mix_seeds(run.context.seed, 2))
    torch.testing.assert_close(method.aligned, goals)
    batch = some(run)
    out = run.state.embedder(batch.inputs)
    terms = method.losses(run.context, batch, out)
    similarity = F.normalize(expected[batch.index])
    affinities = (similarity @ similarity.T / 0.1).softmax(dim=1)
    student = (F.normalize(out.after_neck) @ F.normalize(out.after_neck).T / 0.1).softmax(dim=1)
    divergence = (affinities * (affinities / student).log()).sum(dim=1).mean()
    torch.testing.assert_close(terms["distil affinity"].value, divergence, rtol=1e-4, atol=1e-5)
    method.on_stage_end(run.context)
    assert not method.memory_footprint()


def test_more_neighbours_than_images_are_refused(tiny, tmp_path):
    with pytest.raises(
        UserError, match=r"method.distil.neighbours is 49, and market1501 has 48 images; choose at most"
    ):
        train(tiny(*ALONE, distil(neighbours=49), "evaluate=[]"), tmp_path / "run")


DBSCAN = {"kind": "dbscan", "k1": 6, "k2": 2, "min_samples": 2}
CLUSTERS = {"embedder": "teacher", "camera_norm": "standardise", "cluster": DBSCAN}


@pytest.mark.parametrize("method", ["pseudo", "contrast"])
def test_clusters_of_the_teacher_are_the_pseudo_labels_of_every_epoch(tiny, tmp_path, method):
    changes = (ALONE[1], distil(), f"method.{method}={json.dumps(CLUSTERS)}", "evaluate=[]")
    run = make_trainer(tiny(*changes), tmp_path / "run")
    run.open_stage(0)
    vectors, cam = load_model(TEACHER).vectors(run.state.stage.train.path), run.state.stage.train.cam
    expected, _ = run.state.methods[method].find(
        unit(normalise_cameras(unit(vectors), cam, how="standardise")), cam=cam
    )
    assert expected.count > 1
    with torch.no_grad():
        for _ in range(2):
            np.testing.assert_array_equal(run.assign_labels(), expected.labels)
            for weight in run.state.embedder.parameters():
                weight.normal_()


def test_losses_go_on_while_the_clusters_stay_the_same(tiny, tmp_path):
    recipe = tiny(ALONE[1], distil(), f"method.pseudo={json.dumps(CLUSTERS)}", "evaluate=[]", "optim.lr=0.01")
    trainer = make_trainer(recipe, tmp_path / "run")
    trainer.open_stage(0)
    labels, counters = trainer.assign_labels(), trainer.state.counters
    with torch.no_grad():
        learnt = trainer.state.losses.losses["softmax"].classifier.weight.add_(1).clone()
    counters.end_epoch()
    np.testing.assert_array_equal(trainer.assign_labels(), labels)
    assert torch.equal(trainer.state.losses.losses["softmax"].classifier.weight, learnt), (
        "the same clusters: the classifier stays"
    )
    counters.end_epoch()
    counters.earlier_labels = torch.from_numpy(labels).roll(1)
    trainer.assign_labels()
    assert not torch.equal(trainer.state.losses.losses["softmax"].classifier.weight, learnt), (
        "others: it begins at their means"
    )


@pytest.mark.parametrize("step", [5, 6, 7])  # of epochs of 6
def test_broken_off_between_epochs_of_the_same_clusters(tiny, tmp_path, step):
    recipe = tiny(ALONE[1], distil(), f"method.pseudo={json.dumps(CLUSTERS)}", "evaluate=[]", "optim.lr=0.01")
    whole, broken = run(recipe, tmp_path / "whole"), run_interrupted(recipe, tmp_path / "broken", steps=[step])
    assert (weights(broken), optimiser_hash(broken)) == (weights(whole), optimiser_hash(whole))


@pytest.mark.parametrize("method", ["pseudo", "contrast"])
def test_clusters_of_a_teacher_need_one(tiny, method):
    with pytest.raises(
        UserError, match=f"method.{method}.embedder: teacher clusters .* the stage has no method.distil"
    ):
        tiny(ALONE[1], f"method.{method}.embedder=teacher", "evaluate=[]")


@pytest.mark.parametrize("settings", [{}, {"cosine": 0, "distances": 1.0, "angles": 2.0}, {"cosine": 0, "affinity": 1}])
def test_an_unlabelled_stage_learns_from_the_teacher_alone(tiny, tmp_path, settings):
    recipe = tiny(*ALONE, SHUFFLED, distil(**settings), "evaluate=[]", "optim.lr=0.01")
    train(recipe, tmp_path / "run")
    first, *_, last = (epoch.terms for epoch in run_log.epochs(run_log.read(tmp_path / "run" / "log.jsonl")))
    for name in first:
        assert last[name].value < 0.9 * first[name].value
    assert not list((tmp_path / "run").glob("clusters/*")), "no image was clustered"
    assert write_report(tmp_path / "run").is_file()
    drawn = words(draw(recipe))
    assert "identities not used" in drawn
    assert "Vectors of a teacher" in drawn


def test_losses_of_identities_need_a_method_that_clusters(tiny):
    with pytest.raises(UserError, match=r"no method assigns labels for losses.softmax, losses.triplet; set them to nu"):
        tiny(ALONE[1], distil())


@pytest.mark.parametrize("form", ["distances", "angles", "affinity"])
def test_relations_need_a_batch(tiny, form):
    with pytest.raises(UserError, match=f"method.distil.{form} compares the images of a batch .* data.sampler draws 1"):
        tiny(*ALONE, distil(**{form: 1}), "data.sampler={kind: shuffle, size: 1}")


def test_a_method_without_weights_is_refused(tiny):
    with pytest.raises(UserError, match="give at least one of cosine, distances, angles and affinity a weight above 0"):
        tiny(*ALONE, distil(cosine=0))


def test_a_missing_teacher_of_a_later_stage_is_refused_before_the_first_step(tiny, tmp_path):
    stages = (
        "stages=[{train: [market1501], epochs: 1}, {train: [other], epochs: 1, method: {distil: {teacher: a.xml}}}]"
    )
    with pytest.raises(UserError, match=r"method.distil.teacher: there is no file or folder .*a.xml"):
        train(tiny(stages, "evaluate=[]"), tmp_path / "run")
