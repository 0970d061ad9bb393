"""
Times as providers write them: ISO 8601, and what databases, .NET and Java print that has one meaning only.

Nothing quotes a value.
"""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo

# Ways of writing a time beside ISO 8601, each of one meaning only: other orders of year, month and day are left unread.
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = f"(?P<name>{'|'.join(_MONTHS)})[a-z]*"
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? +)?"
_HOUR = (
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,:](?P<fraction>[0-9]{1,30}))?)?"
    r"(?:[ \u202f]?(?P<half>[ap])\.?m\.?)?"
)
_SHORT_HOUR = (
    "(?P<hour>[0-9]{2})(?P<minute>[0-9]{2})(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,30}))?(?P<half>(?!))?"
)
# A form makes a blank of the + of an offset.
_OFFSET = "(?P<offset>[+-][0-9]{2}(?::?[0-9]{2})?| [0-9]{2}:[0-9]{2})"
_ZONE = rf"(?: ?(?P<zone>z|utc|gmt|[ecmp][sd]t)| ?(?:utc|gmt)?{_OFFSET})?(?:\[[a-z_/+-]{{1,40}}\])?"
_YEAR, _DAY = "(?P<year>[0-9]{4})", "(?P<day>[0-9]{1,2})"
_FORMS = [
    re.compile(form, re.ASCII | re.IGNORECASE)
    for form in (
        rf"{_YEAR}(?P<mark>[-/.])(?P<month>[0-9]{{1,2}})(?P=mark){_DAY}(?:T| +){_HOUR}{_ZONE}",
        rf"{_YEAR}(?P<month>[0-9]{{2}})(?P<day>[0-9]{{2}})T{_SHORT_HOUR}{_ZONE}",  # ISO 8601 without its marks
        rf"{_WEEKDAY}{_DAY}[ -]{_MONTH}[ -]{_YEAR},? +{_HOUR}{_ZONE}",  # RFC 2822, SQL
        rf"{_WEEKDAY}{_MONTH} +{_DAY},? +{_YEAR},? +{_HOUR}{_ZONE}",  # SQL Server; Java and browsers with the comma
        rf"{_WEEKDAY}{_MONTH} +{_DAY} +{_HOUR}{_ZONE} +{_YEAR}",  # Java, C
    )
]
_END_OF_DAY = re.compile(r"[T ]24:", re.IGNORECASE)
_MONTH_FIRST = re.compile(rf"(?P<month>[0-9]{{1,2}})/{_DAY}/{_YEAR} +{_HOUR}{_ZONE}", re.ASCII | re.IGNORECASE)
_SINCE_1970 = re.compile(r"\\?/Date\((?P<milliseconds>-?[0-9]{1,15})(?:[+-][0-9]{4})?\)\\?/")  # .NET; always in UTC
# RFC 2822 says which of the abbreviations mean what; the others mean several things.
_HOURS_OF_ZONE = {"z": 0, "utc": 0, "gmt": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6}
_HOURS_OF_ZONE |= {"pst": -8, "pdt": -7}
# Of MySQL; what PHP makes of that; of .NET; and zero seconds since 1970 in any zone.
_NEVER = ("0000-00-00", "-0001-11-30", "0001-01-01", "1969-12-31", "1970-01-01")
_FIRST_MOMENT = -62135596800  # of .NET: 0001-01-01, in seconds since 1970
_DAY_SECONDS = 24 * 3600

_YEARS = range(1970, 3000)


def read_time(text: str, *, month_first: bool = False) -> datetime | None:
    """
    Aware and in UTC where the text has a zone, else naive. None where it says "never"; ValueError for what is no time.

    month_first: the provider documents 7/31/2026, so that such dates are no riddle.
    """
    if text.startswith(_NEVER):
        return None
    if "/Date(" in text and (match := _SINCE_1970.fullmatch(text)):
        return _since_1970(int(match["milliseconds"]))
    try:
        time = iso_time(text)
    except ValueError:
        time = _other(text, [*_FORMS, _MONTH_FIRST] if month_first else _FORMS)
    return time.astimezone(UTC) if _plausible(time).tzinfo else time


def _other(text: str, forms: list[re.Pattern[str]]) -> datetime:
    match = next((match for form in forms if (match := form.fullmatch(text))), None)
    if match is None:
        raise ValueError
    found = match.groupdict()
    month = int(found.get("month") or 0) or 1 + _MONTHS.index(found["name"].lower())
    midnight = datetime(int(found["year"]), month, int(found["day"]), tzinfo=_zone(found["zone"], found["offset"]))
    hour = _hour(int(found["hour"]), found["half"])
    minute, second = int(found["minute"]), int(found["second"] or 0)
    fraction = int((found["fraction"] or "0")[:6].ljust(6, "0"))
    if hour == 24 and (minute, second, fraction) == (0, 0, 0):  # the end of the day
        return midnight + timedelta(days=1)
    return midnight.replace(hour=hour, minute=minute, second=second, microsecond=fraction)


def iso_time(text: str) -> datetime:
    """A time in ISO 8601; ValueError for anything else, a day alone too, and 24:00, which not every Python reads."""
    if ":" not in text or ("24:" in text and _END_OF_DAY.search(text)):
        raise ValueError
    return datetime.fromisoformat(text)


def _since_1970(milliseconds: int) -> datetime | None:
    """None for the first moments of two calendars, in whatever zone: how "never" is written in seconds."""
    seconds = milliseconds // 1000
    if abs(seconds) < _DAY_SECONDS or abs(seconds - _FIRST_MOMENT) < _DAY_SECONDS:
        return None
    return _plausible(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds))


def _hour(hour: int, half: str | None) -> int:
    if half is None:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError
    return hour % 12 + (12 if half.lower() == "p" else 0)


def _zone(name: str | None, offset: str | None) -> tzinfo | None:
    if name is not None:
        return timezone(timedelta(hours=_HOURS_OF_ZONE[name.lower()]))
    if offset is None:
        return None
    hours, minutes = int(offset[1:3]), int(offset[-2:]) if len(offset) > 3 else 0
    return timezone((-1 if offset[0] == "-" else 1) * timedelta(hours=hours, minutes=minutes))


def _plausible(time: datetime) -> datetime:
    if time.year not in _YEARS:
        raise ValueError
    return time
