"""
Row numbers of events and turns in ``waiting``: one count for both, so that what is sent again goes behind the rest.

PostgreSQL counts in a sequence. SQLite's next number follows the highest one in use, which costs no page of its own; a
number may come again once nothing has it any more.
"""

from functools import cache

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store.tables import PROJECTOR, QUEUE, TURNS, Tables, define

_SQLITE = define("sqlite")


@cache
def last_of_sqlite(*others: str) -> str:
    """The statement that finds it. others: sinks that may have rows, beside the queue and the projector."""
    turns = (
        f"coalesce((SELECT max(turn) FROM {_SQLITE.waiting.name} WHERE sink = '{sink}'), 0)"  # noqa: S608 - names of ours
        for sink in (QUEUE, PROJECTOR, *others)
    )
    return f"SELECT max(coalesce((SELECT max(seq) FROM {_SQLITE.events.name}), 0), {', '.join(turns)})"  # noqa: S608


def put_in(connection: Connection, tables: Tables, some: sa.Select[tuple[int, str, int]], sink: str = QUEUE) -> int:
    """Let these events wait for the sink, behind what is there: their seq, fax_id and revision; how many."""
    chosen = some.order_by(sa.column("seq")).subquery()
    turn: sa.ColumnElement[int]
    if connection.dialect.name == "sqlite":
        known = {sink, *connection.scalars(sa.select(tables.sinks.c.name))} - {QUEUE, PROJECTOR}
        last = connection.exec_driver_sql(last_of_sqlite(*sorted(known))).scalar_one()
        turn = sa.func.row_number().over(order_by=chosen.c.seq) + last
    else:
        turn = sa.func.nextval(TURNS)
    rows = sa.select(sa.literal(sink), turn, chosen.c.seq, chosen.c.fax_id, chosen.c.revision).select_from(chosen)
    columns = ["sink", "turn", "seq", "fax_id", "revision"]
    insert = tables.waiting.insert().from_select(columns, rows).execution_options(preserve_rowcount=True)
    return int(connection.execute(insert).rowcount)
