"""
Rows of a store on their way to another one, from either database to either, and what tells that all have arrived.

Which tables are carried follows from their declarations. In between, a value is what SQLite keeps: ids and digests are
bytes, true is 1. PostgreSQL's are brought to that form and back.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeAlias
from uuid import UUID

import sqlalchemy as sa

from receiver.store.tables import PREFIX, TURNS, Tables, define
from receiver.store.types import Id, Pairs, Sha256

Row: TypeAlias = tuple[Any, ...]
Key: TypeAlias = Sequence[Any]

COPYING = "copying"  # the row in ``meta`` of a store that a copy into it has not finished; it is never carried

_AT_ONCE = 1000  # rows in one transaction
_BYTES_AT_ONCE = 8 * 1024 * 1024  # of bodies
_FETCHED = 50  # bodies may be large
_ALL = 1 << 256
_POSTGRESQL_NAMES: dict[type, str] = {
    sa.Integer: "int4",
    sa.BigInteger: "int8",
    sa.Boolean: "bool",
    sa.Double: "float8",
    sa.Text: "text",
    sa.LargeBinary: "bytea",
    Sha256: "bytea",
    Pairs: "bytea",
    Id: "uuid",
}


@dataclass(frozen=True, slots=True)
class Tally:
    """Of a table: how many rows, and the sum of their SHA-256s modulo 2^256 in hexadecimal, whatever their order."""

    rows: int = 0
    checksum: str = "0" * 64

    def and_of(self, rows: Iterable[Row]) -> "Tally":
        """With these rows as well."""
        count, total = self.rows, int(self.checksum, 16)
        for row in rows:
            count += 1
            total += int.from_bytes(sha256(ascii(row).encode()).digest())
        return Tally(count, f"{total % _ALL:064x}")


def carried(tables: Tables) -> dict[str, sa.Table]:
    """
    By their names without prefix or schema. Nonces stay behind: they are over within minutes, and a callback that is
    repeated after that, with an old one, is a duplicate.
    """
    some = [table for table in tables.metadata.sorted_tables if table is not tables.nonces]
    return {table.name.removeprefix(PREFIX): table for table in some}


class Source:
    """A consistent view of a store. connection: the driver's, in a transaction that ends with the view."""

    def __init__(self, dialect: str, connection: Any) -> None:
        self.tables = define(dialect)
        self._dialect = dialect
        self._connection = connection

    def read(self, name: str, after: Key = ()) -> Iterator[Row]:
        """The rows of a table in the order of its key, from behind this key on."""
        table = carried(self.tables)[name]
        key = ", ".join(f'"{column.name}"' for column in table.primary_key)
        conditions = [f"name <> '{COPYING}'"] if table is self.tables.meta else []
        if after:
            mark = "?" if self._dialect == "sqlite" else "%s"
            conditions.append(f"({key}) > ({', '.join(mark for _ in after)})")
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        query = f"SELECT {_names(table)} FROM {table.fullname}{where} ORDER BY {key}"  # noqa: S608 - names of ours
        if self._dialect == "sqlite":
            return _batch_by_batch(self._connection.cursor().execute(query, tuple(after)))
        given = tuple(_given(column, value) for column, value in zip(table.primary_key, after, strict=False))
        return self._of_postgresql(table, query, given)

    def tally(self, name: str) -> Tally:
        return Tally().and_of(self.read(name))

    def _of_postgresql(self, table: sa.Table, query: str, after: Row) -> Iterator[Row]:
        plain = [_PLAIN.get(type(column.type)) for column in table.c]
        is_plain = not any(plain)
        with self._connection.cursor(name="faxhook_rows", binary=True) as cursor:
            cursor.itersize = _FETCHED
            cursor.execute(query, after)
            if is_plain:
                yield from cursor
                return
            for row in cursor:
                yield tuple(
                    value if way is None or value is None else way(value) for way, value in zip(plain, row, strict=True)
                )


def write(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    """Add these rows, none of which may be there."""
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" for _ in table.c)
        insert = f"INSERT INTO {table.name} ({_names(table)}) VALUES ({marks})"  # noqa: S608 - names of ours
        cursor = connection.connection.cursor()
        cursor.executemany(insert, rows)
        cursor.close()
        return
    given = [_GIVEN.get(type(column.type)) for column in table.c]
    driver: Any = connection.connection.driver_connection
    into = f"COPY {table.fullname} ({_names(table)}) FROM STDIN (FORMAT BINARY)"
    with driver.cursor() as cursor, cursor.copy(into) as copy:
        copy.set_types([_POSTGRESQL_NAMES[type(column.type)] for column in table.c])
        for row in rows:
            copy.write_row(
                [value if way is None or value is None else way(value) for way, value in zip(given, row, strict=True)]
            )


def batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """As many at once as one transaction is to write."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row if isinstance(value, bytes))
        if len(batch) >= _AT_ONCE or size >= _BYTES_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def count_on(connection: sa.Connection, tables: Tables) -> None:
    """Let PostgreSQL's sequences go on behind what was carried. SQLite looks for the highest number itself."""
    if connection.dialect.name == "sqlite":
        return
    numbers = [(tables.events, "seq"), (tables.waiting, "turn")]
    highest = [f"coalesce((SELECT max({column}) FROM {table.fullname}), 0)" for table, column in numbers]  # noqa: S608
    connection.exec_driver_sql(f"SELECT setval('{TURNS}', greatest({', '.join(highest)}, 0) + 1, false)")
    for table in carried(tables).values():
        counted = table.autoincrement_column
        if counted is not None and counted.autoincrement is True:
            name = counted.name
            connection.exec_driver_sql(
                f"SELECT setval(pg_get_serial_sequence('{table.fullname}', '{name}'), coalesce(max({name}), 0) + 1,"  # noqa: S608
                f" false) FROM {table.fullname}"
            )


def key_of(table: sa.Table, row: Row) -> list[Any]:
    """Of a row, its key."""
    names = table.c.keys()
    return [row[names.index(column.name)] for column in table.primary_key]


def written_key(key: Key) -> list[Any]:
    """As JSON has it."""
    return [value.hex() if isinstance(value, bytes) else value for value in key]


def read_key(table: sa.Table, written: Sequence[Any]) -> list[Any]:
    """And back; nothing of nothing."""
    columns = list(table.primary_key)[: len(written)]
    return [
        bytes.fromhex(value) if type(column.type) in (Id, Sha256) else value
        for column, value in zip(columns, written, strict=True)
    ]


_PLAIN: dict[type, Callable[[Any], Any]] = {Id: lambda value: value.bytes, sa.Boolean: int}
_GIVEN: dict[type, Callable[[Any], Any]] = {Id: lambda value: UUID(bytes=value), sa.Boolean: bool}


def _given(column: sa.Column[Any], value: Any) -> Any:
    way = _GIVEN.get(type(column.type))
    return value if way is None else way(value)


def _names(table: sa.Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.c)


def _batch_by_batch(cursor: Any) -> Iterator[Row]:
    while found := cursor.fetchmany(_FETCHED):
        yield from found
