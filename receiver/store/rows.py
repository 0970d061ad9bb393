"""
The rows of a group of submissions: what is read of them before, and what is written.

What both databases do is declared here, once; ``sqlite_rows`` and ``postgresql_rows`` make statements of it, each in
the way of its database, as text for the driver's own cursor: for a single fax, SQLAlchemy's way to the cursor takes
longer than the rows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import sqlalchemy as sa

from receiver.store import known
from receiver.store.fax import COLUMNS, Fax
from receiver.store.tables import PROJECTOR, Tables, define
from receiver.store.types import for_driver, from_driver

Row = Sequence[Any]
Jobs = dict[str, dict[str, Any]]  # fax id -> what its sender says of it

ANNOUNCEMENT = ("fax_id", "digest", "outcome", "event_id", "event_seq")
CHANGED = ("fax_id", "outcome", "revision", "event_id", "event_seq", "seen_at_ms")  # of a fax, the id first
EVENT = ("seq", "id", "fax_id", "revision", "outcome", "receipt", "created_at_ms", "checksum", "body")
_RECEIPT = (
    *("id", "endpoint", "provider", "state", "reason", "detail", "received_at_ms", "auth", "answer", "size", "faxes"),
    *("content_type", "reference", "query", "body"),
)


@dataclass(slots=True)
class Changes:
    """
    What a group adds and changes: rows in the order of the columns in ``WRITES``.

    amended_new_faxes: those of the new ones that are not any more as their first announcement made them. events: in the
    order in which they were told; the row number is 0 until there is one. waiting: for the sinks beside the queue, and
    for the projector where it has to look at an event again. told_again: faxes with a new event, which has what they
    had learned. jobs: faxes that are not expected any more. The dictionaries have one row for each key of their table.
    """

    new_faxes: list[Row] = field(default_factory=list)
    amended_new_faxes: list[Row] = field(default_factory=list)
    faxes: list[Row] = field(default_factory=list)
    announcements: list[list[Any]] = field(default_factory=list)
    events: list[list[Any]] = field(default_factory=list)
    waiting: list[Row] = field(default_factory=list)
    receipts: list[Row] = field(default_factory=list)
    rejected_receipts: list[Row] = field(default_factory=list)
    endpoint_hours: dict[Row, Row] = field(default_factory=dict)
    replays: list[Row] = field(default_factory=list)
    told_again: list[Row] = field(default_factory=list)
    learned: list[Row] = field(default_factory=list)
    repeats: list[Row] = field(default_factory=list)
    jobs: list[Row] = field(default_factory=list)
    positions: dict[Row, Row] = field(default_factory=dict)
    contradictions: dict[Row, Row] = field(default_factory=dict)

    def rows(self, name: str) -> Iterable[Row]:
        rows = getattr(self, name)
        return rows.values() if isinstance(rows, dict) else rows

    def look_again(self, turn: int, fax: Fax) -> None:
        self.waiting.append((PROJECTOR, turn, fax.event_seq, fax.fax_id, fax.revision))


class GroupRows(Protocol):
    def load(self, first: dict[str, Fax], digests: Mapping[str, set[str]]) -> tuple[dict[str, Fax], Jobs]:
        """
        The group's faxes, and what is registered of them.

        first: each fax as its first announcement in the group makes it, which it stays where nothing is known of it.
        digests: what is said of each, so that facts are read only where something of it is new. A new one may have
        the row number of its first event already. Raises ConflictError where the group has to be recorded once more.
        """

    def numbers(self, count: int) -> Sequence[int]:
        """Row numbers for so many events, the next ones; the faxes are locked by now."""

    def write(self, changes: Changes) -> None: ...


# --- what is written ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Write:
    """
    A statement of a group. rows: their name in ``Changes``. key: of so many first columns.

    A row is added; or what it says is changed where the key is, or what has the key is deleted. conflict: what becomes
    of a row whose key is there already. unless: only where no row has the key, which need not be unique.
    """

    rows: str
    table: str
    columns: Sequence[str]
    verb: str = "add"  # change, delete
    key: int = 1
    conflict: str = ""
    unless: bool = False


_KEEP = " ON CONFLICT DO NOTHING"


def _replace(key: Sequence[str], *columns: str, **other: str) -> str:
    changed = {name: f"excluded.{name}" for name in columns} | other
    change = ", ".join(f"{name} = {value}" for name, value in changed.items())
    return f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {change}"


_CURSOR, _DISCREPANCY = ("provider", "account", "report"), ("provider", "account", "kind", "subject")
_OPEN_AGAIN = _replace(
    _DISCREPANCY,
    *("endpoint", "detail", "seen_at_ms"),
    found_at_ms="CASE WHEN known.closed_at_ms IS NULL THEN known.found_at_ms ELSE excluded.found_at_ms END",
    closed_at_ms="NULL",
)

# In this order. A database may write some of them in another way.
WRITES = (
    Write("new_faxes", "faxes", COLUMNS),
    Write("faxes", "faxes", CHANGED, "change"),
    Write("announcements", "announcements", ANNOUNCEMENT),
    Write("events", "events", EVENT),
    Write("waiting", "waiting", ("sink", "turn", "seq", "fax_id", "revision")),
    Write("receipts", "receipts", _RECEIPT),
    Write("rejected_receipts", "rejected_receipts", _RECEIPT),
    # No key decides, or all would wait for the one who has noted the hour first.
    Write("endpoint_hours", "endpoint_hours", ("endpoint", "hour", "by_report", "receipt"), key=3, unless=True),
    Write("replays", "replays", ("receipt", "at_ms", "state", "reason", "detail", "faxes")),
    Write("told_again", "learned", ("fax_id",), "delete"),
    Write("learned", "learned", ("fax_id", "event_id", "facts"), conflict=_replace(("fax_id",), "event_id", "facts")),
    Write("repeats", "repeats", ("fax_id", "receipt"), conflict=_KEEP),
    Write("jobs", "jobs", ("fax_id",), "delete"),
    Write(
        "positions",
        "cursors",
        (*_CURSOR, "position", "moved_at_ms"),
        conflict=_replace(_CURSOR, "position", "moved_at_ms"),
    ),
    Write(
        "contradictions",
        "discrepancies",
        (*_DISCREPANCY, "endpoint", "detail", "found_at_ms", "seen_at_ms"),
        conflict=_OPEN_AGAIN,
    ),
)


# --- what is read ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reads:
    """What finds rows by the ids of faxes."""

    faxes: str
    announcements: str
    facts: str
    jobs: str


def reads(dialect: sa.Dialect, among: str) -> Reads:
    """among: the end of a condition about a fax's id."""
    tables = define(dialect.name)

    def find(table: sa.Table, *columns: str) -> str:
        return f"SELECT {', '.join(columns)} FROM {table.fullname} WHERE fax_id {among}"  # noqa: S608 - names of ours

    return Reads(
        faxes=find(tables.faxes, *COLUMNS),
        announcements=find(tables.announcements, *ANNOUNCEMENT),
        facts=f"{known.as_text(tables, dialect)} WHERE {tables.faxes.fullname}.fax_id {among}",
        jobs=find(tables.jobs, "fax_id", "facts"),
    )


