"""Time and memory of average linkage on the sparse neighbour graph, against scipy on the whole matrix.

python benchmarks/linkage.py --counts 1000 10000 50000
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from passerby.clustering.impostors import automatic_threshold, highest_threshold
from passerby.clustering.linkage import average_linkage, near_pairs
from passerby.clustering.quality import agreement
from passerby.types import Floats

IMAGES, SPREAD = 10, 0.8
"""Images of a person, and the standard deviation of each against that of people."""
LARGEST_DENSE = 10_000


def people(count: int, dims: int) -> Floats:
    """Return vectors (N, D) of people in directions of their own."""
    generator = np.random.default_rng(0)
    centres = np.repeat(generator.normal(size=(-(-count // IMAGES), dims)), IMAGES, axis=0)[:count]
    return (centres + SPREAD * generator.normal(size=centres.shape)).astype(np.float32)


def measure(count: int, dims: int) -> str:
    """Return a row of the table for one number of vectors."""
    vectors = people(count, dims)
    began = time.perf_counter()
    pairs = near_pairs(vectors, neighbours=30)
    graph = time.perf_counter()
    merges = average_linkage(pairs, highest_threshold(pairs))
    joined = time.perf_counter()
    threshold = automatic_threshold(pairs, merges)
    ended = time.perf_counter()
    labels = merges.labels(threshold)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    whole = "-"
    if count <= LARGEST_DENSE:
        began_dense = time.perf_counter()
        dense = fcluster(linkage(pdist(vectors, "cosine"), "average"), threshold, "distance")
        seconds = time.perf_counter() - began_dense
        whole = f"{seconds:.1f} s (Rand index {agreement(labels, dense).rand:.4f})"
    parts = f"{graph - began:.1f} | {joined - graph:.1f} | {ended - joined:.1f}"
    return f"| {count:,} | {parts} | {peak:.1f} | {len(np.unique(labels)):,} | {whole} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--dims", type=int, default=256)
    options = parser.parse_args()
    print("| vectors | neighbours s | merges s | threshold s | peak GiB | clusters | scipy, whole matrix |")
    print("|---|---|---|---|---|---|---|")
    for count in options.counts:
        print(measure(count, options.dims), flush=True)


if __name__ == "__main__":
    main()
