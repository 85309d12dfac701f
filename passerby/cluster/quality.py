from __future__ import annotations
import numpy as np


def agreement(a, b):
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(a, b))


def known_quality(labels, truth):
    from sklearn.metrics import adjusted_rand_score

    return {"ARI": float(adjusted_rand_score(truth, labels))}
