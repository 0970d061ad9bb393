"""
The configuration: one TOML file and a few variables in, frozen ``Settings`` out; whatever is not understood is refused.

Every refusal is a ConfigurationError "<file>: <key>: <what was expected>" and never repeats a value, which might be a
secret. Whether a provider exists, and what it requires of an endpoint, is checked where providers are known.
"""

import difflib
import hashlib
import ipaddress
import os
import re
import secrets
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from phonenumbers import SUPPORTED_REGIONS

from receiver.errors import ConfigurationError

T = TypeVar("T")
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_FILE = Path("faxhook.toml")


class NoConfiguration(ConfigurationError):  # noqa: N818 - the usual first run, hardly an error
    """No configuration was given, and there is no ./faxhook.toml."""


# --- what comes out -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Server:
    """trusted_proxies: peers that may set X-Forwarded-For. secret_keys: the first signs, all verify; may be empty."""

    bind: str
    public_url: str | None  # without a slash at its end
    trusted_proxies: tuple[Network, ...]
    max_body: int  # bytes
    secret_keys: tuple[str, ...] = field(repr=False)
    state_dir: Path
    ops_token: str | None = field(repr=False)
    workers: int


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """url: ``sqlite:///`` with an absolute path, or ``postgresql+psycopg://``."""

    url: str = field(repr=False)
    identity_salt: str | None = field(repr=False)
    ephemeral_ok: bool


