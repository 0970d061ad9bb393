"""
HTTP Digest on the server, RFC 7616, by hand: no library checks uri, nc and replay, or works behind several workers.

Nothing is kept for a challenge: a nonce is its time, 96 random bits and an HMAC of both under the secret key, so that
any worker and machine with that key knows it again. What is kept is which (nonce, nc) have been used, once the response
has been found right. The order of the checks is the order of what a stranger may learn.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import unquote_to_bytes

from receiver import errors
from receiver.auth.credentials import utc_now
from receiver.auth.request import Request
from receiver.logs import log
from receiver.settings import Credential
from receiver.settings import Digest as Options

Claim = Callable[[str, float], bool]  # a name, and when it may be forgotten (seconds since 1970): True the first time

_LONGEST = 4096  # of the header
_FROM_THE_FUTURE_SECONDS = 60  # between the clocks of two machines
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"(?P<scheme>{_WORD})(?:[ \t]+(?P<rest>.*))?", re.DOTALL)
_ITEM = re.compile(
    # The first spaces are not given back: tried in both places, a line of them would take a tenth of a second.
    rf'[ \t]*(?![ \t])(?:(?P<name>{_WORD})[ \t]*=[ \t]*(?:"(?P<quoted>(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*)"'
    rf"|(?P<bare>[^\s,;\"\x00-\x1f\x7f]+)))?[ \t]*(?:,|\Z)"
)
_NC = re.compile("[0-9A-Fa-f]{8}")
_EXTENDED = re.compile(r"([A-Za-z0-9-]+)'[A-Za-z0-9-]*'((?:%[0-9A-Fa-f]{2}|[!#$&+.^_`|~0-9A-Za-z-])*)")
_NONCE = re.compile("[0-9a-f]{72}")
_ABSOLUTE = re.compile("https?://(?P<host>[^/?]+)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)


class Digest:
    """The Digest of one endpoint. keys: the first signs nonces, all verify. claim: shared by all workers."""

    def __init__(
        self,
        endpoint: str,
        options: Options,
        keys: Sequence[bytes],
        claim: Claim,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._options = options
        self._nonces = _Nonces(endpoint, options.realm, keys, options.nonce_lifetime)
        self._claim = claim
        self._clock = clock
        self._known = tuple(_Known.of(one, options) for one in options.credentials)
        self._nobody = _Known.of(Credential(None, "", secrets.token_hex(16), None, None), options)

    def verify(self, request: Request) -> None:
        """
        Raises Unauthorized, with the challenges, unless the header answers one of ours for this very request.

        Raises MalformedCredentials for a header that cannot be read or is for another uri, and what ``claim`` raises.
        """
        now = self._clock()
        fields = parse(request.authorization)
        if fields is None:
            raise self._refused(now, "Expected HTTP Digest credentials.", errors.Challenged)
        given = _Given.of(fields)
        if given.qop.lower() != "auth" or fields.get("userhash", "false").lower() == "true":
            raise self._refused(now, "Expected qop=auth.")
        self._check_uri(given.uri, request)
        if given.realm != self._options.realm or given.algorithm not in self._options.algorithms:
            raise self._refused(now, "Expected realm and algorithm as offered.")
        if not self._is_right(given, request.method, now):
            raise self._refused(now, "The user or the password is wrong.")
        # Only who knows the password learns that it is the nonce that is wrong, and so gets in with another.
        expires = self._nonces.expiry(given.nonce, now)
        if expires is None:
            raise self._refused(now, "The nonce is not, or no longer, ours.", stale=True)
        if not self._claim(f"{given.nonce}:{given.nc.lower()}", expires):
            log.warning("digest_replayed", endpoint=self._nonces.endpoint)
            raise self._refused(now, "This answer was used before.", stale=True)

    def _refused(
        self,
        now: datetime,
        detail: str,
        refusal: type[errors.Unauthorized] = errors.Unauthorized,
        *,
        stale: bool = False,
    ) -> errors.Unauthorized:
        nonce = self._nonces.new(now)
        end = ", stale=true" if stale else ""
        return refusal(
            detail,
            headers=[("WWW-Authenticate", self._challenge(one, nonce) + end) for one in self._options.algorithms],
        )

    def _challenge(self, algorithm: str, nonce: str) -> str:
        realm = self._options.realm
        return f'Digest realm="{realm}", qop="auth", algorithm={algorithm}, nonce="{nonce}", charset=UTF-8'

    def _check_uri(self, uri: str, request: Request) -> None:
        """The header must be for this request: else one that somebody has seen would open any other address."""
        target = _origin_form(request.target, request.host)
        signed = _origin_form(uri, request.host)
        if signed is not None and target is not None:
            accepted = {target, target.partition("?")[0]} if self._options.ignore_query else {target}
            if signed in accepted or signed in {self._options.prefix + one for one in accepted}:
                return
        raise errors.MalformedCredentials("The uri of the Digest credentials is not that of the request.")

    def _is_right(self, given: "_Given", method: str, now: datetime) -> bool:
        """Against every credential of that name, each in the same time; unknown names have a secret nobody knows."""
        named = [one for one in self._known if one.is_valid_at(now) and given.is_for(one)] or [self._nobody]
        is_right = False
        for one in named:
            for ha1 in one.ha1s[given.algorithm]:
                is_right |= hmac.compare_digest(given.expected_response(ha1, method), given.response)
        return is_right


def parse(authorization: str | None) -> dict[str, str] | None:
    """
    The parameters of a Digest header, names in lower case; None where there is none, or one of another scheme.

    Every character is one byte of the wire. Raises MalformedCredentials for what says it is Digest and is not: a name
    that comes twice, which is how a second header shows too, or anything left over.
    """
    if authorization is None:
        return None
    scheme = _SCHEME.fullmatch(authorization.strip(" \t"))
    if scheme is None:
        raise errors.MalformedCredentials("The Authorization header does not begin with the name of a scheme.")
    if scheme["scheme"].lower() != "digest":
        return None
    if len(authorization) > _LONGEST:
        raise errors.MalformedCredentials(f"The Authorization header is longer than {_LONGEST} bytes.")
    fields: dict[str, str] = {}
    for name, value in _items(scheme["rest"] or ""):
        if name in fields:
            raise errors.MalformedCredentials("A parameter of the Digest credentials is there twice.")
        fields[name] = value
    return fields


def _items(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text):
        item = _ITEM.match(text, position)
        if item is None:
            raise errors.MalformedCredentials("Expected Digest credentials as name=value pairs with commas between.")
        position = item.end()
        if item["name"]:
            quoted = item["quoted"]
            yield item["name"].lower(), item["bare"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)


@dataclass(frozen=True, slots=True)
class _Given:
    """A header that can be read, and has all it needs."""

    user: str
    has_extended_name: bool
    realm: str
    nonce: str
    uri: str
    algorithm: str
    qop: str
    nc: str
    cnonce: str
    response: bytes

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> "_Given":
        for name in ("realm", "nonce", "uri", "response"):
            if not fields.get(name):
                raise errors.MalformedCredentials(f"The Digest credentials have no {name}.")
        extended = "username*" in fields
        if extended == ("username" in fields):
            raise errors.MalformedCredentials("Expected username or username* in the Digest credentials.")
        if "qop" in fields:  # without it they are RFC 2069's, which need neither
            if not _NC.fullmatch(fields.get("nc", "")):
                raise errors.MalformedCredentials("Expected nc of 8 hexadecimal digits in the Digest credentials.")
            if not fields.get("cnonce"):
                raise errors.MalformedCredentials("The Digest credentials have no cnonce.")
        return cls(
            user=_extended(fields["username*"]) if extended else fields["username"],
            has_extended_name=extended,
            realm=fields["realm"],
            nonce=fields["nonce"],
            uri=fields["uri"],
            algorithm=fields.get("algorithm", "MD5").upper(),
            qop=fields.get("qop", ""),
            nc=fields.get("nc", ""),
            cnonce=fields.get("cnonce", ""),
            response=fields["response"].lower().encode("latin-1"),
        )

    def is_for(self, known: "_Known") -> bool:
        """Clients send the name's bytes in UTF-8 or in Latin-1, whatever they then hash."""
        given = self.user.encode("utf-8" if self.has_extended_name else "latin-1")
        return hmac.compare_digest(given, known.user_utf8) | hmac.compare_digest(given, known.user_latin)

    def expected_response(self, ha1: str, method: str) -> bytes:
        ha2 = _hash(self.algorithm, f"{method}:{self.uri}".encode("latin-1"))
        text = f"{ha1}:{self.nonce}:{self.nc}:{self.cnonce}:{self.qop}:{ha2}"
        return _hash(self.algorithm, text.encode("latin-1")).encode()


