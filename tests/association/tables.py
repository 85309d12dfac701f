"""Generated tracklets: people who walk from camera to camera."""

import numpy as np

from passerby.types import Tracklets

CAMERAS = ("door", "hall", "yard")


def walks(*, people=12, spread=0.6, dims=128, seed=0, travel=30.0, hours=0.2):
    """Return tracklets of people who are seen once at each of three cameras, `travel` to 1.5 `travel` seconds apart."""
    generator = np.random.default_rng(seed)
    vectors, camera, first, last, pid = [], [], [], [], []
    for person in range(people):
        centre, time = generator.normal(size=dims), generator.uniform(0, 3600 * hours)
        for name in generator.permutation(CAMERAS):
            vector = centre + spread * generator.normal(size=dims)
            stay = generator.uniform(5, 20)
            vectors.append(vector / np.linalg.norm(vector))
            camera.append(name)
            first.append(time)
            last.append(time + stay)
            pid.append(person)
            time += stay + travel * generator.uniform(1, 1.5)
    return table(np.array(vectors, np.float32), camera, first, last, pid)


def table(vectors, camera, first, last, pid=None, *, has_clock=True, clip="clip"):
    """Return a table of tracklets with one crop each, without image."""
    count = len(vectors)
    return Tracklets(
        vectors=vectors,
        camera=np.array(camera),
        name=np.array([f"{clip}/{row}" for row in range(count)]),
        first=np.array(first, np.float64),
        last=np.array(last, np.float64),
        has_clock=np.full(count, has_clock),
        pid=np.full(count, -1) if pid is None else np.array(pid),
        crop_start=np.arange(count + 1),
        crop_path=np.full(count, ""),
        crop_time=np.array(first, np.float64),
        crop_vectors=vectors,
    )
