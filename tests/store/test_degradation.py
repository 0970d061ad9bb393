"""The degradation alarm: soon where a provider's circuits are busy, never on quiet days. Its clock is the test's."""

import random
from datetime import UTC, datetime
from itertools import accumulate

import pytest
from announcing import failed, fax, project, submission, tell_all
from test_retention import DAY, START

from receiver.advice import RULES
from receiver.outgoing.degradation import FAULTS, Degradation, Share, judge
from receiver.store import HOUR_MS, discrepancies, figures, rfc3339
from receiver.store.contributions import FIVE_MINUTES_MS, Counted, _Changes
from schemas.event import FailureReason

MINUTE = 60_000
WINDOWS = (10, 30, 120, 360, 1440)


class Watched:
    """An endpoint of the store's, and the alarm with a clock of its own."""

    def __init__(self, store):
        self.store, self.now, self._count = store, START, 0
        self.alarm = Degradation(store, lambda: self.now)
        with store.writing() as connection:
            table = store.tables.endpoints
            connection.execute(table.delete())
            connection.execute(table.insert().values(name="fax-age", provider="faxage", account="acme"))

    def end(self, at_ms, reasons):
        """Faxes that ended then, each with its reason; None: delivered."""
        made = []
        for reason in reasons:
            self._count += 1
            ended = {"completed_at": datetime.fromtimestamp(at_ms / 1000, UTC)}
            key = f"fax {self._count}"
            made.append(fax(key, **ended) if reason is None else failed(key, reason, **ended))
        tell_all(self.store, submission(*made, received_at_ms=at_ms, observed_at=rfc3339(at_ms)))

    def count(self, at_ms, faxes, faults):
        """The same without the faxes."""
        changes, from_ms = _Changes(), at_ms // FIVE_MINUTES_MS * FIVE_MINUTES_MS
        for count, outcome, reason in (
            (faxes - faults, "delivered", ""),
            (faults, "failed", "circuits_busy"),
        ):
            key = ("fax-age", "faxage", "US", outcome, reason, "")
            changes.add(Counted(1, from_ms, key, {"faxes": count}))
        with self.store.writing() as connection:
            changes.write(connection, self.store.tables)

    def open(self):
        with self.store.reading() as connection:
            found = discrepancies.listing(connection, self.store.tables, limit=None, now_ms=self.now)
            degraded = figures.read(connection, self.store.tables).degraded
        assert degraded == {one["endpoint"] for one in found}
        return found


@pytest.fixture
def watched(store):
    return Watched(store)


def usual_days(watched):
    """Two weeks of it: one fax in a hundred fails by a fault of the carrier, twenty by one of their recipients."""
    reasons = [FailureReason.BUSY] * 20 + [FailureReason.CIRCUITS_BUSY] + [None] * 79
    for day in range(3, 14):
        watched.end(START - day * DAY, reasons[day % 2 :: 2])


def test_at_a_fifth_of_circuits_busy_there_is_an_alarm_within_ten_minutes_and_it_ends_with_it(watched, capfd):
    usual_days(watched)
    project(watched.store)
    assert watched.alarm.look() == []
    some = [None, None, FailureReason.BUSY, None, FailureReason.CIRCUITS_BUSY]
    minutes = 0
    while not watched.open():
        assert minutes < 10
        minutes += 1
        watched.now += MINUTE
        watched.end(watched.now, some)
        project(watched.store)
        new = watched.alarm.look()
    assert [(one.kind, one.endpoint, one.provider, one.account) for one in new] == [
        ("degraded", "fax-age", "faxage", "acme")
    ]
    assert watched.open()[0]["detail"]["reason"] == "circuits_busy"
    assert '"event":"discrepancy_found"' in capfd.readouterr().err
    assert watched.alarm.look() == []  # nothing new
    for _ in range(9):
        watched.now += 5 * MINUTE
        watched.end(watched.now, [None, None, FailureReason.BUSY, None, None] * 5)
    project(watched.store)
    assert watched.alarm.look() == []
    assert watched.open() == []


def test_recipients_that_are_busy_and_wrong_numbers_are_no_alarm(watched):
    usual_days(watched)
    for minute in range(10):
        watched.end(START - minute * MINUTE, [FailureReason.BUSY, FailureReason.BAD_NUMBER, None] * 4)
    project(watched.store)
    assert watched.alarm.look() == []


