"""
The public keys of an issuer, kept while its server is away.

Keys are good for ten minutes, then renewed by one thread while the old ones go on serving, for a day if it must be.
They are kept in a file as well, so that neither a restart nor a new worker needs the issuer's server.
"""

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import InvalidKeyError
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from receiver import errors
from receiver.auth.fetching import Unfetched, begin, document
from receiver.auth.strict_json import parse_object
from receiver.logs import error_class, log
from receiver.settings.forms import secure_url
from receiver.system.waiting import may_wait

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey

_FRESH_SECONDS = 600.0
_GOOD_SECONDS = 86400.0
_UNKNOWN_SECONDS = 30.0  # between two fetches for the sake of a kid nobody knows
_AGAIN_SECONDS = 30.0  # after a renewal that failed, while old keys serve
_PAUSE_SECONDS = 5.0  # after a fetch that failed, where there are none
_WAIT_SECONDS = 3.5  # a fetch takes 3 s at most
_RSA_BITS = 2048
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}


@dataclass(frozen=True, slots=True)
class Key:
    """kid: None where the key has no name. algorithms: what it may have signed with."""

    kid: str | None
    algorithms: frozenset[str]
    public: PublicKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Known:
    """Keys, as of when (seconds since 1970)."""

    keys: tuple[Key, ...]
    at: float