@dataclass(frozen=True, slots=True)
class Queue:
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long: raw receipts and published payloads, rejected receipts, identities (the longest of the three)."""

    bodies: timedelta
    rejected: timedelta
    ids: timedelta


@dataclass(frozen=True, slots=True)
class Token:
    """A path token: its SHA-256, and itself unless only the digest is configured."""

    digest: bytes = field(repr=False)
    plain: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credential:
    """
    Valid from not_before on and until just before not_after, both aware UTC.

    A bare date is the start of that day, a time without zone is UTC. password: plain, or ``sha256:``, ``scrypt:``,
    ``pbkdf2:`` as checked here.
    """

    id: str | None
    user: str
    password: str = field(repr=False)
    not_before: datetime | None
    not_after: datetime | None


@dataclass(frozen=True, slots=True)
class Auth:
    """mode: a key of AUTH_MODES."""

    mode: str
    realm: str
    credentials: tuple[Credential, ...]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """answer: the success status. allow: empty for no restriction."""

    name: str
    provider: str
    account: str | None
    timezone: ZoneInfo | None
    region: str | None
    auth: Auth
    tokens: tuple[Token, ...]
    allow: tuple[Network, ...]
    answer: int
    insecure: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """path: None when the text came from FAXHOOK_CONFIG_TOML. folder: where relative paths begin."""

    path: Path | None
    folder: Path
    server: Server
    store: StoreSettings
    queue: Queue
    retention: Retention
    endpoints: Mapping[str, Endpoint]


# --- the way in -----------------------------------------------------------------------------------------------------

_LATER = "is not yet available in this version"

# Each mode with the keys it takes beside "mode".
AUTH_MODES: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "basic": ("realm", "credentials"),
    "payload": ("credentials",),
}
_LATER_AUTH_MODES = ("digest", "oauth2", "hmac")


def load(config_path: Path | None, environ: Mapping[str, str]) -> Settings:
    """
    The settings from config_path, else FAXHOOK_CONFIG, else the text in FAXHOOK_CONFIG_TOML, else ./faxhook.toml.

    A variable that is set but empty counts as not set. Raises NoConfiguration where there is none of the four, and
    ConfigurationError naming key and file where it cannot be used.
    """
    source, path, text = _found(config_path, environ)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Its message has the place; the exception itself would carry the whole text.
        raise ConfigurationError(f"{source.label}: expected TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{source.label}: expected TOML that nests less deeply") from None
    root = _Table(
        source, "", values, ("server", "store", "queue", "retention", "endpoints"), refused={"oauth2": _LATER}
    )
    return Settings(
        path=path,
        folder=source.folder,
        server=_server(root),
        store=_store(root),
        queue=_queue(root),
        retention=_retention(root),
        endpoints=MappingProxyType(dict(_endpoints(root))),
    )


@dataclass(frozen=True, slots=True)
class _Source:
    label: str  # the file, as error messages name it
    folder: Path
    environ: Mapping[str, str] = field(repr=False)

    def error(self, key: str, problem: str) -> ConfigurationError:
        return ConfigurationError(f"{self.label}: {key}: {problem}")

    def variable(self, name: str, convert: Callable[[str], T], expected: str) -> T | None:
        """A PaaS variable; None when it is not set or empty."""
        value = self.environ.get(name)
        if not value:
            return None
        try:
            return convert(value)
        except ValueError:
            raise ConfigurationError(f"variable {name} (wins over {self.label}): expected {expected}") from None


def _found(config_path: Path | None, environ: Mapping[str, str]) -> tuple[_Source, Path | None, str]:
    """Where the configuration is from, its file, and its text."""
    named = config_path
    if named is None and environ.get("FAXHOOK_CONFIG"):
        named = Path(environ["FAXHOOK_CONFIG"])
    if named is None and environ.get("FAXHOOK_CONFIG_TOML"):
        return _Source("FAXHOOK_CONFIG_TOML", Path.cwd(), environ), None, environ["FAXHOOK_CONFIG_TOML"]
    path = (named or DEFAULT_FILE).absolute()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        if named is None:
            raise NoConfiguration(
                f"{path}: no such file, and neither --config, FAXHOOK_CONFIG nor FAXHOOK_CONFIG_TOML is given"
            ) from None
        raise ConfigurationError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: expected UTF-8") from None
    return _Source(str(path), path.parent, environ), path, text


# --- reading tables -------------------------------------------------------------------------------------------------

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|\$\{")


class _Table:
    """
    One table of the file. Making it refuses unknown keys; its methods refuse values of a wrong type or form.

    known: the keys it may have. refused: keys we know but do not take -> why.
    """

    def __init__(
        self,
        source: _Source,
        name: str,
        values: object,
        known: Sequence[str] | None,
        *,
        refused: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.source = source
        self.name = name
        if not isinstance(values, dict):
            raise source.error(name, "expected a table")
        self.values: dict[str, Any] = values
        for key in values if known is not None else ():
            if key in refused:
                raise self.error(key, refused[key])
            if key not in (known or ()):
                raise self.error(key, f"unknown key; {_nearest(key, known or ())}")

    def key(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def error(self, key: str, problem: str) -> ConfigurationError:
        return self.source.error(self.key(key), problem)

    def table(
        self, key: str, known: Sequence[str] | None, *, refused: Mapping[str, str] = MappingProxyType({})
    ) -> "_Table":
        """The table below key; empty where there is none. known None: any key."""
        return _Table(self.source, self.key(key), self.values.get(key, {}), known, refused=refused)

    def text(self, key: str, *, empty_ok: bool = False) -> str | None:
        """A string, with its references resolved; None where the key is absent."""
        if key not in self.values:
            return None
        return self._resolved(key, self.values[key], empty_ok=empty_ok)

    def one(self, key: str, convert: Callable[[str], T], expected: str) -> T | None:
        """A string through convert, whose ValueError means: not as expected."""
        text = self.text(key)
        return None if text is None else self._converted(key, text, convert, expected)

    def many(self, key: str, convert: Callable[[str], T], expected: str, *, empty_ok: bool = False) -> tuple[T, ...]:
        """A list of strings, each through convert; empty where the key is absent."""
        items = self.items(key, "strings", empty_ok=empty_ok)
        return tuple(
            self._converted(place, self._resolved(place, item), convert, expected) for place, item in items.items()
        )

    def items(self, key: str, of: str, *, empty_ok: bool = False) -> dict[str, Any]:
        """The entries of a list, each under its key for messages; empty where the key is absent."""
        if key not in self.values:
            return {}
        values = self.values[key]
        if not isinstance(values, list):
            raise self.error(key, f"expected a list of {of}")
        if not values and not empty_ok:
            raise self.error(key, "expected at least one entry, or leave the key out")
        return {f"{key}[{index}]": value for index, value in enumerate(values)}

    def flag(self, key: str) -> bool:
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self.error(key, "expected true or false")
        return value

    def _converted(self, key: str, text: str, convert: Callable[[str], T], expected: str) -> T:
        try:
            return convert(text)
        except ValueError:
            raise self.error(key, f"expected {expected}") from None

    def _resolved(self, key: str, value: object, *, empty_ok: bool = False) -> str:
        if isinstance(value, dict) and value.keys() == {"file"} and isinstance(value["file"], str):
            text = self._from_file(key, self._substituted(key, value["file"]))
        elif isinstance(value, str):
            text = self._substituted(key, value)
        else:
            raise self.error(key, 'expected a string or { file = "…" }')
        if not text and not empty_ok:
            raise self.error(key, "expected a string that is not empty")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise self.error(key, "expected UTF-8")  # a variable holds bytes that are not
        return text

    def _substituted(self, key: str, text: str) -> str:
        def value_of(reference: re.Match[str]) -> str:
            name, default = reference.groups()
            if name is None:
                raise self.error(key, "expected ${NAME} or ${NAME:-default}; a value that has a ${ goes into a file")
            # As in a shell: with a default, an empty variable counts as not set.
            value = self.source.environ.get(name)
            if value is None and default is None:
                raise self.error(key, f"the variable {name} is not set, and ${{{name}}} has no default")
            return value or default or ""

        return _REFERENCE.sub(value_of, text)

    def _from_file(self, key: str, name: str) -> str:
        path = self.source.folder / name
        try:
            text = path.read_bytes().decode()
        except OSError as error:
            raise self.error(key, f"{path} cannot be read: {error.strerror}") from None
        except ValueError:
            raise self.error(key, f"{path}: expected UTF-8") from None
        return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def _nearest(word: str, known: Sequence[str]) -> str:
    """What may have been meant, for an error message."""
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"


# --- forms of values; a ValueError means another one ----------------------------------------------------------------

_UNITS = {"": 1, "kB": 1000, "MB": 1000**2, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = timedelta(days=36500)
_SECRET_LENGTH = 16
_SECRET = f"at least {_SECRET_LENGTH} characters"
_SIZE = 'a size such as "8MiB" (KiB, MiB, GiB, kB, MB) or a number of bytes'
_PERIOD = 'a period such as "7d" (s, m, h, d)'
_TOKEN = f"at least {_SECRET_LENGTH} characters of [A-Za-z0-9._~-], or sha256: and 64 hex digits"
_NETWORK = 'an address or network such as "203.0.113.0/24", without host bits'
_WHEN = 'a date or time such as 2027-01-01 or "2027-01-01T12:00:00Z"'
_STORE_URL = "sqlite:///<path> or postgresql+psycopg://<user>:<password>@<host>/<database>"
_CREDENTIAL_FORMS = (
    "a plain password, sha256:<64 hex digits>, scrypt:<n>:<r>:<p>$<salt>$<hash>"
    " or pbkdf2:<sha256>:<iterations>$<salt>$<hash>"
)


def _groups(pattern: str, text: str) -> tuple[str, ...]:
    matched = re.fullmatch(pattern, text)
    if matched is None:
        raise ValueError
    return tuple(group or "" for group in matched.groups())


def _matching(pattern: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        _groups(pattern, text)
        return text

    return convert


def _one_of(choices: Collection[str]) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text

    return convert


def _number(lowest: int, highest: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        (digits,) = _groups("([0-9]{1,9})", text)
        if not lowest <= int(digits) <= highest:
            raise ValueError
        return int(digits)

    return convert


def _bind(text: str) -> str:
    """What gunicorn takes: host:port, [v6]:port, unix:path or fd://number."""
    if re.fullmatch(r"unix:.+|fd://[0-9]+", text):
        return text
    _, port = _groups(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]+)", text)
    _number(0, 65535)(port)
    return text


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    _ = parts.port  # raises where it is none
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError
    return text.rstrip("/")