@dataclass(frozen=True, slots=True)
class _Known:
    """One configured credential. ha1s: algorithm -> the hashes it may be sent as."""

    user_utf8: bytes
    user_latin: bytes
    ha1s: Mapping[str, tuple[str, ...]] = field(repr=False)
    not_before: datetime | None
    not_after: datetime | None

    @classmethod
    def of(cls, configured: Credential, options: Options) -> "_Known":
        utf8 = configured.user.encode()
        try:
            latin = configured.user.encode("latin-1")
        except UnicodeEncodeError:
            latin = utf8
        ha1s = {algorithm: tuple(_ha1s(algorithm, configured, options.realm)) for algorithm in options.algorithms}
        return cls(utf8, latin, ha1s, configured.not_before, configured.not_after)

    def is_valid_at(self, now: datetime) -> bool:
        return (self.not_before is None or self.not_before <= now) and (self.not_after is None or now < self.not_after)


def _ha1s(algorithm: str, configured: Credential, realm: str) -> Iterator[str]:
    """HA1 in UTF-8, and in Latin-1 where that differs: HttpURLConnection hashes Latin-1 whatever we ask for."""
    if configured.password.startswith("ha1:"):
        length = len(_hash(algorithm, b""))
        yield from (one for one in configured.password.split(":")[1:] if len(one) == length)
        return
    text = f"{configured.user}:{realm}:{configured.password}"
    yield _hash(algorithm, text.encode())
    if not text.isascii():
        try:
            yield _hash(algorithm, text.encode("latin-1"))
        except UnicodeEncodeError:
            return


