"""
What is known of one fax, and what a further announcement of it changes. Pure: no clock, no store.

Facts are the event's ``data`` without the words that belong to one publication of it (endpoint, observed_at,
revision …), as plain JSON values, so that they are stored, compared and published in one form.
"""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from schemas.encoding import compact
from schemas.event import FaxCompleted

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fact:
    """
    One fact that is compared. path: dotted, into the facts of a fax.

    of_call: it belongs to one telephone call and goes with the outcome of that call; the others belong to the job, and
    its sender may have told them to us before the end. is_news: consumers hear of it as soon as it is learned; the rest
    is remembered and told with the next news. companions: facts that are only ever read together with it.
    """

    path: str
    of_call: bool = False
    is_news: bool = False
    companions: tuple[str, ...] = ()


TABLE = (
    Fact("provider_fax_id", of_call=True),
    Fact("recipient.station_id", of_call=True),
    Fact("pages.sent", of_call=True, is_news=True),
    Fact("duration_seconds", of_call=True, is_news=True),
    Fact("attempts", of_call=True),
    Fact("cost", of_call=True, is_news=True),
    Fact("completed_at", of_call=True, is_news=True, companions=("time_quality",)),
    Fact("recipient.number", is_news=True, companions=("recipient.number_raw",)),
    Fact("recipient.name"),
    Fact("sender.name"),
    Fact("sender.number"),
    Fact("pages.total", is_news=True),
    Fact("submitted_at"),
    Fact("reference.id"),
    Fact("reference.billing_code"),
    Fact("reference.billing_info"),
)
_COMPARED = [fact.path.partition(".")[::2] for fact in TABLE]
# Taken where stated and never compared: they are in no digest, and facts that were stored before them lack them.
_ASIDE = ("provider_call_id", "recipient.country")
# The result: judged as one.
_RESULT = ("outcome", "failure", "provider_status")
_REASON = "failure.reason"


def of(event: FaxCompleted) -> Facts:
    """The facts one announcement states."""
    failure = event.failure
    return {
        "account": event.account,
        "provider_job_id": event.provider_job_id,
        "provider_fax_id": event.provider_fax_id,
        "provider_call_id": event.provider_call_id,
        "outcome": event.outcome.value,
        "failure": failure
        and {
            "reason": failure.reason.value,
            "retryable": failure.retryable.value,
            "confidence": failure.confidence.value,
        },
        "provider_status": {"code": event.status_code, "text": event.status_text},
        "recipient": {
            "number": event.recipient.number,
            "number_raw": event.recipient.number_raw,
            "name": event.recipient.name,
            "station_id": event.recipient.station_id,
            "country": event.recipient.country,
        },
        "sender": {"name": event.sender.name, "number": event.sender.number},
        "pages": {"total": event.pages.total, "sent": event.pages.sent},
        "partial": event.partial,
        "duration_seconds": event.duration_seconds,
        "attempts": event.attempts,
        "cost": event.cost and {"amount": f"{event.cost.amount:f}", "currency": event.cost.currency},
        "submitted_at": timestamp(event.submitted_at),
        "completed_at": timestamp(event.completed_at),
        "time_quality": event.time_quality.value,
        "reference": {
            "id": event.reference.id,
            "billing_code": event.reference.billing_code,
            "billing_info": event.reference.billing_info,
        },
        "test": event.test,
    }


# Of an event's ``data``, what is a fact; the rest belongs to one publication of it.
_OF_DATA = (
    "account",
    "provider_job_id",
    "provider_fax_id",
    "provider_call_id",
    "outcome",
    "failure",
    "provider_status",
    "recipient",
    "sender",
    "pages",
    "partial",
    "duration_seconds",
    "attempts",
    "cost",
    "submitted_at",
    "completed_at",
    "time_quality",
    "reference",
    "test",
)


def of_published(data: Mapping[str, Any]) -> Facts:
    """The facts in the ``data`` of an event, as it was published."""
    return {name: data[name] for name in _OF_DATA}


def timestamp(time: datetime | None) -> str | None:
    """RFC 3339 in UTC with ``Z``; milliseconds where the time has a fraction."""
    if time is None:
        return None
    return time.isoformat(timespec="milliseconds" if time.microsecond >= 1000 else "seconds").replace("+00:00", "Z")


