"""Losses as slow, obvious loops."""

import math


def distance(a, b, kind):
    """Distance of two vectors given as lists."""
    if kind != "euclidean":
        a, b = ([v / math.sqrt(sum(w * w for w in x)) for v in x] for x in (a, b))
    squared = sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
    return squared if kind == "cosine_sq" else math.sqrt(squared)


def weighted_mean(values, signs):
    """Mean of values weighted by exp(signs * value)."""
    top = max((signs * v for v in values), default=0.0)
    weights = [math.exp(signs * v - top) for v in values]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights) if values else math.inf


def triplet(x, labels, *, form, margin, kind, anchors):
    """Mean over anchors of a function of a positive and a negative distance."""
    losses = []
    for i, anchor in enumerate(x):
        positives = [distance(anchor, x[j], kind) for j in range(len(x)) if labels[j] == labels[i] and j != i]
        negatives = [distance(anchor, x[j], kind) for j in range(len(x)) if labels[j] != labels[i]]
        if anchors == "valid" and not (positives and negatives):
            continue
        if form == "weighted":
            positive, negative = weighted_mean([0.0, *positives], 1), weighted_mean(negatives, -1)
        else:
            positive, negative = max(positives, default=0.0), min(negatives, default=math.inf)
        met = max(0.0, positive - negative + margin)
        soft = math.log1p(math.exp(positive - negative))
        losses.append({"hard": met, "pull": positive + met, "soft": soft, "weighted": soft}[form])
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


def circle(x, labels, *, margin, scale, anchors):
    """Mean over anchors of log(1 + sum exp(toward) * sum exp(away))."""
    losses = []
    for i in range(len(x)):
        toward, away = [], []
        for j in range(len(x)):
            similar = 1 - distance(x[i], x[j], "cosine_sq") / 2
            if labels[i] != labels[j]:
                away.append(scale * max(0.0, similar + margin) * (similar - margin))
            elif i != j:
                toward.append(-scale * max(0.0, 1 + margin - similar) * (similar - 1 + margin))
        if toward and away:
            exponents = sorted(p + n for p in toward for n in away)
            top = max(0.0, exponents[-1])
            losses.append(top + math.log(math.exp(-top) + sum(math.exp(e - top) for e in exponents)))
        elif anchors == "all":
            losses.append(0.0)
    return sum(losses) / len(losses) if losses else 0.0


def margin_logits(cosines, labels, *, form, margin, scale):
    """Logits of a margin classifier, one cosine at a time."""

    def right(cosine):
        angle = math.acos(cosine)
        if form == "arcface" and angle + margin > math.pi:
            return cosine - margin * math.sin(margin)
        if form == "circle":
            return max(0.0, 1 + margin - cosine) * (cosine - (1 - margin))
        return cosine - margin if form == "cosface" else math.cos(angle + margin)

    def wrong(cosine):
        return max(0.0, cosine + margin) * (cosine - margin) if form == "circle" else cosine

    return [
        [scale * (right(cosine) if c == label else wrong(cosine)) for c, cosine in enumerate(row)]
        for row, label in zip(cosines, labels, strict=True)
    ]


def center(x, labels, centres, *, rate):
    """Mean squared distance to the centres, and the centres after a step down its gradient."""
    loss = sum(distance(v, centres[label], "euclidean") ** 2 for v, label in zip(x, labels, strict=True)) / len(x)
    moved = [
        [
            value - rate * sum(2 * (value - v[d]) for v, label in zip(x, labels, strict=True) if label == c) / len(x)
            for d, value in enumerate(centre)
        ]
        for c, centre in enumerate(centres)
    ]
    return loss, moved
