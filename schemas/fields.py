"""
Marshmallow fields for what fax providers send.

Strict about identity, generous about the rest: ``Identity``, ``StatusNumber`` and ``StatusWord`` refuse what they
cannot trust; every other field turns an unreadable value into None and notes its name (``noting_unreadable``), because
a strict check of an optional value once ate exactly the failures that mattered. Nothing quotes a value.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields

from schemas.repairing import Mended, Repair, repaired

MAX_IDENTITY_LENGTH = 255
MAX_TEXT_LENGTH = 4096
MAX_QUANTITY = 10**9  # pages, seconds, attempts: far beyond any fax

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
# What no XML can hold, no store can take (NUL, lone surrogates), or no console show.
_NOT_OF_A_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
# With the exponent that PHP and .NET write small floats with.
_DECIMAL = re.compile(r"[+-]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})(E[+-]?[0-9]{1,3})?", re.ASCII | re.IGNORECASE)
_LARGEST = Decimal(10) ** 18
_SMALLEST_EXPONENT = -36
_CLOCK = re.compile(r"([0-9]{1,4}):([0-5]?[0-9]):([0-5]?[0-9](?:[.,][0-9]{1,9})?)", re.ASCII)

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

_unreadable: ContextVar[list[str] | None] = ContextVar("unreadable", default=None)


@contextmanager
def noting_unreadable() -> Iterator[list[str]]:
    """Collect the names of optional fields whose value could not be read while schemas load inside the block."""
    names: list[str] = []
    token = _unreadable.set(names)
    try:
        yield names
    finally:
        _unreadable.reset(token)


@dataclass(frozen=True, slots=True)
class InvalidRow:
    """A recipient of a callback that cannot be trusted: its position, and what each wrong field should have been."""

    index: int
    expected: Mapping[str, str]


class ProviderSchema(Schema):
    """Base of the provider schemas. Unknown names are left out, never refused: providers add them without notice."""

    class Meta:
        unknown = EXCLUDE


class _Field(fields.Field[Any]):
    """A field whose error messages say what is expected, and whether it is there at all."""

    expected = "a value"

    def __init__(self, **kwargs: Any) -> None:
        expected = f"expected {self.expected}"
        super().__init__(error_messages={"required": f"missing; {expected}", "null": f"null; {expected}"}, **kwargs)

    def refuse(self) -> ValidationError:
        return ValidationError(f"expected {self.expected}")


class Identity(_Field):
    """
    What names the fax: non-empty text of at most 255 characters without control characters. A number is text.

    With ``required=False`` it may be absent, null or blank, which is None; what is there is as strict.
    """

    expected = f"non-empty text of at most {MAX_IDENTITY_LENGTH} characters"

    def __init__(self, *, required: bool = True, **kwargs: Any) -> None:
        if not required:
            kwargs.setdefault("load_default", None)
        super().__init__(required=required, allow_none=not required, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str | None:
        text = _plain_text(value)
        if text is not None and not (text := text.strip()) and not self.required:
            return None
        if not text or len(text) > MAX_IDENTITY_LENGTH or _CONTROL.search(text) or isinstance(value, Mended):
            raise self.refuse()
        return text


class StatusNumber(Identity):
    """A numeric result code, kept as it was written. Text instead of a number is a malformed status, never guessed."""

    expected = "a whole number"

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str | None:
        text = super()._deserialize(value, attr, data, **kwargs)
        if text is not None and not _INTEGER.fullmatch(text):
            raise self.refuse()
        return text


class StatusWord(Identity):
    """A result word. With ``words``, only those, in any letter case."""

    def __init__(self, words: tuple[str, ...] = (), **kwargs: Any) -> None:
        self.words = frozenset(words)
        self.expected = f"one of {', '.join(words)}" if words else "a status word"
        super().__init__(**kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str | None:
        text = super()._deserialize(value, attr, data, **kwargs)
        if text is not None and self.words and text.lower() not in self.words:
            raise self.refuse()
        return text


class _Generous(_Field):
    """
    Base of the optional fields: absent, empty and null are None; what cannot be read is None and noted.

    A list of several is a field that was repeated. Equal values are one value; different ones contradict each other, so
    that none of them can be believed.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("load_default", None)
        super().__init__(allow_none=True, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        try:
            return self._agreed(value if isinstance(value, list) and len(value) > 1 else [value])
        except (ValueError, ArithmeticError):
            names = _unreadable.get()
            if names is not None:
                names.append(self.data_key or str(attr))
            return None

    def _agreed(self, values: list[Any]) -> Any:
        """What all values say that say anything; ValueError where they differ."""
        read = {found for one in values if not _is_blank(one) and (found := self.read(one)) is not None}
        if len(read) > 1:
            raise ValueError
        return next(iter(read), None)

    def read(self, value: Any) -> Any:
        """The value, or None where it says "nothing"; ValueError where it cannot be read."""
        raise ValueError


class Text(_Generous):
    """Text as sent, but for control characters."""

    def read(self, value: Any) -> str | None:
        text = _plain_text(value)
        if text is None:
            raise ValueError
        if _NOT_OF_A_TEXT.search(text):
            text = _NOT_OF_A_TEXT.sub("", text)
            repaired(Repair.CONTROL_CHARACTERS)
        if len(text) > MAX_TEXT_LENGTH:
            raise ValueError
        return text if text.strip() else None


class Count(_Generous):
    """A whole number that is not negative: pages, seconds, attempts."""

    def read(self, value: Any) -> int | None:
        number = _decimal(value)
        if number is None:
            return None
        if number != number.to_integral_value() or not 0 <= number <= MAX_QUANTITY:
            raise ValueError
        return int(number)


class Seconds(_Generous):
    """A duration in units of ``unit_seconds``, as whole seconds, halves rounded up."""

    def __init__(self, unit_seconds: int = 1, **kwargs: Any) -> None:
        self.unit_seconds = unit_seconds
        super().__init__(**kwargs)

    def read(self, value: Any) -> int | None:
        number = _decimal(value)
        if number is None:
            return None
        if not 0 <= number <= MAX_QUANTITY:
            raise ValueError
        return int((number * self.unit_seconds).quantize(Decimal(1), rounding=ROUND_HALF_UP))


class ClockSeconds(_Generous):
    """A duration written HH:MM:SS, perhaps with a fraction, as whole seconds, halves rounded up."""

    def read(self, value: Any) -> int | None:
        match = _CLOCK.fullmatch(_stripped(value))
        if match is None:
            raise ValueError
        hours, minutes = int(match[1]), int(match[2])
        seconds = Decimal(match[3].replace(",", ".")).quantize(Decimal(1), rounding=ROUND_HALF_UP)
        return hours * 3600 + minutes * 60 + int(seconds)


class Amount(_Generous):
    """Money as an exact decimal."""

    def read(self, value: Any) -> Decimal | None:
        return _decimal(value)


class Timestamp(_Generous):
    """
    A time: aware and in UTC where the text has a zone, else naive (the endpoint knows the zone).

    Read are ISO 8601 and what databases, .NET and Java print that has one meaning only; a day alone is not a time.
    month_first: the provider documents 7/31/2026, so that such dates are no riddle.
    """

    def __init__(self, *, month_first: bool = False, **kwargs: Any) -> None:
        self._forms = [*_FORMS, _MONTH_FIRST] if month_first else _FORMS
        super().__init__(**kwargs)

    def read(self, value: Any) -> datetime | None:
        text = _stripped(value)
        if text.startswith(_NEVER):
            return None
        if match := _SINCE_1970.fullmatch(text):
            return _since_1970(int(match["milliseconds"]))
        try:
            time = iso_time(text)
        except ValueError:
            time = self._other(text)
        return time.astimezone(UTC) if _plausible(time).tzinfo else time

    def _other(self, text: str) -> datetime:
        match = next((match for form in self._forms if (match := form.fullmatch(text))), None)
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
    if ":" not in text or _END_OF_DAY.search(text):
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


class Rows(_Field):
    """
    A list of rows, each loaded by its own schema: the loaded row, or an ``InvalidRow`` in its place.

    An absent or empty list is refused, and so is one without a single valid row.
    """

    expected = "a list with at least one entry"

    def __init__(self, row: Schema, **kwargs: Any) -> None:
        self.row = row
        super().__init__(required=True, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list) or not value:
            raise self.refuse()
        rows: list[Any] = []
        refused = {}
        for index, row in enumerate(value):
            try:
                rows.append(self.row.load(row))
            except ValidationError as error:
                refused[index] = error.messages
                rows.append(InvalidRow(index, flatten(error.messages)))
        if len(refused) == len(rows):
            raise ValidationError(refused)
        return rows


def flatten(messages: Any, prefix: str = "") -> dict[str, str]:
    """Marshmallow's nested messages as ``{"recipients.3.status": "expected a status word"}``; at most 20 of them."""
    if isinstance(messages, dict):
        found: dict[str, str] = {}
        for name, inner in messages.items():
            if len(found) >= 20:
                break
            path = prefix if name == "_schema" else f"{prefix}.{name}" if prefix else str(name)
            found.update(flatten(inner, path))
        return found
    text = messages[0] if isinstance(messages, list) and messages else messages
    known = isinstance(text, str) and text.startswith(_OF_OURS)
    # Marshmallow's own texts are fixed, but only ours are known never to quote a value.
    return {prefix or "body": text if known else "expected an object"}


_OF_OURS = ("expected ", "missing; expected ", "null; expected ")


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _plain_text(value: Any) -> str | None:
    """Text, without the NULs at its end; a whole number as its digits."""
    if isinstance(value, str):
        if value.endswith("\x00"):
            repaired(Repair.TRAILING_NUL)
            return value.rstrip("\x00")
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def _stripped(value: Any) -> str:
    text = _plain_text(value)
    if text is None:
        raise ValueError
    return text.strip()


def _plausible(time: datetime) -> datetime:
    if time.year not in _YEARS:
        raise ValueError
    return time


def _decimal(value: Any) -> Decimal | None:
    text = str(value) if isinstance(value, Decimal) else _stripped(value)
    if not _DECIMAL.fullmatch(text):
        raise ValueError
    number = Decimal(text)
    exponent = number.as_tuple().exponent
    if abs(number) >= _LARGEST or not isinstance(exponent, int) or not _SMALLEST_EXPONENT <= exponent <= 18:
        raise ValueError
    return number or number.copy_abs()  # there is one zero
