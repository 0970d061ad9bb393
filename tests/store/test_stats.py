"""``faxhook stats``: counters are what a recount of all faxes gives, whatever happened to these, and outlive them."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from announcing import KEYS, deliver, fax, identity, numbered, project, rows, submission, tell_all
from stock import environment
from test_retention import DAY, START, purged

from receiver.outgoing import place
from receiver.outgoing.projector import Projector
from receiver.store import (
    HOUR_MS,
    Store,
    dead_letters,
    erasing,
    jobs,
    outbox,
    projection,
    republishing,
    retention,
    rfc3339,
    stats,
)
from receiver.store.jobs import ExpectedFax
from receiver.store.known import facts_of
from receiver.store.recording import record
from receiver.store.republishing import Chosen
from receiver.store.salvaging import salvage
from receiver.store.stats_columns import BOUNDS, bucket, quantile
from receiver.store.tables import PROJECTOR
from schemas.event import Confidence, Cost, Failure, FailureReason, Outcome, Pages, Recipient, Retryable

NUMBERS = {"+12025550139": "US", "+498912504001710": "DE", "+442079460000": "GB", None: None}
FIVE_MS = 5 * 60_000
MANY = 10_000 if os.environ.get("FAXHOOK_LONG_TESTS") else 2_000


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
        elif what < 0.4 + 50 / many:  # all of them: a few times
            deliver(store)
            with store.writing() as connection:
                for window in republishing.windows(connection, store.tables, Chosen()):
                    republishing.republish(connection, store.tables, Chosen(), window)


def ms_of(time):
    return None if time is None else round(time.timestamp() * 1000)


@pytest.mark.parametrize("count", [150, pytest.param(MANY, marks=pytest.mark.campaign)])
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
        for by in (("provider", "country"), stats.BY):
            assert read(store, by, since, until) == recounted(store, by, since, until), (by, since, until)


# --- one by one -----------------------------------------------------------------------------------------------------


def counted(store, *names, by=(), **others):
    return [tuple(row[name] for name in (*by, *names)) for row in read(store, by, **others)]


def test_an_amendment_moves_a_fax_to_another_outcome_in_the_hour_of_its_first_completion(store):
    first, later = START - 5 * HOUR_MS, START - HOUR_MS
    tell_all(store, heard(fax("1", completed_at=at(first), pages=Pages(sent=2)), observed_ms=first + 1000))
    project(store)
    busy = Failure(FailureReason.BUSY, Retryable.YES, Confidence.HIGH)
    amended = fax("1", outcome=Outcome.FAILED, failure=busy, status_code="failure", completed_at=at(later))
    tell_all(store, heard(amended, observed_ms=later))
    project(store)
    assert counted(store, "faxes", "delivered", "failed", "pages", by=("hour", "reason")) == [
        (rfc3339(first // HOUR_MS * HOUR_MS), "busy", 1, 0, 1, 2)
    ]


def test_what_a_fax_learns_without_an_event_counts(store):
    tell_all(store, heard(fax("1", completed_at=at(START)), observed_ms=START))
    project(store)
    assert counted(store, "completion_p50", "first_attempt_share") == [(None, None)]
    tell_all(store, heard(fax("1", submitted_at=at(START - 40_000), attempts=1), observed_ms=START))
    project(store)
    assert counted(store, "completion_p50", "first_attempt_share") == [(37.5, 1.0)]


def test_a_completion_after_the_callback_counts_at_the_callback(store):
    tell_all(store, heard(fax("1", completed_at=at(START + 3 * DAY)), observed_ms=START))
    project(store)
    assert counted(store, "faxes", by=("hour",)) == [(rfc3339(START // HOUR_MS * HOUR_MS), 1)]


def test_figures_outlive_all_that_is_personal_and_end_after_four_hundred_days(store):
    tell_all(store, heard(*numbered(5), observed_ms=START))
    deliver(store)
    purged(store, 100)
    assert rows(store, "faxes") == rows(store, "find_keys") == []
    assert counted(store, "faxes", now_ms=START + 100 * DAY) == [(5,)]
    for days, left in ((1, [5, 60]), (3, [60]), (399, [60]), (401, [])):
        with store.writing() as connection:
            limits = retention.Limits(*[timedelta(days=90)] * 3)
            retention.purge(connection, store.tables, limits, START + days * DAY, steps=[retention._Purge.stats])
        assert sorted(rows(store, "stats", "step")) == sorted(left)


def test_a_purged_fax_is_moved_by_a_late_amendment_and_nobody_knows_one_that_is_forgotten(store):
    tell_all(store, heard(fax("1"), fax("2"), observed_ms=START))
    deliver(store)
    purged(store, 8)
    failed = fax("1", outcome=Outcome.CANCELED)
    tell_all(store, heard(failed, observed_ms=START + 8 * DAY))
    deliver(store)
    assert counted(store, "faxes", "delivered", "canceled", now_ms=START + 9 * DAY) == [(2, 1, 1)]


def test_a_fax_that_is_dropped_with_its_dead_letter_counts_again_when_it_is_replayed(store):
    one = heard(fax("1"), observed_ms=START)
    tell_all(store, one)
    project(store)
    with store.writing() as connection:
        outbox.park(connection, store.tables, outbox.all_waiting(connection, store.tables), "refused", START)
        dead_letters.drop(connection, store.tables, dead_letters.after(connection, store.tables))
    assert read(store) == []
    tell_all(store, replace(one, replay=True))
    project(store)
    assert counted(store, "faxes") == [(1,)]


def test_what_was_erased_counts_as_it_did(store):
    tell_all(store, heard(fax("1", pages=Pages(sent=4)), observed_ms=START))
    deliver(store)
    with store.writing() as connection:
        erasing.faxes(connection, store.tables, [str(identity())], drop=True)
    project(store)
    assert counted(store, "faxes", "pages") == [(1, 4)]


def test_nothing_personal_stands_in_the_figures(store):
    number = Recipient(number="+12025550139", number_raw="2025550139", name="Dr. Zweifel")
    tell_all(store, heard(fax("1", recipient=number), observed_ms=START))
    deliver(store)
    for table in ("stats", "find_keys"):
        text = " ".join(map(str, rows(store, table)))
        assert "0139" not in text
        assert "Zweifel" not in text


def test_a_salvaged_store_counts_no_fax_twice(sqlite, tmp_path):
    tell_all(sqlite, heard(*numbered(20), observed_ms=START))
    deliver(sqlite)
    sqlite.close()
    fresh = Store(f"sqlite:///{tmp_path}/fresh.db")
    assert {one.table: one.lost for one in salvage(sqlite.file.path, fresh)}["stats"] == 0
    project(fresh)
    assert counted(fresh, "faxes") == [(20,)]
    fresh.close()


def test_a_projector_that_ends_in_its_transaction_has_counted_nothing(store):
    class Killed(Exception):  # noqa: N818 - a transaction that does not come to its end
        pass

    tell_all(store, heard(*numbered(5), observed_ms=START))
    with store.reading() as connection:
        rows_of_it = projection.prepare(connection, store.tables, KEYS, 0, 10)
    with suppress(Killed), store.writing() as connection:
        projection.take(connection, store.tables, rows_of_it)
        raise Killed
    assert read(store) == []
    with store.writing() as connection:
        assert projection.take(connection, store.tables, rows_of_it) == 5
    with store.writing() as connection:
        assert projection.take(connection, store.tables, rows_of_it) == 0, "a former projector that is late"
    assert counted(store, "faxes") == [(5,)]


PROJECTING = """
import sys, time
from receiver.outgoing.projector import Projector
from receiver.store import Store
projector = Projector(Store(sys.argv[1]), [b"a secret of the tests"], lambda: True)
print("begun", flush=True)
while True:
    time.sleep(min(projector.step(), 0.01))
