"""What does not add up: found once, seen again, closed, and shown where operators look."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.store import discrepancies, now_ms
from receiver.store.discrepancies import KINDS, Discrepancy
from receiver.store.retention import Limits, purge
from receiver.web.app import create_app

ONE = Discrepancy("openfax", "123456789", "openfax", "missing", "779029", {"faxes": 1})
OTHER = Discrepancy("faxage", "acme", "faxage", "tally", "calls 2026-11-20", {"calls": 3})


def note(stock, *found):
    with stock.runtime.store.writing() as connection:
        return discrepancies.note(connection, stock.runtime.store.tables, found, now_ms())


def close(stock, kind, **choice):
    store = stock.runtime.store
    with store.writing() as connection:
        about = choice.pop("about", lambda _: True)
        who = "openfax", "123456789", kind
        return discrepancies.close(connection, store.tables, *who, about, now_ms=now_ms(), **choice).count


def faxhook(stock, *arguments):
    done = CliRunner().invoke(main, [*arguments, "--config", str(stock.config)])
    return done.exit_code, done.output


def listed(stock, *more):
    return json.loads(faxhook(stock, "discrepancies", "list", "--json", *more)[1])


def test_it_is_new_once_until_it_has_been_over(anywhere):
    assert note(anywhere, ONE, OTHER) == [ONE, OTHER]
    assert note(anywhere, ONE) == []
    assert close(anywhere, "missing") == 1
    assert note(anywhere, ONE) == [ONE]


def test_a_contradiction_is_kept_with_its_event_and_opened_again_by_the_next(anywhere):
    """Whether a report or a late callback brings it."""
    for status in ("0", "2"):
        anywhere.fax(779029, status=status, CallDuration=status)
    (row,) = listed(anywhere)
    assert (row["kind"], row["detail"]["event"]) == ("contradiction", anywhere.events()[0]["id"])
    faxhook(anywhere, "discrepancies", "close", str(row["id"]))
    assert listed(anywhere) == []
    anywhere.fax(779029, status="0", CallDuration="9")
    assert [row["kind"] for row in listed(anywhere)] == ["contradiction"]


def test_many_are_closed_some_at_a_time(anywhere):
    note(anywhere, *(replace(ONE, subject=str(number)) for number in range(700)))
    assert [close(anywhere, "missing"), close(anywhere, "missing"), close(anywhere, "missing")] == [500, 200, 0]


def test_of_two_at_once_each_finds_it_and_one_is_told_that_it_is_new(anywhere):
    found = [replace(ONE, subject=str(number)) for number in range(50)]
    with ThreadPoolExecutor(2) as pool:
        new = list(pool.map(lambda some: note(anywhere, *some), (found, found[::-1])))
    assert sorted(len(some) for some in new) == [0, 50]


def test_only_what_was_looked_at_is_closed(anywhere):
    note(anywhere, ONE, OTHER)
    assert close(anywhere, "tally") == 0  # another account's
    assert close(anywhere, "missing", but={"779029"}) == 0
    assert close(anywhere, "missing", about=lambda subject: subject != "779029") == 0
    assert close(anywhere, "missing") == 1
    assert [row["kind"] for row in listed(anywhere)] == ["tally"]
    assert sorted(row["kind"] for row in listed(anywhere, "--all")) == ["missing", "tally"]


def test_the_list_is_trouble_while_something_is_open(filled):
    assert faxhook(filled, "discrepancies", "list")[0] == 0
    note(filled, ONE)
    code, output = faxhook(filled, "discrepancies", "list")
    assert code == 1
    assert "779029" in output
    (row,) = listed(filled)
    assert (row["detail"], row["closed_at"]) == ({"faxes": 1}, None)
    assert row["age_seconds"] >= 0


CALL = {
    "calldate": "2026-11-20 10:00:41",
    "direction": "OUT",
    "src": "3035550110",
    "dst": "8005550142",
    "duration": "9",
}
COUNTED = {"did": "2085550101", "user": "alice", "number": "2085550139", "Busy": 2, "Success": 0}
ROWS = replace(OTHER, rows=(CALL, COUNTED, {"line": 3, "record": "2026-11-20,OUT,3035550110"}))


def test_what_a_discrepancy_is_made_of_is_shown_masked_and_revealed_on_demand(anywhere):
    note(anywhere, ROWS)
    (listed_one,) = listed(anywhere)
    number = str(listed_one["id"])
    code, output = faxhook(anywhere, "discrepancies", "show", number, "--json")
    shown = json.loads(output)
    assert code == 0
    assert {name: value for name, value in shown.items() if name not in ("rows", "age_seconds")} == {
        name: value for name, value in listed_one.items() if name != "age_seconds"
    }
    hidden = "********"
    assert shown["rows"] == [
        {**CALL, "src": f"{hidden}10", "dst": f"{hidden}42"},
        {**COUNTED, "did": f"{hidden}01", "user": hidden, "number": f"{hidden}39"},
        {"line": 3, "record": hidden},
    ]
    _, text = faxhook(anywhere, "discrepancies", "show", number)
    for personal in ("3035550110", "8005550142", "alice", "2085550139", "2085550101"):
        assert personal not in text + output
    assert "Busy 2" in text
    assert anywhere.audit() == []
    revealed = json.loads(faxhook(anywhere, "discrepancies", "show", number, "--reveal", "--json")[1])
    assert revealed["rows"] == list(ROWS.rows)
    assert "8005550142" in faxhook(anywhere, "discrepancies", "show", number, "--reveal")[1]
    assert anywhere.audit() == [("discrepancies.reveal", number)] * 2
    assert "8005550142" not in json.dumps(listed(anywhere))


def test_of_a_missing_job_its_registered_faxes_are_shown(filled):
    added = faxhook(filled, "jobs", "add", "faxage", "55", "--number", "+15555551212", "--reference", "order-1")
    assert added[0] == 0
    account = filled.runtime.accounts["faxage"].source.account
    note(filled, Discrepancy("faxage", account, "faxage", "missing", "55"))
    number = str(listed(filled)[0]["id"])
    (masked,) = json.loads(faxhook(filled, "discrepancies", "show", number, "--json")[1])["rows"]
    assert (masked["recipient.number"], masked["reference.id"]) == ("********12", "********")
    (plain,) = json.loads(faxhook(filled, "discrepancies", "show", number, "--json", "--reveal")[1])["rows"]
    assert (plain["recipient.number"], plain["reference.id"]) == ("+15555551212", "order-1")


def test_one_that_is_not_there_cannot_be_shown(filled):
    code, output = faxhook(filled, "discrepancies", "show", "99", "--reveal")
    assert (code, "no discrepancy 99" in output) == (1, True)
    assert filled.audit() == []


def test_what_it_is_made_of_is_forgotten_with_the_bodies_and_the_discrepancy_stays(anywhere):
    note(anywhere, ROWS, ONE)
    store = anywhere.runtime.store
    limits = Limits(timedelta(days=7), timedelta(days=30), timedelta(days=90))
    for days, kept in ((6, 3), (8, 0)):
        with store.writing() as connection:
            purge(connection, store.tables, limits, now_ms() + days * 86_400_000)
        (tally,) = (row for row in listed(anywhere) if row["kind"] == "tally")
        shown = json.loads(faxhook(anywhere, "discrepancies", "show", str(tally["id"]), "--json")[1])
        assert (len(shown["rows"]), shown["detail"]) == (kept, {"calls": 3})


def test_an_operator_closes_what_he_has_looked_at(filled):
    note(filled, ONE)
    (row,) = listed(filled)
    assert faxhook(filled, "discrepancies", "close", str(row["id"]))[0] == 0
    assert listed(filled) == []
    assert faxhook(filled, "discrepancies", "close", str(row["id"]))[0] == 1
    assert filled.audit() == [("discrepancies.close", str(row["id"]))]


LATE, EARLY = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"


def test_closing_a_missing_job_means_that_it_is_no_longer_expected(filled):
    jobs, store = filled.runtime.store.tables.jobs, filled.runtime.store
    row = {"provider": "openfax", "account": "123456789", "endpoint": "openfax", "facts": "{}", "asked": 0}
    late, early = ({"fax_id": one, "job_id": "779029", "due_at_ms": due} for one, due in ((LATE, 1), (EARLY, 2**50)))
    with store.writing() as connection:
        for one in (late, early):
            connection.execute(jobs.insert().values(**row, **one, registered_at_ms=0))
    note(filled, ONE)
    (found,) = listed(filled)
    assert faxhook(filled, "discrepancies", "close", str(found["id"]))[0] == 0
    with store.reading() as connection:
        assert list(connection.scalars(jobs.select().with_only_columns(jobs.c.fax_id))) == [EARLY]  # not due yet


def test_metrics_show_every_kind_and_the_age_of_the_open_ones(filled):
    note(filled, ONE)
    text = create_app(filled.runtime).test_client().get("/metrics").text
    for kind in KINDS:
        assert f'faxhook_discrepancies{{kind="{kind}"}} {1.0 if kind == "missing" else 0.0}' in text
    assert 'faxhook_discrepancies_oldest_seconds{kind="missing"}' in text
    assert 'kind="tally"}' not in text.partition("oldest_seconds{")[2].partition("\n")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_documented(kind):
    readme = Path(__file__).parents[2] / "deploy" / "README.md"
    assert f"| `{kind}` |" in readme.read_text()
