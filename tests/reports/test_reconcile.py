"""What was missed is fetched: each provider's stand-in loses callbacks, and one run makes it good."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from pulled import CALLING, PASSWORD, PROVIDERS, faxes_of, pulled

from receiver.store.trouble import StoreUnavailable
from receiver.store.writer import Writer

COMPLETED, AMENDED = "fax.completed.v1", "fax.amended.v1"
OTHER_STATUS = {"openfax": "2", "faxage": "failure", "retarus": "BUSY", "efax": "301"}
DELIVERED = {"openfax": "0", "faxage": "success", "retarus": "OK", "efax": "0"}


@pytest.fixture(params=CALLING)
def provider(request):
    return request.param


def of_status(found, status):
    """The first fax of that status."""
    return next(fax for fax in found.world.faxes() if fax.status == status)


def test_what_was_lost_is_told_once_and_late_callbacks_tell_no_second_completion(tmp_path, store_url, provider):
    """The provider loses one callback in twenty, and we are away while some of the others are sent."""
    with pulled(tmp_path, store_url, provider, *faxes_of(provider, 60)) as it:
        outage = {fax.job_id for fax in it.world.faxes()[20:30]}
        lost = it.world.announce(it.url, lose=outage, share=0.05, seed=1)
        assert len(lost) > 10
        it.expect([fax for fax in it.world.faxes() if it.at.by_job or fax.job_id in outage])
        summary = it.reconcile()
        assert (summary.filled, summary.missing, summary.trouble) == (len(lost), 0, [])
        before = it.types()
        assert len(before) == 60
        assert all(types.count(COMPLETED) == 1 for types in before.values())
        assert {event["observed_via"] for event in it.told()} == {"callback", "report"}
        it.world.deliver(it.url, lost)
        assert all(types.count(COMPLETED) == 1 for types in it.types().values())
        assert all(types.count(AMENDED) - before[fax].count(AMENDED) <= 1 for fax, types in it.types().items())
        assert not any(event["conflict"] for event in it.told())
        again = it.types()
        it.reconcile()
        assert it.types() == again  # and nothing is told twice


def test_push_and_pull_of_a_fax_are_one_fax(tmp_path, sqlite_url, provider):
    with pulled(tmp_path, sqlite_url, provider, *faxes_of(provider, 12)) as it:
        it.world.announce(it.url)
        by_callback = it.types().keys()
        assert len(by_callback) == 12
        summary = it.reconcile(since=datetime.now(UTC) - timedelta(days=2))
        assert it.types().keys() == by_callback
        assert summary.filled == 0
        assert summary.faxes == (0 if it.at.by_job else 12)


@pytest.mark.parametrize("provider", [name for name in CALLING if not PROVIDERS[name].by_job])
def test_a_contradiction_is_one_amendment_that_says_so(tmp_path, sqlite_url, provider):
    """Where a fax that was heard of is asked for again."""
    with pulled(tmp_path, sqlite_url, provider, *faxes_of(provider, 5, seed=3)) as it:
        it.world.announce(it.url)
        fax = of_status(it, DELIVERED[provider])
        later = fax.completed_at + timedelta(minutes=10)
        it.world.change(fax, status=OTHER_STATUS[provider], completed_at=later)
        summary = it.reconcile()
        assert summary.contradicting == 1
        conflicts = [event for event in it.told() if event["conflict"]]
        assert [(event["type"], event["outcome"]) for event in conflicts] == [(AMENDED, "failed")]
        assert it.discrepancies()["contradiction"] == 1
        it.reconcile()
        assert len([event for event in it.told() if event["conflict"]]) == 1


def test_a_registered_fax_that_no_report_has_is_missing_until_it_is_there(tmp_path, sqlite_url, provider):
    with pulled(tmp_path, sqlite_url, provider, *faxes_of(provider, 2)) as it:
        gone = faxes_of(provider, 4)[3]
        it.expect([*it.world.faxes(), gone])
        summary = it.reconcile()
        assert (summary.filled, summary.missing) == (2, 1)
        assert it.discrepancies()["missing"] == 1
        it.world.add(gone)
        it.world.announce(it.url, lose={fax.job_id for fax in it.world.faxes()[:2]})
        assert it.reconcile().missing == 0
        assert it.discrepancies() == {}


@pytest.mark.parametrize("fails", ["fail", "garble", "drop"])
def test_nothing_is_found_missing_while_a_report_that_may_know_it_cannot_be_read(
    tmp_path, sqlite_url, provider, fails, monkeypatch
):
    monkeypatch.setattr("receiver.providers.shared.client._FIRST_DELAY_SECONDS", 0.01)
    with pulled(tmp_path, sqlite_url, provider, *faxes_of(provider, 2)) as it:
        before, after = faxes_of(provider, 5)[3:]
        it.expect([before])
        assert it.reconcile().missing == 1
        it.expect([after])
        getattr(it.world, fails)(1000)
        summary = it.reconcile(since=datetime.now(UTC) - timedelta(days=2))
        assert (summary.missing, bool(summary.trouble)) == (0, True)
        assert it.missing() == {before.job_id}
        it.world.mend()
        it.asked_long_ago()
        assert it.reconcile().missing == 2
        assert it.missing() == {before.job_id, after.job_id}


def test_one_failing_report_of_several_is_enough_that_nothing_is_found_missing(tmp_path, sqlite_url):
    """FAXAGE is asked for the job by its id, and for the window: that one fails."""
    with pulled(tmp_path, sqlite_url, "faxage", *faxes_of("faxage", 2)) as it:
        it.expect([faxes_of("faxage", 4)[3]])
        it.world.garble(1, after=1)
        summary = it.reconcile()
        assert (summary.missing, len(summary.trouble)) == (0, 1)
        assert it.discrepancies()["missing"] == 0


def test_what_is_registered_while_the_reports_are_read_is_not_missing(tmp_path, sqlite_url, provider):
    with pulled(tmp_path, sqlite_url, provider, *faxes_of(provider, 2)) as it:
        late = faxes_of(provider, 4)[3]
        it.expect(it.world.faxes())
        summary = it.reconcile(told=lambda *_: it.expect([late]))
        assert (summary.filled, summary.missing) == (2, 0)


def test_a_job_that_waits_for_its_turn_to_be_asked_for_is_not_missing(tmp_path, sqlite_url):
    with pulled(tmp_path, sqlite_url, "efax", more_reports="requests = 4") as it:
        it.expect(faxes_of("efax", 5))
        assert [it.reconcile().missing, it.reconcile().missing, it.reconcile().missing] == [2, 4, 5]


def test_a_dry_run_says_the_same_and_writes_nothing(tmp_path, store_url, provider):
    with pulled(tmp_path, store_url, provider, *faxes_of(provider, 8)) as it:
        it.expect(it.world.faxes())
        dry = it.reconcile(dry_run=True)
        assert (dry.filled, it.told(), it.discrepancies()) == (8, [], {})
        assert it.reconcile().filled == 8


def test_a_dry_run_counts_what_would_be_a_new_discrepancy(tmp_path, sqlite_url):
    with pulled(tmp_path, sqlite_url, "faxage") as it:
        it.expect(faxes_of("faxage", 2))
        assert it.reconcile(dry_run=True).discrepancies == 2
        assert it.reconcile().discrepancies == 2
        assert it.reconcile(dry_run=True).discrepancies == 0


def test_a_dry_run_does_not_miss_what_it_would_have_told(tmp_path, sqlite_url):
    with pulled(tmp_path, sqlite_url, "faxage", *faxes_of("faxage", 3)) as it:
        it.expect(it.world.faxes())
        dry = it.reconcile(dry_run=True)
        assert (dry.filled, dry.missing, dry.is_good) == (3, 0, True)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_trouble_of_the_provider_is_said_and_over_with_the_next_run(tmp_path, sqlite_url, provider, monkeypatch):
    monkeypatch.setattr("receiver.providers.shared.client._FIRST_DELAY_SECONDS", 0.01)
    with pulled(tmp_path, sqlite_url, provider, *faxes_of(provider, 5)) as it:
        if it.at.calls:
            it.expect(it.world.faxes())
        it.world.fail(3)
        summary = it.reconcile()
        assert len(summary.trouble) == 1
        assert "503" in summary.trouble[0]
        it.reconcile(since=datetime.now(UTC) - timedelta(days=2))
        it.reconcile()
        with_events = {event["fax_id"] for event in it.told()}
        assert len(with_events) == 5 or it.at.by_job  # what was asked for is asked for again later


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("trouble", ["garble", "drop", "cut"])
def test_an_answer_that_is_none_tells_nothing_and_loses_nothing(tmp_path, sqlite_url, provider, trouble, monkeypatch):
    monkeypatch.setattr("receiver.providers.shared.client._FIRST_DELAY_SECONDS", 0.01)
    with pulled(tmp_path, sqlite_url, provider, *faxes_of(provider, 5)) as it:
        if it.at.calls:
            it.expect(it.world.faxes())
        getattr(it.world, trouble)(1000)
        summary = it.reconcile()
        assert summary.trouble
        assert (it.told(), summary.filled) == ([], 0)
        assert "123456" not in "".join(summary.trouble)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_wrong_credentials_are_named_and_never_shown(tmp_path, sqlite_url, provider, capfd):
    wrong = {
        "openfax": {"api_key": "another"},
        "openfax-broadcast": {"api_key": "another"},
        "faxage": {"password": "another"},
        "retarus": {"password": "another"},
        "efax": {"password": "another"},
    }
    with pulled(tmp_path, sqlite_url, provider, *faxes_of(provider, 3), **wrong[provider]) as it:
        if it.at.calls:
            it.expect(it.world.faxes())
        summary = it.reconcile()
        said = " ".join(summary.trouble)
        assert any(word in said for word in ("credential", "login", "password", "key"))
        shown = said + it.stored() + "".join(capfd.readouterr())
        assert PASSWORD not in shown
        assert "IEYRtw2cd8aGa54" not in shown
        assert "broadcast-key" not in shown


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_budget_that_is_used_up_ends_the_run_and_the_next_one_goes_on(tmp_path, sqlite_url, provider):
    with pulled(tmp_path, sqlite_url, provider, *faxes_of(provider, 3)) as it:
        if it.at.calls:
            it.expect(it.world.faxes())
        account = it.house.runtime.accounts[provider]
        assert account.reports is not None
        object.__setattr__(account.reports, "requests", 0)
        summary = it.reconcile()
        assert summary.requests == 0
        assert all("requests" in trouble for trouble in summary.trouble)
        object.__setattr__(account.reports, "requests", 100)
        assert it.reconcile().filled == 3


def test_a_count_that_differs_keeps_what_it_is_made_of(tmp_path, sqlite_url):
    """FAXAGE has calls of a day of which we know no fax."""
    day = (datetime.now(ZoneInfo("America/Denver")) - timedelta(days=1)).date()  # the last one that is over there
    lines = [f"{day} 12:00:0{second},OUT,3035550110,800555014{second},31" for second in range(3)]
    with pulled(tmp_path, sqlite_url, "faxage") as it:
        it.world.garble(1, "\n".join([*lines, f"{day} 13:00:00,OUT,1,2,"]).encode(), operation="getcdr")
        summary = it.reconcile()
        assert (summary.trouble, summary.unreadable) == ([], 1)
        found = it.found()
        assert found["tally"]["detail"]["calls"] == 3
        assert [row["dst"] for row in found["tally"]["rows"]] == ["8005550140", "8005550141", "8005550142"]
        assert found["unreadable"]["rows"] == [{"line": 4, "record": f"{day} 13:00:00,OUT,1,2,"}]
        assert "800555014" not in it.stored()


def test_a_page_that_takes_the_database_too_long_is_recorded_in_parts(tmp_path, sqlite_url, monkeypatch):
    submit = Writer.submit

    def slow(self, submission):
        if len(submission.announcements) > 5:
            raise StoreUnavailable("QueryCanceled")
        return submit(self, submission)

    with pulled(tmp_path, sqlite_url, "openfax", *faxes_of("openfax", 23)) as it:
        monkeypatch.setattr(Writer, "submit", slow)
        summary = it.reconcile()
        assert (summary.filled, summary.trouble) == (23, [])
        assert len(it.types()) == 23
