"""Events, and those of them that could not be sent."""

import json

from receiver.errors import NotFound
from receiver.showing import configured
from receiver.showing import events as showing
from receiver.store import browsing, dead_letters, figures
from receiver.store.dead_letters import DeadLetter
from receiver.web.console.visiting import Shown, Visit, first_of

PATH = "/console/events"
_NARROWING = ("state", "fax", "since", "until")


def listing(visit: Visit) -> Shown:
    """The newest in a state and a time; by what else they may be, the faxes are listed."""
    with visit.store.reading() as connection:
        found = browsing.events(
            connection,
            visit.store.tables,
            limit=visit.most + 1,
            state=visit.choice("state", showing.STATES),
            since_ms=visit.milliseconds("since"),
            until_ms=visit.milliseconds("until"),
            fax_id=visit.arg("fax"),
            before=visit.arg("before"),
        )
    rows, is_more = first_of(found, visit.most)
    values = {
        "rows": rows,
        "older": visit.link(before=rows[-1]["id"]) if is_more else None,
        "states": list(showing.STATES),
        "chips": visit.chips(*_NARROWING),
    }
    return Shown("events.html", "Events", rows, values, showing.COLUMNS, rows)


def one(visit: Visit, event_id: str) -> Shown:
    """One event and what was published, without what is personal."""
    return page(visit, event_id, reveal=False)


def page(visit: Visit, event_id: str, *, reveal: bool) -> Shown:
    """Who reveals has written the audit row before."""
    with visit.store.reading() as connection:
        found = browsing.event(connection, visit.store.tables, event_id)
        letters = dead_letters.of_event(connection, visit.store.tables, event_id)
    if found is None:
        raise NotFound("there is no such event; [retention] says how long they are kept")
    row, stored = found
    document = (
        showing.dead(row, stored, letters, reveal=reveal) if letters else showing.described(row, stored, reveal=reveal)
    )
    payload = document["payload"]
    text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False, indent=2)
    values = {
        "event": document,
        "letters": letters,
        "payload": None if payload is None else text,
        "is_damaged": bool(letters and letters[0].is_damaged),
        "is_revealed": reveal,
    }
    return Shown("event.html", f"Event {row['id']}", document, values)


def queue(visit: Visit) -> Shown:
    """What waits and since when, and the newest dead letters."""
    with visit.store.reading() as connection:
        found = figures.read(connection, visit.store.tables)
    letters, older = _letters(visit)
    rows = [showing.dead_row(letter) for letter in letters]
    sinks = [configured.sink(found, one, visit.runtime.settings) for one in found.sinks.values()]
    values = {
        "figures": found,
        "sinks": sinks,
        "rows": rows,
        "older": None if older is None else visit.link(before=older),
    }
    return Shown("queue.html", "Queue and dead letters", rows, values, showing.DEAD_COLUMNS, rows)


def _letters(visit: Visit) -> tuple[list[DeadLetter], int | None]:
    """Some, and where those before them begin; those of one event stay together."""
    most = visit.most + 1
    found = dead_letters.newest(visit.store, most, visit.number("before"))
    if len(found) < most:
        return found, None
    last = found[-1].seq
    whole = [letter for letter in found if letter.seq != last] or found
    return whole, whole[-1].seq
