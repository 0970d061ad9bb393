"""FAXAGE: one form, one job; times of no stated zone."""

from datetime import UTC, datetime

import pytest
from marshmallow import ValidationError
from samples import event, events, multipart, sample

from receiver import providers
from receiver.errors import Undecodable
from schemas.event import Pages, Recipient, Reference, TimeQuality


def test_a_notification_says_all_it_says():
    found = event("faxage", sample("faxage/01_success.form"))
    assert (found.account, found.key, found.provider_job_id) == ("acme", ("115893796",), "115893796")
    assert (found.status_code, found.status_text) == ("success", "Success")
    assert found.recipient == Recipient("+12085550139", "(208)555-0139", "Alice Example")
    assert found.pages == Pages(total=1, sent=1)
    assert found.duration_seconds == 31
    assert found.submitted_at == datetime(2013, 11, 14, 22, 18, 20, tzinfo=UTC)
    assert found.completed_at == datetime(2013, 11, 14, 22, 19, 13, tzinfo=UTC)
    assert found.time_quality is TimeQuality.ASSUMED_ZONE


def test_in_summer_the_zone_is_an_hour_nearer():
    form = b"jobid=1&shortstatus=success&completetime=2026-07-01+12:00:00"
    assert event("faxage", form).completed_at == datetime(2026, 7, 1, 18, 0, tzinfo=UTC)


def test_two_fields_are_enough():
    found = event("faxage", sample("faxage/04_minimal.form"))
    assert (found.recipient, found.pages, found.completed_at) == (Recipient(), Pages(), None)
    assert found.time_quality is TimeQuality.NONE


def test_some_pages_make_a_failure_partial_and_still_a_failure():
    found = event("faxage", sample("faxage/10_failure_partial_pages.form"))
    assert (found.outcome, found.partial, found.pages) == ("failed", True, Pages(total=12, sent=5))


@pytest.mark.parametrize("text", ["Busy", "Success", "Failed Conversion", "cancelled"])
def test_the_long_status_is_passed_on_and_never_read(text):
    found = event("faxage", f"jobid=1&shortstatus=failure&longstatus={text}".encode())
    assert (found.status_text, found.outcome, found.failure.reason) == (text, "failed", "unknown")


@pytest.mark.parametrize("word", ["success", "SUCCESS", "Success", " success "])
def test_a_status_word_counts_in_any_letter_case(word):
    found = event("faxage", f"jobid=1&shortstatus={word}".encode())
    assert (found.outcome, found.status_code) == ("delivered", word.strip())


@pytest.mark.parametrize("word", ["", "sent", "0", "failure,success"])
def test_any_other_status_word_is_refused(word):
    with pytest.raises(ValidationError) as caught:
        events("faxage", f"jobid=1&shortstatus={word}".encode())
    assert list(caught.value.messages) == ["shortstatus"]


def test_a_repeated_job_is_undecodable():
    with pytest.raises(Undecodable):
        events("faxage", b"jobid=1&jobid=2&shortstatus=success")


def test_an_inbound_notice_is_ignored_only_where_it_names_no_job():
    assert events("faxage", b"recvid=1&pagecount=3") == []
    assert len(events("faxage", b"recvid=1&jobid=2&shortstatus=success")) == 1


def test_times_that_never_were_and_unreadable_values_are_none():
    form = (
        b"jobid=1&shortstatus=failure&sendtime=0000-00-00+00:00:00&completetime=soon&xmittime=31&pagecount=two"
        b"&xmitpages=-1&destnum=Unknown"
    )
    found = event("faxage", form)
    assert (found.submitted_at, found.completed_at, found.duration_seconds) == (None, None, None)
    assert found.pages == Pages()
    assert found.recipient == Recipient(None, "Unknown")


def test_multipart_is_read_too():
    assert event("faxage", multipart(jobid="1", shortstatus="success")).key == ("1",)


def test_the_reference_of_the_url_is_the_events():
    assert event("faxage", b"jobid=1&shortstatus=success", reference="r").reference == Reference(id="r")


def test_the_set_up_names_the_variable_of_sendfax():
    assert "url_notify={url}" in providers.load()["faxage"].push.setup