class _Nonces:
    """``<8 bytes of milliseconds><12 random><16 of HMAC>`` in hex: nothing has to be remembered."""

    def __init__(self, endpoint: str, realm: str, keys: Sequence[bytes], lifetime: timedelta) -> None:
        self.endpoint = endpoint
        label = f"digest-nonce\0{endpoint}\0{realm}".encode()
        self._keys = [hmac.digest(key, label, "sha256") for key in keys]
        self._lifetime_seconds = lifetime.total_seconds()

    def new(self, now: datetime) -> str:
        body = round(now.timestamp() * 1000).to_bytes(8) + secrets.token_bytes(12)
        return (body + self._mac(self._keys[0], body)).hex()

    def expiry(self, nonce: str, now: datetime) -> float | None:
        """When no machine takes it any more, in seconds since 1970; None where it has ended, or is not ours."""
        if not _NONCE.fullmatch(nonce):
            return None
        raw = bytes.fromhex(nonce)
        body, mac = raw[:20], raw[20:]
        is_ours = False
        for key in self._keys:
            is_ours |= hmac.compare_digest(self._mac(key, body), mac)
        made = int.from_bytes(body[:8]) / 1000
        age = now.timestamp() - made
        if not is_ours or not -_FROM_THE_FUTURE_SECONDS <= age <= self._lifetime_seconds:
            return None
        # A clock that is behind, or is set back, takes it for longer than the one that would forget it.
        return made + self._lifetime_seconds + _FROM_THE_FUTURE_SECONDS

    @staticmethod
    def _mac(key: bytes, body: bytes) -> bytes:
        return hmac.digest(key, body, "sha256")[:16]


def _origin_form(uri: str, host: str) -> str | None:
    """Path and query, where the uri is for this host; None for another's."""
    uri = uri.partition("#")[0]
    if uri.startswith("/"):
        return uri
    absolute = _ABSOLUTE.fullmatch(uri)
    if absolute is None or absolute["host"].lower() != host.lower():
        return None
    return absolute["rest"] or "/"


def _extended(value: str) -> str:
    """RFC 8187, which RFC 7616 allows in UTF-8 only."""
    match = _EXTENDED.fullmatch(value)
    if match is None or match[1].lower() != "utf-8":
        raise errors.MalformedCredentials("Expected username* as UTF-8''<percent-encoded>.")
    try:
        return unquote_to_bytes(match[2]).decode()
    except UnicodeDecodeError:
        raise errors.MalformedCredentials("Expected username* in UTF-8.") from None


def _hash(algorithm: str, data: bytes) -> str:
    # MD5 for clients that know nothing else: what it must withstand here is guessing, not collisions.
    made = hashlib.md5(data, usedforsecurity=False) if algorithm == "MD5" else hashlib.sha256(data)
    return made.hexdigest()