"""


@pytest.mark.campaign
def test_a_projector_that_is_killed_again_and_again_counts_each_fax_once(store):
    made = Random(store, random.randrange(10**6))
    url = store.url.render_as_string(hide_password=False)
    for _ in range(15):
        command = [sys.executable, "-c", PROJECTING, url]
        with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            for _ in range(5):
                tell_all(store, *[made.one(400) for _ in range(20)])
            time.sleep(made.chance.random() / 10)
            process.kill()
    project(store)
    for by in ((), ("provider", "reason", "country"), ("hour",)):
        assert read(store, by, START - 101 * HOUR_MS, START + HOUR_MS) == recounted(
            store, by, START - 101 * HOUR_MS, START + HOUR_MS
        )


@pytest.mark.service("postgresql")
def test_a_first_event_that_commits_late_is_counted_before_its_amendment(postgresql, monkeypatch):
    monkeypatch.setattr(place, "_LATE_SECONDS", 0.0)
    monkeypatch.setattr(place, "_FROM_THE_START_SECONDS", 3600.0)
    projector = Projector(postgresql, [b"a secret of the tests"], lambda: True)
    projector.step()
    with postgresql.recording(time.monotonic() + 60) as cursor:
        record(cursor, postgresql.engine.dialect, [heard(fax("late"), observed_ms=START)])
        for number in range(3):
            tell_all(postgresql, heard(fax(f"younger {number}"), observed_ms=START))
            projector.step()
    tell_all(postgresql, heard(fax("late", outcome=Outcome.CANCELED), observed_ms=START))
    projector.step()
    assert counted(postgresql, "faxes", "delivered", "canceled") == [(4, 3, 1)]
    assert rows(postgresql, "waiting", sink=PROJECTOR) == []


@pytest.mark.parametrize(
    ("counts", "share", "seconds"),
    [([0] * 22, 0.5, None), ([4] + [0] * 21, 0.5, 0.5), ([0] * 21 + [3], 0.95, 86400), ([1, 1] + [0] * 20, 1.0, 2)],
)
def test_a_quantile_lies_in_its_bucket(counts, share, seconds):
    assert quantile(counts, share) == seconds