def _size(text: str) -> int:
    digits, unit = _groups(f"([0-9]{{1,15}}) ?({'|'.join(_UNITS)})", text)
    if int(digits) == 0:
        raise ValueError
    return int(digits) * _UNITS[unit]


def _period(text: str) -> timedelta:
    digits, unit = _groups(f"([0-9]{{1,10}})({'|'.join(_SECONDS)})", text)
    seconds = int(digits) * _SECONDS[unit]
    if not 0 < seconds <= _LONGEST.total_seconds():
        raise ValueError
    return timedelta(seconds=seconds)


def _period_or_zero(text: str) -> timedelta:
    """Zero keeps nothing beyond what is not yet published."""
    return timedelta() if text == "0" else _period(text)


def _or(given: timedelta | None, default: timedelta) -> timedelta:
    return default if given is None else given


def _secret(text: str) -> str:
    if len(text) < _SECRET_LENGTH:
        raise ValueError
    return text


def _token(text: str) -> Token:
    if text.startswith("sha256:"):
        (digest,) = _groups("sha256:([0-9A-Fa-f]{64})", text)
        if bytes.fromhex(digest) == hashlib.sha256(b"").digest():
            raise ValueError  # made of a variable that was not set
        return Token(bytes.fromhex(digest), None)
    plain = _matching(f"[A-Za-z0-9._~-]{{{_SECRET_LENGTH},}}")(text)
    return Token(hashlib.sha256(plain.encode()).digest(), plain)


