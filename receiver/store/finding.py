"""Faxes as people ask for them: by an id, a number, a reference, or the newest that are so and so."""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.settings import EVERYTHING, Filter
from receiver.store import browsing, kept_receipts, outbox, projection, sinks
from receiver.store.browsing import iso
from receiver.store.known import facts_of, is_newest, learned_since, with_facts
from receiver.store.projection import ENDING, LOOKED_THROUGH, Keys
from receiver.store.states import events_with_states
from receiver.store.tables import PROJECTOR, Tables
from receiver.store.types import is_id
from receiver.system.batches import batches

OF_ENDING = 1000  # events with the same last four digits that a longer ending is looked for in
_AT_ONCE = 500
_WINDOW = 5000  # row numbers, looked through at once
_NUMBER = re.compile(r"\+?[0-9][0-9 ()./-]*", re.ASCII)
_EXPECTED = "expected"  # the state of a fax that was registered and has not ended

Known = tuple[str, str]  # kind and text, as ``projection.known_as`` has them


@dataclass(frozen=True, slots=True)
class Found:
    """
    rows: as ``fax list --json`` shows them without masks, the newest first. notes: what was not looked at.

    older: the ``before`` of those that come next; None: there are no more.
    """

    rows: list[dict[str, Any]]
    notes: tuple[str, ...] = ()
    older: int | None = None


# --- searching ------------------------------------------------------------------------------------------------------


def search(
    connection: Connection,
    tables: Tables,
    keys: Keys,
    text: str,
    numbers: Iterable[str],
    limit: int,
    *,
    longest_ending: int | None = None,
) -> Found:
    """
    The faxes that this text names: an id of ours or of the provider, a reference, a number or the end of one.

    numbers: in E.164, what it may be as a number. longest_ending: digits that the end of one may have; who may not see
    numbers would learn them digit by digit.
    """
    fax_ids = _of_id(connection, tables, text.lower()) if is_id(text.lower()) else []
    whole = projection.digits(text) if _NUMBER.fullmatch(text) else ""
    wanted = {(kind, text) for kind in ("job", "fax", "reference")}
    wanted |= {("number", projection.digits(number)) for number in (*numbers, whole)} - {("number", "")}
    found, notes = _find(connection, tables, keys, wanted, limit)
    is_ending = len(whole) >= ENDING and not text.startswith("+") and not any(_has(row, "number") for row in found)
    if is_ending and longest_ending is not None and len(whole) > longest_ending:
        notes = (*notes, f"the end of a number has {longest_ending} digits here")
    elif is_ending:
        more, further = _find_ending(connection, tables, keys, whole, limit)
        found, notes = found + more, (*notes, *further)
    return Found(_described(connection, tables, [*fax_ids, *(row.fax_id for row in found)])[:limit], notes)


def of_reference(
    connection: Connection,
    tables: Tables,
    keys: Keys,
    reference: str,
    limit: int,
    accounts: Collection[tuple[str, str]] | None = None,
) -> Found:
    """The faxes of one business reference; accounts: only those of these, provider and account."""
    found, notes = _find(connection, tables, keys, {("reference", reference)}, limit)
    rows = _described(connection, tables, [row.fax_id for row in found])
    mine = [row for row in rows if accounts is None or (row["provider"], row["account"]) in accounts]
    return Found(mine, notes)


@dataclass(frozen=True, slots=True)
class _Hit:
    fax_id: str
    by: frozenset[Known]


def _has(hit: _Hit, kind: str) -> bool:
    return any(known[0] == kind for known in hit.by)


def _find(
    connection: Connection, tables: Tables, keys: Keys, wanted: Collection[Known], limit: int
) -> tuple[list[_Hit], tuple[str, ...]]:
    """What waits for the projector first, and then what it has written: nothing falls in between."""
    notes = _notes(connection, tables)
    waiting = [hit for hit in _unprojected(connection, tables) if not hit.by.isdisjoint(wanted)]
    expected = [hit for hit in _registered(connection, tables) if not hit.by.isdisjoint(wanted)]
    projected: list[_Hit] = []
    for kind, text in sorted(wanted):
        seqs = projection.find(connection, tables, keys.find(kind, text), limit)
        projected += [_Hit(fax_id, frozenset([(kind, text)])) for fax_id in _fax_ids(connection, tables, seqs)]
    return [*waiting, *projected, *expected], notes


def _find_ending(
    connection: Connection, tables: Tables, keys: Keys, ending: str, limit: int
) -> tuple[list[_Hit], tuple[str, ...]]:
    def ends_so(hit: _Hit) -> bool:
        return any(kind == "number" and text.endswith(ending) for kind, text in hit.by)

    waiting = [hit for hit in _unprojected(connection, tables) if ends_so(hit)]
    expected = [hit for hit in _registered(connection, tables) if ends_so(hit)]
    most = limit if len(ending) == ENDING else OF_ENDING
    seqs = projection.find(connection, tables, keys.find("ending", ending[-ENDING:]), most)
    projected = [hit for hit in _events(connection, tables, seqs) if ends_so(hit)]
    is_cut = most == OF_ENDING == len(seqs)
    note = f"of the numbers that end in {ending[-ENDING:]}, only the newest {OF_ENDING} were looked at"
    return [*waiting, *projected, *expected], (note,) if is_cut else ()


