"""Which times and days a report is asked for, by when it was read last and what somebody wants."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from receiver.reconcile import Choice, windows

NOW = datetime(2026, 7, 15, 10, 30, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
OLDEST = NOW - 90 * DAY
NEW_YORK = ZoneInfo("America/New_York")
ROUTINE = Choice()


@pytest.mark.parametrize(
    ("choice", "until", "begin", "end"),
    [
        (ROUTINE, None, NOW - DAY, NOW),
        (ROUTINE, NOW - HOUR, NOW - 3 * HOUR, NOW),
        (ROUTINE, NOW - 200 * DAY, OLDEST + 2 * DAY, NOW),
        (Choice(since=NOW - 5 * DAY), None, NOW - 5 * DAY, NOW),
        (Choice(since=NOW - 5 * DAY, until=NOW - 4 * DAY), None, NOW - 5 * DAY, NOW - 4 * DAY),
        (Choice(since=NOW - 100 * DAY), None, OLDEST + 2 * DAY, NOW),
        (Choice(until=NOW - HOUR), None, NOW - DAY, NOW - HOUR),
        (Choice(until=NOW + DAY), None, NOW - DAY, NOW),
    ],
)
def test_what_a_record_report_is_asked_for(choice, until, begin, end):
    assert windows.of_records(choice, until, 2 * HOUR, NOW, OLDEST) == (begin, end)


def test_half_of_a_short_memory_is_asked_for():
    assert windows.of_records(Choice(since=NOW - 9 * DAY), None, HOUR, NOW, NOW - 2 * DAY) == (NOW - DAY, NOW)


@pytest.mark.parametrize(
    ("choice", "until", "first", "last"),
    [
        (ROUTINE, None, 14, 14),
        (ROUTINE, datetime(2026, 7, 15, 4, tzinfo=UTC), 15, 14),  # midnight in New York: yesterday was counted
        (ROUTINE, datetime(2026, 7, 14, 4, tzinfo=UTC), 11, 14),
        (ROUTINE, datetime(2026, 6, 1, 4, tzinfo=UTC), 9, 14),
        (Choice(since=datetime(2026, 7, 12, 3, tzinfo=UTC)), None, 11, 14),
        (Choice(since=datetime(2026, 7, 1, tzinfo=UTC), until=datetime(2026, 7, 12, 12, tzinfo=UTC)), None, 9, 12),
        (Choice(until=NOW), None, 14, 14),
    ],
)
def test_which_days_are_counted(choice, until, first, last):
    days = windows.of_counts(choice, until, NEW_YORK, NOW, NOW - 7 * DAY)
    assert days == (date(2026, 7, first), date(2026, 7, last))


def test_facts_of_less_than_a_day_allow_no_count():
    assert windows.of_counts(ROUTINE, None, NEW_YORK, NOW, NOW - HOUR) == (date(2026, 7, 16), date(2026, 7, 14))


@pytest.mark.parametrize(("day", "hour"), [(date(2026, 3, 8), 5), (date(2026, 3, 9), 4), (date(2026, 11, 2), 5)])
def test_a_day_begins_by_the_clocks_of_its_zone(day, hour):
    assert windows.midnight(day, NEW_YORK) == datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
