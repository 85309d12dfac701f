"""The plainest way to learn without labels: clusters are people, the losses of the stage are those of any stage."""

from __future__ import annotations

from passerby.methods.taught import Taught, TaughtSettings


class PseudoSettings(TaughtSettings):
    """Clusters as identities for the losses of the stage."""


class Pseudo(Taught, settings_class=PseudoSettings):
    """Clusters as identities: classifiers and centres begin at the mean vectors in each epoch that has other clusters.

    Reference: Fan et al., "Unsupervised Person Re-identification: Clustering and Fine-tuning", TOMM 2018 (the idea).
    Differs from the paper: density-based clusters, and all images of a cluster are used.

    """

    settings: PseudoSettings
