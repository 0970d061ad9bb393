"""What people do in the console: each first says what would happen, and leaves an audit row with who did it."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from sqlalchemy.engine import Connection

from receiver.destinations import QUEUE
from receiver.errors import NotFound, Unprocessable
from receiver.settings import EVERYTHING
from receiver.showing import times
from receiver.showing.evidence import signed
from receiver.store import browsing, dead_letters, discrepancies, listening, now_ms, republishing, sinks
from receiver.store.dead_letters import DeadLetter
from receiver.store.republishing import Chosen
from receiver.web.console import events, faxes, others, receipts
from receiver.web.console.visiting import Download, Elsewhere, Shown, Visit, link

_MOST_WINDOWS = 40  # of row numbers that are republished with one click: 20,000 events
QUEUE_PATH, DISCREPANCIES = "/console/queue", "/console/discrepancies"


def confirm(title: str, sentences: Sequence[str], button: str, back: str, **values: Any) -> Shown:
    """The page before an action. Without a button nothing can be done."""
    told = {"sentences": list(sentences), "button": button, "back": back, "fields": {}, **values}
    return Shown("confirm.html", title, {"would": list(sentences)}, told)


def audit(visit: Visit, action: str, subject: str) -> None:
    store = visit.runtime.store
    with store.writing() as connection:
        browsing.audit(connection, store.tables, action, subject, visit.person.name)


# --- revealing ------------------------------------------------------------------------------------------------------


def ask_reveal(visit: Visit, **named: Any) -> Shown:
    """Of whatever the path names."""
    back = visit.path.removesuffix("/reveal")
    what = "Numbers, names, references and bodies of this one are shown once, on the page that follows."
    return confirm("Reveal", [what, "The audit says who has seen it."], "Reveal it", back)


def reveal_fax(visit: Visit, fax_id: str) -> Shown:
    faxes.page(visit, fax_id, reveal=False)  # or there is none
    audit(visit, "fax.reveal", fax_id)
    return faxes.page(visit, fax_id, reveal=True)


def reveal_receipt(visit: Visit, receipt_id: str) -> Shown:
    receipts.read(visit, receipt_id)
    audit(visit, "receipts.reveal", receipt_id)
    return receipts.page(visit, receipt_id, reveal=True)


def reveal_event(visit: Visit, event_id: str) -> Shown:
    events.page(visit, event_id, reveal=False)
    audit(visit, "events.reveal", event_id)
    return events.page(visit, event_id, reveal=True)


def reveal_discrepancy(visit: Visit, seq: int) -> Shown:
    others.discrepancy_page(visit, seq, reveal=False)
    audit(visit, "discrepancies.reveal", str(seq))
    return others.discrepancy_page(visit, seq, reveal=True)


# --- evidence -------------------------------------------------------------------------------------------------------


def ask_evidence(visit: Visit, fax_id: str) -> Shown:
    faxes.page(visit, fax_id, reveal=False)  # or there is none
    sentences = (
        "1 file: what is kept of this fax, signed, with numbers, names and references hidden.",
        "It says how the transport ended, not that anybody has read the fax. deploy/verify-evidence.py verifies it.",
    )
    return confirm("Evidence", sentences, "Make it", f"{faxes.PATH}/{fax_id}")


def evidence(visit: Visit, fax_id: str) -> Download:
    faxes.page(visit, fax_id, reveal=False)
    audit(visit, "evidence", fax_id)
    made = signed(visit.store, visit.runtime.settings, fax_id.lower(), reveal=False)
    if made is None:
        raise NotFound("there is no such fax any more")
    return Download(f"fax-{fax_id.lower()}.json", made, "application/json")


# --- republishing ---------------------------------------------------------------------------------------------------


def ask_republish(visit: Visit, event_id: str) -> Shown:
    targets = _targets(visit, event_id)
    places = [_place(name) for name in targets]
    sentences = [f"1 event is put into {place} again: the same id and the same bytes." for place in places]
    if not sentences:
        sentences = ["Nothing: it is not there as published, or its payload is forgotten."]
    return confirm("Put it into the queue again", sentences, "Put it in" if places else "", f"{events.PATH}/{event_id}")


def republish(visit: Visit, event_id: str) -> Elsewhere:
    audit(visit, "events.republish", f"id={event_id}")
    with visit.store.reading() as connection:
        everywhere = _everywhere(visit, connection)
    count = sum(republishing.one(visit.runtime.store, chosen, event_id) for chosen in everywhere)
    done = "republished" if count else "nothing"
    return Elsewhere(link(f"{events.PATH}/{event_id}", done=done))


def _targets(visit: Visit, event_id: str) -> list[str]:
    """Where it would go again."""
    with visit.store.reading() as connection:
        if browsing.event(connection, visit.store.tables, event_id) is None:
            raise NotFound("there is no such event")
        return [
            chosen.sink
            for chosen in _everywhere(visit, connection)
            if republishing.is_chosen(connection, visit.store.tables, chosen, event_id)
        ]


def _everywhere(visit: Visit, connection: Connection) -> list[Chosen]:
    """Also what listens beside them."""
    listeners = listening.filters(connection, visit.store.tables)
    sinks = {QUEUE: EVERYTHING, **visit.runtime.settings.filters, **listeners}
    return [Chosen(sink=name, passing=passing) for name, passing in sinks.items()]


def _place(sink: str) -> str:
    return "the queue" if sink == QUEUE else f"the sink {sink}"


def ask_republish_some(visit: Visit) -> Shown:
    """How many events of a time there are for each place."""
    title, back = "Put the events of a time into the queue again", link(events.PATH, **visit.chosen("since", "until"))
    since_ms, until_ms = visit.milliseconds("since"), visit.milliseconds("until")
    if since_ms is None:
        raise Unprocessable(f"since: expected {times.EXPECTED}")
    both = since_ms, now_ms() if until_ms is None else until_ms
    everywhere = _of_a_time(visit, *both)
    if everywhere is None:
        return confirm(title, [_TOO_MANY], "", back)
    counts = {chosen.sink: republishing.some(visit.store, chosen, dry_run=True) for chosen in everywhere}
    sentences = [f"Events that are put into {_place(sink)} again: {count}." for sink, count in counts.items()]
    fields = {"since": browsing.iso(both[0]), "until": browsing.iso(both[1])}
    return confirm(title, sentences, "Put them in" if any(counts.values()) else "", back, fields=fields)


_TOO_MANY = "These are more than can be done here: choose a shorter time, or use faxhook events republish."


def _of_a_time(visit: Visit, since_ms: int, until_ms: int) -> list[Chosen] | None:
    """For each place; None where there are too many."""
    with visit.store.reading() as connection:
        everywhere = [replace(one, since_ms=since_ms, until_ms=until_ms) for one in _everywhere(visit, connection)]
        windows = list(islice(republishing.windows(connection, visit.store.tables, everywhere[0]), _MOST_WINDOWS + 1))
    return None if len(windows) > _MOST_WINDOWS else everywhere


def republish_some(visit: Visit) -> Elsewhere:
    """What the page before has counted, and what of its time has been published since."""
    since, until = (visit.form.get(name, "") for name in ("since", "until"))
    try:
        since_ms, until_ms = (round(times.instant(text).timestamp() * 1000) for text in (since, until))
    except ValueError:
        raise Unprocessable(f"since and until: expected {times.EXPECTED}") from None
    everywhere = _of_a_time(visit, since_ms, until_ms)
    if everywhere is None:
        raise Unprocessable(_TOO_MANY)
    audit(visit, "events.republish", f"since={since} until={until}")
    count = sum(republishing.some(visit.runtime.store, chosen) for chosen in everywhere)
    return Elsewhere(link(events.PATH, since=since, until=until, done="republished" if count else "nothing"))


# --- dead letters ---------------------------------------------------------------------------------------------------


def ask_revive(visit: Visit, event_id: str) -> Shown:
    whole = [letter for letter in _letters(visit, event_id) if not letter.is_damaged]
    sentences = [f"1 event waits for {_place(letter.sink)} again." for letter in whole]
    sentences = sentences or ["Nothing: it is damaged. Drop it with faxhook dead-letters drop, and replay its receipt."]
    return confirm("Send a dead letter again", sentences, "Send it again" if whole else "", f"{events.PATH}/{event_id}")


def revive(visit: Visit, event_id: str) -> Elsewhere:
    done = "revived" if _revive(visit, _letters(visit, event_id)) else "nothing"
    return Elsewhere(link(f"{events.PATH}/{event_id}", done=done))


def _letters(visit: Visit, event_id: str) -> list[DeadLetter]:
    with visit.store.reading() as connection:
        found = dead_letters.of_event(connection, visit.store.tables, event_id)
    if not found:
        raise NotFound("there is no such dead letter")
    return found


def ask_revive_all(visit: Visit) -> Shown:
    count = damaged = 0
    for some in _every_letter(visit):
        damaged += sum(letter.is_damaged for letter in some)
        count += len(some)
    sentences = [f"Dead letters that wait to be sent again: {count - damaged}."]
    sentences += [f"Damaged ones, which stay: {damaged}."] if damaged else []
    return confirm("Send all dead letters again", sentences, "Send them again" if count > damaged else "", QUEUE_PATH)


def revive_all(visit: Visit) -> Elsewhere:
    count = sum(_revive(visit, some) for some in list(_every_letter(visit)))
    return Elsewhere(link(QUEUE_PATH, done="revived" if count else "nothing"))


def _every_letter(visit: Visit) -> Any:
    with visit.store.reading() as connection:
        names = sinks.names(connection, visit.store.tables)
    for name in names:
        yield from dead_letters.all_of(visit.store, name)


def _revive(visit: Visit, letters: Sequence[DeadLetter]) -> int:
    """In one transaction."""
    whole = [letter for letter in letters if not letter.is_damaged]
    store = visit.runtime.store
    if not whole:
        return 0
    with store.writing() as connection:
        for letter in whole:
            browsing.audit(connection, store.tables, "dead-letters.replay", letter.name, visit.person.name)
        return dead_letters.revive(connection, store.tables, whole)


# --- discrepancies --------------------------------------------------------------------------------------------------


def ask_close(visit: Visit, seq: int) -> Shown:
    with visit.store.reading() as connection:
        one = discrepancies.one(connection, visit.store.tables, seq, now_ms())
    if one is None:
        raise NotFound("there is no such discrepancy")
    if one["closed_at"] is not None:
        return confirm("Close", ["Nothing: it is closed already."], "", f"{DISCREPANCIES}/{seq}")
    sentences = ["1 discrepancy is closed: somebody has dealt with it. If it is found again, it is opened again."]
    if one["kind"] == "missing":
        sentences.append(f"Faxes that are then no longer expected: {len(one['rows'])} at most, those that are overdue.")
    return confirm("Close", sentences, "Close it", f"{DISCREPANCIES}/{seq}")


def close(visit: Visit, seq: int) -> Elsewhere:
    store = visit.runtime.store
    with store.writing() as connection:
        is_closed = discrepancies.close_one(connection, store.tables, seq, now_ms())
        if is_closed:
            browsing.audit(connection, store.tables, "discrepancies.close", str(seq), visit.person.name)
    return Elsewhere(link(f"{DISCREPANCIES}/{seq}", done="closed" if is_closed else "nothing"))
