"""Which window each run asks for, and where the next one goes on: a provider that notes what it is asked."""

import json
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from receiver import providers, reconcile
from receiver.errors import ReportTrouble, StoreError
from receiver.providers import Page, RecordReport
from receiver.providers.shared.contract import Finding, Reports
from receiver.reconcile import Choice
from receiver.replay import replay
from receiver.runtime import Account
from receiver.settings import Reports as ReportSettings
from receiver.store import cursors, discrepancies, jobs, now_ms
from receiver.store.jobs import ExpectedFax
from receiver.system.stopping import Stop

FAXAGE = providers.load()["faxage"]
HOUR = timedelta(hours=1)


def row(number, **fields):
    now = datetime.now(UTC)
    return {
        "jobid": str(number),
        "shortstatus": "success",
        "destnum": "(208)555-0139",
        "completetime": f"{now:%Y-%m-%d %H:%M:%S}",
        **fields,
    }


@dataclass
class Asked:
    """A provider whose one report gives these pages; it keeps what it was asked."""

    stock: object
    pages: list[Page] = field(default_factory=list)
    asks: list[object] = field(default_factory=list)
    trouble_after: int | None = None
    normalise: object = FAXAGE.push.normalise
    reports_of_jobs: int = 0
    kind: str = "failed"

    def fetch(self, ask, _client):
        self.asks.append(ask)
        for number, page in enumerate(self.pages):
            if number == self.trouble_after:
                raise ReportTrouble(self.kind, "the provider failed")
            yield page

    def run(self, stop=None, **choice):
        report = RecordReport(
            name="rows",
            fetch=self.fetch,
            schema=FAXAGE.push.schema,
            normalise=self.normalise,
            codes=FAXAGE.codes,
            of_jobs=self.reports_of_jobs > 0,
            overlap=6 * HOUR,
        )
        source = replace(self.stock.runtime.endpoints["faxage"].source, timezone=None)
        account = Account(
            endpoint="faxage",
            provider=replace(FAXAGE, reports=Reports(options=(), records=(report,) * max(1, self.reports_of_jobs))),
            source=source,
            reports=ReportSettings(every=HOUR, requests=10, options={}),
            job_keys=(),
        )
        return reconcile.reconcile(self.stock.runtime, account, Choice(**choice), stop or Stop())

    def place(self):
        store = self.stock.runtime.store
        with store.reading() as connection:
            text = cursors.position(connection, store.tables, "faxage", "acme", "rows")
        return json.loads(text) if text else None


@pytest.fixture
def asked(anywhere):
    return Asked(anywhere)


def near(time, expected):
    return abs(time - expected) < timedelta(minutes=1)


def test_the_first_window_is_a_day_and_the_next_begins_an_overlap_before_its_end(asked):
    asked.pages = [Page([row(1)], "c1")]
    asked.run()
    asked.run()
    first, second = asked.asks
    assert near(first.begin, datetime.now(UTC) - 24 * HOUR)
    assert (first.cursor, second.cursor) == (None, "c1")
    assert second.begin == first.end - 6 * HOUR


def test_a_window_of_ones_own_has_no_cursor_and_moves_none(asked):
    asked.pages = [Page([row(1)], "c1")]
    asked.run()
    place = asked.place()
    since, until = datetime(2026, 11, 1, tzinfo=UTC), datetime.now(UTC) - HOUR
    asked.run(since=since, until=until)
    ask = asked.asks[-1]
    assert (ask.begin, ask.end, ask.cursor) == (max(since, ask.begin), until, None)
    assert asked.place() == place


def test_nothing_older_than_the_ids_is_asked_for_or_told(asked):
    ids = asked.stock.runtime.settings.retention.ids
    old = datetime.now(UTC) - ids - timedelta(days=2)
    asked.pages = [Page([row(1, completetime=f"{old:%Y-%m-%d %H:%M:%S}"), row(2)])]
    summary = asked.run(since=datetime(2020, 1, 1, tzinfo=UTC))
    assert near(asked.asks[0].begin, datetime.now(UTC) - ids + timedelta(days=2))
    assert (summary.faxes, summary.too_old, summary.filled) == (1, 1, 1)


def test_trouble_in_the_middle_keeps_what_was_stored_and_goes_on_from_there(asked):
    asked.pages = [Page([row(1)], "c1"), Page([row(2)], "c2"), Page([row(3)], "c3")]
    asked.trouble_after = 2
    summary = asked.run()
    assert (summary.filled, summary.trouble) == (2, ["rows: the provider failed"])
    assert asked.place()["cursor"] == "c2"
    asked.trouble_after = None
    assert asked.run().filled == 1
    assert asked.asks[1].cursor == "c2"
    assert near(asked.asks[1].begin, datetime.now(UTC) - 24 * HOUR)  # its window was not read to the end


def test_a_row_that_we_fail_on_is_read_again_and_holds_nobody_up(asked):
    def fails_on_two(data, source):
        if data["job_id"] == "2":
            raise RuntimeError
        return FAXAGE.push.normalise(data, source)

    asked.normalise = fails_on_two
    asked.pages = [Page([row(1)], "c1"), Page([row(2), row(3)], "c2"), Page([row(4)], "c3")]
    summary = asked.run()
    assert (summary.filled, summary.unreadable) == (3, 1)
    assert asked.place()["cursor"] == "c1"
    asked.normalise = FAXAGE.push.normalise
    assert asked.run().filled == 1
    assert asked.place()["cursor"] == "c3"


