"""Numbers as identity and in E.164; times of a zone, where clocks change too."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.providers.shared.normalising import e164, number_key, utc
from schemas.event import TimeQuality

DENVER = ZoneInfo("America/Denver")
LOS_ANGELES = ZoneInfo("America/Los_Angeles")


@pytest.mark.parametrize(
    ("number", "key"),
    [
        ("+498912504001710", "498912504001710"),
        ("00498912504001710", "498912504001710"),
        ("011498912504001710", "498912504001710"),
        ("+49 (0)89 12504-001710", "498912504001710"),
        ("+49 89 1234567-8900", "498912345678900"),
        ("(208)555-0139", "2085550139"),
        ("1914555016//8", "19145550168"),
        ("00 00 49", "0049"),  # one prefix, not every zero
        ("Unknown", ""),
        ("", ""),
        (None, ""),
        ("٣٤٥", ""),  # digits of another script are no digits here
    ],
)
def test_a_number_key_is_the_digits_without_international_prefix(number, key):
    assert number_key(number) == key


@pytest.mark.parametrize(
    ("number", "region", "expected"),
    [
        ("+498912504001710", None, "+498912504001710"),
        ("00498912504001710", None, "+498912504001710"),
        ("00498912504001710", "US", "+498912504001710"),
        ("+49 (0)89 12504001710", None, "+498912504001710"),
        ("(208)555-0139", "US", "+12085550139"),
        ("2085550139", "US", "+12085550139"),
        ("12085550139", "US", "+12085550139"),
        ("011498912504001710", "US", "+498912504001710"),
        ("0114 496 0000", "GB", "+441144960000"),  # Sheffield, not an international prefix
        ("1914555016//8", "US", "+19145550168"),
        ("498912504001710", None, None),  # no country can be told
        ("861069445000", "US", None),
        ("12", "US", None),
        ("Unknown", "US", None),
        ("Unavailable", "US", None),
        ("", "US", None),
        (None, "US", None),
        ("+" + "9" * 300, None, None),
        ("+1 (208) 555-0139 x123", None, "+12085550139"),
        ("12085550139 ext. 5", "US", "+12085550139"),
        ("+49 89 1234567 x12", None, "+49891234567"),
        ("+49891234567;ext=12", None, "+49891234567"),
        ("+49891234567#12", None, "+49891234567"),
        ("+49 89/1234567-89", None, "+4989123456789"),  # these are dialed
        ("1-800-FLOWERS", "US", "+18003569377"),
        ("+1-800-FLOWERS", None, "+18003569377"),
        ("089 1234567 Fax", "DE", None),  # no number that ends in 329
        ("089 1234567 p 12", "DE", None),
        ("Fax: 089 1234567", "DE", "+49891234567"),
        ("+12085550139@efaxsend.com", None, "+12085550139"),
        ("++49 89 1234567", None, "+49891234567"),
        ("4930123456", "US", None),  # of Berlin: nobody has the area code 493
        ("4930123456", "DE", "+4930123456"),
        ("9999999999", "US", "+19999999999"),  # nobody's, but nobody's abroad either
        ("555-0139", "US", None),  # without its area code it is nobody's
    ],
)
def test_a_number_is_e164_or_none(number, region, expected):
    assert e164(number, region) == expected


@given(st.text(), st.sampled_from([None, "US", "DE"]))
def test_no_text_makes_a_number_fail(number, region):
    found = e164(number, region)
    assert found is None or found.startswith("+")
    assert number_key(number).isdecimal() or number_key(number) == ""


@pytest.mark.parametrize(
    ("local", "zone", "expected"),
    [
        (datetime(2026, 7, 1, 12, 0), DENVER, datetime(2026, 7, 1, 18, 0, tzinfo=UTC)),
        (datetime(2026, 1, 1, 12, 0), DENVER, datetime(2026, 1, 1, 19, 0, tzinfo=UTC)),
        (datetime(2026, 7, 1, 12, 0), LOS_ANGELES, datetime(2026, 7, 1, 19, 0, tzinfo=UTC)),
        (datetime(2026, 1, 1, 12, 0), LOS_ANGELES, datetime(2026, 1, 1, 20, 0, tzinfo=UTC)),
    ],
)
def test_a_time_without_zone_is_read_in_the_endpoints_summer_and_winter(local, zone, expected):
    assert utc(local, zone) == (expected, TimeQuality.ASSUMED_ZONE)


def test_a_time_with_a_zone_is_the_providers():
    time = datetime(2026, 7, 1, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    assert utc(time, DENVER) == (datetime(2026, 7, 1, 10, 0, tzinfo=UTC), TimeQuality.PROVIDER)


def test_no_time_is_none():
    assert utc(None, DENVER) == (None, TimeQuality.NONE)


def test_an_hour_that_occurs_twice_is_taken_the_first_time_and_marked():
    time, quality = utc(datetime(2026, 11, 1, 1, 30), DENVER)
    assert (time, quality) == (datetime(2026, 11, 1, 7, 30, tzinfo=UTC), TimeQuality.AMBIGUOUS)


def test_an_hour_that_never_was_is_taken_by_the_offset_before_and_marked():
    time, quality = utc(datetime(2026, 3, 8, 2, 30), DENVER)
    assert (time, quality) == (datetime(2026, 3, 8, 9, 30, tzinfo=UTC), TimeQuality.AMBIGUOUS)


@pytest.mark.parametrize(
    "local", [datetime(2026, 11, 1, 0, 59), datetime(2026, 11, 1, 2, 0), datetime(2026, 3, 8, 3, 0)]
)
def test_the_hours_around_a_change_are_not_marked(local):
    assert utc(local, DENVER)[1] is TimeQuality.ASSUMED_ZONE
