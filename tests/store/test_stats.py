"""``faxhook stats``: counters are what a recount of all faxes gives, whatever happened to these, and outlive them."""

import json
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa
from announcing import deliver, fax, identity, project, rows, submission, tell_all
from test_retention import DAY, START

from receiver.store import (
    HOUR_MS,
    jobs,
    republishing,
    rfc3339,
    stats,
)
from receiver.store.jobs import ExpectedFax
from receiver.store.known import facts_of
from receiver.store.republishing import Chosen
from receiver.store.stats_columns import BOUNDS, bucket, quantile
from schemas.event import (
    Confidence,
    Cost,
    Failure,
    FailureReason,
    Outcome,
    Pages,
    Recipient,
    Retryable,
)

NUMBERS = {"+12025550139": "US", "+498912504001710": "DE", "+442079460000": "GB", None: None}
FIVE_MS = 5 * 60_000


def at(milliseconds):
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def read(store, by=(), since_ms=START - 100 * DAY, until_ms=None, now_ms=START):
    with store.reading() as connection:
        return stats.read(connection, store.tables, by, since_ms, now_ms, until_ms).rows


def heard(*faxes, observed_ms=START, **others):
    """A request that came then."""
    return submission(*faxes, received_at_ms=observed_ms, observed_at=rfc3339(observed_ms), **others)


# --- a recount ------------------------------------------------------------------------------------------------------