class KeySet:
    """
    The keys of one issuer. jwks_uri: None to be told by the issuer's own document.

    folder: for the last good copy; None to keep none. label: of the log's lines.
    """

    def __init__(
        self,
        issuer: str,
        jwks_uri: str | None,
        folder: Path | None,
        *,
        label: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._issuer = issuer
        self._jwks_uri = jwks_uri
        name = sha256(f"{issuer}\0{jwks_uri or ''}".encode()).hexdigest()[:16]
        self._file = folder / f"jwks-{name}.json" if folder else None
        self._label = label
        self._clock = clock
        self._lock = threading.Lock()
        self._known = self._read()
        self._failed = False  # whether the last fetch did
        self._tried_at: float | None = None
        self._unknown_at = float("-inf")
        self._flight: tuple[Future[None], float] | None = None

    def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """
        The key that must have signed; None where the issuer has none such, or several and the token does not say.

        Raises Unavailable where the issuer cannot be asked and that may be why.
        """
        key = _fitting(self._current(), kid, algorithm)
        if key is not None or kid is None:
            return key
        self._wait(self._renew(0 if self._is_time_for_unknown() else float("inf")))
        key = _fitting(self._current(), kid, algorithm)
        if key is None and self._failed:
            raise _unavailable()
        return key

    def trouble(self) -> str | None:
        """Fetch now; why that did not work, None where it did."""
        try:
            begin(self._fetched()).result(_WAIT_SECONDS)
        except Unfetched as error:
            return error.reason
        except TimeoutError:
            return "timeout"
        return None

    def _current(self) -> Sequence[Key]:
        """Keys to go on with. Starts a renewal, and waits for it only where there are none."""
        known = self._known
        age = self._clock() - known.at if known else float("inf")
        if known and age <= _GOOD_SECONDS:
            if not 0 <= age <= _FRESH_SECONDS:
                self._renew(_AGAIN_SECONDS)
            return known.keys
        self._wait(self._renew(_PAUSE_SECONDS))
        known = self._known
        if known is None or self._clock() - known.at > _GOOD_SECONDS:
            raise _unavailable()
        return known.keys

    def _is_time_for_unknown(self) -> bool:
        with self._lock:
            now = self._clock()
            is_time = not 0 <= now - self._unknown_at < _UNKNOWN_SECONDS
            if is_time:
                self._unknown_at = now
            return is_time

    def _renew(self, pause_seconds: float) -> "Future[None] | None":
        """The fetch that is under way, or one begun now; None where the last one began less than that ago."""
        with self._lock:
            now = time.monotonic()
            # One that should have ended long ago is another process', from before a fork.
            if self._flight is not None and now - self._flight[1] < 2 * _WAIT_SECONDS:
                return self._flight[0]
            if self._tried_at is not None and 0 <= self._clock() - self._tried_at < pause_seconds:
                return None
            self._tried_at = self._clock()
            self._flight = begin(self._landing()), now
            return self._flight[0]

    def _wait(self, flight: "Future[None] | None") -> None:
        if flight is not None:
            may_wait()  # the flight goes on, and is waited for when this is tried again
            with suppress(Unfetched, TimeoutError):  # what there is then decides
                flight.result(_WAIT_SECONDS)

    async def _landing(self) -> None:
        """A fetch, and what follows from it; in the fetch's thread."""
        reason = "timeout"  # unless it is another: a timeout comes as a cancellation
        try:
            found = await self._fetched()
            keys = tuple(_usable(found))
            reason = ""
        except Unfetched as error:
            reason = error.reason
            raise
        except Exception as error:
            reason = type(error).__name__
            raise
        finally:
            if reason:
                log.warning("keys_not_fetched", endpoint=self._label, reason=reason)
            else:
                self._known = _Known(keys, self._clock())
            self._failed = bool(reason)
            with self._lock:
                self._flight = None
        self._keep(found)

    async def _fetched(self) -> dict[str, Any]:
        """The issuer's JWKS as it is served, with a key that we can use."""
        found = await document(self._jwks_uri or await self._discovered())
        if not _usable(found):
            raise Unfetched("no usable key")
        return found

    async def _discovered(self) -> str:
        """OpenID Connect's document, else RFC 8414's, whose path begins at the root."""
        parts = urlsplit(self._issuer)
        try:
            found = await document(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        except Unfetched:
            path = "/.well-known/oauth-authorization-server" + parts.path.rstrip("/")
            found = await document(f"{parts.scheme}://{parts.netloc}{path}")
        if found.get("issuer") != self._issuer:
            raise Unfetched("another issuer")
        try:
            return secure_url(str(found.get("jwks_uri")))
        except ValueError:
            raise Unfetched("no https jwks_uri") from None

    def _read(self) -> _Known | None:
        """What an earlier process has kept."""
        if self._file is None:
            return None
        try:
            kept = parse_object(self._file.read_bytes())
            keys, at = tuple(_usable(kept)), float(kept["fetched_at"])
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return _Known(keys, at) if keys else None

    def _keep(self, found: Mapping[str, Any]) -> None:
        """All at once and for us only; a copy that cannot be written is no reason to refuse anybody."""
        if self._file is None:
            return
        public = [one for one in found["keys"] if _key(one) is not None]
        draft = self._file.with_name(f".{self._file.name}.{secrets.token_hex(8)}")
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump({"fetched_at": self._clock(), "keys": public}, file)
            draft.replace(self._file)
        except OSError as error:
            draft.unlink(missing_ok=True)
            log.warning("keys_not_kept", endpoint=self._label, error=error_class(error))


def _unavailable() -> errors.Unavailable:
    return errors.Unavailable("The keys of the token's issuer cannot be fetched now.")


def _fitting(keys: Sequence[Key], kid: str | None, algorithm: str) -> PublicKey | None:
    fitting = [one.public for one in keys if algorithm in one.algorithms and kid in (None, one.kid)]
    return fitting[0] if len(fitting) == 1 else None


_PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}  # members that only who signs may have, RFC 7518


def _usable(jwks: Mapping[str, Any]) -> Sequence[Key]:
    found = jwks.get("keys")
    return [key for one in found if (key := _key(one)) is not None] if isinstance(found, list) else []


def _key(jwk: Any) -> Key | None:
    """None for a key that signs nothing here: symmetric, private, for encryption, too short, of an unknown kind."""
    if not isinstance(jwk, dict) or _PRIVATE & jwk.keys() or jwk.get("use", "sig") != "sig":
        return None
    kid, said = jwk.get("kid"), jwk.get("alg")
    if not isinstance(kid, str | None):
        return None
    try:
        if "verify" not in jwk.get("key_ops", ("verify",)):
            return None
        public, algorithms = _public(jwk)
    except (InvalidKeyError, ValueError, TypeError, KeyError):
        return None
    return Key(kid, frozenset(one for one in algorithms if said in (None, one)), public)


def _public(jwk: Mapping[str, Any]) -> tuple[Any, Sequence[str]]:
    match jwk["kty"]:
        case "RSA":
            rsa: Any = RSAAlgorithm.from_jwk(dict(jwk))
            if rsa.key_size < _RSA_BITS:
                raise ValueError
            return rsa, ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
        case "EC":
            return ECAlgorithm.from_jwk(dict(jwk)), (_CURVES[jwk["crv"]],)
        case "OKP":
            return OKPAlgorithm.from_jwk(dict(jwk)), ("EdDSA",)
    raise ValueError
