"""
How far retention has come: the rows before these places were looked at, and those among them that were still
undelivered were left.

The row in ``meta`` is also the lock between retention and those who change what is undelivered: who has it alone may
rely on what ``waiting`` says, and who shares it knows which of the rows it takes were left behind.
"""

import json
from dataclasses import asdict, dataclass, fields

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store.tables import Tables, insert_or_keep, insert_or_replace

_FIRST_ID = "00000000-0000-0000-0000-000000000000"
_SHARED, _ALONE = (f"SELECT pg_advisory_xact_lock{how}({0x666178706C6163})" for how in ("_shared", ""))
PLACES = "retention"  # the row's name in ``meta``


@dataclass(slots=True)
class Places:
    """
    payloads, events: row numbers of events, whose payload was blanked, or that were deleted, up to here. receipts,
    rejected_receipts: ids of the receipts whose body was blanked up to here.
    """

    payloads: int = 0
    events: int = 0
    receipts: str = _FIRST_ID
    rejected_receipts: str = _FIRST_ID

    def text(self) -> str:
        return json.dumps(asdict(self))


BEGINNING = Places().text()


def locked(connection: Connection, tables: Tables, *, shared: bool = False) -> Places:
    """The places, locked until the transaction ends; shared: others may share them as well."""
    if connection.dialect.name == "postgresql":  # in turn: who wants it alone waits for no stream of those who share it
        connection.exec_driver_sql(_SHARED if shared else _ALONE)
    found = _noted(connection, tables)
    if found is None:  # lost with a bad page
        insert = insert_or_keep(tables.meta, connection.dialect.name)
        connection.execute(insert.values(name=PLACES, value=BEGINNING))
        return Places()
    return found


def noted(connection: Connection, tables: Tables) -> Places:
    """The places, for who only reads."""
    return _noted(connection, tables) or Places()


def _noted(connection: Connection, tables: Tables) -> Places | None:
    value = connection.scalar(sa.select(tables.meta.c.value).where(tables.meta.c.name == PLACES))
    if value is None:
        return None
    known = {field.name for field in fields(Places)}  # a newer version may have noted more
    return Places(**{name: place for name, place in json.loads(value).items() if name in known})


def step_back(connection: Connection, tables: Tables, places: Places) -> None:
    """After events were deleted: SQLite gives a number again when it was the highest."""
    newest = connection.scalar(sa.select(sa.func.max(tables.events.c.seq))) or 0
    places.events = min(places.events, newest)
    places.payloads = min(places.payloads, newest)


def move(connection: Connection, tables: Tables, places: Places) -> None:
    """Keep them. They must be locked by the same transaction, and not shared."""
    insert = insert_or_replace(tables.meta, connection.dialect.name)
    connection.execute(insert.values(name=PLACES, value=places.text()))
