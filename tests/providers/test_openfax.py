"""Openfax: one form, one fax; no number and no time."""

from decimal import Decimal

import pytest
from marshmallow import ValidationError
from samples import event, events, sample

from receiver import providers
from receiver.errors import AccountMismatch, Undecodable, Unprocessable, UnsupportedBody
from receiver.providers import RawCallback
from schemas.event import Cost, Pages, Recipient, Reference, Sender, TimeQuality

FORM = b"OutTransID=779029&AccountID=123456789&LastStatus=0"


def test_a_postback_says_all_it_says_and_nothing_more():
    found = event("openfax", sample("openfax/01_success.form"))
    assert (found.account, found.key) == ("123456789", ("779029",))
    assert (found.status_code, found.status_text) == ("0", None)
    assert (found.provider_job_id, found.provider_fax_id) == ("779029", None)
    assert found.sender == Sender(name="My Company", number=None)
    assert found.recipient == Recipient(name="My Customer")
    assert found.pages == Pages(total=None, sent=2)
    assert (found.duration_seconds, found.attempts) == (63, None)
    assert found.cost == Cost(Decimal("0.0294"), None)
    assert (found.completed_at, found.submitted_at, found.time_quality) == (None, None, TimeQuality.NONE)


def test_empty_fields_are_unknown_and_a_stated_zero_is_zero():
    empty = event("openfax", sample("openfax/14_empty_optional.form"))
    assert (empty.pages.sent, empty.duration_seconds, empty.cost) == (None, None, None)
    assert (empty.sender.name, empty.recipient.name) == (None, None)
    stated = event("openfax", sample("openfax/02_failed_no_answer.form"))
    assert (stated.pages.sent, stated.duration_seconds, stated.cost) == (0, 0, Cost(Decimal(0)))


def test_fields_may_come_in_the_query_string_of_a_post_too():
    raw = RawCallback(b"LastStatus=2", "application/x-www-form-urlencoded", query=b"OutTransID=1&AccountID=2")
    assert event("openfax", raw).key == ("1",)


@pytest.mark.parametrize("name", ["OutTransID", "AccountID", "LastStatus"])
def test_a_repeated_identity_or_status_is_undecodable(name):
    raw = RawCallback(FORM, "", query=f"{name}=1".encode())
    with pytest.raises(Undecodable) as caught:
        events("openfax", raw)
    assert list(caught.value.fields) == [name]


def test_the_endpoints_account_serves_where_the_postback_names_none():
    for form in (b"OutTransID=1&LastStatus=0", b"OutTransID=1&LastStatus=0&AccountID="):
        assert event("openfax", form, account="987").account == "987"
        with pytest.raises(Unprocessable):
            events("openfax", form)


def test_another_account_than_the_endpoints_is_refused():
    assert event("openfax", FORM, account="123456789").account == "123456789"
    with pytest.raises(AccountMismatch):
        events("openfax", FORM, account="987")


@pytest.mark.parametrize("status", ["", "Successful", "1.5", "0x1", "1 2", "٣"])
def test_a_malformed_status_is_refused(status):
    with pytest.raises(ValidationError) as caught:
        events("openfax", f"OutTransID=1&AccountID=2&LastStatus={status}".encode())
    assert list(caught.value.messages) == ["LastStatus"]


def test_the_reference_of_the_url_is_the_events():
    assert event("openfax", FORM, reference="order-1").reference == Reference(id="order-1")


@pytest.mark.parametrize("body", [b'{"OutTransID": 1}', b"<a/>", b"[1]"])
def test_other_kinds_of_body_are_not_what_openfax_sends(body):
    with pytest.raises(UnsupportedBody):
        events("openfax", body)


def test_a_header_text_in_another_charset_is_read():
    assert event("openfax", FORM + b"&From=M%FCller+%80").sender.name == "Müller €"
    assert event("openfax", FORM + "&From=Müller".encode()).sender.name == "Müller"


def test_the_portal_steps_name_the_url():
    assert "{url}" in providers.load()["openfax"].push.setup
