"""From when to when a report is asked for. Pure: what the time is comes as an argument. All times are aware."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from receiver.reconcile.model import Choice

FIRST = timedelta(hours=24)  # of an account that was never asked
_DAYS_AROUND = timedelta(days=2)
_RECOUNTED = timedelta(days=3)  # so long a day is counted again, for results that come late


def of_records(
    choice: Choice, until: datetime | None, overlap: timedelta, now: datetime, oldest: datetime
) -> tuple[datetime, datetime]:
    """
    What a record report is asked for. until: where the last run ended; None for the first, and in a chosen window.

    An event from before the oldest would be told again as something new. Some distance is kept from it, as reports by
    date are asked for whole days, and their rows may have no time to tell.
    """
    begin = choice.since or (until - overlap if until else now - FIRST)
    distance = min(_DAYS_AROUND, (now - oldest) / 2)
    return max(begin, oldest + distance), min(choice.until or now, now)


def of_counts(
    choice: Choice, until: datetime | None, zone: ZoneInfo, now: datetime, kept_since: datetime
) -> tuple[date, date]:
    """
    The first and the last day to count: days that are over, and of which we still have the facts. Routinely once a day.

    Nothing is to be counted where the first comes after the last. until, see ``of_records``. kept_since: when the
    oldest facts are from.
    """
    yesterday = now.astimezone(zone).date() - timedelta(days=1)
    kept = kept_since.astimezone(zone).date() + timedelta(days=1)
    if not choice.is_routine:
        first = (choice.since or now - FIRST).astimezone(zone).date()
        last = (choice.until or now).astimezone(zone).date()
        return max(first, kept), min(last, yesterday)
    if until is None:
        return max(yesterday, kept), yesterday
    if until >= midnight(yesterday + timedelta(days=1), zone):
        return yesterday + timedelta(days=1), yesterday
    return max(until.astimezone(zone).date() - _RECOUNTED, kept), yesterday


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """When a day of the zone begins, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
