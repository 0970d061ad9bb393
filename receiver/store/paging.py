"""Keys of rows, some at a time, so that nobody reads all of them who wants a few."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

AT_ONCE = 500

Key = TypeVar("Key", int, str)


def newest_first(connection: Connection, *sources: tuple[sa.Select[Key], sa.Column[Any]]) -> Iterator[list[Key]]:
    """
    The keys that any of these queries finds, each once, the highest first, in batches of at most ``AT_ONCE``.

    sources: queries of one column each, with that column, by which an index must order them.
    """
    batch = _highest([connection.scalars(_some(*source)).all() for source in sources])
    while batch:
        yield batch
        below = batch[-1]
        rest = (_some(query.where(column < below), column) for query, column in sources)
        batch = _highest([connection.scalars(query).all() for query in rest])


def _some(query: sa.Select[Key], column: sa.Column[Any]) -> sa.Select[Key]:
    return query.distinct().order_by(column.desc()).limit(AT_ONCE)


def _highest(found: Sequence[Sequence[Key]]) -> list[Key]:
    """Each query has given its own highest, so none of theirs is higher than what is left out."""
    return sorted({key for keys in found for key in keys}, reverse=True)[:AT_ONCE]
