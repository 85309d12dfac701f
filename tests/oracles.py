"""Slow, obvious loops: what the fast paths must equal. Written for reading, not for speed."""

from __future__ import annotations

import numpy as np


def ranked_gallery(distances, query_pid, query_cam, gallery_pid, gallery_cam, *, cameras="standard"):
    """Return, per query, the kept gallery rows in the order (distance, row) and which of them match."""
    lists = []
    for q, row in enumerate(distances):
        order = sorted(range(len(row)), key=lambda g: (row[g], g))
        if cameras == "standard" and query_pid[q] != -1:
            order = [g for g in order if gallery_pid[g] != query_pid[q] or gallery_cam[g] != query_cam[q]]
        lists.append((order, [query_pid[q] != -1 and gallery_pid[g] == query_pid[q] for g in order]))
    return lists


def market_scores(lists, count_ranks):
    """Return AP and INP per query (NaN = not valid) and the CMC row, from what `ranked_gallery` returned."""
    ap, inp, cmc, count_valid = [], [], np.zeros(count_ranks), 0
    for _, matches in lists:
        ranks = [place + 1 for place, match in enumerate(matches) if match]
        if not ranks:
            ap.append(np.nan)
            inp.append(np.nan)
            continue
        count_valid += 1
        ap.append(sum((hit + 1) / rank for hit, rank in enumerate(ranks)) / len(ranks))
        inp.append(len(ranks) / ranks[-1])
        for k in range(count_ranks):
            cmc[k] += ranks[0] <= k + 1
    return np.array(ap), np.array(inp), cmc / max(count_valid, 1)


def tpr_at_fpr(same, different, fpr, edges):
    """Return the true-positive rate at the largest threshold of `edges` whose false-positive rate is at most `fpr`."""
    rates = []
    for wanted in fpr:
        allowed = [edge for edge in edges if sum(d < edge for d in different) <= wanted * len(different) + 1e-6]
        rates.append(sum(d < max(allowed) for d in same) / len(same))
    return np.array(rates)


def squared_euclidean(left, right):
    """Return (N, M) squared distances in float64, at least 1e-12."""
    difference = np.asarray(left, np.float64)[:, None] - np.asarray(right, np.float64)[None]
    return np.maximum((difference**2).sum(axis=2), 1e-12)


def neighbour_order(squares):
    """Return (N, N) rows by ascending distance, ties by row, each image first in its own row."""
    rows = []
    for i, row in enumerate(squares):
        rows.append([i, *sorted((j for j in range(len(row)) if j != i), key=lambda j: (row[j], j))])
    return np.array(rows)


def reciprocal_set(order, i, count):
    """Return the images among the first `count` of i that have i among their first `count`."""
    return [j for j in order[i, :count] if i in order[j, :count]]


def k_reciprocal_encoding(squares, *, k1, k2, count=None, normalise=True):
    """Return the dense (N, N) encoding of Zhong et al. (2017); `count` = k1 + 1 unless given."""
    order = neighbour_order(squares)
    scaled = squares / squares.max(axis=1, keepdims=True) if normalise else squares
    count, half = count or k1 + 1, round(k1 / 2) + 1
    encoding = np.zeros(squares.shape)
    for i in range(len(squares)):
        original = set(reciprocal_set(order, i, count))
        expanded = set(original)
        for candidate in original:
            smaller = set(reciprocal_set(order, candidate, min(half, count)))
            if 3 * len(smaller & original) > 2 * len(smaller):
                expanded |= smaller
        for j in expanded:
            encoding[i, j] = np.exp(-scaled[i, j])
        encoding[i] /= encoding[i].sum()
    return np.array([encoding[order[i, :k2]].mean(axis=0) for i in range(len(encoding))])


def jaccard(left, right):
    """Return (N, M) Jaccard distances between rows that each sum to 1."""
    overlap = np.array([[np.minimum(a, b).sum() for b in right] for a in left])
    return 1 - overlap / (2 - overlap)


def reranked(query, gallery, *, k1, k2, weight):
    """Return the dense (Q, G) re-ranked distances of Zhong et al. (2017)."""
    squares = squared_euclidean(np.concatenate([query, gallery]), np.concatenate([query, gallery]))
    count = len(query)
    encoding = k_reciprocal_encoding(squares, k1=k1, k2=k2)
    scaled = squares / squares.max(axis=1, keepdims=True)
    return (1 - weight) * jaccard(encoding[:count], encoding[count:]) + weight * scaled[:count, count:]


def camera_aware_encoding(square, cam, *, k1_intra, k1_inter, k2_intra, k2_inter):
    """Return the dense (N, N) encoding of CA-Jaccard, with lists that end where their group of images ends."""
    square, rows = square.copy(), range(len(square))
    np.fill_diagonal(square, -1)  # every image comes first in its own list
    order = [sorted(rows, key=lambda j, i=i: square[i, j]) for i in rows]
    same = [[j for j in order[i] if cam[j] == cam[i]] for i in rows]
    other = [[j for j in order[i] if cam[j] != cam[i]] for i in rows]
    encoding = np.zeros_like(square)
    for i in rows:
        relevant = [j for j in same[i][: k1_intra + 1] if i in same[j][: k1_intra + 1]]
        relevant += [j for j in other[i][: k1_inter + 1] if i in other[j][: k1_inter + 1]]
        weights = np.exp(-np.maximum(square[i, relevant], 0))
        encoding[i, relevant] = weights / weights.sum()
    return np.stack([encoding[same[i][:k2_intra] + other[i][:k2_inter]].mean(axis=0) for i in rows])


def camera_reranked(query, gallery, cam, *, weight, **numbers):
    """Return the dense (Q, G) re-ranked distances of CA-Jaccard, of cameras (Q + G,)."""
    vectors, count = np.concatenate([query, gallery]), len(query)
    square = squared_euclidean(vectors, vectors)
    square /= square.max(axis=1, keepdims=True)
    encoding = camera_aware_encoding(square, cam, **numbers)
    return (1 - weight) * jaccard(encoding[:count], encoding[count:]) + weight * square[:count, count:]
