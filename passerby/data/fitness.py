"""The uses that a data set is fit for: training, evaluation, adaptation without labels, or embedding alone."""

from __future__ import annotations

from passerby.types import UNKNOWN, Dataset


def uses(dataset: Dataset, *, count_scored: int) -> tuple[str, ...]:
    """Return one sentence for each use, and one for the data that others lack.

    Args:
        dataset: as read.
        count_scored: queries that an evaluation can score.

    """
    train, query, gallery = dataset.train, dataset.query, dataset.gallery
    labelled = int((train.pid != UNKNOWN).sum())
    sentences: list[str] = []
    if train.count_identities > 1:
        sentences.append(
            f"training with labels: {labelled:,} images, {train.count_identities:,} identities (passerby train)"
        )
    if count_scored:
        sentences.append(f"evaluation: queries {count_scored:,}, gallery images {len(gallery):,} (passerby evaluate)")
    if len(train):
        sentences.append(f"adaptation without labels: {len(train):,} images (passerby adapt)")
    if count := len(train) + len(query) + len(gallery):
        sentences.append(f"embedding, search and clustering: {count:,} images (passerby embed)")
    if len(train) and not len(query) and not len(gallery):
        sentences.append(_missing_test(labelled))
    return tuple(sentences)


def _missing_test(labelled: int) -> str:
    if labelled:
        return "no evaluation: add folders query and gallery, or let identities be drawn by test_share of kind folder"
    return "no evaluation and no training with labels: identities are unknown; where names hold them, give --pattern"