def _notes(connection: Connection, tables: Tables) -> tuple[str, ...]:
    """What is not looked at."""
    notes = []
    behind = outbox.undelivered(connection, tables, PROJECTOR)
    if behind > LOOKED_THROUGH:
        notes.append(f"the projector is {behind} events behind, and only {LOOKED_THROUGH} of them were looked at")
    another = sa.select(tables.jobs.c.fax_id).offset(LOOKED_THROUGH).limit(1)
    if connection.scalar(another) is not None:
        notes.append(f"of the registered faxes that are not heard of yet, only {LOOKED_THROUGH} were looked at")
    return tuple(notes)


def _of_id(connection: Connection, tables: Tables, its_id: str) -> list[str]:
    """Of a fax, an event or a receipt."""
    seq = projection.seq_of(connection, tables, its_id)
    named = [its_id, *([] if seq is None else _fax_ids(connection, tables, [seq]))]
    return [*named, *kept_receipts.faxes_named(connection, tables, its_id)]


def _fax_ids(connection: Connection, tables: Tables, seqs: Sequence[int]) -> list[str]:
    """In the order of the row numbers, each once."""
    events, of_seq = tables.events, dict[int, str]()
    for some in batches(seqs, _AT_ONCE):
        of_seq |= dict(connection.execute(sa.select(events.c.seq, events.c.fax_id).where(events.c.seq.in_(some))).all())
    return list(dict.fromkeys(of_seq[seq] for seq in seqs if seq in of_seq))


def _unprojected(connection: Connection, tables: Tables) -> Iterator[_Hit]:
    waits, events = projection.unprojected(tables), tables.events
    seqs = sa.select(waits.c.seq).join_from(waits, events, events.c.seq == waits.c.seq).order_by(waits.c.turn.desc())
    yield from _events(connection, tables, connection.scalars(seqs).all())


def _events(connection: Connection, tables: Tables, seqs: Sequence[int]) -> Iterator[_Hit]:
    """Their faxes, each with all that it is found by."""
    events, learned = tables.events, tables.learned
    query = sa.select(events, learned.c.facts).outerjoin_from(events, learned, learned_since(tables, events.c.id))
    for some in batches(seqs, _AT_ONCE):
        rows = {row.seq: row for row in connection.execute(query.where(events.c.seq.in_(some)))}
        for row in (rows[seq] for seq in some if seq in rows):
            facts = facts_of(row.id, row.body, row.checksum, row.facts)
            if facts is not None:
                ids, personal = projection.known_as(facts)
                yield _Hit(row.fax_id, frozenset([*ids, *personal]))


def _registered(connection: Connection, tables: Tables) -> Iterator[_Hit]:
    """Faxes that were registered and are not heard of yet, so that no event tells of them."""
    jobs = tables.jobs
    query = sa.select(jobs.c.fax_id, jobs.c.job_id, jobs.c.facts).limit(LOOKED_THROUGH)
    for row in connection.execute(query):
        stated = json.loads(row.facts)
        recipient = {name: stated.get(f"recipient.{name}") for name in ("number", "number_raw")}
        facts = {"provider_job_id": row.job_id, "recipient": recipient, "reference": {"id": stated.get("reference.id")}}
        ids, personal = projection.known_as(facts)
        yield _Hit(row.fax_id, frozenset([*ids, *personal]))


# --- the newest -----------------------------------------------------------------------------------------------------


def newest(
    connection: Connection,
    tables: Tables,
    limit: int,
    *,
    since_ms: int | None = None,
    until_ms: int | None = None,
    before: int | None = None,
    only: Filter = EVERYTHING,
    reason: str | None = None,
    state: str | None = None,
    most: int = 20_000,
) -> Found:
    """
    The faxes whose newest event was made between two times and is so, the newest first.

    before: the row number of an event; only of older ones. reason: of a failure. So many row numbers are looked at and
    no more, so that asking for something rare costs no more in a large store.
    """
    seq = tables.events.c.seq
    first, last = projection.between(connection, tables, since_ms, until_ms)
    # Each by itself, or SQLite reads the whole table.
    lowest, highest = (connection.scalar(sa.select(end(seq))) for end in (sa.func.min, sa.func.max))
    first = max(first, lowest or 0)
    top = min(number for number in (last, highest or 0, before and before - 1) if number is not None)
    query = _newest(connection, tables, only, reason, state).where(*browsing.in_time(tables, since_ms, until_ms))
    found: list[Any] = []
    notes: tuple[str, ...] = ()
    looked_at, older = 0, None
    while top >= first:
        floor = max(first, top - _WINDOW + 1)
        found += connection.execute(query.where(seq.between(floor, top)).limit(limit + 1 - len(found)))
        if len(found) > limit:
            older = found[limit - 1].seq
            break
        looked_at += top - floor + 1
        top = floor - 1
        if looked_at >= most and top >= first:
            older, notes = floor, (f"only the newest {looked_at} events were looked at",)
            break
    return Found(_described(connection, tables, [row.fax_id for row in found[:limit]]), notes, older)