def test_without_two_weeks_to_compare_with_there_is_no_alarm(watched):
    for minute in range(10):
        watched.end(START - DAY * 3 - minute * MINUTE, [None] * 19)  # one hundred and ninety
        watched.end(START - minute * MINUTE, [FailureReason.CIRCUITS_BUSY] * 5)
    project(watched.store)
    assert watched.alarm.look() == []


@pytest.mark.campaign
def test_through_the_store_thirty_quiet_days_raise_no_alarm_and_a_bad_hour_does(watched):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for hour in range(14 * 24):
        watched.count(START - 14 * DAY + hour * HOUR_MS, *drawn(chance, 60, 0.02))
    for _ in range(30 * 288):
        watched.now += 5 * MINUTE
        watched.count(watched.now, *drawn(chance, 5, 0.02))
        assert watched.alarm.look() == []
    for _ in range(12):
        watched.now += 5 * MINUTE
        watched.count(watched.now, *drawn(chance, 20, 0.2))
        watched.alarm.look()
    assert len(watched.open()) == 1


# --- judging alone --------------------------------------------------------------------------------------------------


def drawn(chance, mean, share):
    """Faxes of some minutes, and how many of them failed by a fault."""
    faxes = sum(chance.random() < 0.5 for _ in range(mean * 2))
    return faxes, sum(chance.random() < share for _ in range(faxes))


@pytest.mark.parametrize(("a_day", "share"), [(12, 0.3), (300, 0.0), (300, 0.03), (3000, 0.03), (3000, 0.3)])
def test_thirty_quiet_days_raise_no_alarm(a_day, share):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    steps = [drawn_sparsely(chance, a_day / 288, share) for _ in range(44 * 288)]  # of five minutes
    faxes, faults = ([0, *accumulate(one[at] for one in steps)] for at in (0, 1))
    usual = Share(faxes[14 * 288], faults[14 * 288])
    for now in range(14 * 288, len(steps)):
        if steps[now] == (0, 0):
            continue
        begins = {minutes: now + 1 - minutes // 5 for minutes in WINDOWS}
        windows = {
            minutes: Share(faxes[now + 1] - faxes[begin], faults[now + 1] - faults[begin])
            for minutes, begin in begins.items()
        }
        assert judge(windows, usual).worst is None


def drawn_sparsely(chance, mean, share):
    faxes = int(mean) + (chance.random() < mean % 1)
    return faxes, sum(chance.random() < share for _ in range(faxes))


@pytest.mark.parametrize(
    ("faxes", "failed", "usual", "is_worse"),
    [
        (19, 19, (1000, 10), False),  # too few
        (20, 4, (1000, 10), False),
        (20, 10, (1000, 10), True),
        (20, 10, (199, 2), False),  # nothing to compare with
        (1000, 90, (1000, 10), False),  # it is seen, and not much
        (1000, 120, (1000, 10), True),
        (200, 60, (1000, 250), False),
        (200, 120, (1000, 250), True),
        (400, 390, (1000, 600), True),
        (50, 50, (1000, 1000), False),  # as always
    ],
)
def test_what_is_an_alarm(faxes, failed, usual, is_worse):
    windows = {minutes: Share(faxes, failed) for minutes in WINDOWS}
    assert (judge(windows, Share(*usual)).worst is not None) == is_worse


def test_what_is_over_by_now_is_no_alarm_although_the_hours_before_were_bad():
    windows = {10: Share(30, 0), 30: Share(90, 0), 120: Share(360, 200), 360: Share(1000, 500), 1440: Share(1000, 500)}
    judged = judge(windows, Share(10_000, 100))
    assert (judged.worst, judged.is_calm) == (None, True)


def test_few_faxes_are_judged_by_a_longer_time():
    windows = {10: Share(1, 1), 30: Share(2, 2), 120: Share(5, 4), 360: Share(12, 8), 1440: Share(40, 20)}
    assert judge(windows, Share(1000, 10)).worst == 1440


def test_a_fault_of_the_recipient_or_the_sender_says_nothing_about_a_provider():
    assert {"circuits_busy", "network_error", "provider_error", "transmission_error", "unknown"} <= set(FAULTS)
    assert not {"busy", "no_answer", "bad_number", "insufficient_credit"} & set(FAULTS)
    assert set(FAULTS) <= set(RULES)
