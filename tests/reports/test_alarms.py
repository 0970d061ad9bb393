"""What a callback raises for operators, a report raises too, though whoever reads reports has no ``/metrics``."""

import json
import re
from datetime import timedelta

import pytest
from pulled import Pulled, faxes_of, pulled

from receiver.store import counters, kept_receipts
from receiver.web import operations

ROW = {
    "HistoryOutboundFaxID": 921364,
    "OutTransID": 779030,
    "AccountID": 123456789,
    "FaxNumber": 12085550139,
    "CurrentState": 9,
    "CallerID": 17205550121,
    "RetryCount": 1,
    "PageCount": 2,
}


@pytest.fixture(autouse=True)
def _look_each_time(monkeypatch):
    monkeypatch.setattr(operations, "_FIGURES_SECONDS", 0.0)


def openfax_answering(it: Pulled, *rows: dict, times: int = 1) -> None:
    it.world.mend()
    it.world.garble(times, json.dumps(rows).encode(), operation="outboundDetailsbyDate")


def reported(it: Pulled) -> dict[str, float]:
    """The series of what reports told, as ``/metrics`` shows them."""
    text = it.house.ask("GET", "/metrics").body.decode()
    series = re.findall(r'^(faxhook_\w+){([^}]*)via="report"} (\S+)$', text, re.MULTILINE)
    return {f"{name}{{{labels.rstrip(',')}}}": float(value) for name, labels, value in series}


def receipts(it: Pulled) -> list[kept_receipts.ReceiptRow]:
    store = it.house.runtime.store
    with store.reading() as connection:
        ids = [row["id"] for row in kept_receipts.listing(connection, store.tables, limit=None)]
        found = [kept_receipts.one(connection, store.tables, one) for one in ids]
    return [one for one in found if one is not None]


def test_alarms_of_an_account_with_reports_are_there_before_the_first_one(tmp_path, store_url):
    with pulled(tmp_path, store_url, "openfax") as it:
        assert reported(it) == {
            'faxhook_conflicts_total{endpoint="openfax"}': 0,
            'faxhook_partial_receipts_total{endpoint="openfax"}': 0,
            'faxhook_outcome_flips_total{endpoint="openfax"}': 0,
            'faxhook_unknown_codes_total{provider="openfax"}': 0,
        }


@pytest.mark.parametrize(("state", "outcome"), [(8, "delivered"), (9, "failed"), (10, "failed"), (13, "canceled")])
@pytest.mark.parametrize("code", ["77", "11", "-5"])
def test_a_result_that_nobody_listed_is_passed_on_counted_once_and_named(tmp_path, sqlite_url, state, outcome, code):
    """11 is a CurrentState and no LastStatus."""
    with pulled(tmp_path, sqlite_url, "openfax") as it:
        openfax_answering(it, ROW | {"CurrentState": state, "LastStatus": int(code)}, times=1000)
        it.reconcile()
        it.reconcile()
        (event,) = it.told()
        assert (event["outcome"], event["provider_status"]) == (outcome, {"code": code, "text": None})
        assert reported(it)['faxhook_unknown_codes_total{provider="openfax"}'] == 1
        (receipt,) = receipts(it)
        assert receipt.detail == {"report": "outbound-by-date", "unlisted": [code]}


@pytest.mark.parametrize(("state", "last"), [(9, None), (10, None), (13, None), (9, 2), (9, -1), (8, 0), (8, -1)])
def test_a_code_that_is_listed_raises_nothing(tmp_path, sqlite_url, state, last):
    with pulled(tmp_path, sqlite_url, "openfax") as it:
        openfax_answering(it, ROW | {"CurrentState": state, "LastStatus": last})
        it.reconcile()
        assert len(it.told()) == 1
        assert reported(it)['faxhook_unknown_codes_total{provider="openfax"}'] == 0


