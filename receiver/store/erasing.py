"""
Erasing what is personal of some faxes. Ids, outcomes and digests stay, so that a repetition is still a duplicate.

Each batch of faxes is one transaction that has locked them: a callback of one of them comes wholly before it, and is
erased with the rest, or wholly after, and is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store import listening, places, projection
from receiver.store.browsing import seqs_of_fax
from receiver.store.postgresql import wake
from receiver.store.tables import PROJECTOR, Tables, insert_or_keep
from receiver.store.turns import put_in

AT_ONCE = 50  # faxes, or receipts, in a transaction: callbacks wait for it
_BODY = dict.fromkeys(("content_type", "reference", "query", "body"))


class UndeliveredError(Exception):
    """An event of these faxes waits for a sink, or is a dead letter, and nobody has said what is to become of it."""


@dataclass(frozen=True, slots=True)
class Erased:
    """How many payloads and bodies are gone by this, and events that never go out."""

    payloads: int = 0
    bodies: int = 0
    dropped: int = 0

    def __add__(self, other: "Erased") -> "Erased":
        both = zip(
            (self.payloads, self.bodies, self.dropped), (other.payloads, other.bodies, other.dropped), strict=True
        )
        return Erased(*map(sum, both))


def faxes(connection: Connection, tables: Tables, fax_ids: Sequence[str], *, drop: bool) -> Erased:
    """
    Erase the facts of these faxes, and the bodies of all receipts that name them.

    drop: their undelivered events and dead letters never go out; else UndeliveredError is raised where there is one.
    """
    passed = places.locked(connection, tables)  # what is undelivered changes no more
    table, events = tables.faxes, tables.events
    some = sorted(fax_ids)
    connection.execute(
        sa.select(table.c.fax_id).where(table.c.fax_id.in_(some)).order_by(table.c.fax_id).with_for_update()
    )
    seqs = [seq for fax_id in some for seq in seqs_of_fax(connection, tables, fax_id)]
    dropped = _take_out(connection, tables, seqs, passed, drop=drop)
    connection.execute(tables.learned.delete().where(tables.learned.c.fax_id.in_(some)))
    connection.execute(tables.jobs.delete().where(tables.jobs.c.fax_id.in_(some)))
    projection.forget_facts(connection, tables, seqs)
    _project_anew(connection, tables, seqs)
    blank = events.update().where(events.c.seq.in_(seqs), events.c.body.is_not(None)).values(body=None)
    payloads = connection.execute(blank).rowcount
    repeats = tables.repeats
    named = sa.union(  # a fax may have been repeated more often than a statement takes parameters
        sa.select(events.c.receipt).where(events.c.seq.in_(seqs)),
        sa.select(repeats.c.receipt).where(repeats.c.fax_id.in_(some)),
    )
    return Erased(payloads, bodies(connection, tables, named), dropped)


def bodies(connection: Connection, tables: Tables, receipts: Sequence[str] | sa.CompoundSelect[Any]) -> int:
    """Erase what is stored of these callbacks; how many were still there."""
    count = 0
    for table in (tables.receipts, tables.rejected_receipts):
        its = table.c.id.in_(receipts), table.c.content_type.is_not(None)
        count += connection.execute(table.update().where(*its).values(_BODY)).rowcount
    return count


def jobs(connection: Connection, tables: Tables, fax_ids: Sequence[str]) -> None:
    """Expect these faxes no longer."""
    connection.execute(tables.jobs.delete().where(tables.jobs.c.fax_id.in_(fax_ids)))


def discrepancies(connection: Connection, tables: Tables, seqs: Sequence[int]) -> None:
    """Erase what these are made of; that there is one stays."""
    table = tables.discrepancies
    connection.execute(table.update().where(table.c.seq.in_(seqs)).values(rows=None))


def _take_out(connection: Connection, tables: Tables, seqs: Sequence[int], passed: places.Places, *, drop: bool) -> int:
    """Their rows of ``waiting`` and their dead letters, whatever the sink; how many events had one."""
    waiting, dead = tables.waiting, tables.dead_letters
    known = listening.every_sink(connection, tables)
    in_turn = waiting.c.sink.in_(known), waiting.c.turn.in_(seqs), waiting.c.seq == waiting.c.turn
    again = waiting.c.sink != PROJECTOR, waiting.c.seq.in_(seqs), sa.text("seq <> turn")  # in the words of the index
    parked = dead.c.sink.in_(known), dead.c.seq.in_(seqs)
    found: set[int] = set()
    for table, its in ((waiting, in_turn), (waiting, again), (dead, parked)):
        found |= set(connection.scalars(sa.select(table.c.seq).where(*its)))
        if found and not drop:
            raise UndeliveredError
        connection.execute(table.delete().where(*its))
    # Retention has been there, and left them since they were undelivered.
    overdue = [{"seq": seq} for seq in sorted(found) if seq <= max(passed.payloads, passed.events)]
    if overdue:
        connection.execute(insert_or_keep(tables.overdue, connection.dialect.name), overdue)
    return len(found)


def _project_anew(connection: Connection, tables: Tables, seqs: Sequence[int]) -> None:
    """
    Let the projector look at those again that it has not made findable yet: it may have read them before.

    The new turns are taken first, so that none is equal to an old one.
    """
    waiting, events = tables.waiting, tables.events
    mine = waiting.c.sink == PROJECTOR
    in_turn = sa.select(waiting.c.turn, waiting.c.seq).where(mine, waiting.c.turn.in_(seqs), waiting.c.seq.in_(seqs))
    again = sa.select(waiting.c.turn, waiting.c.seq).where(mine, waiting.c.seq.in_(seqs), sa.text("seq <> turn"))
    old = {row.turn: row.seq for query in (in_turn, again) for row in connection.execute(query)}
    if not old:
        return
    some = sa.select(events.c.seq, events.c.fax_id, events.c.revision).where(events.c.seq.in_(set(old.values())))
    put_in(connection, tables, some, PROJECTOR)
    connection.execute(waiting.delete().where(mine, waiting.c.turn.in_(list(old))))
    wake(connection)