def _zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (KeyError, OSError):  # unknown; a folder of zones
        raise ValueError from None


_HASHED = {
    "sha256": r"sha256:[0-9A-Fa-f]{64}",
    "scrypt": r"scrypt:[1-9][0-9]{0,8}:[1-9][0-9]{0,3}:[1-9][0-9]{0,3}\$[^$]+\$[0-9a-f]{128}",
    "pbkdf2": r"pbkdf2:sha(?:1|224|256|384|512)(?::[1-9][0-9]{0,8})?\$[^$]+\$[0-9a-f]{40,128}",
    "ha1": r"(?!)",  # would have to be Digest
}


def _password(text: str) -> str:
    """Plain, or in one of the hashed forms; what begins like one of them must be one."""
    if any(character < " " or character == "\x7f" for character in text):
        raise ValueError  # no client can send it
    kind, colon, rest = text.partition(":")
    if colon and kind in _HASHED:
        _groups(_HASHED[kind], text)
        cost = int(rest.partition(":")[0]) if kind == "scrypt" else 2
        if cost < 2 or cost & (cost - 1):  # scrypt's n is a power of two
            raise ValueError
    return text


def _instant(text: str) -> datetime:
    try:
        return _in_utc(date.fromisoformat(text))
    except ValueError:
        return _in_utc(datetime.fromisoformat(text))


def _in_utc(value: date) -> datetime:
    """A datetime, or the start of a date; UTC where it does not say its zone."""
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise ValueError from None


def _store_url(folder: Path) -> Callable[[str], str]:
    def convert(text: str) -> str:
        scheme, rest = _groups(r"(sqlite|postgres|postgresql|postgresql\+psycopg)(://.+)", text)
        if scheme != "sqlite":
            return f"postgresql+psycopg{rest}"
        (name,) = _groups(r":///([^?]+)", rest)
        path = os.path.normpath(folder / name)
        # In memory nothing would be kept, and a question mark would end the path.
        if name.startswith(":memory:") or name.endswith("/") or "?" in path:
            raise ValueError
        return f"sqlite:///{path.replace('%', '%25')}"  # SQLAlchemy unquotes it

    return convert


# --- [server], [store], [queue], [retention] ------------------------------------------------------------------------


