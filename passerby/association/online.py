"""Identities of tracklets as they come: each at once, and every later change reported."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from passerby.association.associate import Association, AssociationSettings, associate
from passerby.association.constraints import TrackletConstraints
from passerby.distances.camera_norm import CameraStatistics, camera_statistics
from passerby.distances.units import unit_rows
from passerby.errors import UserError
from passerby.types import Doubles, Ints, Tracklets


@dataclass(frozen=True)
class Revision:
    """A change of the identity of an earlier tracklet.

    Attributes:
        camera, tracklet: names.
        before, after: identities.

    """

    camera: str
    tracklet: str
    before: int
    after: int


@dataclass(frozen=True)
class Assignment:
    """The identity of a new tracklet.

    Attributes:
        identity: number of the person.
        revisions: changes of earlier tracklets that came with it, mostly none.

    """

    identity: int
    revisions: tuple[Revision, ...] = ()


class Associator:
    """Identities of tracklets that are added one after the other.

    A tracklet joins the nearest identity within the threshold that it may be of, or becomes a new one. Whenever the
    number of tracklets has grown by the share `review`, all are associated again as by `associate`: threshold and
    camera norm follow the data, and changes are returned as revisions. Numbers of identities stay where most of the
    tracklets do, and are never used again for somebody else.

    Args:
        settings: as of `associate`; None = its defaults.
        review: share in (0, 1] by which the tracklets grow between two reviews; the work stays near-linear.

    >>> associator = Associator()
    >>> len(associator)
    0

    """

    def __init__(self, settings: AssociationSettings | None = None, *, review: float = 0.2) -> None:
        if not 0 < review <= 1:
            raise UserError(f"review must be a share in (0, 1], got {review:g}")
        self.settings, self.review_share = settings or AssociationSettings(), review
        self._tables: list[Tracklets] = []
        self._identity: list[int] = []
        self._names: set[tuple[str, str]] = set()
        self._count_given = 0
        self._next_review = 2
        self._state: _State | None = None

    def __len__(self) -> int:
        return len(self._identity)

    @property
    def identities(self) -> dict[tuple[str, str], int]:
        """The present identity of each tracklet, by camera and name, in the order in which they came."""
        keys = [(str(table.camera[0]), str(table.name[0])) for table in self._tables]
        return dict(zip(keys, self._identity, strict=True))

    def add(self, tracklet: Tracklets) -> Assignment:
        """Return the identity of a new tracklet, and the changes of earlier ones.

        Args:
            tracklet: a table of one row.

        Raises:
            UserError: not one tracklet, one that was added before, or of another model than those before.

        """
        if len(tracklet) != 1:
            raise UserError(f"one tracklet is added at a time, got {len(tracklet)}; use associate for a whole table")
        key = (str(tracklet.camera[0]), str(tracklet.name[0]))
        if key in self._names:
            raise UserError(f"tracklet {key[1]!r} of camera {key[0]!r} was added before")
        if self._tables:
            Tracklets.join([self._tables[0], tracklet])
        self._names.add(key)
        self._tables.append(tracklet)
        number = None if self._state is None else self._state.add(tracklet)
        self._identity.append(self._new_number() if number is None else number)
        if self._state is not None and number is None:
            self._state.add_identity(self._identity[-1])
        revisions = self.review() if len(self) >= self._next_review else ()
        earlier = tuple(revision for revision in revisions if (revision.camera, revision.tracklet) != key)
        return Assignment(self._identity[-1], earlier)

    def review(self) -> tuple[Revision, ...]:
        """Associate all tracklets again, and return the changes; afterwards identities are those of `associate`."""
        if not self._tables:
            return ()
        tracklets = Tracklets.join(self._tables)
        association = associate(tracklets, self.settings)
        before = np.array(self._identity)
        after = self._numbers(association.identity, before)
        self._identity = after.tolist()
        self._state = _State(association, after, self.settings)
        self._next_review = max(len(self) + 1, math.ceil(len(self) * (1 + self.review_share)))
        names = zip(tracklets.camera.tolist(), tracklets.name.tolist(), before.tolist(), after.tolist(), strict=True)
        return tuple(Revision(camera, name, old, new) for camera, name, old, new in names if old != new)

    def _new_number(self) -> int:
        self._count_given += 1
        return self._count_given - 1

    def _numbers(self, identity: Ints, before: Ints) -> Ints:
        """Return new identities (N,) under the numbers of those before that share most tracklets with them."""
        names, place = np.unique(before, return_inverse=True)
        shared = np.zeros((int(identity.max()) + 1, len(names)))
        np.add.at(shared, (identity, place), 1)
        numbers = np.full(len(shared), -1)
        rows, columns = linear_sum_assignment(shared, maximize=True)
        matched = shared[rows, columns] > 0
        numbers[rows[matched]] = names[columns[matched]]
        for cluster in np.flatnonzero(numbers < 0).tolist():
            numbers[cluster] = self._new_number()
        return numbers[identity]


class _State:
    """What the next tracklet is compared with: statistics of cameras, sums of identities, and their members."""

    def __init__(self, association: Association, numbers: Ints, settings: AssociationSettings) -> None:
        tracklets = association.tracklets
        self.threshold = association.threshold
        self.cameras = sorted(set(tracklets.camera.tolist()))
        self.statistics: CameraStatistics | None = None
        if settings.camera_norm != "none" and len(self.cameras) > 1:
            camera = np.array([self.cameras.index(name) for name in tracklets.camera.tolist()])
            self.statistics = camera_statistics(tracklets.vectors, camera, how=settings.camera_norm)
        self.constraints = TrackletConstraints(tracklets, association.topology)
        self.numbers: list[int] = np.unique(numbers).tolist()
        self.rows = [np.flatnonzero(numbers == number).tolist() for number in self.numbers]
        units = self._units(tracklets)
        self.sums = [units[rows].sum(axis=0) for rows in self.rows]
        self.latest = units[-1]

    def _units(self, tracklets: Tracklets) -> Doubles:
        """Return the compared vectors (N, D) at length 1; a camera that is new has the mean of all subtracted."""
        vectors = tracklets.vectors
        if self.statistics is not None:
            known = {name: number for number, name in enumerate(self.cameras)}
            camera = np.array([known.get(name, -1) for name in tracklets.camera.tolist()])
            vectors = self.statistics.apply(vectors, camera)
        return unit_rows(vectors).astype(np.float64)

    def add(self, tracklet: Tracklets) -> int | None:
        """Return the number of the nearest identity that a tracklet may be of, None where none is near enough."""
        row = len(self.constraints.first)
        self.constraints.append(tracklet)
        self.latest = self._units(tracklet)[0]
        sizes = np.array([len(rows) for rows in self.rows])
        distances = 1 - np.stack(self.sums) @ self.latest / sizes
        order: list[int] = np.argsort(distances, kind="stable").tolist()
        for place in order:
            if distances[place] > self.threshold:
                return None
            timed = [other for other in self.rows[place] if self.constraints.members[other]]
            timeless = not self.constraints.members[row]
            if timeless or not any(self.constraints.are_different(row, other) for other in timed):
                self.rows[place].append(row)
                self.sums[place] = self.sums[place] + self.latest
                return self.numbers[place]
        return None

    def add_identity(self, number: int) -> None:
        """Make the latest tracklet an identity of its own."""
        self.numbers.append(number)
        self.rows.append([len(self.constraints.first) - 1])
        self.sums.append(self.latest)
