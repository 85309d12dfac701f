"""Summary of the number of identities that clusters suggest, with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

from passerby.clustering.doubt import Doubt
from passerby.clustering.quality import Truth

CAUTION = (
    "clusters are not people yet: somebody with few images is in none, "
    "and somebody whom cameras see very differently may be in several"
)


@dataclass(frozen=True)
class ClusterSummary:
    """Number of predicted identities of an adapted model, with measures of its reliability.

    Attributes:
        site: name of the images.
        images: how many there are.
        clusters: number of clusters.
        noise: share of the images in no cluster, in [0, 1].
        silhouette: mean over the clustered images, in [-1, 1]; None without a graph or a second cluster.
        stability: adjusted Rand index with the clusters of the last epoch; 1 = the same.
        doubt: an interval for the number of people, and the number of doubtful clusters; None without a radius.
        giant: a warning where one cluster is far larger than the others, else empty.
        truth: against the identities, where any are known.

    """

    site: str
    images: int
    clusters: int
    noise: float
    silhouette: float | None
    stability: float | None
    doubt: Doubt | None
    giant: str = ""
    truth: Truth | None = None

    def sentences(self) -> list[str]:
        """Return the summary as sentences."""
        outside = f"{100 * self.noise:.1f} % of which are in no cluster"
        found = [f"{self.site}: {self._count()} in {self.images:,} images, {outside}"]
        found += [f"warning: {self.giant}"] if self.giant else []
        sure = []
        if self.stability is not None:
            sure.append(f"agreement with the last epoch {self.stability:.2f} (1 = the same clusters)")
        if self.silhouette is not None:
            sure.append(f"silhouette {self.silhouette:.2f} (1 = clusters far apart, 0 = none)")
        if self.doubt is not None:
            sure.append(
                f"{self.doubt.fewest:,} to {self.doubt.most:,} clusters as the radius moves by a tenth; a cluster is "
                "doubtful where less than half of it stays the same, or where another cluster is as near"
            )
        found += [f"how sure: {'; '.join(sure)}"] if sure else []
        if self.truth is not None:
            known = f"what is known of {self.truth.images:,} images of {self.truth.identities:,} people"
            found.append(
                f"against {known}: purity {100 * self.truth.purity:.1f} %, pairwise F {100 * self.truth.f:.1f} %"
            )
        return [*found, CAUTION]

    def _count(self) -> str:
        """Return how many people there are: an interval, where there is one, and how much of it is doubtful."""
        doubt = self.doubt
        if doubt is None:
            return f"{self.clusters:,} people"
        count = f"{doubt.fewest:,} to {doubt.most:,}" if doubt.fewest < doubt.most else f"{self.clusters:,}"
        return f"{count} people ({self.clusters:,} clusters, {doubt.doubtful:,} of them doubtful)"