def digest(facts: Facts) -> str:
    """SHA-256 of the facts that are compared: two announcements with the same digest say the same."""
    compared = [facts["outcome"], _reason(facts)]
    stated = [facts[group].get(name) if name else facts.get(group) for group, name in _COMPARED]
    compared += [_comparable(value) if isinstance(value, dict) else value for value in stated]
    return hashlib.sha256(compact(compared).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Merged:
    """
    What is known after a further announcement.

    changed: dotted names of the facts that differ from before. news: whether consumers must hear of those. conflict:
    the announcement contradicts the outcome, whichever of the two is now current; consumers hear of each such outcome
    once, even when no fact changes by it. differing: other facts it states otherwise than known; the first is kept.
    """

    facts: Facts
    changed: tuple[str, ...]
    news: bool
    conflict: bool
    differing: tuple[str, ...]


def merge(known: Facts, announced: Facts) -> Merged:
    """
    Known facts and a further announcement of the same fax, made one.

    A null never erases a fact. Where outcome, reason or number contradict, the later completion time holds, or the
    later arrival where one of the times is unknown; the facts of that call come with it, so that no event mixes
    the result of one call with the pages of another.
    """
    judged = _judge(known, announced)
    facts = copy.deepcopy(known)
    changed, differing = _take_result(facts, announced, judged)
    for fact in TABLE:
        old, new = _get(known, fact.path), _get(announced, fact.path)
        if new is None or _comparable(old) == _comparable(new):
            continue
        of_another_call = fact.of_call and judged.contradicts
        # Facts of another call never fill the gaps of the one that holds.
        fills = old is None and not of_another_call
        if fills or (judged.is_later and (of_another_call or fact.path == "recipient.number")):
            changed.append(fact.path)
            for path in (fact.path, *fact.companions):
                _set(facts, path, copy.deepcopy(_get(announced, path)))
        elif not of_another_call:
            differing.append(fact.path)
    _take_aside(facts, announced, judged)
    _settle(facts, announced["recipient"]["number_raw"])
    return Merged(facts, tuple(changed), not _NEWS.isdisjoint(changed), judged.conflict, tuple(differing))


_NEWS = {"outcome", _REASON, *(fact.path for fact in TABLE if fact.is_news)}


@dataclass(frozen=True, slots=True)
class _Judged:
    """How an announcement stands to what is known. conflict: another outcome. contradicts: that, or another reason."""

    conflict: bool
    contradicts: bool
    is_later: bool


def _judge(known: Facts, announced: Facts) -> _Judged:
    conflict = announced["outcome"] != known["outcome"]
    was, now = _reason(known), _reason(announced)
    contradicts = conflict or (was is not None and now is not None and was != now)
    return _Judged(conflict, contradicts, _is_later(announced, known))


def _take_result(facts: Facts, announced: Facts, judged: _Judged) -> tuple[list[str], list[str]]:
    """Take outcome and reason over where they hold; the names of what changed by it, and of what differs instead."""
    was, now = _reason(facts), _reason(announced)
    is_learned = not judged.conflict and was is None and now is not None
    if not is_learned and not (judged.contradicts and judged.is_later):
        return [], [_REASON] if judged.contradicts and not judged.conflict else []
    for name in _RESULT:
        facts[name] = copy.deepcopy(announced[name])
    return ["outcome"] * judged.conflict + [_REASON] * (was != now), []


def _take_aside(facts: Facts, announced: Facts, judged: _Judged) -> None:
    for path in _ASIDE:
        new = _get(announced, path)
        is_of_the_new_call = path == "provider_call_id" and judged.contradicts and judged.is_later
        if new is not None and (_get(facts, path) is None or is_of_the_new_call):
            _set(facts, path, new)


def _settle(facts: Facts, number_raw: str | None) -> None:
    """What follows from the other facts."""
    if facts["recipient"]["number_raw"] is None:
        facts["recipient"]["number_raw"] = number_raw
    facts["partial"] = _is_partial(facts)


def completed(stated: Facts, known: Mapping[str, Any]) -> Facts:
    """What an announcement states, its gaps filled with what the sender told us: dotted names -> values."""
    facts = copy.deepcopy(stated)
    for fact in TABLE:
        if not fact.of_call and _get(facts, fact.path) is None and known.get(fact.path) is not None:
            _set(facts, fact.path, known[fact.path])
    _settle(facts, known.get("recipient.number_raw"))
    return facts


def _is_later(announced: Facts, known: Facts) -> bool:
    if announced["completed_at"] is None or known["completed_at"] is None:
        return True
    return _time(announced["completed_at"]) >= _time(known["completed_at"])


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _is_partial(facts: Facts) -> bool:
    sent, total = facts["pages"]["sent"], facts["pages"]["total"]
    return facts["outcome"] != "delivered" and sent is not None and total is not None and 0 < sent < total


def _reason(facts: Facts) -> str | None:
    """The failure reason; ``unknown`` is no reason at all."""
    reason = facts["failure"] and facts["failure"]["reason"]
    return None if reason == "unknown" else reason


def _comparable(value: Any) -> Any:
    """Money compares by amount: a report may write 0.0294 as 0.02940."""
    if isinstance(value, dict):
        return [format(Decimal(value["amount"]).normalize(), "f"), value["currency"]]
    return value


def _get(facts: Facts, path: str) -> Any:
    group, _, name = path.partition(".")
    return facts[group].get(name) if name else facts.get(group)


def _set(facts: Facts, path: str, value: Any) -> None:
    group, _, name = path.partition(".")
    if name:
        facts[group][name] = value
    else:
        facts[group] = value
