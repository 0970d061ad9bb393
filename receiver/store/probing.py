"""Whether a callback could be committed now: tried along its own way, with its locks and on its tables."""

import time
from functools import cache

import sqlalchemy as sa

from receiver.store import DAMAGED, Store, now_ms
from receiver.store.tables import define
from receiver.store.trouble import BUSY_SECONDS, StoreUnavailable


def probe(store: Store, seconds: float = BUSY_SECONDS) -> None:
    """
    Commit something small, with all that a callback's commit could be stopped by; raises Unavailable where it is.

    seconds: how long it may wait, by default as long as a callback may. Nothing is added to any table but one row.
    """
    with store.recording(time.monotonic() + seconds) as cursor:
        for statement in _statements(store.engine.dialect):
            cursor.execute(statement)
            if cursor.description:
                cursor.fetchall()
        cursor.execute(f"SELECT 1 FROM {store.tables.meta.fullname} WHERE name = '{DAMAGED}'")  # noqa: S608 - ours
        if cursor.fetchone():
            raise StoreUnavailable("Damaged")
        cursor.execute(_touch(store.dialect, now_ms()))


@cache
def _statements(dialect: sa.Dialect) -> tuple[str, ...]:
    """Inserts of no row, for locks, rights and the table itself; and a look at the newest row where rows grow."""
    tables = define(dialect.name)
    written = (
        *(tables.faxes, tables.announcements, tables.events, tables.waiting, tables.learned, tables.repeats),
        *(tables.receipts, tables.rejected_receipts, tables.replays),
        *(tables.jobs, tables.cursors, tables.discrepancies),
    )
    statements: list[sa.sql.ClauseElement] = []
    for table in written:
        statements.append(table.insert().from_select(table.c.keys(), sa.select(table).where(sa.text("1 = 0"))))
    for key in (tables.events.c.seq, tables.receipts.c.id, tables.rejected_receipts.c.id, tables.waiting.c.turn):
        statements.append(sa.select(key).order_by(key.desc()).limit(1))
    return tuple(str(one.compile(dialect=dialect, compile_kwargs={"literal_binds": True})) for one in statements)


def _touch(dialect: str, at_ms: int) -> str:
    meta = define(dialect).meta.fullname
    values = f"INSERT INTO {meta} (name, value) VALUES ('touched', '{at_ms}')"  # noqa: S608 - ours
    return f"{values} ON CONFLICT (name) DO UPDATE SET value = excluded.value"