def _newest(
    connection: Connection, tables: Tables, only: Filter, reason: str | None, state: str | None
) -> sa.Select[tuple[int, str]]:
    """Row number and fax of events that are the newest of theirs, the newest first."""
    events, faxes = tables.events, tables.faxes
    mine = sa.and_(faxes.c.fax_id == events.c.fax_id, is_newest(tables))
    passing = [sinks.passing(tables, replace(only, provider=())), *browsing.failed_for(tables, reason)]
    passing += [faxes.c.provider.in_(only.provider)] if only.provider else []
    if state is None:
        query = sa.select(events.c.seq, events.c.fax_id)
    else:
        of_all, its_state = events_with_states(tables, sinks.names(connection, tables))
        query = of_all.with_only_columns(events.c.seq, events.c.fax_id).where(its_state == state)
    return query.join(faxes, mine).where(*passing).order_by(events.c.seq.desc())


# --- describing -----------------------------------------------------------------------------------------------------


def _described(connection: Connection, tables: Tables, fax_ids: Iterable[str]) -> list[dict[str, Any]]:
    """A row for each of them that is known or expected, in their order."""
    wanted = list(dict.fromkeys(fax_ids))
    found: dict[str, dict[str, Any]] = {}
    for some in batches(wanted, _AT_ONCE):
        found |= _known(connection, tables, some)
        found |= _expected(connection, tables, [fax_id for fax_id in some if fax_id not in found])
    return [found[fax_id] for fax_id in wanted if fax_id in found]


def _known(connection: Connection, tables: Tables, fax_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    faxes = tables.faxes
    others = [column for column in faxes.c if column is not faxes.c.event_id]
    query = with_facts(tables, *others).where(faxes.c.fax_id.in_(fax_ids))
    rows = connection.execute(query).all()
    newest = {event["id"]: event for event in browsing.events_of(connection, tables, [row.event_seq for row in rows])}
    endpoints = _endpoints(connection, tables, [event["receipt"] for event in newest.values()])
    described = {}
    for row in rows:
        event = newest.get(row.event_id)
        facts = facts_of(row.event_id, row.body, row.checksum, row.facts) or {}
        failure, recipient = facts.get("failure") or {}, facts.get("recipient") or {}
        described[row.fax_id] = {
            "fax_id": row.fax_id,
            "provider": row.provider,
            "account": row.account,
            "endpoint": endpoints.get(event["receipt"]) if event else None,
            "outcome": row.outcome,
            "reason": failure.get("reason"),
            "retryable": failure.get("retryable"),
            "state": event["state"] if event else None,
            "revision": row.revision,
            "number": recipient.get("number") or recipient.get("number_raw"),
            "reference": (facts.get("reference") or {}).get("id"),
            "job_id": facts.get("provider_job_id"),
            "pages": (facts.get("pages") or {}).get("sent"),
            "completed_at": facts.get("completed_at"),
            "seen_at": iso(row.seen_at_ms),
            "event": row.event_id,
        }
    return described


def _expected(connection: Connection, tables: Tables, fax_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    jobs = tables.jobs
    described = {}
    for row in connection.execute(sa.select(jobs).where(jobs.c.fax_id.in_(fax_ids))):
        facts = json.loads(row.facts)
        described[row.fax_id] = {
            "fax_id": row.fax_id,
            "provider": row.provider,
            "account": row.account,
            "endpoint": row.endpoint,
            **dict.fromkeys(("outcome", "reason", "retryable")),
            "state": _EXPECTED,
            "revision": 0,
            "number": facts.get("recipient.number") or facts.get("recipient.number_raw"),
            "reference": facts.get("reference.id"),
            "job_id": row.job_id,
            "pages": None,
            "completed_at": None,
            "seen_at": iso(row.registered_at_ms),
            "event": None,
        }
    return described


def _endpoints(connection: Connection, tables: Tables, receipts: Sequence[str]) -> dict[str, str]:
    """Receipt -> its endpoint; none where it is purged."""
    found: dict[str, str] = {}
    for table in (tables.receipts, tables.rejected_receipts):
        query = sa.select(table.c.id, table.c.endpoint).where(table.c.id.in_(receipts))
        found |= {row.id: row.endpoint for row in connection.execute(query)}
    return found
