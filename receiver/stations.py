"""
The stations that callbacks and the rows of reports share, in their order.

``understand``: decoded data -> entries, one a fax, by the provider's schema and ``normalise``. ``announce``: entries ->
what the store records. ``tell``: what the store made of it -> metrics and log lines, after the commit. Between the last
two, ``receiver.store.recording`` stores. ``intake.process`` takes callbacks through them, ``reconcile.records`` rows.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from marshmallow import Schema, ValidationError

from receiver import facts
from receiver.errors import Inbound, Unprocessable
from receiver.logs import log
from receiver.providers import Callback, Provider, RecordReport, Source, comes_in, names_in
from receiver.store.counters import Counts
from receiver.store.submissions import Announcement, Recorded, Submission
from schemas.event import FaxCompleted
from schemas.fields import InvalidRow, flatten, noting_unreadable
from schemas.identity import fax_id
from schemas.rows import shortened

# What may be shown of a code that no table lists: longer digits might be a number, and other text anything.
_HARMLESS = re.compile(r"-?[0-9]{1,6}|[A-Z][A-Z_]{0,39}", re.ASCII)


Entry = FaxCompleted | InvalidRow


def understand(
    kind: Callback | RecordReport, data: Mapping[str, Any], source: Source
) -> tuple[Sequence[Entry], Sequence[str]]:
    """
    What the data say of each fax, and the names of optional fields that nobody could read; nothing while not final.

    Raises Unprocessable, naming the fields, what was expected of them, and what there was instead; and Inbound.
    """
    if comes_in(data):
        raise Inbound
    message = kind.shape(data)
    if not message:
        return (), ()
    try:
        loaded, unreadable = check(message, kind.schema)
        return kind.normalise(loaded, source), unreadable
    except Unprocessable as refusal:
        refusal.received = tuple(names_in(message))
        raise


def check(message: Mapping[str, Any], schema: Schema) -> tuple[Mapping[str, Any], list[str]]:
    """The message as the provider's schema loads it, and the names of optional fields that nobody could read."""
    with noting_unreadable() as unreadable:
        try:
            return shortened(schema)(message), unreadable
        except ValidationError as error:
            fields = flatten(error.messages)
    raise Unprocessable("what names the fax or its result is missing or malformed", fields=fields)


def announce(
    provider: Provider,
    entry: FaxCompleted,
    unreadable: Sequence[str],
    salt: bytes | None,
    lists: Callable[[FaxCompleted], bool] | None = None,
) -> Announcement:
    """
    One fax's end for the store. unreadable: optional fields of its message that nobody could read.

    lists: whether a table has the entry's code; by default the provider's own table is asked.
    """
    is_listed = lists(entry) if lists else provider.codes.lists(entry.status_code)
    return Announcement(
        fax_id(provider.name, entry.account, entry.key, salt),
        facts.of(entry),
        unlisted=None if is_listed else _code(entry.status_code),
        unreadable=unreadable,
    )


def _code(code: str) -> str:
    return code if _HARMLESS.fullmatch(code) else "…"


def odd(announcements: Iterable[Announcement]) -> dict[str, list[str]]:
    """For the detail of their receipt: the codes that no table lists, and the optional fields that were left out."""
    unlisted = {one.unlisted for one in announcements if one.unlisted is not None}
    unreadable = {name for one in announcements for name in one.unreadable}
    found = {"unlisted": sorted(unlisted), "unreadable": sorted(unreadable)}
    return {name: values for name, values in found.items() if values}


def tell(submission: Submission, recorded: Recorded, count: Callable[[Counts], object]) -> None:
    """Tell operators what came of it, after the commit. count: lets their counters grow."""
    count(counts(submission, recorded))
    if recorded.flips:
        log.warning("outcome_flipped", receipt=recorded.receipt, endpoint=submission.endpoint, count=recorded.flips)


def counts(submission: Submission, recorded: Recorded) -> Counts:
    """
    What the operators' counters grow by: those of ``receiver.metrics``, with their labels.

    What is odd in an announcement counts once, however often it is repeated.
    """
    found: Counts = Counter()
    endpoint, provider = submission.endpoint, submission.provider
    if not submission.is_report or recorded.told:  # else no receipt is kept
        found["receipts", endpoint, recorded.state, submission.refused or submission.ignored or ""] += 1
    for told in recorded.told:
        found["events", endpoint, told.type, told.outcome, told.reason] += 1
    found["partial_receipts", endpoint] += submission.invalid > 0
    found["conflicts", endpoint] += recorded.conflicts
    found["outcome_flips", endpoint] += recorded.flips
    for name in recorded.differing:
        found["differing_facts", name] += 1
    found["unknown_codes", provider] += sum(one.unlisted is not None for one in recorded.news)
    # Recipients of one message share what could not be read in it.
    messages = {id(one.unreadable): one.unreadable for one in recorded.news}
    found["unreadable_fields", provider] += sum(len(set(names)) for names in messages.values())
    if not submission.is_report:  # whose answers are repaired, not its pages
        found.update(("repairs", provider, repair) for repair in submission.detail.get("repaired", ()))
    return +found
