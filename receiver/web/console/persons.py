"""Who somebody is: by a password of ours, or by what a trusted proxy says."""

import hmac
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any

from receiver.auth.addresses import Proxies
from receiver.auth.credentials import Credentials, SlowChecks
from receiver.settings import Console, Credential, Settings
from receiver.web.console.visiting import Person

_MOST_WRONG, _MINUTE = 10, 60.0  # passwords from one address, and seconds
_MOST_CLIENTS = 1000
_LONGEST = 200  # characters of a name that a proxy gives


class Passwords:
    """
    ``auth = "basic"``: the users of the configuration. key: of this server.

    Their slow hashes are checked apart from those of callbacks, which must not wait for a sign-in.
    """

    def __init__(self, console: Console, key: bytes) -> None:
        self._key = hmac.digest(key, b"console password", "sha256")
        self._users = {one.user: one for one in console.users}
        users = (Credential(None, one.user, one.password, None, None) for one in console.users)
        self._credentials = Credentials(users, slow_checks=SlowChecks())

    def sign_in(self, user: str, password: str) -> Person | None:
        """None where it is not right. Raises Unavailable where too many are being checked."""
        if not self._credentials.match(user, password):
            return None
        return self.person(user)

    def person(self, user: str) -> Person | None:
        """As the configuration says now."""
        known = self._users.get(user)
        return None if known is None else Person(user, known.roles)

    def proof(self, user: str) -> str:
        """Changes with the user's password, which nobody can guess by it; empty for somebody unknown."""
        known = self._users.get(user)
        return "" if known is None else hmac.digest(self._key, f"{user}\0{known.password}".encode(), "sha256").hex()

    def still_holds(self, user: str, proof: str) -> bool:
        return user in self._users and hmac.compare_digest(self.proof(user).encode(), proof.encode())


class Attempts:
    """Wrong passwords of the last minute, by the address or IPv6 network they came from, in this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._wrong: dict[str | None, deque[float]] = {}

    def begin(self, client: str | None) -> bool:
        """Whether one more may be tried. It counts as wrong until it is known to be ``right``."""
        client = _network(client)
        with self._mutex:
            recent = self._recent(client)
            if len(recent) >= _MOST_WRONG:
                return False
            if len(self._wrong) >= _MOST_CLIENTS and client not in self._wrong:
                del self._wrong[next(iter(self._wrong))]
            self._wrong[client] = recent
            recent.append(self._clock())
            return True

    def right(self, client: str | None) -> None:
        """The last one was."""
        with self._mutex:
            recent = self._wrong.get(_network(client))
            if recent:
                recent.pop()

    def _recent(self, client: str | None) -> deque[float]:
        found = self._wrong.get(client, deque(maxlen=_MOST_WRONG))
        while found and self._clock() - found[0] > _MINUTE:
            found.popleft()
        return found


def _network(client: str | None) -> str | None:
    """Whoever has one IPv6 address has all of its network."""
    return client if client is None or ":" not in client else str(ip_network(f"{client}/64", strict=False))


class ByProxy:
    """``auth = "proxy"``: name and groups from two headers, and from trusted proxies only."""

    def __init__(self, console: Console, settings: Settings) -> None:
        self._proxies = Proxies(settings.server.trusted_proxies)
        self._user = _variable(console.user_header)
        self._groups = _variable(console.groups_header)
        self._roles = {role: frozenset(groups) for role, groups in console.groups.items()}

    def person(self, environ: Mapping[str, Any]) -> Person | None:
        """None where no trusted proxy has said who it is; without roles where none of the groups has one."""
        peer = str(environ.get("REMOTE_ADDR") or "")
        name = _text(environ.get(self._user, ""))
        if not name or len(name) > _LONGEST or not name.isprintable() or not self._proxies.trusts(peer):
            return None
        groups = {group.strip() for group in _text(environ.get(self._groups, "")).split(",")}
        return Person(name, frozenset(role for role, some in self._roles.items() if groups & some))


def _variable(header: str) -> str:
    return f"HTTP_{header.upper().replace('-', '_')}"


def _text(value: str) -> str:
    """WSGI gives bytes as Latin-1; proxies send UTF-8."""
    try:
        return value.encode("latin-1").decode("utf-8").strip()
    except UnicodeError:
        return value.strip()