def recounted(store, by, since_ms, until_ms):
    """The rows of ``stats.read`` from the events alone."""
    groups = {}
    for first, facts in faxes_of(store):
        observed, completed = ms(first["observed_at"]), ms(first["completed_at"])
        ended = observed if completed is None else min(completed, observed)
        if ended < since_ms or ended >= until_ms:
            continue
        of = {
            "provider": first["provider"],
            "endpoint": first["endpoint"],
            "reason": (facts["failure"] or {}).get("reason"),
            "hour": rfc3339(ended // HOUR_MS * HOUR_MS),
            "country": NUMBERS[facts["recipient"]["number"]],
        }
        groups.setdefault(tuple(of[name] for name in by), []).append((first, facts, observed, completed))
    found = [dict(zip(by, group, strict=True)) | described(some) for group, some in groups.items()]
    return sorted(found, key=lambda row: [str(row[name] or "") for name in by])


def faxes_of(store):
    """Of each fax the data of its first event, and its facts."""
    events, learned = store.tables.events, store.tables.learned
    query = sa.select(events, learned.c.facts).outerjoin(learned, learned.c.event_id == events.c.id)
    with store.reading() as connection:
        found = connection.execute(query.order_by(events.c.seq)).all()
    first, newest = {}, {}
    for row in found:
        data = json.loads(row.body)["data"]
        first.setdefault(row.fax_id, data)
        newest[row.fax_id] = facts_of(row.id, row.body, row.checksum, row.facts)
    return [(first[fax_id], newest[fax_id]) for fax_id in first]


def ms(text):
    return None if text is None else round(datetime.fromisoformat(text).timestamp() * 1000)


def described(faxes):
    count = Counter(facts["outcome"] for _, facts, _, _ in faxes)
    tried = [facts for _, facts, _, _ in faxes if facts["attempts"] is not None]
    first_tries = [one for one in tried if one["attempts"] == 1 and one["outcome"] == "delivered"]
    ending = [ms(one["completed_at"]) - ms(one["submitted_at"]) for _, one, _, _ in faxes if is_timed(one)]
    calls = [one for one in faxes if one[0]["provider"] != "openfax-broadcast"]
    missed = [one for one in calls if one[0]["observed_via"] == "report"]
    calling = [seen - end for one in calls for _, _, seen, end in [one] if one not in missed and end is not None]
    costs = {}
    for _, facts, _, _ in faxes:
        if facts["cost"]:
            currency = facts["cost"]["currency"]
            costs[currency] = costs.get(currency, 0) + Decimal(facts["cost"]["amount"])
    return {
        "faxes": len(faxes),
        **{outcome.value: count[outcome] for outcome in Outcome},
        "delivered_share": round(count["delivered"] / len(faxes), 4),
        "first_attempt_share": round(len(first_tries) / len(tried), 4) if tried else None,
        "completion_p50": of_buckets(ending, 0.5),
        "completion_p95": of_buckets(ending, 0.95),
        "callback_p50": of_buckets(calling, 0.5),
        "callback_p95": of_buckets(calling, 0.95),
        "missed": len(missed),
        "missed_share": round(len(missed) / len(calls), 4) if calls else None,
        "unknown_codes": sum(facts["provider_status"]["code"] == "9999" for _, facts, _, _ in faxes),
        "pages": sum(facts["pages"]["sent"] or 0 for _, facts, _, _ in faxes),
        "cost": [
            {"amount": f"{amount.normalize():f}", "currency": currency}
            for currency, amount in sorted(costs.items(), key=lambda one: one[0] or "")
        ],
    }


def is_timed(facts):
    return facts["completed_at"] is not None and facts["submitted_at"] is not None


def of_buckets(durations_ms, share):
    counts = [0] * (len(BOUNDS) + 1)
    for one in (one for one in durations_ms if one >= -60_000):  # else one of the times is wrong
        counts[bucket(one / 1000)] += 1
    return quantile(counts, share)


# --- what happens to faxes ------------------------------------------------------------------------------------------


class Random:
    """Announcements of faxes that ended in the last hundred hours."""

    def __init__(self, store, seed):
        self.store, self.chance = store, random.Random(seed)
        self.said = []  # submissions so far

    def fax(self, key):
        chance = self.chance
        failure, code = None, "success"
        outcome = chance.choice([Outcome.DELIVERED] * 4 + [Outcome.FAILED] * 2 + [Outcome.CANCELED])
        if outcome is Outcome.FAILED:
            reason = chance.choice([FailureReason.BUSY, FailureReason.CIRCUITS_BUSY, FailureReason.UNKNOWN])
            is_odd = reason is FailureReason.UNKNOWN
            failure = Failure(reason, Retryable.UNKNOWN, Confidence.LOW if is_odd else Confidence.HIGH)
            code = "9999" if is_odd else "failure"
        ended = START - chance.randrange(100 * HOUR_MS)
        currency = chance.choice([None, "EUR", "USD"])
        number = chance.choice(list(NUMBERS))
        return fax(
            key,
            outcome=outcome,
            failure=failure,
            status_code=code,
            recipient=Recipient(number=number, number_raw=number),
            pages=Pages(total=3, sent=chance.choice([None, 0, 1, 3])),
            attempts=chance.choice([None, 1, 2]),
            cost=chance.choice([None, Cost(Decimal(chance.randrange(1000)) / 10000, currency)]),
            submitted_at=chance.choice([None, at(ended - chance.randrange(1000, 10**7))]),
            completed_at=chance.choice([None, at(ended), at(ended)]),
        )

    def one(self, many):
        chance = self.chance
        if self.said and chance.random() < 0.15:  # a repetition, or a replay of what was received
            known = chance.choice(self.said)
            return replace(known, replay=True) if chance.random() < 0.5 else replace(known, receipt=heard().receipt)
        key = chance.randrange(many)
        provider = ("faxage", "retarus", "openfax-broadcast")[key % 3]
        via = "report" if provider == "openfax-broadcast" or chance.random() < 0.2 else "callback"
        one = self.fax(str(key))
        observed_ms = (ms_of(one.completed_at) or START - DAY) + chance.randrange(-5000, 300_000)
        if not one.completed_at and chance.random() < 0.5:
            observed_ms -= chance.randrange(90 * HOUR_MS)
        endpoint = f"{provider}-{chance.randrange(2)}"
        made = heard(one, observed_ms=observed_ms, endpoint=endpoint, provider=provider, observed_via=via)
        self.said.append(made)
        return made

    def happens(self, many):
        store, chance = self.store, self.chance
        tell_all(store, *[self.one(many) for _ in range(chance.randint(1, 12))])
        what = chance.random()
        if what < 0.3:
            project(store, chance.choice([3, 50]))
        elif what < 0.4:
            key = str(identity(str(chance.randrange(many))))
            learned = {"submitted_at": rfc3339(START - 3 * DAY), "recipient.number": "+12025550139"}
            with store.writing() as connection:
                one = ExpectedFax(key, "faxage", "acme", "faxage-0", "1", learned, START)
                jobs.register(connection, store.tables, [one], START)
        elif what < 0.5:
            deliver(store)
            with store.writing() as connection:
                for window in republishing.windows(connection, store.tables, Chosen()):
                    republishing.republish(connection, store.tables, Chosen(), window)


def ms_of(time):
    return None if time is None else round(time.timestamp() * 1000)


@pytest.mark.parametrize("count", [250, pytest.param(10_000, marks=pytest.mark.campaign)])
def test_counters_are_what_a_recount_gives(store, count):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    made = Random(store, seed)
    while len(made.said) < count:
        made.happens(count // 2)
    project(store)
    assert len(rows(store, "events")) > len(rows(store, "faxes")) > count // 5
    fine = START - 40 * HOUR_MS + 7 * FIVE_MS
    windows = (
        (START - 101 * HOUR_MS, START + HOUR_MS),
        (START - 80 * HOUR_MS, START - 60 * HOUR_MS),
        (fine, fine + 3 * FIVE_MS),
        (fine, START - 3 * FIVE_MS),
    )
    for since, until in windows:
        since = since if since >= fine else since // HOUR_MS * HOUR_MS
        until = until if until >= fine else until // HOUR_MS * HOUR_MS
        for by in ((), ("provider", "reason"), ("endpoint",), ("country", "hour"), stats.BY):
            assert read(store, by, since, until) == recounted(store, by, since, until), (by, since, until)


# --- one by one -----------------------------------------------------------------------------------------------------


def counted(store, *names, by=(), **others):
    return [tuple(row[name] for name in (*by, *names)) for row in read(store, by, **others)]
