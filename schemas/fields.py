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
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, ValidationError, fields

from schemas.repairing import Mended, Repair, repaired
from schemas.times import read_time

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


class ProviderField(fields.Field[Any]):
    """
    A field whose error messages say what is expected, and whether it is there at all.

    json: the same for programs, as JSON Schema.
    """

    expected = "a value"
    json: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, **kwargs: Any) -> None:
        expected = f"expected {self.expected}"
        super().__init__(error_messages={"required": f"missing; {expected}", "null": f"null; {expected}"}, **kwargs)

    def refuse(self) -> ValidationError:
        return ValidationError(f"expected {self.expected}")


class Identity(ProviderField):
    """
    What names the fax: non-empty text of at most 255 characters without control characters. A number is text.

    With ``required=False`` it may be absent, null or blank, which is None; what is there is as strict.
    """

    expected = f"non-empty text of at most {MAX_IDENTITY_LENGTH} characters"
    json: ClassVar[Mapping[str, Any]] = {
        "type": ["string", "integer"],
        "minLength": 1,
        "maxLength": MAX_IDENTITY_LENGTH,
    }

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
    json: ClassVar[Mapping[str, Any]] = {"type": ["string", "integer"], "pattern": "^[+-]?[0-9]{1,18}$"}

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


class Generous(ProviderField):
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
            if isinstance(value, list) and len(value) > 1:
                return self._agreed(value)
            return None if _is_blank(value) else self.read(value)
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


class Text(Generous):
    """Text as sent, but for control characters."""

    expected = "text"

    def read(self, value: Any) -> str | None:
        text = _plain_text(value)
        if text is None:
            raise ValueError
        if not text.isprintable() and _NOT_OF_A_TEXT.search(text):
            text = _NOT_OF_A_TEXT.sub("", text)
            repaired(Repair.CONTROL_CHARACTERS)
        if len(text) > MAX_TEXT_LENGTH:
            raise ValueError
        return text if text.strip() else None


class Count(Generous):
    """A whole number that is not negative: pages, seconds, attempts."""

    expected = "a whole number that is not negative"

    def read(self, value: Any) -> int | None:
        if _is_short_number(value):
            return int(value)
        number = _decimal(value)
        if number is None:
            return None
        if number != number.to_integral_value() or not 0 <= number <= MAX_QUANTITY:
            raise ValueError
        return int(number)


class Seconds(Generous):
    """A duration in units of ``unit_seconds``, as whole seconds, halves rounded up."""

    def __init__(self, unit_seconds: int = 1, **kwargs: Any) -> None:
        self.unit_seconds = unit_seconds
        self.expected = "a number of seconds" if unit_seconds == 1 else f"a number of {unit_seconds} seconds each"
        super().__init__(**kwargs)

    def read(self, value: Any) -> int | None:
        if _is_short_number(value):
            return int(value) * self.unit_seconds
        number = _decimal(value)
        if number is None:
            return None
        if not 0 <= number <= MAX_QUANTITY:
            raise ValueError
        return int((number * self.unit_seconds).quantize(Decimal(1), rounding=ROUND_HALF_UP))


class ClockSeconds(Generous):
    """A duration written HH:MM:SS, perhaps with a fraction, as whole seconds, halves rounded up."""

    expected = "a duration as HH:MM:SS"

    def read(self, value: Any) -> int | None:
        match = _CLOCK.fullmatch(_stripped(value))
        if match is None:
            raise ValueError
        hours, minutes = int(match[1]), int(match[2])
        seconds = Decimal(match[3].replace(",", ".")).quantize(Decimal(1), rounding=ROUND_HALF_UP)
        return hours * 3600 + minutes * 60 + int(seconds)


class Amount(Generous):
    """Money as an exact decimal."""

    expected = "a decimal number"

    def read(self, value: Any) -> Decimal | None:
        return _decimal(value)


class Timestamp(Generous):
    """
    A time: aware and in UTC where the text has a zone, else naive (the endpoint knows the zone).

    Read are ISO 8601 and what databases, .NET and Java print that has one meaning only; a day alone is not a time.
    month_first: the provider documents 7/31/2026, so that such dates are no riddle.
    """

    expected = "a date and time"

    def __init__(self, *, month_first: bool = False, **kwargs: Any) -> None:
        self.month_first = month_first
        super().__init__(**kwargs)

    def read(self, value: Any) -> datetime | None:
        return read_time(_stripped(value), month_first=self.month_first)


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


def _is_short_number(value: Any) -> bool:
    """A whole number as nearly all are written, which needs no decimal arithmetic."""
    return isinstance(value, str) and len(value) < 10 and value.isascii() and value.isdecimal()


def _decimal(value: Any) -> Decimal | None:
    text = str(value) if isinstance(value, Decimal) else _stripped(value)
    if not _DECIMAL.fullmatch(text):
        raise ValueError
    number = Decimal(text)
    exponent = number.as_tuple().exponent
    if abs(number) >= _LARGEST or not isinstance(exponent, int) or not _SMALLEST_EXPONENT <= exponent <= 18:
        raise ValueError
    return number or number.copy_abs()  # there is one zero
