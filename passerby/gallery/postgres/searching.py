"""Search of a gallery in a database: exact, by the server or, for many queries, here; or by the index of pgvector.

The server compares halfvec with halfvec, so a query is sent as the sum of two: q = h + l / 2048 holds 22 bits of each
of its numbers. Whichever way rows are chosen, their similarities are computed here, in float64 from the stored float16,
and rounded to float32; equal ones are ordered by id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from passerby.distances.nearest import smallest
from passerby.gallery.postgres.stored_rows import HalfVector, fetch_rows, from_binary, stream_vectors, to_binary
from passerby.gallery.postgres.tables import Tables, sql_conditions
from passerby.gallery.products import nearest_of
from passerby.gallery.rows import Hits, Where
from passerby.threads import inference_threads
from passerby.types import UNKNOWN, Floats, Ints

if TYPE_CHECKING:
    from passerby.gallery.postgres.connection import Connection

LOW = 2048
"""Factor of the part of a query that float16 rounds away."""
STREAMED = 8
"""Queries from which the vectors are fetched once instead of being compared by the server for each query."""
QUERIES = 256
"""Queries whose products are held at a time."""
LEAST_BREADTH, MOST_BREADTH = 100, 1000
"""Candidates of an approximate search; the upper one is pgvector's."""


def search_exactly(connection: Connection, tables: Tables, vectors: Floats, *, top: int, where: Where) -> Hits:
    """Find the most similar rows of all that fulfil the conditions, inside of a transaction.

    Args:
        connection: of the gallery.
        tables: of the gallery.
        vectors: (Q, D) of unit length.
        top: K.
        where: rows that are searched.

    """
    if len(vectors) >= STREAMED:
        ids = _nearest_of_stream(connection, tables, vectors, top=top, where=where)
    else:
        ids = [_nearest_by_server(connection, tables, query, top=top, where=where) for query in vectors]
    return _scored(connection, tables, vectors, ids, top=top)


def search_by_index(
    connection: Connection, tables: Tables, vectors: Floats, *, top: int, where: Where, breadth: int
) -> Hits:
    """Find rows by the HNSW index; a query for which it returns fewer than K rows is searched exactly.

    Args:
        connection: of the gallery.
        tables: of the gallery.
        vectors: (Q, D) of unit length.
        top: K.
        where: rows that are searched.
        breadth: candidates of the index, which are then ordered exactly.

    """
    end, values = sql_conditions(where)
    statement = tables.sql(f"SELECT id, vector FROM {{0}}{end} ORDER BY vector <#> %s LIMIT %s")
    cursor = connection.cursor(binary=True)
    connection.execute("SELECT set_config('hnsw.ef_search', %s, true)", (str(breadth),))
    connection.execute("SET LOCAL hnsw.iterative_scan = relaxed_order")
    ids = []
    for query, encoded in zip(vectors, to_binary(vectors), strict=True):
        lines = cursor.execute(statement, [*values, encoded, max(breadth, top)]).fetchall()
        if len(lines) < top:
            ids.append(_nearest_by_server(connection, tables, query, top=top, where=where))
            continue
        numbers, halves = zip(*cast("list[tuple[int, HalfVector]]", lines), strict=True)
        candidates = np.array(numbers, np.int64)
        order, _ = _ordered(candidates, from_binary(halves, len(query)), query, top=top)
        ids.append(candidates[order])
    return _scored(connection, tables, vectors, ids, top=top)


def _nearest_by_server(connection: Connection, tables: Tables, query: Floats, *, top: int, where: Where) -> Ints:
    """Return the ids (K or fewer) of the rows nearest to one query (D,), compared by the server."""
    end, values = sql_conditions(where)
    high = query.astype(np.float16).astype(np.float32)
    pair: list[HalfVector] = to_binary(np.stack([high, (query - high) * LOW]))
    # an expression instead of the operator alone, so that no index for approximate search serves
    order = f"(vector <#> %s) + (vector <#> %s) / {LOW}, id"
    statement = tables.sql(f"SELECT id FROM {{0}}{end} ORDER BY {order} LIMIT %s")
    lines = connection.execute(statement, [*values, *pair, top]).fetchall()
    return np.array(lines, np.int64).reshape(-1)


def _nearest_of_stream(
    connection: Connection, tables: Tables, vectors: Floats, *, top: int, where: Where
) -> list[Ints]:
    """Return the ids (K or fewer) of the rows nearest to each query (Q, D), compared here, block by block."""
    end, values = sql_conditions(where)
    best = np.empty((len(vectors), 0), np.float32)
    ids = np.empty((len(vectors), 0), np.int64)
    negated = -torch.from_numpy(vectors)
    with torch.inference_mode(), inference_threads("cpu"):
        for numbers, _, halves in stream_vectors(connection, tables, end, values):
            block = torch.from_numpy(halves).float().T
            for start in range(0, len(vectors), QUERIES):
                chunk = slice(start, start + QUERIES)
                products = torch.mm(negated[chunk], block)
                _, worst = smallest(products, min(top, len(numbers)))
                places, distances = nearest_of(halves, None, vectors[chunk], products.numpy(), worst)
                if not start:
                    width = best.shape[1]
                    best = np.pad(best, ((0, 0), (0, places.shape[1])))
                    ids = np.pad(ids, ((0, 0), (0, places.shape[1])))
                best[chunk, width:], ids[chunk, width:] = distances, numbers[places]
            order = np.lexsort((ids, best), axis=1)[:, :top]
            best, ids = np.take_along_axis(best, order, axis=1), np.take_along_axis(ids, order, axis=1)
    return list(ids)


def _scored(connection: Connection, tables: Tables, vectors: Floats, ids: list[Ints], *, top: int) -> Hits:
    """Return rows (at most K of each query) with their exact similarities, best first."""
    wanted = np.unique(np.concatenate(ids)) if ids else np.empty(0, np.int64)
    rows = fetch_rows(connection, tables, " WHERE id = ANY(%s::bigint[]) ORDER BY id", [wanted.tolist()])
    result = np.full((len(vectors), top), UNKNOWN, np.int64)
    similarity = np.full((len(vectors), top), np.nan, np.float32)
    for query, numbers in enumerate(ids):
        order, values = _ordered(numbers, rows.vectors[np.searchsorted(rows.id, numbers)], vectors[query], top=top)
        result[query, : len(order)], similarity[query, : len(order)] = numbers[order], values
    return Hits(result, similarity, rows)


def _ordered(ids: Ints, stored: Floats, query: Floats, *, top: int) -> tuple[Ints, Floats]:
    """Return the order (K or fewer) of rows by ids (N,) and stored vectors (N, D), and their similarities."""
    exact = (stored.astype(np.float64) @ query.astype(np.float64)).astype(np.float32)
    order = np.lexsort((ids, -exact))[:top]
    return order, exact[order]
