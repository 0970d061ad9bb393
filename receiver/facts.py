"""
What is known of one fax, and what a further announcement of it changes. Pure: no clock, no store.

Facts are the event's ``data`` without the words that belong to one publication of it (endpoint, observed_at,
revision …), as plain JSON values, so that they are stored, compared and published in one form.
"""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from schemas.event import FaxCompleted

Facts = dict[str, Any]

_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # json.dumps would make one each time

# A fact of one telephone call: it goes with the outcome of that call. The others are facts of the job.
_OF_THE_CALL = (
    "provider_fax_id",
    "recipient.station_id",
    "pages.sent",
    "duration_seconds",
    "attempts",
    "cost",
    "completed_at",
)
_OF_THE_JOB = (
    "recipient.number",
    "recipient.name",
    "sender.name",
    "sender.number",
    "pages.total",
    "submitted_at",
    "reference.id",
    "reference.billing_code",
    "reference.billing_info",
)
# Learning one of these is news for the consumer; the rest is remembered and told with the next news.
_NEWS = frozenset({"recipient.number", "completed_at", "pages.total", "pages.sent", "duration_seconds", "cost"})

# Facts that are only ever read together with another one.
_COMPANION = {
    "completed_at": ("time_quality",),
    "recipient.number": ("recipient.number_raw",),
}
# Taken where stated and never compared: they are in no digest, and facts that were stored before them lack them.
_ASIDE = ("provider_call_id", "recipient.country")
_UNIT = ("outcome", "failure", "provider_status")


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


def timestamp(time: datetime | None) -> str | None:
    """RFC 3339 in UTC with ``Z``; milliseconds where the time has a fraction."""
    if time is None:
        return None
    return time.isoformat(timespec="milliseconds" if time.microsecond >= 1000 else "seconds").replace("+00:00", "Z")


def digest(facts: Facts) -> str:
    """SHA-256 of the facts that are compared: two announcements with the same digest say the same."""
    compared = [facts["outcome"], _reason(facts)]
    compared += [_comparable(_get(facts, path)) for path in (*_OF_THE_CALL, *_OF_THE_JOB)]
    return hashlib.sha256(_compact(compared).encode()).hexdigest()


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
    facts = copy.deepcopy(known)
    changed: list[str] = []
    differing: list[str] = []
    conflict = announced["outcome"] != known["outcome"]
    was, now = _reason(known), _reason(announced)
    contradicted = conflict or (was is not None and now is not None and was != now)
    later = _is_later(announced, known)

    if (contradicted and later) or (not conflict and was is None and now is not None):
        changed += ["outcome"] if conflict else []
        changed += ["failure.reason"] if was != now else []
        for name in _UNIT:
            facts[name] = copy.deepcopy(announced[name])
    elif contradicted and not conflict:
        differing.append("failure.reason")

    for path in (*_OF_THE_CALL, *_OF_THE_JOB):
        old, new = _get(known, path), _get(announced, path)
        if new is None or _comparable(old) == _comparable(new):
            continue
        of_another_call = contradicted and path in _OF_THE_CALL  # never fills the gaps of the one that holds
        take = later if of_another_call else old is None or (path == "recipient.number" and later)
        if take:
            changed.append(path)
            for name in (path, *_COMPANION.get(path, ())):
                _set(facts, name, copy.deepcopy(_get(announced, name)))
        elif old is not None and not of_another_call:
            differing.append(path)

    for path in _ASIDE:
        new = _get(announced, path)
        if new is not None and (_get(facts, path) is None or (path == "provider_call_id" and contradicted and later)):
            _set(facts, path, new)
    if facts["recipient"]["number_raw"] is None:
        facts["recipient"]["number_raw"] = announced["recipient"]["number_raw"]
    facts["partial"] = _is_partial(facts)
    news = any(path in _NEWS or path in ("outcome", "failure.reason") for path in changed)
    return Merged(facts, tuple(changed), news, conflict, tuple(differing))


# What the sender of a fax may have told us of it before its end.
OF_THE_SENDER = (
    *("recipient.number", "recipient.name", "sender.name", "sender.number", "pages.total", "submitted_at"),
    *("reference.id", "reference.billing_code", "reference.billing_info"),
)


def completed(stated: Facts, known: Mapping[str, Any]) -> Facts:
    """What an announcement states, its gaps filled with what the sender told us: dotted names -> values."""
    facts = copy.deepcopy(stated)
    for path in OF_THE_SENDER:
        if _get(facts, path) is None and known.get(path) is not None:
            _set(facts, path, known[path])
    if facts["recipient"]["number_raw"] is None:
        facts["recipient"]["number_raw"] = known.get("recipient.number_raw")
    facts["partial"] = _is_partial(facts)
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
