"""How far each report of an account has been read, and figures that reports gave. Moved where faxes are recorded."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store.tables import Tables, insert_or_replace


def position(connection: Connection, tables: Tables, provider: str, account: str, report: str) -> str | None:
    """What was kept last; None before the first time."""
    table = tables.cursors
    query = sa.select(table.c.position).where(
        table.c.provider == provider, table.c.account == account, table.c.report == report
    )
    return connection.execute(query).scalar_one_or_none()


def move(
    connection: Connection, tables: Tables, provider: str, account: str, report: str, position: str, now_ms: int
) -> None:
    """Keep a position that no faxes go with."""
    values = {"provider": provider, "account": account, "report": report, "position": position, "moved_at_ms": now_ms}
    connection.execute(insert_or_replace(tables.cursors, connection.dialect.name).values(**values))


def all_of(connection: Connection, tables: Tables, report: str) -> dict[tuple[str, str], tuple[str, int]]:
    """(provider, account) -> position and when it was moved (milliseconds), of one report at all accounts."""
    table = tables.cursors
    query = sa.select(table).where(table.c.report == report)
    return {(row.provider, row.account): (row.position, row.moved_at_ms) for row in connection.execute(query)}
