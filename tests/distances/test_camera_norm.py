"""What cameras add to vectors is taken out, and identities are not."""

import numpy as np
import pytest

from passerby.distances.camera_norm import camera_statistics, count_people, normalise_cameras


def make_vectors(*, people, images, cameras, dimension=64, effect=1.0, noise=0.4, seed=0):
    """Draw unit vectors of people in cameras: identity + effect of the camera + noise of the image."""
    generator = np.random.default_rng(seed)
    effects = effect * generator.normal(size=(cameras, dimension))
    vectors, cam, pid = [], [], []
    identities = generator.normal(size=(people, dimension))
    for camera in range(cameras):
        for person in range(people):
            count = images if isinstance(images, int) else images[person % len(images)]
            deviation = noise * generator.normal(size=(count, dimension))
            vectors.append(identities[person] + effects[camera] + deviation)
            cam += [camera] * count
            pid += [person] * count
    table = np.concatenate(vectors)
    return (table / np.linalg.norm(table, axis=1, keepdims=True)).astype(np.float32), np.array(cam), np.array(pid)


def mean_average_precision(vectors, cam, pid):
    """Average the precision at each match in another camera, every image a query."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    precisions = []
    for row, cosines in enumerate(units @ units.T):
        others = ~((pid == pid[row]) & (cam == cam[row]))
        hits = (pid == pid[row])[others][np.argsort(-cosines[others], kind="stable")]
        if hits.any():
            ranks = np.flatnonzero(hits)
            precisions.append(np.mean(np.arange(1, len(ranks) + 1) / (ranks + 1)))
    return np.mean(precisions)


def test_auto_is_the_best_linear_estimate_written_out_by_hand():
    vectors, cam, _ = make_vectors(people=6, images=3, cameras=3, dimension=4)
    vectors[cam == 1] *= (40, 1, 1, 1)
    found = camera_statistics(vectors, cam, how="auto")
    groups = [vectors[cam == camera].astype(np.float64) for camera in range(3)]
    means = np.stack([group.mean(0) for group in groups])
    covariance = sum((group - mean).T @ (group - mean) for group, mean in zip(groups, means, strict=True))
    variances, basis = np.linalg.eigh(covariance)
    k = count_people([group @ basis / variances**0.25 for group in groups])
    m = (k[:, None] * means).sum(0) / k.sum()
    shift = np.empty((3, 4))
    w = np.mean([((g - u) @ basis).var(0) * n / (n - 1) for g, u, n in zip(groups, means, k, strict=True)], axis=0)
    z = (means - m) @ basis
    excess = np.maximum(z.var(0, ddof=1) - np.mean([w / n for n in k], axis=0), 0)
    tau = (excess + excess.sum() / w.sum() * w) / 2
    centre = m * max(0, 1 - w.sum() / k.sum() / (m @ m))
    for camera in range(3):
        shift[camera] = centre + basis @ (tau / (tau + w / k[camera]) * z[camera])
    assert np.allclose(found.shift, shift, atol=1e-9)
    logs = np.log([group.std(0) for group in groups])
    precision = k - 1
    logs -= precision @ logs / precision.sum()
    logs -= logs.mean(1, keepdims=True)
    heterogeneity = (precision @ logs**2).mean() - 2
    variance = heterogeneity / (precision.sum() - (precision**2).sum() / precision.sum())
    spread = np.exp(logs * (variance / (variance + 1 / precision))[:, None] if variance > 0 else 0 * logs)
    assert variance > 0
    assert np.allclose(found.spread, spread, atol=1e-9)
    assert np.allclose(found.apply(vectors, cam), (vectors - shift[cam]) / spread[cam], atol=1e-6)


@pytest.mark.parametrize(("people", "images"), [(10, 3), (40, 2), (8, (1, 1, 1, 9))])
def test_the_effective_number_of_people_is_found_without_labels(people, images):
    vectors, cam, pid = make_vectors(people=people, images=images, cameras=4)
    for camera, found in enumerate(count_people([vectors[cam == number].astype(np.float64) for number in range(4)])):
        sizes = np.unique(pid[cam == camera], return_counts=True)[1]
        assert found == pytest.approx(sizes.sum() ** 2 / (sizes**2).sum(), rel=0.15)


def test_directions_that_outweigh_the_others_and_scales_of_cameras_hide_nobody():
    vectors, cam, _ = make_vectors(people=30, images=4, cameras=4)
    pose = np.random.default_rng(3).normal(size=(len(vectors), 2))
    vectors[:, :2] += 0.8 * pose  # of each image
    vectors *= np.array([1, 1, 2, 6])[cam][:, None]
    assert camera_statistics(vectors, cam, how="auto").people == pytest.approx(np.full(4, 30), rel=0.4)


def test_images_of_one_person_count_as_one_beside_cameras_of_many():
    vectors, cam, pid = make_vectors(people=20, images=5, cameras=3)
    chosen = (cam > 0) | (pid == 0)
    found = camera_statistics(vectors[chosen], cam[chosen], how="auto")
    assert found.people[0] < 2
    assert found.people[1:].min() > 15


def test_many_people_are_normalised_as_centring_does_and_few_are_left_alone():
    many, cam, pid = make_vectors(people=40, images=2, cameras=6, effect=2.0)
    plain = mean_average_precision(many, cam, pid)
    centred = mean_average_precision(normalise_cameras(many, cam, how="centre"), cam, pid)
    auto = mean_average_precision(normalise_cameras(many, cam, how="auto"), cam, pid)
    assert centred - plain > 0.2
    assert auto - plain > 0.9 * (centred - plain)

    losses, gains = [], []
    for seed in range(10):  # three people of a site in each camera, two of whom it shares with others
        vectors, cam, pid = make_vectors(people=12, images=(2, 6), cameras=6, effect=0.3, noise=0.9, seed=seed)
        chosen = np.concatenate(
            [np.flatnonzero((cam == c) & np.isin(pid, (2 * c + np.arange(3)) % 12)) for c in range(6)]
        )
        vectors, cam, pid = vectors[chosen], cam[chosen], pid[chosen]
        plain = mean_average_precision(vectors, cam, pid)
        losses.append(plain - mean_average_precision(normalise_cameras(vectors, cam, how="standardise"), cam, pid))
        gains.append(mean_average_precision(normalise_cameras(vectors, cam, how="auto"), cam, pid) - plain)
    assert np.mean(losses) > 0.05
    assert np.mean(gains) > -0.01


def test_the_order_of_images_and_the_numbers_of_cameras_change_nothing():
    vectors, cam, _ = make_vectors(people=5, images=3, cameras=3)
    order = np.random.default_rng(1).permutation(len(cam))
    for how in ("centre", "standardise", "auto"):
        straight = normalise_cameras(vectors, cam, how=how)
        assert np.allclose(normalise_cameras(vectors[order], 7 - cam[order], how=how), straight[order], atol=1e-5)


def test_images_of_unknown_camera_and_new_cameras_get_the_mean_of_all_subtracted():
    vectors, cam, _ = make_vectors(people=20, images=2, cameras=3)
    found = camera_statistics(vectors, np.where(cam == 2, -1, cam), how="auto")
    assert found.cameras.tolist() == [-1, 0, 1]
    assert np.allclose(found.shift[0], found.other)
    assert not np.allclose(found.shift[1], found.other, atol=1e-3)
    assert np.allclose(found.apply(vectors, np.full(len(cam), 9)), vectors - found.other, atol=1e-6)


@pytest.mark.parametrize("how", ["none", "centre", "standardise", "auto"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_images_and_equal_ones_give_finite_vectors(how, count):
    for vectors in (np.ones((count, 3), np.float32), np.eye(3, dtype=np.float32)[:count]):
        found = normalise_cameras(vectors, np.arange(count) % 2, how=how)
        assert found.shape == vectors.shape
        assert np.isfinite(found).all()


def test_a_camera_of_many_images_is_sampled_and_its_number_of_people_stays():
    vectors, _, _ = make_vectors(people=30, images=100, cameras=1)
    (found,) = count_people([vectors.astype(np.float64)])
    assert found == pytest.approx(30, rel=0.1)
