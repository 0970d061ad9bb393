"""The forms of values: text in, a checked value out. A ValueError means: not of this form."""

import base64
import hashlib
import os
import re
from collections.abc import Callable, Collection
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from receiver import transports
from receiver.errors import BadValue
from receiver.settings import postgresql
from receiver.settings.model import Token

UNITS = {"": 1, "kB": 1000, "MB": 1000**2, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = timedelta(days=36500)
SECRET_LENGTH = 16
SECRET = f"at least {SECRET_LENGTH} characters"
SIZE = 'a size such as "8MiB" (KiB, MiB, GiB, kB, MB) or a number of bytes'
PERIOD = 'a period such as "7d" (s, m, h, d)'
KEEP_ALIVE = 'a period from "1s" to "1h", longer than the proxy keeps idle connections to faxhook'
TOKEN = f"at least {SECRET_LENGTH} characters of [A-Za-z0-9._~-], or sha256: and 64 hex digits"
NETWORK = 'an address or network such as "203.0.113.0/24", without host bits'
HEADER = "the name of a header, with hyphens"
FINGERPRINT = "sha256: and the 64 hex digits of the certificate's SHA-256 fingerprint"
WHEN = 'a date or time such as 2027-01-01 or "2027-01-01T12:00:00Z"'
BIND = '"<host>:<port>", "[<address>]:<port>", "unix:<path>" or "fd://<number>"'
_BROKERS = ", ".join(sorted({*transports.TRANSPORTS, *transports.REFUSED} - {"pyamqp", "sqla", "kafka"}))
BROKER_URL = (
    '"embedded:", or the URL of a broker such as "amqps://user:password@host/vhost", with / @ : in the password'
    f" percent-encoded; known are {_BROKERS}"
)
STORE_URL = "sqlite:///<path> or postgresql+psycopg://<user>:<password>@<host>/<database>"
BROKER_NAME = "1 to 200 characters of [A-Za-z0-9._:-], not beginning with amq."
DIGEST_CREDENTIAL_FORMS = (
    "the plain password, or ha1: with the HA1 of MD5 (32 hex digits), SHA-256 (64) or both with a colon between;"
    " no other hash can answer Digest"
)
CLIENT_SECRET = f"at least {SECRET_LENGTH} characters, or sha256: and 64 hex digits"
WEBHOOK_SECRET = "whsec_" + " and the base64 of 24 to 64 bytes"
CREDENTIAL_FORMS = (
    "a plain password, sha256:<64 hex digits>, scrypt:<n>:<r>:<p>$<salt>$<hash>"
    " or pbkdf2:<sha256>:<iterations>$<salt>$<hash>"
)


def groups(pattern: str, text: str) -> tuple[str, ...]:
    matched = re.fullmatch(pattern, text)
    if matched is None:
        raise ValueError
    return tuple(group or "" for group in matched.groups())


def matching(pattern: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        groups(pattern, text)
        return text

    return convert


def one_of(choices: Collection[str]) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text

    return convert


def number(lowest: int, highest: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        (digits,) = groups("([0-9]{1,9})", text)
        if not lowest <= int(digits) <= highest:
            raise ValueError
        return int(digits)

    return convert


def bind(folder: Path) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if re.fullmatch("fd://[0-9]{1,9}", text):
            return text
        if text.startswith("unix:"):
            (name,) = groups("unix:([^\0]*[^/\0])", text)
            return f"unix:{os.path.normpath(folder / name)}"
        _, port = groups(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]+)", text)
        number(0, 65535)(port)
        return text

    return convert


def public_url(text: str) -> str:
    parts = urlsplit(text)
    _ = parts.port  # raises where it is none
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError
    return text.rstrip("/")


def size(text: str) -> int:
    digits, unit = groups(f"([0-9]{{1,15}}) ?({'|'.join(UNITS)})", text)
    if int(digits) == 0:
        raise ValueError
    return int(digits) * UNITS[unit]


def period(text: str) -> timedelta:
    digits, unit = groups(f"([0-9]{{1,10}})({'|'.join(SECONDS)})", text)
    seconds = int(digits) * SECONDS[unit]
    if not 0 < seconds <= LONGEST.total_seconds():
        raise ValueError
    return timedelta(seconds=seconds)


def period_or_zero(text: str) -> timedelta:
    """Zero keeps nothing beyond what is not yet published."""
    return timedelta() if text == "0" else period(text)


def keep_alive(text: str) -> timedelta:
    found = period(text)
    if found > timedelta(hours=1):
        raise ValueError
    return found


def secret(text: str) -> str:
    if len(text) < SECRET_LENGTH:
        raise ValueError
    return text


def token(text: str) -> Token:
    if text.startswith("sha256:"):
        (digest,) = groups("sha256:([0-9A-Fa-f]{64})", text)
        _refuse_hash_of_nothing(text)
        return Token(bytes.fromhex(digest), None)
    plain = matching(f"[A-Za-z0-9._~-]{{{SECRET_LENGTH},}}")(text)
    return Token(hashlib.sha256(plain.encode()).digest(), plain)


def _refuse_hash_of_nothing(text: str) -> None:
    """It was made of a variable that was not set, and an empty secret would be the right one."""
    if text.lower() == f"sha256:{hashlib.sha256(b'').hexdigest()}":
        raise ValueError


def fingerprint(text: str) -> bytes:
    """With or without the colons that openssl puts between the bytes."""
    (digits,) = groups("sha256:([0-9A-Fa-f]{64}|(?:[0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2})", text)
    return bytes.fromhex(digits.replace(":", ""))


def header(text: str) -> str:
    return matching("[A-Za-z0-9-]+")(text)


def region(text: str) -> str:
    from phonenumbers import SUPPORTED_REGIONS  # a tenth of the start of a command that needs no numbers

    return one_of(SUPPORTED_REGIONS)(text)


def zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (KeyError, OSError):  # unknown; a folder of zones
        if not available_timezones():
            raise BadValue(
                "this machine has no time zones; install its package tzdata, or: pip install tzdata"
            ) from None
        raise ValueError from None


HASHED = {
    "sha256": r"sha256:[0-9A-Fa-f]{64}",
    "scrypt": r"scrypt:[1-9][0-9]{0,8}:[1-9][0-9]{0,3}:[1-9][0-9]{0,3}\$[^$]+\$[0-9a-f]{128}",
    "pbkdf2": r"pbkdf2:sha(?:1|224|256|384|512)(?::[1-9][0-9]{0,8})?\$[^$]+\$[0-9a-f]{40,128}",
    "ha1": r"(?!)",  # would have to be Digest
}
HA1_LENGTHS = {"MD5": 32, "SHA-256": 64}  # hex digits


def password(text: str) -> str:
    """Plain, or in one of the hashed forms; what begins like one of them must be one."""
    if any(character < " " or character == "\x7f" for character in text):
        raise ValueError  # no client can send it
    kind, colon, rest = text.partition(":")
    if colon and kind in HASHED:
        groups(HASHED[kind], text)
        _refuse_hash_of_nothing(text)
        cost = int(rest.partition(":")[0]) if kind == "scrypt" else 2
        if cost < 2 or cost & (cost - 1):  # scrypt's n is a power of two
            raise ValueError
    return text


def digest_password(text: str) -> str:
    """Plain, or ``ha1:`` with the HA1 of MD5, of SHA-256, or of both. The other hashes cannot answer a challenge."""
    if any(character < " " or character == "\x7f" for character in text):
        raise ValueError
    kind, colon, _ = text.partition(":")
    if colon and kind in HASHED:
        (first, _, second) = groups("ha1:([0-9a-f]{32}|[0-9a-f]{64})(:([0-9a-f]{32}|[0-9a-f]{64}))?", text.lower())
        if len(first) == len(second):
            raise ValueError
        return text.lower()
    return text


def client_secret(text: str) -> str:
    """At least 16 characters, or ``sha256:`` and the digest of them."""
    if text.startswith("sha256:"):
        groups(HASHED["sha256"], text)
        _refuse_hash_of_nothing(text)
        return text
    return secret(text)


def webhook_secret(text: str) -> str:
    """As Standard Webhooks gives it out: ``whsec_`` and the base64 of 24 to 64 bytes."""
    key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    if not 24 <= len(key) <= 64:
        raise ValueError
    return text


def secure_url(text: str) -> str:
    """https, or http to this machine."""
    parts = urlsplit(text)
    _ = parts.port  # raises where it is none
    host = parts.hostname or ""
    is_local = host in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_local):
        raise ValueError
    if not host or "@" in parts.netloc or parts.fragment:
        raise ValueError
    return text


def is_secure_url(text: str) -> bool:
    try:
        secure_url(text)
    except ValueError:
        return False
    return True


def instant(text: str) -> datetime:
    try:
        return in_utc(date.fromisoformat(text))
    except ValueError:
        return in_utc(datetime.fromisoformat(text))


def in_utc(value: date) -> datetime:
    """A datetime, or the start of a date; UTC where it does not say its zone."""
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise ValueError from None


def store_url(folder: Path) -> Callable[[str], str]:
    """A path is from that folder. What comes out is as SQLAlchemy reads it."""

    def convert(text: str) -> str:
        scheme, rest = groups(r"(sqlite|postgres|postgresql|postgresql\+psycopg)(://.+)", text)
        if scheme != "sqlite":
            return postgresql.url(rest.removeprefix("://"))
        (name,) = groups(r":///([^?]+)", rest)
        path = os.path.normpath(folder / name)
        # In memory nothing would be kept, and a question mark would end the path.
        if name.startswith(":memory:") or name.endswith("/") or "?" in path:
            raise ValueError
        return f"sqlite:///{path.replace('%', '%25')}"  # SQLAlchemy unquotes it

    return convert


def broker_url(text: str) -> str:
    """``embedded:``, or URLs of one of our transports, with ``;`` between them where a broker has several hosts."""
    if text == transports.EMBEDDED:
        return text
    schemes = {transports.scheme(part) for part in text.split(";")}
    known = schemes <= {*transports.TRANSPORTS, *transports.REFUSED}
    if len(schemes) != 1 or not known or not all("://" in part for part in text.split(";")):
        raise ValueError
    transports.addresses(text)
    return text


def broker_name(text: str) -> str:
    if not re.fullmatch("(?!amq\\.)[A-Za-z0-9._:-]{1,200}", text):
        raise ValueError
    return text
