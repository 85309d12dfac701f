"""A gallery in a folder: rows in SQLite, vectors in append-only shards of float16, no server and nothing to install.

The order of writes makes it crash-safe. Addition: the vectors are on the disk before the commit that names them.
Removal: the commit that removes the rows also notes which vectors are to be overwritten, which is done afterwards.
Whoever writes next finishes what a killed process began. SQLite's lock is the lock of all writers; readers need none.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from passerby.distances.units import unit_rows
from passerby.errors import UserError
from passerby.files import reason
from passerby.gallery.gallery import GalleryInfo, require_conditions, require_model
from passerby.gallery.inspecting import describe_folder, find_faults
from passerby.gallery.mapping import Halves
from passerby.gallery.rows import EVERYTHING, GalleryRows, Hits, Where, require_length
from passerby.gallery.scan import NearestRows, search_parts
from passerby.gallery.selecting import Selection, selection_of
from passerby.gallery.shards import ROWS_PER_SHARD, Shard, ShardFiles
from passerby.gallery.stored_rows import insert_rows, rows_at, select_rows, to_halves, with_thumbnails
from passerby.gallery.tables import (
    WAIT,
    conditions,
    connect,
    dimensions_of,
    in_pieces,
    next_number,
    read_generation,
    read_meta,
    snapshot,
    speaking,
    transaction,
    write_meta,
)
from passerby.gallery.tidying import (
    compact,
    erase_pending,
    is_worth_compacting,
    new_file,
    read_shards,
    recover,
)
from passerby.types import UNKNOWN, Floats, Ints, Words

SHARDS = "vectors"
"""Name of the folder of shards."""
ATTEMPTS = 20
"""How often a search is repeated because rows were removed in the middle of it."""


class FolderGallery:
    """A gallery in a folder; made by `open_gallery`.

    An object may be used by several threads, and survives a fork, after which it opens the folder again.
    """

    remains = ""

    def __init__(self, folder: Path, *, create: bool) -> None:
        self.folder = folder
        self.place = str(folder)
        self.files = ShardFiles(folder / SHARDS)
        if create:
            _make(folder)
        self._lock = threading.RLock()
        self._open(create=create)

    def _open(self, *, create: bool = False) -> None:
        self._process = os.getpid()
        self._connection, self.writable = connect(self.folder, create=create)

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock, speaking(self.folder):
            if self._process != os.getpid():  # SQLite forbids connections to go through a fork
                self._open()
            yield self._connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if not self.writable:
            raise UserError(f"{self.folder} is read-only, so nothing can be added to or removed from this gallery")
        with self._using() as connection, transaction(connection):
            recover(connection, self.files)
            yield connection

    def close(self) -> None:
        """Let go of the file; see `Gallery`."""
        self.files.keep_mapped([])
        if self._process == os.getpid():
            self._connection.close()

    def require_model(self, stamp: str | None) -> None:
        """Refuse another model than that of the gallery; the first one that is named becomes it.

        Raises:
            UserError: the gallery holds vectors of another model.

        """
        with self._using() as connection:
            stored = read_meta(connection, "model")
        if not stored and stamp and self.writable:
            with self._writing() as connection:
                stored = read_meta(connection, "model")
                if not stored and not dimensions_of(connection):
                    write_meta(connection, "model", stamp)
                    stored = stamp
        require_model(str(self.folder), stored, stamp)

    # ---- writing

    def add(self, rows: GalleryRows) -> Ints:
        """Store rows; see `Gallery`."""
        halves = to_halves(rows.vectors)
        with self._writing() as connection:
            dimensions = dimensions_of(connection)
            if not dimensions:
                dimensions = rows.vectors.shape[1]
                write_meta(connection, "dimensions", str(dimensions))
            require_length(rows.vectors, dimensions)
            ids = next_number(connection, "next_id", len(rows)) + np.arange(len(rows))
            positions = self._append(connection, halves)
            insert_rows(connection, rows, ids=ids, positions=positions, halves=halves, added=time.time())
        self.apply_policy()
        return ids

    def _append(self, connection: sqlite3.Connection, halves: Halves) -> Ints:
        """Write vectors behind the last shard and into new ones, and return their positions."""
        shards = read_shards(connection)
        positions: list[Ints] = []
        done = 0
        while done < len(halves):
            if not shards or shards[-1].count == ROWS_PER_SHARD:
                shards.append(Shard(shards[-1].number + 1 if shards else 0, new_file(connection), 0))
            shard = shards[-1]
            part = halves[done : done + ROWS_PER_SHARD - shard.count]
            self.files.append(shard, part)
            shards[-1] = Shard(shard.number, shard.file, shard.count + len(part))
            line = (shard.number, shard.file, shards[-1].count)
            connection.execute("INSERT OR REPLACE INTO shards VALUES (?, ?, ?)", line)
            positions.append(shard.first + shard.count + np.arange(len(part)))
            done += len(part)
        return np.concatenate(positions) if positions else np.empty(0, np.int64)

    def delete(self, where: Where) -> int:
        """Remove rows; see `Gallery`."""
        require_conditions(where)
        count = self._remove(where, audit=None)
        with self._writing() as connection:
            worth = is_worth_compacting(connection)
        if worth:
            self.compact()
        return count

    def forget(self, where: Where) -> int:
        """Remove rows and all traces of them; see `Gallery`."""
        require_conditions(where)
        count = self._remove(where, audit=", ".join(where.kinds))
        self.compact()
        self._empty_journal()
        return count

    def _remove(self, where: Where, *, audit: str | None) -> int:
        end, values = conditions(where)
        with self._writing() as connection:
            chosen = connection.execute(f"SELECT id, position FROM rows{end}", values).fetchall()
            for places, piece in in_pieces([number for number, _ in chosen]):
                connection.execute(f"DELETE FROM rows WHERE id IN ({places})", piece)
                connection.execute(f"DELETE FROM thumbnails WHERE id IN ({places})", piece)
            connection.executemany("INSERT INTO holes VALUES (?, 0)", [(position,) for _, position in chosen])
            if chosen:
                next_number(connection, "generation", 1)
            if audit is not None:
                connection.execute("INSERT INTO audit VALUES (?, ?, ?)", (time.time(), len(chosen), audit))
        with self._writing() as connection:
            erase_pending(connection, self.files)
        return len(chosen)

    def compact(self) -> None:
        """Close the holes of removed rows and join small shards."""
        with self._writing() as connection:
            replaced = compact(connection, self.files)
            if replaced:
                next_number(connection, "generation", 1)
                self.files.keep_mapped(read_shards(connection))
        for file in replaced:
            self.files.wipe(file)

    def _empty_journal(self) -> None:
        """Bring the journal into the file and cut it to nothing, so that removed rows are in neither."""
        deadline = time.monotonic() + WAIT
        with self._using() as connection:
            while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"the rows are gone, but another process has been reading {self.folder} for {WAIT:.0f} "
                        "seconds, so traces of them are in the journal; call `passerby gallery forget` again"
                    )
                time.sleep(0.05)

    def apply_policy(self) -> int:
        """Forget what is too old; see `Gallery`."""
        with self._using() as connection:
            after = read_meta(connection, "forget_after")
            if not after:
                return 0
            where = Where(before=time.time() - float(after))
            end, values = conditions(where)
            if connection.execute(f"SELECT 1 FROM rows{end} LIMIT 1", values).fetchone() is None:
                return 0
        return self.forget(where)

    def set_policy(self, forget_after: float | None) -> None:
        """Set the policy; see `Gallery`."""
        with self._writing() as connection:
            write_meta(connection, "forget_after", "" if forget_after is None else repr(forget_after))

    def identify(self, camera: Words, tracklet: Words, identity: Words) -> int:
        """Set identities of tracklets; see `Gallery`."""
        lines = zip(identity.tolist(), camera.tolist(), tracklet.tolist(), strict=True)
        with self._writing() as connection:
            statement = "UPDATE rows SET identity = ? WHERE camera = ? AND tracklet = ?"
            return sum(connection.execute(statement, line).rowcount for line in lines)

    # ---- reading

    def search(self, vectors: Floats, *, top: int, where: Where = EVERYTHING) -> Hits:
        """Find the most similar rows; see `Gallery`."""
        vectors = unit_rows(np.asarray(vectors, np.float32))
        for _ in range(ATTEMPTS):
            selection = self.select(where)
            require_length(vectors, selection.dimensions)
            try:
                nearest = search_parts(selection.parts, vectors, top=top, opener=self.files.open_rows)
            except FileNotFoundError:  # a shard was replaced by a compaction
                continue
            hits = self.hits(selection, nearest)
            if hits is not None:
                return hits
        raise self._restless()

    def select(self, where: Where = EVERYTHING) -> Selection:
        """Return the rows that a search looks at, as parts of shards, which any process on this machine may search."""
        with self._using() as connection, snapshot(connection):
            return selection_of(connection, self.files, where)

    def hits(self, selection: Selection, nearest: NearestRows) -> Hits | None:
        """Return the rows of an answer, or None where rows were removed since the selection."""
        present = nearest.position != UNKNOWN
        try:
            with self._using() as connection, snapshot(connection):
                shards = read_shards(connection)
                rows, places = rows_at(
                    connection, np.unique(nearest.position[present]), files=self.files, shards=shards
                )
        except (FileNotFoundError, UserError):  # a vector was overwritten or moved while it was read
            if self.generation == selection.generation:
                raise
        if self.generation != selection.generation:
            return None
        ids = np.full(nearest.position.shape, UNKNOWN, np.int64)
        ids[present] = rows.id[np.searchsorted(places, nearest.position[present])]
        return Hits(ids, np.where(present, nearest.similarity, np.float32(np.nan)), rows)

    def list(self, where: Where = EVERYTHING, *, limit: int | None = None, after: int = -1) -> GalleryRows:
        """Return rows; see `Gallery`."""
        end, values = conditions(where)
        end += f"{' AND' if end else ' WHERE'} id > ? ORDER BY id LIMIT ?"
        values += [after, -1 if limit is None else limit]
        for _ in range(ATTEMPTS):
            generation = self.generation
            try:
                with self._using() as connection, snapshot(connection):
                    rows = select_rows(connection, end, values, files=self.files, shards=read_shards(connection))
                    rows = with_thumbnails(connection, rows)
            except (FileNotFoundError, UserError):
                if self.generation == generation:
                    raise
            if self.generation == generation:
                return rows
        raise self._restless()

    @property
    def generation(self) -> int:
        """Number of removals and compactions so far."""
        with self._using() as connection:
            return read_generation(connection)

    def _restless(self) -> UserError:
        return UserError(f"rows of {self.folder} are being removed faster than they can be read; try again later")

    def info(self) -> GalleryInfo:
        """Return a description; see `Gallery`."""
        with self._using() as connection, snapshot(connection):
            return describe_folder(connection, self.folder)

    def check(self) -> tuple[str, ...]:
        """Read everything; see `Gallery`. What a killed writer left is finished first, where the folder is writable."""
        if self.writable:
            with self._writing():
                pass
        for _ in range(ATTEMPTS):
            generation = self.generation
            try:
                with self._using() as connection, snapshot(connection):
                    faults = find_faults(connection, self.files)
            except FileNotFoundError:
                faults = (f"a file of vectors is missing in {self.files.folder}",)
            if self.generation == generation:
                return faults
        raise self._restless()


def _make(folder: Path) -> None:
    try:
        (folder / SHARDS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {reason(error)}") from error


def open_folder(place: str, *, model_stamp: str | None = None, create: bool = False) -> FolderGallery:
    """Open the gallery in a folder; see `open_gallery`."""
    gallery = FolderGallery(Path(place), create=create)
    try:
        gallery.require_model(model_stamp)
    except BaseException:
        gallery.close()
        raise
    return gallery
