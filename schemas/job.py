"""
What a company's own system says of a fax it has sent: the document of ``POST /jobs`` and ``faxhook jobs import``.

This is our own interface, so it is strict: a name nobody knows is refused, since it is a misspelt one. An optional
value may be null or absent, which is the same.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from marshmallow import RAISE, Schema, ValidationError, fields, validates_schema
from marshmallow.validate import Length

from schemas.fields import MAX_IDENTITY_LENGTH, MAX_QUANTITY, Identity

_ENDPOINT = re.compile("[a-z0-9][a-z0-9-]{0,62}")
_NUMBER = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*[0-9][^\x00-\x1f\x7f\ud800-\udfff]*")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_PERIOD = re.compile("([0-9]{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_YEARS = range(1970, 3000)


class _Strict(fields.Field[Any]):
    """
    An optional value that is refused unless it can be read.

    expected: the only message it has. json: the same for programs, as JSON Schema.
    """

    expected = ""
    json: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, *, required: bool = False) -> None:
        messages: dict[str, Any] = dict.fromkeys(("required", "null"), f"expected {self.expected}")
        optional: dict[str, Any] = {} if required else {"load_default": None}
        super().__init__(required=required, allow_none=not required, error_messages=messages, **optional)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        try:
            return self.read(value)
        except (ValueError, OverflowError):
            raise ValidationError(f"expected {self.expected}") from None

    def read(self, value: Any) -> Any:
        """The value; ValueError where it cannot be read."""
        raise NotImplementedError


class _EndpointName(_Strict):
    expected = "the name of an endpoint"
    json: ClassVar[Mapping[str, Any]] = {"type": "string", "pattern": f"^{_ENDPOINT.pattern}$"}

    def read(self, value: Any) -> str:
        return _matched(_ENDPOINT, value)[0]


class _Number(_Strict):
    """As its sender writes it: some providers take more than digits."""

    expected = f"a fax number as text of at most {MAX_IDENTITY_LENGTH} characters"
    json: ClassVar[Mapping[str, Any]] = {"type": "string", "maxLength": MAX_IDENTITY_LENGTH, "pattern": "[0-9]"}

    def read(self, value: Any) -> str:
        number = _matched(_NUMBER, value)[0].rstrip()  # a blank before it may be the + that a form has lost
        if len(number) > MAX_IDENTITY_LENGTH:
            raise ValueError
        return number


class _Pages(_Strict):
    expected = "a whole number from 1"
    json: ClassVar[Mapping[str, Any]] = {"type": "integer", "minimum": 1, "maximum": MAX_QUANTITY}

    def read(self, value: Any) -> int:
        if type(value) is not int or not 1 <= value <= MAX_QUANTITY:
            raise ValueError
        return value


class _Time(_Strict):
    """Aware, in UTC."""

    expected = 'a time with its zone such as "2026-07-01T09:30:00Z" (RFC 3339)'
    json: ClassVar[Mapping[str, Any]] = {"type": "string", "format": "date-time"}

    def read(self, value: Any) -> datetime:
        time = datetime.fromisoformat(_matched(_TIME, value.upper() if isinstance(value, str) else value)[0])
        if time.year not in _YEARS:
            raise ValueError
        return time.astimezone(UTC)


class _Period(_Strict):
    """A timedelta."""

    expected = 'a period such as "90m" (s, m, h, d)'
    json: ClassVar[Mapping[str, Any]] = {"type": "string", "pattern": "^(0|[0-9]{1,6}[smhd])$"}

    def read(self, value: Any) -> timedelta:
        if value == "0":
            return timedelta()
        count, unit = _matched(_PERIOD, value).groups()
        return timedelta(**{_UNITS[unit]: int(count)})


def _matched(pattern: re.Pattern[str], value: Any) -> re.Match[str]:
    found = pattern.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError
    return found


class _Document(Schema):
    """An object of which every name is known."""

    class Meta:
        unknown = RAISE

    def __init__(self) -> None:
        super().__init__()
        known = ", ".join(self.fields)
        self.error_messages |= {"unknown": f"expected no such name; known here: {known}", "type": "expected an object"}


class _Recipient(_Document):
    number = _Number()
    name = Identity(required=False)


class _Sender(_Document):
    name = Identity(required=False)
    number = _Number()


class _Reference(_Document):
    id = Identity(required=False)
    billing_code = Identity(required=False)
    billing_info = Identity(required=False)


class Job(_Document):
    """One job at a provider. What is absent is None."""

    endpoint = _EndpointName(required=True)
    job_id = Identity()
    recipients = fields.List(
        fields.Nested(_Recipient()),
        load_default=None,
        allow_none=True,
        validate=Length(min=1, error="expected at least one recipient"),
        error_messages={"invalid": "expected a list of recipients"},
    )
    sender = fields.Nested(_Sender(), load_default=None, allow_none=True)
    pages = _Pages()
    reference = fields.Nested(_Reference(), load_default=None, allow_none=True)
    submitted_at = _Time()
    due_at = _Time()
    due_in = _Period()

    @validates_schema
    def _check_due(self, data: dict[str, Any], **_: Any) -> None:
        if data["due_at"] is not None and data["due_in"] is not None:
            raise ValidationError("expected due_at or due_in, not both", "due_in")


JOB = Job()
