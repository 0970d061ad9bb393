"""The lists of receipts by endpoint and state are what somebody finds who looks at all receipts."""

import random
from dataclasses import replace

import pytest
from announcing import fax, rows, submission, tell_all
from test_retention import LIMITS, START

from receiver.store import HOUR_MS, counting, kept_receipts, paging, rfc3339
from receiver.store.retention import purge
from receiver.store.submissions import REPORT

STATES = ("accepted", "partial", "duplicate", "ignored", "rejected")
ENDPOINTS = ("busy", "rare", "reported")


def some(chance, number):
    """A request of any kind, at any time of some days."""
    endpoint = chance.choices(ENDPOINTS, (10, 1, 2))[0]
    at = START + chance.randrange(72 * HOUR_MS)
    kind = chance.choice(("new", "known", "partial", "refused", "ignored"))
    faxes = [fax(str(number if kind != "known" else 0))] if kind in ("new", "known", "partial") else []
    stated = {"refused": "undecodable"} if kind == "refused" else {"ignored": "inbound"} if kind == "ignored" else {}
    if endpoint == "reported" and faxes:
        stated |= {"observed_via": REPORT, "auth": REPORT}
    return submission(*faxes, received_at_ms=at, endpoint=endpoint, invalid=int(kind == "partial"), **stated)


def replayed(chance, one):
    how = chance.choice(({"refused": "unprocessable"}, {"ignored": "inbound"}, {}))
    faxes = () if how else submission(fax(f"again-{one.receipt}")).announcements
    return replace(one, **{"announcements": faxes, "refused": None, "ignored": None, "invalid": 0, **how}, replay=True)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.campaign) for seed in range(1, 4))])
def test_they_are_what_a_look_at_all_finds(store, seed, monkeypatch):
    monkeypatch.setattr(paging, "AT_ONCE", 7)  # so that there are many windows
    chance = random.Random(seed)
    count = 120 if seed else 30
    told = [some(chance, number) for number in range(count)]
    tell_all(store, *told)
    for one in chance.sample([one for one in told if not one.is_report], count // 3):
        for _ in range(chance.randint(1, 3)):
            tell_all(store, replayed(chance, one))
    with store.writing() as connection:
        names = [{"name": name, "provider": "faxage"} for name in ENDPOINTS]
        connection.execute(store.tables.endpoints.insert(), names)
    with store.reading() as connection:
        every = kept_receipts.listing(connection, store.tables, limit=None)
        assert len(every) >= count * 0.8
        for endpoint in (None, *ENDPOINTS, "unknown"):
            for state in (None, *STATES):
                check(connection, store.tables, every, state=state, endpoint=endpoint)
        for reason in ("undecodable", "inbound", "unprocessable", "other"):
            check(connection, store.tables, every, reason=reason)
            check(connection, store.tables, every, reason=reason, endpoint="busy", state="rejected")
        for provider in ("faxage", "retarus"):
            check(connection, store.tables, every, provider=provider)
            check(connection, store.tables, every, provider=provider, endpoint="rare", state="duplicate")
        for hours in ((0, 30), (20, 21), (50, 90)):
            since, until = (START + hour * HOUR_MS for hour in hours)
            check(connection, store.tables, every, since_ms=since, until_ms=until)
            check(connection, store.tables, every, since_ms=since, until_ms=until, endpoint="busy", state="partial")


def check(connection, tables, every, since_ms=None, until_ms=None, **named):
    """What is listed is what of all receipts is so."""
    chosen = kept_receipts.Chosen(**named, since_ms=since_ms, until_ms=until_ms)
    right = [
        row
        for row in every
        if all(value is None or row[name] == value for name, value in named.items())
        and (since_ms is None or rfc3339(since_ms) <= row["received_at"] <= rfc3339(until_ms))
    ]
    for limit in (1, 5, None):
        found = kept_receipts.listing(connection, tables, limit=limit, chosen=chosen)
        assert found == right[:limit], chosen


def test_the_hours_in_which_an_endpoint_was_called_are_those_of_its_callbacks(store):
    for hour, stated in ((0, {}), (0, {}), (2, {"refused": "undecodable"}), (4, {"observed_via": REPORT})):
        tell_all(store, submission(fax(str(hour)), received_at_ms=START + hour * HOUR_MS, **stated))
    with store.reading() as connection:
        found = counting.called_hours(connection, store.tables, ["fax-age", "other"], START)
    assert found == {"fax-age": [START // HOUR_MS, START // HOUR_MS + 2], "other": []}


def test_hours_are_forgotten_with_their_receipts(store):
    old, young = (START + days * 24 * HOUR_MS for days in (0, 60))
    with store.writing() as connection:
        connection.execute(store.tables.endpoints.insert().values(name="fax-age", provider="faxage"))
    tell_all(store, *[submission(fax(str(at)), received_at_ms=at) for at in (old, young)])
    with store.writing() as connection:
        purge(connection, store.tables, LIMITS, START + 95 * 24 * HOUR_MS)
    assert rows(store, "endpoint_hours", "hour") == [young // HOUR_MS]
