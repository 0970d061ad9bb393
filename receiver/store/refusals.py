"""How many requests were refused without a receipt, so that an operator sees a wrong token or path without the log."""

from collections import Counter
from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store.tables import Tables, insert

STEP_MS = 300_000


def add(connection: Connection, tables: Tables, counts: Mapping[tuple[str, str], int], now_ms: int) -> None:
    """Count refusals of now. counts: by endpoint (``-`` where the path names none) and reason."""
    table = tables.refusals
    statement = insert(table, connection.dialect.name)
    adding = statement.on_conflict_do_update(
        index_elements=list(table.primary_key), set_={"count": table.c.count + statement.excluded.count}
    )
    since = now_ms - now_ms % STEP_MS
    # In one order everywhere, or two processes that write the same rows could wait for each other.
    rows = [
        {"from_ms": since, "endpoint": endpoint, "reason": reason, "count": count}
        for (endpoint, reason), count in sorted(counts.items())
    ]
    connection.execute(adding, rows)


def since(connection: Connection, tables: Tables, at_ms: int) -> Counter[tuple[str, str]]:
    """Refusals by endpoint and reason since then, to a step more."""
    table = tables.refusals
    query = (
        sa.select(table.c.endpoint, table.c.reason, sa.func.sum(table.c.count))
        .where(table.c.from_ms > at_ms - STEP_MS)
        .group_by(table.c.endpoint, table.c.reason)
    )
    return Counter({(endpoint, reason): int(count) for endpoint, reason, count in connection.execute(query)})