def of_interest(faxes: Mapping[str, Fax], digests: Mapping[str, set[str]], jobs: Jobs) -> list[str]:
    """The known faxes of which something new is said, so that their facts are needed."""
    return [fax_id for fax_id, fax in faxes.items() if fax_id in jobs or not digests[fax_id] <= fax.digests]


# --- for the driver -------------------------------------------------------------------------------------------------


class Kept:
    """Some columns of a table, as the driver's own cursor gives and takes them."""

    def __init__(self, table: sa.Table, columns: Sequence[str], dialect: str) -> None:
        self.columns = columns
        kinds = [table.c[name].type for name in columns]
        self._for_driver = _ways(for_driver(kind, dialect) for kind in kinds)
        self._from_driver = _ways(from_driver(kind, dialect) for kind in kinds)

    def bound(self, rows: Iterable[Row]) -> list[list[Any]]:
        """Rows of ours for the driver."""
        return _converted(rows, self._for_driver)

    def read(self, rows: Iterable[Row]) -> list[list[Any]]:
        """The driver's rows as ours."""
        return _converted(rows, self._from_driver)


Ways = Sequence[tuple[int, Callable[[Any], Any]]]  # position in a row -> how the value there is converted


def _ways(of_columns: Iterable[Callable[[Any], Any] | None]) -> Ways:
    return [(at, way) for at, way in enumerate(of_columns) if way is not None]


def _converted(rows: Iterable[Row], ways: Ways) -> list[list[Any]]:
    found = [list(row) for row in rows]
    for at, way in ways:
        for values in found:
            value = values[at]
            if value is not None:
                values[at] = way(value)
    return found


@dataclass(frozen=True, slots=True)
class KeptRows:
    """What a group reads, and the columns of each of ``WRITES``."""

    faxes: Kept
    announcements: Kept
    written: Sequence[tuple[Write, sa.Table, Kept]]


@cache
def kept_by(dialect: str) -> KeptRows:
    tables: Tables = define(dialect)
    of_table = {write: getattr(tables, write.table) for write in WRITES}
    return KeptRows(
        faxes=Kept(tables.faxes, COLUMNS, dialect),
        announcements=Kept(tables.announcements, ANNOUNCEMENT, dialect),
        written=[(write, table, Kept(table, write.columns, dialect)) for write, table in of_table.items()],
    )
