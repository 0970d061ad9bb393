"""
What operators, Prometheus and retention ask costs no more in a large store.

Counted in the steps of SQLite's virtual machine, so that neither the machine nor its load has a say.
"""

from zoneinfo import ZoneInfo

import pytest
from announcing import KEYS, deliver, identity, numbered, project, rows, submission, tell_all
from test_retention import DAY, LIMITS, START

from receiver.outgoing import degradation
from receiver.settings import Filter
from receiver.store import (
    HOUR_MS,
    Store,
    browsing,
    counting,
    discrepancies,
    figures,
    finding,
    history,
    jobs,
    kept_receipts,
    projection,
    republishing,
    stats,
)
from receiver.store.discrepancies import Discrepancy
from receiver.store.jobs import ExpectedFax
from receiver.store.migrating import migrate
from receiver.store.republishing import Chosen
from receiver.store.retention import _Purge, purge
from schemas.event import Recipient

SMALL, LARGE = 600, 3000
LATELY = START + 3 * DAY  # the newest faxes, as many in each store
NUMBER = "+12085550139"


def fill(store, count):
    """So many faxes, jobs and discrepancies of before, and a few of lately."""
    old = list(numbered(count))
    for start in range(0, count, 100):
        tell_all(store, *[submission(one, received_at_ms=START) for one in old[start : start + 100]])
    deliver(store)
    new = numbered(10, prefix="new-", recipient=Recipient(number=NUMBER))
    tell_all(store, *[submission(one, received_at_ms=LATELY) for one in new])
    tell_all(store, *[submission(one, received_at_ms=LATELY - 5 * HOUR_MS, endpoint="rare") for one in numbered(3)])
    tell_all(store, *[submission(received_at_ms=START + number, refused="fields") for number in range(count)])
    project(store)
    expected = [
        ExpectedFax(str(identity(f"job-{number}")), "faxage", "acme", "fax-age", f"{number}", {}, START + number)
        for number in range(count)
    ]
    found = [
        Discrepancy("faxage", account, "fax-age", kind, f"{number}")
        for number in range(count)
        for account, kind in (("acme", "tally"), ("acme", "unreadable"), ("other", "full_list"))
    ]
    table, late = store.tables.discrepancies, store.tables.late_faxes
    due = [{"due_at_ms": one.due_at_ms - 400 * DAY, "fax_id": one.fax_id} for one in expected]
    with store.writing() as connection:
        jobs.register(connection, store.tables, expected, START)
        discrepancies.note(connection, store.tables, found, START)
        connection.execute(table.update().where(table.c.kind == "unreadable").values(closed_at_ms=START))
        connection.execute(late.insert(), due)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    made = []
    for count in (SMALL, LARGE):
        store = Store(f"sqlite:///{tmp_path_factory.mktemp('bounded')}/faxhook.db")
        migrate(store)
        fill(store, count)
        made.append(store)
    yield made
    for store in made:
        store.close()


def steps(store, work):
    """What it costs."""
    count = 0

    def counted():
        nonlocal count
        count += 1

    with store.writing() as connection:
        driver = connection.connection.driver_connection
        driver.set_progress_handler(counted, 20)
        try:
            work(connection, store.tables)
        finally:
            driver.set_progress_handler(None, 0)
    return count


def event_by_id(connection, tables):
    assert browsing.event(connection, tables, rows_of["id"][connection.engine.url.database]) is not None


rows_of = {"id": {}}


def purged(step):
    return lambda connection, tables: purge(connection, tables, LIMITS, START + DAY, steps=[step])


def republish_lately(connection, tables):
    chosen = Chosen(since_ms=LATELY)
    for window in republishing.windows(connection, tables, chosen):
        republishing.count(connection, tables, chosen, window)


def receipts_list(connection, tables, limit, **named):
    return kept_receipts.listing(connection, tables, limit=limit, chosen=kept_receipts.Chosen(**named))


DELIVERED = Filter(outcome=("delivered",))


def close(kind):
    """Some of them, as a run of reports does."""
    who = "faxage", "acme", kind
    return lambda c, t: discrepancies.close(c, t, *who, lambda subject: subject == "0", now_ms=START)


