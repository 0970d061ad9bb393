"""
Operators' counters of what reports told: `reconcile` comes and goes, and has no ``/metrics`` of its own.
"""

import json
from collections import Counter
from typing import TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store.tables import Tables, insert

Counts: TypeAlias = "Counter[tuple[str, ...]]"  # (name in receiver.metrics, value of each label) -> how many


def add(connection: Connection, tables: Tables, counts: Counts) -> None:
    """Let these counters grow."""
    table = tables.counters
    for series, count in sorted(counts.items()):  # in one order, so that two never wait for each other
        statement = insert(table, connection.dialect.name).values(series=json.dumps(series), count=count)
        grown = {"count": table.c.count + statement.excluded.count}
        connection.execute(statement.on_conflict_do_update(index_elements=["series"], set_=grown))


def all_of(connection: Connection, tables: Tables) -> Counts:
    table = tables.counters
    rows = connection.execute(sa.select(table.c.series, table.c.count))
    return Counter({tuple(json.loads(row.series)): row.count for row in rows})