def _server(root: _Table) -> Server:
    table = root.table(
        "server",
        ("bind", "public_url", "trusted_proxies", "max_body", "secret_key", "state_dir", "ops_token"),
        refused={"workers": "unknown key; the number of workers is the variable WEB_CONCURRENCY"},
    )
    port = root.source.variable("PORT", _number(1, 65535), "a port number")
    bind = table.one("bind", _bind, '"<host>:<port>", "[<address>]:<port>" or "unix:<path>"') or "127.0.0.1:8000"
    return Server(
        bind=f"0.0.0.0:{port}" if port else bind,
        public_url=table.one("public_url", _public_url, 'a URL such as "https://hooks.example.com"'),
        trusted_proxies=table.many("trusted_proxies", ipaddress.ip_network, _NETWORK, empty_ok=True),
        max_body=_max_body(table),
        secret_keys=_configured_keys(table),
        state_dir=root.source.folder / (table.text("state_dir") or "var"),
        ops_token=table.text("ops_token", empty_ok=True) or None,
        workers=root.source.variable("WEB_CONCURRENCY", _number(1, 999), "a number of workers")
        or min(max(os.cpu_count() or 1, 2), 4),
    )


def _max_body(table: _Table) -> int:
    value = table.values.get("max_body", "8MiB")
    if type(value) is int and value > 0:
        return value
    if type(value) in (int, bool, float):
        raise table.error("max_body", f"expected {_SIZE}")
    return table.one("max_body", _size, _SIZE) or _size("8MiB")


def _configured_keys(table: _Table) -> tuple[str, ...]:
    if isinstance(table.values.get("secret_key"), list):
        return table.many("secret_key", _secret, _SECRET)
    key = table.one("secret_key", _secret, _SECRET)
    return () if key is None else (key,)


def _store(root: _Table) -> StoreSettings:
    table = root.table("store", ("url", "identity_salt", "ephemeral_ok"), refused={"encryption_key": _LATER})
    url = _store_url(root.source.folder)
    return StoreSettings(
        url=root.source.variable("DATABASE_URL", url, _STORE_URL)
        or table.one("url", url, _STORE_URL)
        or url("sqlite:///var/faxhook.db"),
        identity_salt=table.text("identity_salt"),
        ephemeral_ok=table.flag("ephemeral_ok"),
    )


def _queue(root: _Table) -> Queue:
    table = root.table("queue", ("url",), refused=dict.fromkeys(("exchange", "queue", "declare"), _LATER))
    embedded = _one_of(("embedded:",))
    expected = f'"embedded:"; any other queue {_LATER}'
    return Queue(
        root.source.variable("FAXHOOK_BROKER_URL", embedded, expected)
        or root.source.variable("CLOUDAMQP_URL", embedded, expected)
        or table.one("url", embedded, expected)
        or "embedded:"
    )


def _retention(root: _Table) -> Retention:
    table = root.table("retention", ("bodies", "rejected", "ids"))
    retention = Retention(
        bodies=_or(table.one("bodies", _period_or_zero, _PERIOD + ' or "0"'), timedelta(days=7)),
        rejected=_or(table.one("rejected", _period, _PERIOD), timedelta(days=30)),
        ids=_or(table.one("ids", _period, _PERIOD), timedelta(days=90)),
    )
    if retention.ids < max(retention.bodies, retention.rejected):
        raise table.error("ids", "expected to be no shorter than bodies and rejected")
    return retention


# --- [endpoints] ----------------------------------------------------------------------------------------------------

_ENDPOINT_KEYS = ("provider", "account", "timezone", "region", "auth", "tokens", "allow", "answer", "insecure")
_CREDENTIAL_KEYS = ("id", "user", "password", "not_before", "not_after")
ANSWERS = (200, 202, 204)


def _endpoints(root: _Table) -> Iterator[tuple[str, Endpoint]]:
    tables = root.table("endpoints", None)
    if not tables.values:
        raise root.error("endpoints", "expected at least one table [endpoints.<name>]")
    for name in tables.values:
        if not re.fullmatch("[a-z0-9][a-z0-9-]{0,62}", name):
            raise tables.error(name, "expected a name of 1 to 63 characters of [a-z0-9-], the first not a hyphen")
        yield name, _endpoint(name, tables.table(name, _ENDPOINT_KEYS))