ASKED = {
    "events list --since": lambda c, t: browsing.events(c, t, limit=50, since_ms=LATELY),
    "events list --since, later than all": lambda c, t: browsing.events(c, t, limit=50, since_ms=LATELY + DAY),
    "events list --state published": lambda c, t: browsing.events(c, t, limit=50, state="published"),
    "events list --state pending": lambda c, t: browsing.events(c, t, limit=50, state="pending"),
    "events show": event_by_id,
    "events republish --since": republish_lately,
    "receipts list": lambda c, t: kept_receipts.listing(c, t, limit=50),
    "receipts list --endpoint, unknown": lambda c, t: receipts_list(c, t, 50, endpoint="unknown"),
    "receipts list --endpoint, rare": lambda c, t: receipts_list(c, t, 50, endpoint="rare"),
    "receipts list --state duplicate": lambda c, t: receipts_list(c, t, 2, state="duplicate"),
    "receipts list --state partial": lambda c, t: receipts_list(c, t, 50, state="partial"),
    "receipts list --provider, unknown": lambda c, t: receipts_list(c, t, 50, provider="unknown"),
    "receipts list --since": lambda c, t: receipts_list(c, t, 50, since_ms=LATELY),
    "events list --since --outcome": lambda c, t: browsing.events(c, t, limit=50, since_ms=LATELY, only=DELIVERED),
    "events list --since --reason": lambda c, t: browsing.events(c, t, limit=50, since_ms=LATELY, reason="busy"),
    "jobs list": lambda c, t: jobs.listing(c, t, limit=20),
    "jobs list --overdue": lambda c, t: jobs.listing(c, t, limit=20, overdue_at_ms=START + 20),
    "discrepancies list": lambda c, t: discrepancies.listing(c, t, limit=20, now_ms=START),
    "discrepancies list --all": lambda c, t: discrepancies.listing(c, t, limit=20, now_ms=START, closed=True),
    "closing what is open of a kind": close("tally"),
    "closing what was closed": close("unreadable"),
    "closing what is another account's": close("full_list"),
    "called hours": lambda c, t: counting.called_hours(c, t, ["fax-age", "rare"], START),
    "fax FIND": lambda c, t: projection.find(c, t, KEYS.find("number", NUMBER[1:])),
    "fax list": lambda c, t: finding.newest(c, t, 20),
    "fax list --since": lambda c, t: finding.newest(c, t, 20, since_ms=LATELY),
    "fax show": lambda c, t: history.of_fax(c, t, str(identity("new-1"))),
    "a day's counts": lambda c, t: counting.counts(c, t, "faxage", "acme", ZoneInfo("UTC"), LATELY, []),
    "stats": lambda c, t: stats.read(c, t, stats.BY, LATELY - DAY, LATELY),
    "stats of a window": lambda c, t: stats.read(c, t, ["provider"], LATELY - 6 * HOUR_MS, LATELY, LATELY),
    "the degradation alarm's two weeks": lambda c, t: degradation._usual(c, t, LATELY + 2 * DAY),
    "the degradation alarm's day": lambda c, t: degradation._recent(c, t, LATELY),
    "retention of statistics": purged(_Purge.stats),
    "retention of jobs": purged(_Purge.jobs),
    "retention of discrepancies": purged(_Purge.discrepancies),
    "retention of events": purged(_Purge.events),
    "retention of hours": purged(_Purge.hours),
    "retention of an endpoint's hours": purged(_Purge.endpoint_hours),
    "retention of late faxes": purged(_Purge.late_faxes),
}


@pytest.mark.parametrize("asked", list(ASKED))
def test_it_costs_no_more_in_a_larger_store(stores, asked):
    for store in stores:
        rows_of["id"][store.engine.url.database] = rows(store, "events", "id")[7]
    small, large = (steps(store, ASKED[asked]) for store in stores)
    assert large <= 1.3 * small + 60, (small, large)


def test_the_newest_published_are_in_the_order_of_rows_whatever_was_sent_again(sqlite):
    store = sqlite
    tell_all(store, *[submission(one) for one in numbered(30)])
    deliver(store, now=START)
    with store.writing() as connection:
        for event in rows(store, "events", "id")[3:20:5]:
            assert republishing.republish_one(connection, store.tables, event, Chosen()) == 1
    before = states_of(store, limit=30)
    assert len(before) == 26, "without those that wait again"
    deliver(store, now=START + DAY)
    assert [row["id"] for row in states_of(store, limit=30)] == rows(store, "events", "id")[::-1]
    assert [row["id"] for row in states_of(store, limit=7)] == rows(store, "events", "id")[:-8:-1]


def states_of(store, limit):
    with store.reading() as connection:
        return browsing.events(connection, store.tables, limit=limit, state="published")


def test_a_time_is_found_whether_or_not_the_projector_has_come_to_it(store):
    hour = 3600_000
    for number in range(6):
        tell_all(store, submission(next(iter(numbered(1, prefix=f"{number}-"))), received_at_ms=START + number * hour))
        if number == 3:
            project(store)
    with store.reading() as connection:
        for since in range(7):
            found = browsing.events(connection, store.tables, limit=None, since_ms=START + since * hour)
            assert len(found) == 6 - since
            found = browsing.events(connection, store.tables, limit=None, until_ms=START + since * hour)
            assert len(found) == min(6, since + 1)
    assert figures_of(store) == 2


def figures_of(store):
    with store.reading() as connection:
        return figures.read(connection, store.tables).unprojected
