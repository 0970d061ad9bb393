"""
The projection: by what an event can be found, beside its place in the row order.

The projector reads what waits for it as a sink does, and writes an event's keys in the transaction that takes its row
out of ``waiting``. So a search that reads what still waits first, and ``finds`` afterwards, misses nothing.

An event's key is the beginning of its id. All the others are keyed hashes: without the secret key of the server nobody
learns a number from them.
"""

import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver import facts as fax_facts
from receiver.store import HOUR_MS, contributions, places
from receiver.store.contributions import Counted
from receiver.store.known import data_of, learned_since
from receiver.store.tables import PROJECTOR, Tables, insert, insert_or_keep, insert_or_replace
from receiver.store.types import packed
from receiver.system.batches import batches

LOOKED_THROUGH = 10_000  # events that wait for the projector, by who looks for one
ENDING = 4  # digits of a number that it can be found by
_EVENTS_IN_A_BUCKET = 1 << 13
_AT_ONCE = 500  # values in one statement
_BYTES = 8  # of a key
_NO_KEYS: tuple[frozenset[int], frozenset[int]] = frozenset(), frozenset()
_MADE_BY = "find_keys"  # the row in ``meta`` that says with which secret


class Keys:
    """What texts are found by. secrets: the server's; the first makes keys, all find."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = [hmac.digest(secret, b"find-index", "sha256") for secret in secrets]

    def make(self, kind: str, text: str) -> int:
        """kind: job, fax, reference, number or ending."""
        return _key(self._secrets[0], kind, text)

    @property
    def marks(self) -> list[str]:
        """Each secret as it can be told from others; the first makes keys."""
        return [hmac.digest(secret, b"mark", "sha256")[:_BYTES].hex() for secret in self._secrets]

    def find(self, kind: str, text: str) -> list[int]:
        return [_key(secret, kind, text) for secret in self._secrets]


def _key(secret: bytes, kind: str, text: str) -> int:
    said = f"{kind}\0{text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hmac.digest(secret, said, "sha256")[:_BYTES], signed=True)


def event_key(event_id: str) -> int:
    return int.from_bytes(packed(event_id)[:_BYTES], signed=True)


def digits(number: str | None) -> str:
    """A number as it is found by: its digits, without what leads to another country."""
    found = "".join(one for one in (number or "").replace("(0)", "") if one in "0123456789")
    for prefix in ("00", "011"):
        if found.startswith(prefix) and not (number or "").lstrip().startswith("+"):
            return found.removeprefix(prefix)
    return found


def known_as(facts: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """By what a fax is found, kind and text: the ids that its provider gave it, and what is personal."""
    recipient, reference = facts.get("recipient") or {}, facts.get("reference") or {}
    number = digits(recipient.get("number") or recipient.get("number_raw"))
    ids = [("job", facts.get("provider_job_id")), ("fax", facts.get("provider_fax_id"))]
    personal = [("reference", reference.get("id"))]
    if len(number) >= ENDING:
        personal += [("number", number), ("ending", number[-ENDING:])]
    return _stated(ids), _stated(personal)


def _stated(texts: Iterable[tuple[str, Any]]) -> list[tuple[str, str]]:
    return [(kind, str(text)) for kind, text in texts if text]


# --- secrets --------------------------------------------------------------------------------------------------------


def note_maker(connection: Connection, tables: Tables, keys: Keys) -> None:
    """Keep whose keys are written from now on."""
    replace = insert_or_replace(tables.meta, connection.dialect.name)
    connection.execute(replace.values(name=_MADE_BY, value=keys.marks[0]))


def maker(connection: Connection, tables: Tables) -> str | None:
    """The mark of the secret whose keys are written; None where no projector has begun."""
    return connection.scalar(sa.select(tables.meta.c.value).where(tables.meta.c.name == _MADE_BY))


def foreign_keys(connection: Connection, tables: Tables, keys: Keys) -> tuple[str, ...]:
    """A sentence where the projector makes keys with a secret that is none of these."""
    made_by = maker(connection, tables)
    if made_by is None or made_by in keys.marks:
        return ()
    trouble = "the relay works with another secret key, so that numbers and references cannot be found from here"
    return (f"{trouble}: set the same server.secret_key for both",)


def forget_keys(connection: Connection, tables: Tables) -> None:
    """Of all events, by a secret that nobody has any more. They must be projected anew, and are not counted again."""
    keys = tables.find_keys
    connection.execute(tables.finds.delete())
    connection.execute(keys.update().values(ids=b""))
    connection.execute(keys.update().where(keys.c.facts.is_not(None)).values(facts=b""))
    connection.execute(tables.meta.delete().where(tables.meta.c.name == _MADE_BY))


# --- writing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prepared:
    """
    A row of ``waiting``, the keys of its event, and what that counts for.

    event_id: None where there is no such event any more. counts: None where it cannot be read.
    """

    turn: int
    seq: int
    revision: int
    event_id: str | None
    fax_id: str
    created_at_ms: int
    ids: frozenset[int]
    facts: frozenset[int]
    counts: Counted | None


def prepare(connection: Connection, tables: Tables, keys: Keys, after: int, limit: int) -> list[Prepared]:
    """The next rows behind a turn, with all that can be made of them without a lock."""
    waiting, events, learned = tables.waiting, tables.events, tables.learned
    next_ones = (
        sa.select(waiting.c.turn, waiting.c.seq, waiting.c.revision)
        .where(waiting.c.sink == PROJECTOR, waiting.c.turn > after)
        .order_by(waiting.c.turn)
        .limit(limit)
        .subquery()
    )
    query = (
        sa.select(
            *(next_ones.c.turn, next_ones.c.seq, next_ones.c.revision),
            *(events.c.id, events.c.fax_id, events.c.created_at_ms, events.c.body, events.c.checksum, learned.c.facts),
        )
        .outerjoin_from(next_ones, events, events.c.seq == next_ones.c.seq)
        .outerjoin(learned, learned_since(tables, events.c.id))
        .order_by(next_ones.c.turn)
    )
    return [_prepared(row, keys) for row in connection.execute(query)]


def _prepared(row: Any, keys: Keys) -> Prepared:
    found: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    counts = None
    data = None if row.id is None else data_of(row.id, row.body, row.checksum)
    if data is not None:  # a damaged event is found by its id alone
        facts = json.loads(row.facts) if row.facts else fax_facts.of_published(data)
        found, counts = known_as(facts), contributions.said(data, facts)
    ids, personal = (frozenset(keys.make(*one) for one in some) for some in found)
    place = row.turn, row.seq, row.revision
    return Prepared(*place, row.id, row.fax_id or "", row.created_at_ms or 0, ids, personal, counts)


def take(connection: Connection, tables: Tables, rows: Sequence[Prepared]) -> int:
    """Write the keys of those that still wait, and take them out of ``waiting``; how many were there."""
    passed = places.locked(connection, tables, shared=True)
    there = _taken_out(connection, tables, rows)
    found = [row for row in rows if row.turn in there and row.event_id is not None]
    _add(connection, tables, [(key, row.seq) for row in found for key in _all_keys(row)])
    events = [contributions.Event(row.seq, row.fax_id, row.counts) for row in found if row.counts is not None]
    _note_keys(connection, tables, found, contributions.count(connection, tables, events))
    _note_hours(connection, tables, found)
    # Registered and recorded by two transactions that saw nothing of each other; what was recorded ends it.
    for some in batches([row.fax_id for row in found], _AT_ONCE):
        connection.execute(tables.jobs.delete().where(tables.jobs.c.fax_id.in_(some)))
    # Retention has been there, and left them since they were not found by anything yet.
    overdue = [{"seq": row.seq} for row in found if row.seq <= max(passed.payloads, passed.events)]
    if overdue:
        connection.execute(insert_or_keep(tables.overdue, connection.dialect.name), overdue)
    return len(there)


def _taken_out(connection: Connection, tables: Tables, rows: Sequence[Prepared]) -> set[int]:
    """The turns of those that were there."""
    table, there = tables.waiting, set()
    for some in batches(rows, _AT_ONCE):
        mine = table.c.turn.in_([row.turn for row in some]), table.c.seq.in_([row.seq for row in some])
        delete = table.delete().where(table.c.sink == PROJECTOR, *mine)
        there |= set(connection.scalars(delete.returning(table.c.turn)))
    return there


def _all_keys(row: Prepared) -> frozenset[int]:
    assert row.event_id is not None
    return row.ids | row.facts | {event_key(row.event_id)}


def _add(connection: Connection, tables: Tables, found: Sequence[tuple[int, int]]) -> None:
    name = tables.finds.fullname
    rows = sorted((seq // _EVENTS_IN_A_BUCKET, key, seq) for key, seq in found)
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        add = f"INSERT OR IGNORE INTO {name} (bucket, key, seq) VALUES (?, ?, ?)"  # noqa: S608 - names of ours
        connection.connection.cursor().executemany(add, rows)
        return
    columns = dict(zip(("buckets", "keys", "seqs"), map(list, zip(*rows, strict=True)), strict=True))
    arrays = ", ".join(f"%({column})s::bigint[]" for column in columns)
    add = f"INSERT INTO {name} (bucket, key, seq) SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING"  # noqa: S608
    connection.exec_driver_sql(add, columns)


def _note_keys(connection: Connection, tables: Tables, rows: Sequence[Prepared], counted: Mapping[int, str]) -> None:
    """
    Beside each event, what it is found by. One that was projected before has learned something since.

    counted: of first events, what is counted of their faxes; others keep what they have.
    """
    table, keys = tables.find_keys, dict[int, tuple[frozenset[int], frozenset[int]]]()
    texts = dict[int, str | None]()
    for some in batches(list({*(row.seq for row in rows), *counted}), _AT_ONCE):
        for known in connection.execute(sa.select(table).where(table.c.seq.in_(some))):
            keys[known.seq] = frozenset(_unpacked(known.ids)), frozenset(_unpacked(known.facts))
            texts[known.seq] = known.counted
    for row in rows:
        ids, facts = keys.get(row.seq, _NO_KEYS)
        keys[row.seq] = ids | row.ids, facts | row.facts
    texts |= counted
    values = [
        {"seq": seq, "ids": _packed(ids), "facts": _packed(facts), "counted": texts.get(seq)}
        for seq, (ids, facts) in (dict.fromkeys(counted, _NO_KEYS) | keys).items()
    ]
    if values:
        connection.execute(insert_or_replace(table, connection.dialect.name), values)


def _note_hours(connection: Connection, tables: Tables, rows: Sequence[Prepared]) -> None:
    seqs: dict[int, list[int]] = {}
    for row in rows:
        seqs.setdefault(row.created_at_ms // HOUR_MS, []).append(row.seq)
    values = [{"hour": hour, "first": min(of_hour), "last": max(of_hour)} for hour, of_hour in sorted(seqs.items())]
    if values:
        table, statement = tables.hours, insert(tables.hours, connection.dialect.name)
        first, last = statement.excluded.first, statement.excluded.last
        widened = {
            "first": sa.case((table.c.first < first, table.c.first), else_=first),
            "last": sa.case((table.c.last > last, table.c.last), else_=last),
        }
        connection.execute(statement.on_conflict_do_update(index_elements=[table.c.hour], set_=widened), values)


# --- forgetting -----------------------------------------------------------------------------------------------------


def forget_facts(connection: Connection, tables: Tables, seqs: Sequence[int]) -> None:
    """These events are not found by anything personal any more."""
    table = tables.find_keys
    rows = connection.execute(sa.select(table.c.seq, table.c.facts).where(table.c.seq.in_(seqs))).all()
    _remove(connection, tables, [(key, row.seq) for row in rows for key in _unpacked(row.facts)])
    connection.execute(table.update().where(table.c.seq.in_([row.seq for row in rows])).values(facts=None))


def forget(connection: Connection, tables: Tables, events: Mapping[int, str]) -> None:
    """These events are not found by anything any more. events: row numbers -> ids."""
    table = tables.find_keys
    rows = connection.execute(sa.select(table).where(table.c.seq.in_(list(events)))).all()
    of_ids = [(event_key(event_id), seq) for seq, event_id in events.items()]
    others = [(key, row.seq) for row in rows for some in (row.ids, row.facts) for key in _unpacked(some)]
    _remove(connection, tables, of_ids + others)
    connection.execute(table.delete().where(table.c.seq.in_(list(events))))


def drop(connection: Connection, tables: Tables, seqs: Sequence[int], alone: Sequence[int]) -> None:
    """
    The same for events that need not be projected yet, so that a projector that has read them writes nothing.

    alone: those that their fax goes with, so that it does not count any more.
    """
    contributions.take_back(connection, tables, alone)
    events, waiting = tables.events, tables.waiting
    connection.execute(waiting.delete().where(waiting.c.sink == PROJECTOR, waiting.c.turn.in_(seqs)))
    again = waiting.c.seq.in_(seqs), sa.text("seq <> turn")  # in the words of the index
    connection.execute(waiting.delete().where(waiting.c.sink == PROJECTOR, *again))
    its = sa.select(events.c.seq, events.c.id).where(events.c.seq.in_(seqs))
    forget(connection, tables, {row.seq: row.id for row in connection.execute(its)})


def _remove(connection: Connection, tables: Tables, found: Sequence[tuple[int, int]]) -> None:
    table = tables.finds
    rows = [{"its_bucket": seq // _EVENTS_IN_A_BUCKET, "its_key": key, "its_seq": seq} for key, seq in sorted(found)]
    mine = (getattr(table.c, name) == sa.bindparam(f"its_{name}") for name in ("bucket", "key", "seq"))
    if rows:
        connection.execute(table.delete().where(*mine), rows)


def forget_hours(connection: Connection, tables: Tables) -> int:
    """Those of which no event is left; how many."""
    table, events = tables.hours, tables.events
    oldest = connection.scalar(sa.select(sa.func.min(events.c.seq)))
    delete = table.delete().where(table.c.last < oldest) if oldest is not None else table.delete()
    return connection.execute(delete).rowcount


# --- reading --------------------------------------------------------------------------------------------------------


def unprojected(tables: Tables) -> sa.Subquery:
    """Row number and turn of those that still wait, as many as anybody looks through."""
    waiting = tables.waiting
    query = sa.select(waiting.c.seq, waiting.c.turn).where(waiting.c.sink == PROJECTOR)
    return query.order_by(waiting.c.turn).limit(LOOKED_THROUGH).subquery()


def seq_of(connection: Connection, tables: Tables, event_id: str) -> int | None:
    """The row number of an event; None where there is none, or the projector is too far behind to tell."""
    events, waits = tables.events, unprojected(tables)
    not_yet = sa.select(events.c.seq).join_from(waits, events, events.c.seq == waits.c.seq)
    seq: int | None = connection.scalars(not_yet.where(events.c.id == event_id)).first()
    if seq is not None:
        return seq
    seqs = list(find(connection, tables, [event_key(event_id)]))
    its = sa.select(events.c.seq).where(events.c.seq.in_(seqs), events.c.id == event_id)
    return next(iter(connection.scalars(its)), None)


def between(
    connection: Connection, tables: Tables, since_ms: int | None, until_ms: int | None
) -> tuple[int, int | None]:
    """
    Row numbers between which all events are that were made between two times; None: there is no last one.

    Events come nearly in the order of time: where clocks were wrong, or callbacks were replayed, there are others too.
    """
    waiting, table = tables.waiting, tables.hours
    mine = waiting.c.sink == PROJECTOR
    unprojected = connection.scalar(sa.select(sa.func.min(waiting.c.turn)).where(mine))
    first, last = 0, None
    if since_ms is not None:
        since = sa.select(sa.func.min(table.c.first)).where(table.c.hour >= since_ms // HOUR_MS)
        ends = [seq for seq in (unprojected, connection.scalar(since)) if seq is not None]
        first = min(ends) if ends else 1 + (connection.scalar(sa.select(sa.func.max(tables.events.c.seq))) or 0)
    if until_ms is not None and unprojected is None:
        until = sa.select(sa.func.max(table.c.last)).where(table.c.hour <= until_ms // HOUR_MS)
        last = connection.scalar(until) or 0
    return first, last


def find(connection: Connection, tables: Tables, keys: Sequence[int], limit: int = _AT_ONCE) -> list[int]:
    """The row numbers of projected events with one of these keys, the newest first, so many at most."""
    events, finds = tables.events, tables.finds
    oldest, newest = (connection.scalar(sa.select(end(events.c.seq))) for end in (sa.func.min, sa.func.max))
    found: list[int] = []
    if oldest is None or newest is None:
        return found
    last, first, count = newest // _EVENTS_IN_A_BUCKET, oldest // _EVENTS_IN_A_BUCKET, 1
    while last >= first and len(found) < limit:  # more and more buckets: what is common is in the newest ones
        some = range(max(first, last - count + 1), last + 1)
        mine = finds.c.bucket.in_(list(some)), finds.c.key.in_(keys)
        query = sa.select(finds.c.seq).distinct().where(*mine).order_by(finds.c.seq.desc())
        found += connection.scalars(query.limit(limit - len(found)))
        last, count = some.start - 1, min(count * 4, _AT_ONCE)
    return found


def _packed(keys: Iterable[int]) -> bytes:
    return b"".join(key.to_bytes(_BYTES, signed=True) for key in sorted(keys))


def _unpacked(value: bytes | None) -> list[int]:
    """None of those that were purged."""
    found = value or b""
    return [int.from_bytes(found[at : at + _BYTES], signed=True) for at in range(0, len(found), _BYTES)]