def _endpoint(name: str, table: _Table) -> Endpoint:
    endpoint = Endpoint(
        name=name,
        provider=_required(table, "provider", "the name of a provider"),
        account=table.one("account", _matching(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]*\S)?"), "an account's name"),
        timezone=table.one("timezone", _zone, 'an IANA zone such as "America/Denver"'),
        region=table.one("region", _one_of(SUPPORTED_REGIONS), 'two letters such as "US"'),
        auth=_auth(table),
        tokens=table.many("tokens", _token, _TOKEN),
        allow=table.many("allow", ipaddress.ip_network, _NETWORK),
        answer=_answer(table),
        insecure=table.flag("insecure"),
    )
    if endpoint.auth.mode == "none" and not (endpoint.tokens or endpoint.allow or endpoint.insecure):
        raise table.error("auth", 'mode "none" expects tokens or allow, or insecure = true to accept anybody')
    return endpoint


def _required(table: _Table, key: str, expected: str) -> str:
    text = table.text(key)
    if text is None:
        raise table.error(key, f"missing; expected {expected}")
    return text


def _answer(table: _Table) -> int:
    answer = table.values.get("answer", 200)
    if type(answer) is not int or answer not in ANSWERS:
        raise table.error("answer", f"expected one of {', '.join(map(str, ANSWERS))}")
    return answer


def _auth(endpoint: _Table) -> Auth:
    if "auth" not in endpoint.values:
        raise endpoint.error("auth", 'missing; expected to be written out, such as { mode = "none" }')
    modes = ", ".join(AUTH_MODES)
    # All keys first: which of them are right depends on the mode.
    mode = _required(endpoint.table("auth", None), "mode", f"one of {modes}")
    if mode in _LATER_AUTH_MODES:
        raise endpoint.error("auth.mode", f'"{mode}" {_LATER}; expected one of {modes}')
    if mode not in AUTH_MODES:
        raise endpoint.error("auth.mode", f"unknown mode; expected one of {modes}")
    table = endpoint.table("auth", ("mode", *AUTH_MODES[mode]))
    return Auth(
        mode=mode,
        realm=table.one("realm", _matching("[A-Za-z0-9 ._-]+"), "characters of [A-Za-z0-9 ._-]") or "faxhook",
        credentials=tuple(_credentials(table, mode)) if "credentials" in AUTH_MODES[mode] else (),
    )


def _credentials(auth: _Table, mode: str) -> Iterator[Credential]:
    items = auth.items("credentials", "tables")
    if not items:
        raise auth.error("credentials", f'missing; mode "{mode}" expects at least one {{ user, password }}')
    for place, item in items.items():
        yield _credential(_Table(auth.source, auth.key(place), item, _CREDENTIAL_KEYS), mode)


def _credential(table: _Table, mode: str) -> Credential:
    user = _required(table, "user", "a user's name")
    if mode == "basic" and ":" in user:
        raise table.error("user", "expected no colon: Basic cannot send one")
    password = table.one("password", _password, _CREDENTIAL_FORMS)
    if password is None:
        raise table.error("password", f"missing; expected {_CREDENTIAL_FORMS}")
    not_before, not_after = _when(table, "not_before"), _when(table, "not_after")
    if not_before is not None and not_after is not None and not_before >= not_after:
        raise table.error("not_after", "expected to be later than not_before")
    return Credential(table.text("id"), user, password, not_before, not_after)


def _when(table: _Table, key: str) -> datetime | None:
    value = table.values.get(key)
    if not isinstance(value, date):
        return table.one(key, _instant, _WHEN)
    try:
        return _in_utc(value)
    except ValueError:
        raise table.error(key, f"expected {_WHEN}") from None


# --- the secret keys ------------------------------------------------------------------------------------------------