def test_a_row_that_cannot_be_used_is_named_by_field_and_the_others_are_told(asked):
    asked.pages = [Page([row(1), row(2, shortstatus="perhaps"), row(3, jobid="")])]
    summary = asked.run()
    assert (summary.rows, summary.filled, summary.unreadable) == (3, 1, 2)
    assert not summary.is_good
    store = asked.stock.runtime.store
    with store.reading() as connection:
        (found,) = discrepancies.listing(connection, store.tables, limit=None, now_ms=now_ms())
    assert found["kind"] == "unreadable"
    assert found["detail"]["shortstatus"] == "expected one of pending, success, failure"
    assert "perhaps" not in json.dumps(found)
    asked.pages = [Page([row(1)])]
    asked.run()
    with store.reading() as connection:  # it is for a person to say what became of those faxes
        assert len(discrepancies.listing(connection, store.tables, limit=None, now_ms=now_ms())) == 1


def test_a_first_run_that_fails_leaves_no_gap(asked):
    asked.trouble_after, asked.pages = 0, [Page([row(1)])]
    asked.run()
    begin = asked.asks[0].begin
    asked.trouble_after = None
    asked.run()
    assert asked.asks[1].begin == begin


def test_a_large_page_is_stored_in_parts_and_its_place_with_the_last(asked):
    asked.pages = [Page([row(number) for number in range(1200)], "c1")]
    assert asked.run().filled == 1200
    assert asked.place()["cursor"] == "c1"


def test_a_report_that_says_nothing_new_leaves_no_receipt(asked):
    asked.pages = [Page([row(1)], "c1")]
    asked.run()
    asked.run()
    table = asked.stock.runtime.store.tables.receipts
    with asked.stock.runtime.store.reading() as connection:
        states = [(one.state, json.loads(one.detail)) for one in connection.execute(table.select())]
    assert states == [("accepted", {"report": "rows"})]


def expect(asked, *job_ids):
    store = asked.stock.runtime.store
    known = {"provider": "faxage", "account": "acme", "endpoint": "faxage", "facts": {}, "due_at_ms": 1}
    with store.writing() as connection:
        faxes = [ExpectedFax(fax_id=str(uuid.UUID(int=int(one))), job_id=one, **known) for one in job_ids]
        jobs.register(connection, store.tables, faxes, 1)


def test_every_report_of_jobs_is_asked_for_what_the_one_before_did_not_know(asked):
    expect(asked, "1", "2")
    asked.reports_of_jobs = 2
    asked.run()
    assert [sorted(ask.jobs) for ask in asked.asks] == [["1", "2"], ["1", "2"]]
    asked.run()
    assert len(asked.asks) == 2  # and then they rest


@pytest.mark.parametrize(("kind", "rests"), [("unreadable", True), ("failed", True), ("refused", False)])
def test_jobs_whose_answer_cannot_be_used_let_the_others_go_first(asked, kind, rests):
    expect(asked, "1")
    asked.reports_of_jobs = 1
    asked.pages, asked.trouble_after, asked.kind = [Page([])], 0, kind
    asked.run()
    asked.run()
    assert len(asked.asks) == (1 if rests else 2)


def test_a_failure_of_ours_is_said_and_no_reason_to_stop(asked, capfd):
    def fetch():
        yield Page([row(1)], "c1")
        raise RuntimeError("2085550139")

    asked.fetch = lambda _ask, _client: fetch()
    summary = asked.run()
    assert summary.filled == 1
    assert "faxhook failed on it (RuntimeError" in summary.trouble[0]
    assert "2085550139" not in summary.trouble[0] + "".join(capfd.readouterr())
    assert asked.place()["cursor"] == "c1"


def test_the_receipt_of_a_report_says_what_to_do_instead_of_a_replay(asked):
    asked.pages = [Page([row(1)], "c1")]
    asked.run()
    runtime = asked.stock.runtime
    with runtime.store.reading() as connection:
        receipt = connection.execute(runtime.store.tables.receipts.select()).one()
    with pytest.raises(StoreError, match="reconcile --since"):
        replay(runtime, receipt.id)


def test_a_signal_ends_it_after_the_page_in_hand(asked):
    stop = Stop()

    def fetch():
        yield Page([row(1)], "c1")
        stop.asked = True
        yield Page([row(2)], "c2")
        yield Page([row(3)], "c3")

    asked.fetch = lambda _ask, _client: fetch()
    summary = asked.run(stop)
    assert (summary.filled, summary.is_cut, summary.trouble) == (2, True, [])
    assert asked.place()["cursor"] == "c2"


def test_findings_are_kept_until_a_run_does_not_find_them(asked):
    asked.pages = [Page([row(1)], findings=[Finding("full_list", "rows", {"rows": 1000})])]
    assert asked.run().discrepancies == 1
    assert asked.run().discrepancies == 0
    asked.pages = []
    asked.run()
    store = asked.stock.runtime.store
    with store.reading() as connection:
        assert discrepancies.listing(connection, store.tables, limit=None, now_ms=now_ms()) == []


def test_an_account_that_two_endpoints_share_is_asked_once(asked):
    runtime = asked.stock.runtime
    reports = ReportSettings(every=HOUR, requests=10, options={})
    one = replace(runtime.accounts["faxage"], reports=reports)
    shared = replace(runtime, accounts={"a": one, "b": replace(one, endpoint="b"), "c": runtime.accounts["retarus"]})
    assert [account.endpoint for account in reconcile.chosen(shared)] == ["faxage"]
    assert reconcile.chosen(shared, ["c"]) == []
