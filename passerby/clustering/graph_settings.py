"""Settings of the graph that DBSCAN, HDBSCAN and InfoMap cluster: its distance and its numbers of neighbours."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from passerby.clustering.graph import GraphDistance, GraphForm, camera_jaccard_neighbours, jaccard_neighbours
from passerby.distances.cameras import lack_of_cameras
from passerby.distances.sparse import SparseRows
from passerby.settings import Settings
from passerby.types import Floats, Ints

CAMERA_AWARE = ("k1_intra", "k1_inter", "k2_intra", "k2_inter")
"""The settings of `distance: ca_jaccard`."""


class GraphClustering(Settings):
    """Base of the settings of all algorithms on the graph."""

    k1: Annotated[int, Field(ge=1)] = Field(
        30, description="number of neighbours among which reciprocal ones are sought"
    )
    k2: Annotated[int, Field(ge=1)] = Field(
        6, description="number of neighbours averaged in the query expansion; 1 = none"
    )
    form: GraphForm = Field(
        "clustering", description="form of the Jaccard distance; reranking: as in Zhong et al. and SSG"
    )
    distance: GraphDistance = Field(
        "jaccard",
        description="distance of the graph; ca_jaccard seeks neighbours in the same camera and in the others apart; "
        "without two known cameras it is jaccard, with k1 and k2",
    )
    k1_intra: Annotated[int, Field(ge=1)] = Field(
        5, description="number of neighbours in the same camera among which reciprocal ones are sought, for ca_jaccard"
    )
    k1_inter: Annotated[int, Field(ge=1)] = Field(
        20, description="number of neighbours in other cameras among which reciprocal ones are sought, for ca_jaccard"
    )
    k2_intra: Annotated[int, Field(ge=1)] = Field(
        2, description="number of images of the same camera in the query expansion, itself included, for ca_jaccard"
    )
    k2_inter: Annotated[int, Field(ge=0)] = Field(
        4, description="number of images of other cameras in the query expansion, for ca_jaccard"
    )

    @property
    def idle(self) -> frozenset[str]:
        """The neighbours in the same and in other cameras, where the distance has one list of neighbours."""
        return frozenset() if self.distance == "ca_jaccard" else frozenset(CAMERA_AWARE)

    @model_validator(mode="after")
    def _camera_aware(self) -> Self:
        if self.distance == "jaccard":
            for name in CAMERA_AWARE:
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} has no effect with distance: jaccard; it belongs to distance: ca_jaccard")
        return self

    def camera_note(self, cam: Ints | None) -> str:
        """Return a sentence where the distance needs cameras (N,) that are not known, else `""`."""
        lack = "" if self.distance == "jaccard" else lack_of_cameras(cam)
        return lack and f"distance: ca_jaccard needs two cameras, and {lack}: the plain Jaccard distance is used"

    def neighbours(
        self, vectors: Floats, *, cam: Ints | None = None, at_most: float = 1.0, device: str = "cpu"
    ) -> SparseRows:
        """Return the graph of `vectors` (N, D) of cameras (N,).

        See `jaccard_neighbours` and `camera_jaccard_neighbours`; without two known cameras it is the first.
        """
        if self.distance == "ca_jaccard" and cam is not None and not lack_of_cameras(cam):
            k1, k2 = (self.k1_intra, self.k1_inter), (self.k2_intra, self.k2_inter)
            return camera_jaccard_neighbours(vectors, cam, k1=k1, k2=k2, at_most=at_most, device=device)
        return jaccard_neighbours(vectors, k1=self.k1, k2=self.k2, form=self.form, at_most=at_most, device=device)
