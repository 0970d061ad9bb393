"""
Copying a whole store into an empty one, in either database, table by table in the order of its keys.

Each transaction notes in the new store how far it has come, so that a copy that was killed goes on from there; until
the end nothing else works with the new store (``migrating.check_version``). Nobody writes the old one meanwhile.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.errors import StoreError
from receiver.store import Store, outbox, turns
from receiver.store.carrying import (
    COPYING,
    Source,
    Tally,
    batches,
    carried,
    count_on,
    key_of,
    read_key,
    write,
    written_key,
)
from receiver.store.leading import Leadership, is_led
from receiver.store.migrating import check_exact, migrate
from receiver.store.postgresql import POOLED
from receiver.store.projection import forget_keys
from receiver.store.sqlite import SQLITE
from receiver.store.tables import PROJECTOR, Tables

_REPEATABLE = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
_LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
_OTHERS = (
    "SELECT pid, client_addr FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND application_name = current_setting('application_name') ORDER BY pid"
)
_STOP = "stop faxhook on every machine (serve, relay, consume, reconcile) and run this again"


@dataclass(frozen=True, slots=True)
class _Place:
    """How far a copy has come. source: what is copied. done: tables; after: the last key of the one in hand."""

    source: str
    done: list[str] = field(default_factory=list)
    after: list[Any] = field(default_factory=list)

    def text(self) -> str:
        return json.dumps(asdict(self))


# --- the old store --------------------------------------------------------------------------------------------------


@contextmanager
def snapshot(store: Store) -> Iterator[Source]:
    """PostgreSQL as it is at one moment; others go on."""
    with store.reading() as connection:
        connection.exec_driver_sql(_REPEATABLE)
        _unlimited(connection)
        yield Source(store.dialect, connection.connection.driver_connection)


@contextmanager
def left_alone(store: Store) -> Iterator[tuple[Source, Callable[[], None]]]:
    """
    A store that nobody writes as long as the block lasts; and what is called at its end, before one relies on that.

    Raises StoreError where somebody has it open.
    """
    with _alone_with_file(store) if store.file is not None else _alone_with_database(store) as found:
        yield found


@contextmanager
def _alone_with_file(store: Store) -> Iterator[tuple[Source, Callable[[], None]]]:
    """SQLite gives the file to one connection only while no other process has it open, and lets none open it then."""
    assert store.file is not None
    path = store.file.path
    store.close()
    relay = Leadership(store)  # where there is no log, SQLite itself does not tell who is idle
    try:
        if not relay.hold():
            raise StoreError(f"{store.where}: a relay works with it; {_STOP}")
        with store.our_trouble(), closing(SQLITE.connect(path, timeout=0, isolation_level=None)) as connection:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            try:
                connection.execute("BEGIN EXCLUSIVE")
            except SQLITE.OperationalError as error:
                if not error.sqlite_errorname.startswith("SQLITE_BUSY"):
                    raise
                raise StoreError(
                    f"{store.where}: another process has it open (`fuser {path}` names it); {_STOP}"
                ) from None
            yield Source(store.dialect, connection), lambda: None
    finally:
        relay.give_up()


@contextmanager
def _alone_with_database(store: Store) -> Iterator[tuple[Source, Callable[[], None]]]:
    """
    All its tables are locked against writers. A process that is idle shows in ``pg_stat_activity``, unless a pooler
    hides it, which keeps connections of its own; and a relay by its lease.
    """
    with store.reading() as connection:
        connection.exec_driver_sql(_REPEATABLE)
        _unlimited(connection)
        names = ", ".join(table.fullname for table in store.tables.metadata.sorted_tables)
        try:
            connection.exec_driver_sql(f"LOCK TABLE {names} IN SHARE MODE NOWAIT")
        except sa.exc.OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != "55P03":
                raise
            raise StoreError(f"{store.where}: somebody writes into it; {_STOP}") from None

        if connection.scalar(sa.select(is_led(store.tables))):
            raise StoreError(f"{store.where}: a relay works with it; {_STOP}")

        def check() -> None:
            connection.exec_driver_sql("SELECT pg_stat_clear_snapshot()")  # else it sees what it saw before
            others = [] if connection.info.get(POOLED) else connection.exec_driver_sql(_OTHERS).all()
            if others:
                shown = ", ".join(f"{pid} from {address or 'a local socket'}" for pid, address in others)
                raise StoreError(f"{store.where}: faxhook is connected to it (process {shown}); {_STOP}")

        check()
        yield Source(store.dialect, connection.connection.driver_connection), check


# --- the new one ----------------------------------------------------------------------------------------------------


def copy(
    source: Source,
    name: str,
    to: Store,
    *,
    check: Callable[[], None] = lambda: None,
    tell: Callable[[str], object] = lambda _text: None,
    project_anew: bool = False,
) -> Iterator[tuple[str, Tally]]:
    """
    Fill a store that is empty, or one that a copy from the same source has begun to fill.

    name: of the source, so that it is known again. check: raises StoreError where the source was not left alone.
    tell: takes how far it has come, in words. Yields each table with what is in it, once both stores were read and are
    the same. Raises StoreError where the new store has rows of others.
    """
    migrate(to)
    check_exact(to)
    under_way = _Copy(source, to, _begun(to, name), tell)
    read: dict[str, Tally] = {}
    for table in carried(to.tables):
        if table not in under_way.place.done:
            read |= under_way.fill(table)
    for table in carried(to.tables):
        yield table, under_way.verified(table, read.get(table))
    check()
    with _writing(to) as connection:
        count_on(connection, to.tables)
        made_whole(connection, to.tables, project_anew=project_anew)
        _move(connection, to.tables, under_way.place, None)


def made_whole(connection: Connection, tables: Tables, *, project_anew: bool = False) -> None:
    """
    Let a store go on elsewhere: no consumer has leased anything there.

    project_anew: what events are found by was made with a secret key that is lost; it is made with the present one.
    """
    outbox.reclaim_all(connection, tables)
    if project_anew:
        forget_keys(connection, tables)
        events, waiting = tables.events, tables.waiting
        waits = sa.exists().where(waiting.c.sink == PROJECTOR, waiting.c.seq == events.c.seq)
        others = sa.select(events.c.seq, events.c.fax_id, events.c.revision).where(~waits)
        turns.put_in(connection, tables, others, PROJECTOR)


def _begun(to: Store, name: str) -> _Place:
    """Where a copy is to go on; noted, so that nobody begins to work with the store."""
    meta = to.tables.meta
    with to.writing() as connection:
        noted = connection.scalar(sa.select(meta.c.value).where(meta.c.name == COPYING))
        if noted is not None:
            place = _Place(**json.loads(noted))
            if place.source != name:
                raise StoreError(
                    f"{to.where}: a copy of another store into it ({place.source}) was not finished; finish that"
                    " one, or name an empty store"
                )
            return place
        full = [
            one
            for one, table in carried(to.tables).items()
            if table is not meta and connection.execute(sa.select(table).limit(1)).first() is not None
        ]
        if full:
            raise StoreError(f"{to.where}: has rows already (in {', '.join(full)}); expected an empty store")
        place = _Place(name)
        connection.execute(meta.insert().values(name=COPYING, value=place.text()))
    return place


class _Copy:
    """One that is under way, and its place."""

    def __init__(self, source: Source, to: Store, place: _Place, tell: Callable[[str], object]) -> None:
        self.place = place
        self._source = source
        self._to = to
        self._tell = tell

    def fill(self, name: str) -> dict[str, Tally]:
        """The rest of a table; what was read of it, if that was all of it."""
        table = carried(self._to.tables)[name]
        is_whole = not self.place.after
        tally = Tally()
        if is_whole:
            with self._moving(self.place) as connection:
                connection.execute(table.delete().where(*_but_the_place(table, self._to.tables)))
        for batch in batches(self._source.read(name, read_key(table, self.place.after))):
            with self._moving(replace(self.place, after=written_key(key_of(table, batch[-1])))) as connection:
                write(connection, table, batch)
            tally = tally.and_of(batch)
            self._tell(f"{name}: {tally.rows} rows copied")
        with self._moving(replace(self.place, done=[*self.place.done, name], after=[])):
            pass
        return {name: tally} if is_whole else {}

    def verified(self, name: str, read: Tally | None) -> Tally:
        """
        What is in a table of both stores. Where they differ, something was written after the copy had been cut short,
        and the table is copied once more.
        """
        expected = read or self._source.tally(name)
        is_same = _there(self._to, name) == expected
        self._tell(f"{name}: {expected.rows} rows compared")
        if is_same:
            return expected
        with self._moving(replace(self.place, done=[one for one in self.place.done if one != name])):
            pass
        expected = self.fill(name)[name]
        if _there(self._to, name) != expected:
            raise StoreError(f"{self._to.where}: {name} is not as it was written; is its disk failing?")
        return expected

    @contextmanager
    def _moving(self, place: _Place) -> Iterator[Connection]:
        """A transaction at whose end the copy has come to this place. Raises StoreError where another copy runs."""
        with _writing(self._to) as connection:
            yield connection
            _move(connection, self._to.tables, self.place, place)
        self.place = place


def _there(to: Store, name: str) -> Tally:
    with to.reading() as connection:
        _unlimited(connection)
        return Source(to.dialect, connection.connection.driver_connection).tally(name)


def _move(connection: Connection, tables: Tables, old: _Place, new: _Place | None) -> None:
    """Note the next place, or that the copy is finished. Raises StoreError where another copy has moved on."""
    meta = tables.meta
    at_old = meta.c.name == COPYING, meta.c.value == old.text()
    change = meta.delete().where(*at_old) if new is None else meta.update().where(*at_old).values(value=new.text())
    if connection.execute(change).rowcount != 1:
        raise StoreError("another copy into this store is running; wait for its end")


def _but_the_place(table: sa.Table, tables: Tables) -> Sequence[sa.ColumnElement[bool]]:
    return (tables.meta.c.name != COPYING,) if table is tables.meta else ()


@contextmanager
def _writing(to: Store) -> Iterator[Connection]:
    with to.writing() as connection:
        _unlimited(connection)
        yield connection


def _unlimited(connection: Connection) -> None:
    """Begin a transaction that may take as long as it needs."""
    if not connection.in_transaction():
        connection.begin()
    if connection.dialect.name != "sqlite":
        for limit in _LIMITS:
            connection.exec_driver_sql(f"SET LOCAL {limit} = 0")
