"""Times, amounts and numbers as providers print them: the right value, or null and named; never another value."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import urlencode

import pytest
from samples import event, events
from test_efax import disposition

from receiver.errors import Undecodable
from receiver.providers.shared.normalising import e164
from schemas.event import TimeQuality
from schemas.fields import Amount, ClockSeconds, Count, Timestamp, noting_unreadable
from schemas.identity import fax_id

NAIVE = datetime(2026, 7, 7, 15, 19, 13)
AWARE = datetime(2026, 7, 7, 21, 19, 13, tzinfo=UTC)


def read(field, value):
    """What the field makes of the value, and whether it was noted as unreadable."""
    with noting_unreadable() as names:
        return field.deserialize(value, "a"), bool(names)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-07-07 15:19:13.0", NAIVE),  # Java, SQL Server
        ("2026-07-07 15:19:13,123456789", NAIVE.replace(microsecond=123456)),
        ("2026-07-07T15:19:13.1234567", NAIVE.replace(microsecond=123456)),  # .NET
        ("2026-07-07 15:19:13:120", NAIVE.replace(microsecond=120000)),
        ("2026/07/07 15:19:13", NAIVE),
        ("2026-7-7 15:19:13", NAIVE),
        ("2026-07-07 03:19:13 PM", NAIVE),
        ("2026-07-07 12:19:13 a.m.", NAIVE.replace(hour=0)),
        ("2026-07-07 15:19", NAIVE.replace(second=0)),
        ("Jul  7 2026  3:19PM", NAIVE.replace(second=0)),
        ("07-JUL-2026 15:19:13", NAIVE),
        ("Tue Jul  7 15:19:13 2026", NAIVE),
        ("Jul 7, 2026, 3:19:13\u202fPM", NAIVE),  # Java, browsers
        ("20260707T151913", NAIVE),
        ("20260707T211913.5Z", AWARE.replace(microsecond=500000)),
        ("2026-07-06 24:00:00", NAIVE.replace(hour=0, minute=0, second=0)),
        ("2026-07-06T24:00:00.000-06:00", AWARE.replace(hour=6, minute=0, second=0)),
        ("2026-07-07 15:24:13", NAIVE.replace(minute=24)),
        ("2026-07-07T15:19:13-06:00", AWARE),
        ("2026-07-07 15:19:13 -0600", AWARE),
        ("2026-07-07T23:19:13+0200", AWARE),
        ("2026-07-07T23:19:13+02", AWARE),
        ("2026-07-07 23:19:13 02:00", AWARE),  # a + that a form made a blank of
        ("2026-07-07 21:19:13 UTC", AWARE),
        ("2026-07-07t21:19:13z", AWARE),
        ("2026-07-07T15:19:13-06:00[America/Denver]", AWARE),
        ("Tue, 07 Jul 2026 15:19:13 -0600", AWARE),
        ("Tue Jul 07 15:19:13 MDT 2026", AWARE),
        ("/Date(1783459153000)/", AWARE),
        ("/Date(1783459153000-0600)/", AWARE),
    ],
)
def test_a_time_of_one_meaning_is_read(text, time):
    assert read(Timestamp(), text) == (time, False)


@pytest.mark.parametrize(
    "text",
    [
        *("0000-00-00 00:00:00", "0000-00-00T00:00:00.000", "0001-01-01T00:00:00", "", None),
        *("-0001-11-30 00:00:00", "1970-01-01 00:00:00", "1969-12-31 17:00:00", "1970-01-01T01:00:00+01:00"),
        *("/Date(0)/", "/Date(-62135596800000)/", "/Date(-62135575200000-0600)/"),
    ],
)
def test_never_is_no_time_and_nothing_that_could_not_be_read(text):
    assert read(Timestamp(), text) == (None, False)


@pytest.mark.parametrize(
    "text",
    [
        *("7/7/2026 3:19:13 PM", "07/31/2026 15:19:13", "31.07.2026 15:19", "2026-07-07", "15:19:13", "yesterday"),
        *("2026-02-30 15:19:13", "2026-07-07 25:00:00", "2026-07-07 13:19 PM", "2026-07-07 15:19:13 CEST"),
        *("07-JUL-26 03.19.13 PM", "2026-07-07 15:19:13 X", "9" * 5000 + ":"),
        *("2026-07-07 24:00:01", "2026-07-07 24:19", "20260707151913", "2026-12-31 23:59:60", "/Date(-1)/x"),
    ],
)
def test_a_time_that_may_mean_two_things_or_nothing_is_none_and_named(text):
    assert read(Timestamp(), text) == (None, True)


@pytest.mark.parametrize("text", ["7/7/2026 3:19:13 PM", "07/07/2026 15:19:13"])
def test_month_first_is_read_where_the_provider_documents_it(text):
    assert read(Timestamp(month_first=True), text) == (NAIVE, False)


def test_an_offset_in_a_faxage_or_efax_time_is_the_providers_own():
    fields = {"jobid": "1", "shortstatus": "success", "sendtime": "2026-07-07 15:18:20.5"}
    found = event("faxage", urlencode({**fields, "completetime": "2026-07-07T15:19:13-06:00"}).encode())
    assert (found.completed_at, found.time_quality) == (AWARE, TimeQuality.PROVIDER)
    assert found.submitted_at == datetime(2026, 7, 7, 21, 18, 20, 500000, tzinfo=UTC)
    found = event("efax", disposition(CompletionDate="07/07/2026 14:19:13"))
    assert (found.completed_at, found.time_quality) == (AWARE, TimeQuality.ASSUMED_ZONE)


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        ("1.0E-5", "0.000010"),
        ("2.94E-2", "0.0294"),
        ("2.9399999999999999e-02", "0.029399999999999999"),
        ("1e3", "1000"),
        (Decimal("1.0E-5"), "0.000010"),
        ("0.0294", "0.0294"),
        ("0", "0"),
        ("-0", "0"),
        ("-0.00", "0.00"),
        ("-0.5", "-0.5"),
    ],
)
def test_an_amount_with_an_exponent_is_its_exact_decimal_text(value, amount):
    found, noted = read(Amount(), value)
    assert (format(found, "f"), noted) == (amount, False)


@pytest.mark.parametrize(
    "value", ["$0.03", "0,03", "1E+999999", "1E99", "1E-99", "E5", "1E", "0x1", "1e5.5", Decimal("1E+99"), 1.5, True]
)
def test_what_is_no_amount_is_none_and_named(value):
    assert read(Amount(), value) == (None, True)
    assert read(Count(), value) == (None, True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:00:31", 31), ("1:02:03", 3723), ("00:00:31.5", 32), ("00:00:31,499", 31), ("00:00:31.0000000", 31)],
)
def test_a_duration_may_have_a_fraction(text, seconds):
    assert read(ClockSeconds(), text) == (seconds, False)


@pytest.mark.parametrize("text", ["31", "0:31", "00:00:60", "-00:00:01", "00:00:31.", "1.00:00:31"])
def test_a_duration_of_several_meanings_is_none_and_named(text):
    assert read(ClockSeconds(), text) == (None, True)


@pytest.mark.parametrize(
    ("number", "region", "expected"),
    [
        (" 498912504001710", "US", "+498912504001710"),
        (" 498912504001710", None, "+498912504001710"),
        ("%2B498912504001710", "US", "+498912504001710"),
        ("%20498912504001710", "US", "+498912504001710"),
        (" 12085550139", "US", "+12085550139"),
        (" (208)555-0139", "US", "+12085550139"),
        (" 4930123456", "US", None),  # of Berlin, or of the area code 493
        (" 00498912504001710", "US", "+498912504001710"),
    ],
)
def test_a_blank_before_a_number_is_the_plus_that_a_form_has_lost(number, region, expected):
    assert e164(number, region) == expected


def push(*recipients, **fields):
    return json.dumps({"jobId": "J1", "faxRecipients": list(recipients), **fields}).encode()


@pytest.mark.parametrize(
    ("number", "dialed", "expected"),
    [
        (498912504001710, "00498912504001710", "+498912504001710"),
        ("089 12504001710", "00498912504001710", "+498912504001710"),
        (None, "00498912504001710", "+498912504001710"),
        (498912504001710, "0049301234567", None),  # an alternative one
        (498912504001710, None, None),
        ("12", "0049891212", None),
    ],
)
def test_a_retarus_number_that_cannot_be_read_alone_is_taken_as_it_was_dialed(number, dialed, expected):
    found = event("retarus", push({"number": number, "sentToNumber": dialed, "status": "OK"}))
    assert found.recipient.number == expected


RECIPIENT = {"number": "+498912504001710", "status": "OK"}


@pytest.mark.parametrize(
    "document",
    [
        {"jobId": "J1", "faxRecipients": None, "recipientStatus": [RECIPIENT]},
        {"jobId": "J1", "faxRecipients": [], "recipientStatus": [RECIPIENT], "faxNumbers": {}},
        {"jobId": "J1", "faxRecipients": {"0": RECIPIENT}},
        {"jobId": None, "faxJobReport": None, "reports": {"3": {"jobId": "J1", "faxRecipients": [RECIPIENT]}}},
        [{"jobId": "J1", "faxRecipients": [RECIPIENT]}],
        {"jobId": "J1", "faxRecipients": [None], "recipientStatus": [RECIPIENT]},
        [{"faxJobReport": {"jobId": "J1", "faxRecipients": [RECIPIENT]}}],
    ],
)
def test_null_is_absent_and_a_list_may_be_written_as_an_object_or_bare(document):
    assert event("retarus", json.dumps(document).encode()).key == ("J1", "498912504001710", "0")


def test_a_list_of_one_is_its_value_wherever_it_stands():
    one = {name: [value] for name, value in {**RECIPIENT, "durationInSecs": "26", "sentToNumber": ""}.items()}
    parts = {"reference": [{"customerDefinedId": ["c"]}], "options": [{"jobReference": ["j"]}]}
    job = {"jobId": ["J1"], "faxRecipient": [one], "pages": ["3"], **parts}
    found = event("retarus", json.dumps({"faxJobReport": [job]}).encode())
    assert (found.key, found.status_code, found.duration_seconds) == (("J1", "498912504001710", "0"), "OK", 26)
    assert (found.pages.total, found.reference.id) == (3, "c")
    for name in ("jobId", "status", "number"):
        two = json.dumps(job).replace(f'"{name}": [', f'"{name}": ["x", ')
        with pytest.raises(Undecodable) as refused:
            events("retarus", two.encode())
        assert list(refused.value.fields) == [name]


def test_an_object_with_indexes_is_as_many_recipients():
    other = {**RECIPIENT, "number": "+4989125040017"}
    assert len(events("retarus", push(faxRecipients={"0": RECIPIENT, "2": other}))) == 2


def test_an_array_is_refused_where_no_provider_sends_one():
    from receiver.providers.shared.decoding import json_object

    with pytest.raises(Undecodable):
        json_object(b"[{}]")


def test_a_time_that_is_newly_read_changes_no_id_that_was_given_before():
    """Two equal numbers are ranked by time; one in a form that was not read was ranked behind those without one."""
    early, late = "2026/07/07 10:00:00", "2026-07-07T15:00:00Z"
    found = events("retarus", push({**RECIPIENT, "sentTS": early}, {**RECIPIENT, "sentTS": late}))
    assert [one.key[-1] for one in found] == ["1", "0"]
    assert all(one.completed_at for one in found)
    assert len({fax_id("retarus", one.account, one.key) for one in found}) == 2


def test_the_end_of_a_day_ranks_as_it_did_on_every_python():
    """Python 3.14 reads 24:00:00 as ISO 8601, others do not: an id must not depend on it."""
    late, none = {**RECIPIENT, "sentTS": "2026-07-07T24:00:00Z", "status": "BUSY"}, {**RECIPIENT, "status": "BLACKLIST"}
    found = events("retarus", push(late, none))
    assert [(one.key[-1], bool(one.completed_at)) for one in found] == [("1", True), ("0", False)]
