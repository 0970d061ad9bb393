"""What is known of a fax: the data of its newest event, and what it has learned since."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver import facts as fax_facts
from receiver.facts import Facts
from receiver.store.submissions import checksum
from receiver.store.tables import Tables
from receiver.store.types import from_driver


def facts_of(event_id: str, stored: bytes | None, its_checksum: str | None, learned: str | None) -> Facts | None:
    """
    From its newest event's id, payload and checksum, and what it has learned since.

    None where the payload was purged, or is not as it was written.
    """
    if learned is not None:
        return cast("Facts", json.loads(learned))
    data = data_of(event_id, stored, its_checksum)
    return None if data is None else fax_facts.of_published(data)


def data_of(event_id: str, stored: bytes | None, its_checksum: str | None) -> dict[str, Any] | None:
    """What an event says; None where its payload was purged, or is not as it was written."""
    if stored is None or checksum(event_id, stored) != its_checksum:
        return None
    return cast("dict[str, Any]", json.loads(stored)["data"])


def is_newest(tables: Tables) -> sa.ColumnElement[bool]:
    """Joins a fax with its newest event. The id as well: a number may be given again once its event is gone."""
    faxes, events = tables.faxes, tables.events
    return sa.and_(events.c.seq == faxes.c.event_seq, events.c.id == faxes.c.event_id)


def learned_since(tables: Tables, event_id: sa.Column[Any]) -> sa.ColumnElement[bool]:
    """Joins an event, or a fax with its newest event, with what was learned since. event_id: that event's."""
    learned = tables.learned
    return sa.and_(learned.c.fax_id == event_id.table.c.fax_id, learned.c.event_id == event_id)


def with_facts(tables: Tables, *columns: sa.Column[Any]) -> sa.Select[*tuple[Any, ...]]:
    """These columns of faxes, behind them what ``facts_of`` takes; ``body`` and ``checksum`` null without the event."""
    faxes, events, learned = tables.faxes, tables.events, tables.learned
    return (
        sa.select(*columns, faxes.c.event_id, events.c.body, events.c.checksum, learned.c.facts)
        .outerjoin_from(faxes, events, is_newest(tables))
        .outerjoin(learned, learned_since(tables, faxes.c.event_id))
    )


def newest_facts(connection: Connection, tables: Tables, fax_ids: Sequence[str]) -> dict[str, Facts | None]:
    """What is known of these faxes, which must be locked; None where it was purged."""
    query = with_facts(tables, tables.faxes.c.fax_id).where(tables.faxes.c.fax_id.in_(fax_ids))
    return {fax_id: facts_of(*stored) for fax_id, *stored in connection.execute(query)}


def as_text(tables: Tables, dialect: sa.Dialect) -> str:
    """The same query for the driver's own cursor, without its condition."""
    return str(with_facts(tables, tables.faxes.c.fax_id).compile(dialect=dialect))


def read(rows: Iterable[Sequence[Any]], tables: Tables, dialect: str) -> list[tuple[str, Facts | None]]:
    """What that has found: each fax with what is known of it."""
    id_of = from_driver(tables.faxes.c.fax_id.type, dialect) or str
    hex_of = from_driver(tables.events.c.checksum.type, dialect) or str
    return [
        (id_of(fax_id), facts_of(id_of(event_id), stored, None if stored is None else hex_of(its_checksum), learned))
        for fax_id, event_id, stored, its_checksum, learned in rows
    ]