def test_an_optional_field_that_cannot_be_read_is_counted_once_and_named(tmp_path, store_url):
    with pulled(tmp_path, store_url, "openfax") as it:
        openfax_answering(it, ROW | {"PageCount": "two", "RetryCount": [1]}, ROW | {"OutTransID": 1}, times=1000)
        it.reconcile()
        it.reconcile()
        assert reported(it)['faxhook_unreadable_fields_total{provider="openfax"}'] == 2
        (receipt,) = receipts(it)
        assert receipt.detail["unreadable"] == ["PageCount", "RetryCount"]


FLIPPED = {"faxage": "failure", "retarus": "BUSY", "openfax": "2"}


@pytest.mark.parametrize("provider", FLIPPED)
def test_a_contradiction_and_a_flip_are_counted_and_other_differences_too(tmp_path, sqlite_url, provider):
    with pulled(tmp_path, sqlite_url, provider, *faxes_of(provider, 5, seed=3)) as it:
        it.world.announce(it.url)
        fax = next(one for one in it.world.faxes() if it.world.is_delivered(one))
        it.world.change(fax, status=FLIPPED[provider], completed_at=fax.completed_at + timedelta(minutes=10))
        it.reconcile()
        it.reconcile()
        found = reported(it)
        assert found[f'faxhook_conflicts_total{{endpoint="{provider}"}}'] == 1
        assert found[f'faxhook_outcome_flips_total{{endpoint="{provider}"}}'] == 1
        reason = "busy" if provider == "retarus" else "unknown"
        labels = f'endpoint="{provider}",outcome="failed",reason="{reason}",type="fax.amended.v1"'
        assert found[f"faxhook_events_total{{{labels}}}"] == 1
        assert found[f'faxhook_receipts_total{{endpoint="{provider}",reason="",state="accepted"}}'] >= 1


def test_a_value_that_differs_from_the_known_one_is_counted(tmp_path, sqlite_url):
    with pulled(tmp_path, sqlite_url, "faxage", *faxes_of("faxage", 1)) as it:
        it.world.announce(it.url)
        it.world.change(it.world.faxes()[0], pages=7)
        it.reconcile()
        assert reported(it)['faxhook_differing_facts_total{field="pages.total"}'] == 1


def test_a_dry_run_counts_nothing(tmp_path, sqlite_url):
    with pulled(tmp_path, sqlite_url, "openfax") as it:
        openfax_answering(it, ROW | {"LastStatus": 77}, times=1000)
        it.reconcile(dry_run=True)
        assert set(reported(it).values()) == {0}


def test_callback_and_report_of_one_fax_raise_an_unknown_code_once_each_for_what_they_say(tmp_path, sqlite_url):
    with pulled(tmp_path, sqlite_url, "openfax") as it:
        body = "OutTransID=779030&AccountID=123456789&LastStatus=77"
        for _ in range(2):  # the second is a duplicate
            assert it.house.post("openfax", body).status == 200
        text = it.house.ask("GET", "/metrics").body.decode()
        assert 'faxhook_unknown_codes_total{provider="openfax"} 1.0' in text
        assert text.count("# TYPE faxhook_unknown_codes_total counter") == 1
        assert receipts(it)[-1].detail == {"unlisted": ["77"]}


@pytest.mark.parametrize("code", ["1234567", "12085550139", "Alice", "busy at +1 208"])
def test_a_code_that_may_be_something_else_is_not_shown(tmp_path, sqlite_url, code):
    with pulled(tmp_path, sqlite_url, "retarus", *faxes_of("retarus", 1)) as it:
        it.world.change(it.world.faxes()[0], status=code)
        it.reconcile()
        (receipt,) = receipts(it)
        assert receipt.detail["unlisted"] == ["…"]
        assert it.told()[0]["provider_status"]["code"] == code


def test_counters_of_two_who_read_reports_at_once_are_both_kept(anywhere):
    store = anywhere.runtime.store
    for _ in range(3):
        with store.writing() as connection:
            counters.add(connection, store.tables, {("conflicts", "openfax"): 2, ("differing_facts", "cost"): 1})
    with store.reading() as connection:
        assert counters.all_of(connection, store.tables) == {
            ("conflicts", "openfax"): 6,
            ("differing_facts", "cost"): 3,
        }
