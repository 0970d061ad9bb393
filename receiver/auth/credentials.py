"""
Comparing a user and a password with the configured ones, without telling by time which part was wrong.

Every credential is tried for every name, and name and password both each time. So an unknown user costs exactly what
a wrong password costs, and no dummy is needed.
"""

import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256

from werkzeug.security import check_password_hash

from receiver import errors
from receiver.settings import Credential
from receiver.system.waiting import may_wait

_SHA256 = "sha256:"
_SLOW = ("scrypt:", "pbkdf2:")
_SHA256_STORED = re.compile(r"sha256:[0-9a-fA-F]{64}")
_SLOW_STORED = re.compile(r"(?:scrypt|pbkdf2):[^$]+\$[^$]+\$[0-9a-f]+")


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class _Known:
    """One configured credential, with nothing plain in it."""

    user: bytes = field(repr=False)  # SHA-256 of the UTF-8 text
    password: bytes = field(repr=False)  # the same, or the stored slow hash
    is_slow: bool
    not_before: datetime | None
    not_after: datetime | None

    def is_valid_at(self, now: datetime) -> bool:
        return (self.not_before is None or self.not_before <= now) and (self.not_after is None or now < self.not_after)


class SlowChecks:
    """
    The slow hashes of this process: one computed at a time, what was right remembered for a while.

    One scrypt check takes a tenth of a second and 32 MiB: without the first rule some twenty wrong passwords a second
    stop the service, without the second the right ones wait behind them. Wrong passwords are never remembered.
    """

    def __init__(
        self,
        *,
        wait_seconds: float = 1.0,
        lifetime_seconds: float = 300.0,
        entries_max: int = 256,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wait_seconds = wait_seconds
        self._lifetime_seconds = lifetime_seconds
        self._entries_max = entries_max
        self._clock = clock
        self._lock = threading.Lock()
        self._key = secrets.token_bytes(32)
        self._expiries: dict[bytes, float] = {}  # oldest first; written only under the lock

    def match(self, known: Sequence[_Known], user: str, password: str) -> bool:
        """Whether one of the known credentials is this one. Raises Unavailable when too many others wait."""
        names = [self._name(one, user, password) for one in known]
        if self._is_remembered(names):
            return True
        may_wait()
        if not self._lock.acquire(timeout=self._wait_seconds):
            raise errors.Unavailable("Too many credentials are being checked at once; try again.")
        try:
            # Whoever waited may find that the one before brought the same credentials.
            if self._is_remembered(names):
                return True
            is_right = False
            for one, name in zip(known, names, strict=True):
                is_same = check_password_hash(one.password.decode("ascii"), password) & _is_same(user, one.user)
                if is_same:
                    self._remember(name)
                is_right |= is_same
            return is_right
        finally:
            self._lock.release()

    def _name(self, one: _Known, user: str, password: str) -> bytes:
        # The configured credential is part of the name, so a changed one forgets its old password at once.
        parts = (one.user, one.password, user.encode(), password.encode())
        return hmac.digest(self._key, b"".join(sha256(part).digest() for part in parts), "sha256")

    def _is_remembered(self, names: Iterable[bytes]) -> bool:
        now = self._clock()
        return any(now < self._expiries.get(name, now) for name in names)

    def _remember(self, name: bytes) -> None:
        self._expiries.pop(name, None)
        if len(self._expiries) >= self._entries_max:
            del self._expiries[next(iter(self._expiries))]
        self._expiries[name] = self._clock() + self._lifetime_seconds


_OF_THIS_PROCESS = SlowChecks()


class Credentials:
    """The credentials of one endpoint; several are valid at once while they rotate."""

    def __init__(
        self,
        configured: Iterable[Credential],
        *,
        clock: Callable[[], datetime] = utc_now,
        slow_checks: SlowChecks = _OF_THIS_PROCESS,
    ) -> None:
        """Raises ConfigurationError for a password that is empty, or a hash that no password can match."""
        self._known = tuple(map(_known, configured))
        self._clock = clock
        self._slow_checks = slow_checks

    def match(self, user: str, password: str) -> bool:
        """
        Whether this is one of the credentials valid now.

        Raises Unavailable when slow hashes are needed and too many others wait for them.
        """
        try:
            password_digest = _digest(password)
            _digest(user)
        except UnicodeEncodeError:
            return False  # a lone surrogate out of a JSON body: no configured text holds one

        now = self._clock()
        valid = [one for one in self._known if one.is_valid_at(now)]
        is_right = False
        for one in valid:
            if not one.is_slow:
                is_right |= _is_same(user, one.user) & hmac.compare_digest(password_digest, one.password)
        slow = [one for one in valid if one.is_slow]
        if is_right or not slow:
            return is_right
        return self._slow_checks.match(slow, user, password)


def _known(configured: Credential) -> _Known:
    stored = configured.password
    is_slow = stored.startswith(_SLOW)
    if not stored:
        raise _unusable(configured, "expected a password that is not empty")
    if is_slow:
        _try_out(configured)
        password = stored.encode("ascii")
    elif stored.startswith(_SHA256):
        if not _SHA256_STORED.fullmatch(stored):
            raise _unusable(configured, "expected 64 hexadecimal digits after 'sha256:'")
        password = bytes.fromhex(stored.removeprefix(_SHA256))
    else:
        password = _digest(stored)
    return _Known(_digest(configured.user), password, is_slow, configured.not_before, configured.not_after)


def _try_out(configured: Credential) -> None:
    """Compute the hash once: only that shows that its method and parameters work on this machine."""
    expected = "expected werkzeug's 'scrypt:N:r:p$salt$hex' or 'pbkdf2:name:iterations$salt$hex'"
    if not configured.password.isascii() or not _SLOW_STORED.fullmatch(configured.password):
        raise _unusable(configured, expected)
    try:
        check_password_hash(configured.password, "")
    except (ValueError, TypeError, OverflowError, MemoryError):
        raise _unusable(configured, expected) from None


def _unusable(configured: Credential, expected: str) -> errors.ConfigurationError:
    label = "" if configured.id is None else f" {configured.id}"
    return errors.ConfigurationError(f"password of credential{label}: {expected}")


def _digest(text: str) -> bytes:
    # Of equal length, and bytes: compare_digest shows the length and refuses non-ASCII text.
    return sha256(text.encode("utf-8")).digest()


def _is_same(text: str, digest: bytes) -> bool:
    return hmac.compare_digest(_digest(text), digest)