def secret_keys(settings: Settings) -> tuple[bytes, ...]:
    """
    The keys to sign and verify with; the first signs.

    Where none is configured: one made once and kept (0600) in ``state_dir/secret_key``; processes that come at the
    same time get the same one.
    """
    if settings.server.secret_keys:
        return tuple(key.encode() for key in settings.server.secret_keys)
    path = settings.server.state_dir / "secret_key"
    try:
        if not path.exists():
            _keep(path, secrets.token_urlsafe(32).encode())
        key = path.read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be kept or read: {error.strerror}; server.secret_key can be set instead"
        ) from None
    if len(key) < _SECRET_LENGTH:
        raise ConfigurationError(f"{path}: expected {_SECRET}; remove the file to have a new key made")
    return (key,)


def _keep(path: Path, content: bytes) -> None:
    """Write the file for its owner only and all at once, unless another process was first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # fails where the path exists: nobody ever sees half a key
    except FileExistsError:
        pass
    finally:
        draft.unlink()


# --- legal but doubtful ---------------------------------------------------------------------------------------------

_GOOD_TOKEN_LENGTH = 22  # 128 bits in base 64
_SHORT_IDS = timedelta(days=30)


def doubts(settings: Settings) -> list[str]:
    """Settings that are legal but probably not meant, one sentence each, without secrets."""
    now = datetime.now(UTC)
    found = [*_server_doubts(settings.server), *_retention_doubts(settings.retention)]
    for endpoint in settings.endpoints.values():
        found += (f"endpoints.{endpoint.name}: {doubt}" for doubt in _endpoint_doubts(endpoint, now))
    return [*found, *_account_doubts(settings.endpoints.values())]


def _server_doubts(server: Server) -> Iterator[str]:
    if server.public_url and server.public_url.startswith("http://") and not _loopback(server.public_url):
        yield "server.public_url: http:// sends tokens and passwords in the clear"
    if server.bind.startswith(("0.0.0.0:", "[::]:")) and not server.ops_token:
        yield f"server.bind: {server.bind} without ops_token: /metrics and /readyz show details only to loopback"


def _loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _retention_doubts(retention: Retention) -> Iterator[str]:
    if retention.ids < _SHORT_IDS:
        yield "retention.ids: below 30d a late repetition is published again as a new fax"


def _endpoint_doubts(endpoint: Endpoint, now: datetime) -> Iterator[str]:
    if endpoint.insecure:
        yield "insecure = true"
    if endpoint.allow and not endpoint.tokens and endpoint.auth.mode == "none":
        yield "allow is the only protection: whoever sends from these addresses is believed"
    for index, token in enumerate(endpoint.tokens):
        if token.plain is not None and len(token.plain) < _GOOD_TOKEN_LENGTH:
            yield f"tokens[{index}]: shorter than {_GOOD_TOKEN_LENGTH} characters; see `faxhook secrets new`"
    for index, credential in enumerate(endpoint.auth.credentials):
        if credential.not_after is not None and credential.not_after <= now:
            yield f"auth.credentials[{index}]: expired at {credential.not_after:%Y-%m-%d %H:%M} UTC"
        if credential.not_before is not None and credential.not_before > now:
            yield f"auth.credentials[{index}]: not valid before {credential.not_before:%Y-%m-%d %H:%M} UTC"


def _account_doubts(endpoints: Iterable[Endpoint]) -> Iterator[str]:
    """An account is as safe as the weakest of its endpoints."""
    shared: dict[tuple[str, str | None], list[Endpoint]] = {}
    for endpoint in endpoints:
        shared.setdefault((endpoint.provider, endpoint.account), []).append(endpoint)
    for members in shared.values():
        strongest = max(members, key=_strength)
        for member in members:
            if _strength(member) < _strength(strongest):
                yield (
                    f"endpoints.{member.name}: weaker protection than endpoints.{strongest.name},"
                    " which shares its provider and account"
                )


def _strength(endpoint: Endpoint) -> int:
    if endpoint.auth.credentials:
        return 2
    return 1 if endpoint.tokens else 0
