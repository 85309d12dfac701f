"""Losses as slow, obvious loops."""

import math


def distance(a, b, kind):
    """Distance of two vectors given as lists."""
    if kind != "euclidean":
        a, b = ([v / math.sqrt(sum(w * w for w in x)) for v in x] for x in (a, b))
    squared = sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
    return squared if kind == "cosine_sq" else math.sqrt(squared)


def batch_hard_triplet(x, labels, *, margin, kind, anchors):
    """Mean over anchors of relu(hardest positive - hardest negative + margin)."""
    losses = []
    for i, anchor in enumerate(x):
        positives = [distance(anchor, x[j], kind) for j in range(len(x)) if labels[j] == labels[i] and j != i]
        negatives = [distance(anchor, x[j], kind) for j in range(len(x)) if labels[j] != labels[i]]
        if anchors == "valid" and not (positives and negatives):
            continue
        positive, negative = max(positives, default=0.0), min(negatives, default=math.inf)
        losses.append(max(0.0, positive - negative + margin))
    return sum(losses) / len(losses) if losses else 0.0


def smoothed_cross_entropy(logits, labels, *, smoothing):
    """Mean of -sum(target * log softmax), target = (1 - smoothing) one-hot + smoothing / C."""
    losses = []
    for row, label in zip(logits, labels, strict=True):
        top = max(row)
        norm = top + math.log(sum(math.exp(v - top) for v in row))
        targets = [smoothing / len(row) + (1 - smoothing) * (c == label) for c in range(len(row))]
        losses.append(-sum(t * (v - norm) for t, v in zip(targets, row, strict=True)))
    return sum(losses) / len(losses)
