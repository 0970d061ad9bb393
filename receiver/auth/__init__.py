"""
Who may call an endpoint: path token, address list and credentials, each told by its own refusal.

Works on plain values and knows neither the providers nor the store. A refusal never repeats what was sent.
"""

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from receiver import errors
from receiver.auth.addresses import AllowList
from receiver.auth.basic import Basic
from receiver.auth.certificates import ClientCertificates
from receiver.auth.credentials import Credentials, utc_now
from receiver.auth.digest import Claim, Digest
from receiver.auth.request import Request
from receiver.auth.signature import Signature
from receiver.settings import CLIENT_CERTIFICATE, SELF, Client, Endpoint, Network, OAuth2
from receiver.settings import Digest as DigestOptions
from receiver.settings import Signature as SignatureOptions

# OAuth2's modules are imported where an endpoint needs them: their libraries take 12 MB of each process.
if TYPE_CHECKING:
    from receiver.auth.jwks import KeySet
    from receiver.auth.token_endpoint import TokenEndpoint
    from receiver.auth.tokens import OwnTokens

__all__ = ["Claim", "Gate", "Request", "Surroundings", "issuer_trouble", "own_token_endpoint"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """
    What gates share. keys: the first signs, all verify. claim: True the first time a name is claimed, anywhere.

    state_dir: where copies of issuers' keys are kept, None for nowhere. clients: who may have our own tokens.
    """

    trusted_proxies: Sequence[Network]
    keys: Sequence[bytes] = field(repr=False)
    claim: Claim = field(repr=False)
    client_certificate_header: str = CLIENT_CERTIFICATE
    clock: Callable[[], datetime] = utc_now
    state_dir: Path | None = None
    public_url: str | None = None
    clients: Mapping[str, Client] = field(default_factory=dict, repr=False)
    key_sets: "dict[tuple[str, str | None], KeySet]" = field(default_factory=dict, repr=False)  # by issuer, jwks_uri


class Verifier(Protocol):
    """One way to show credentials outside the payload."""

    def verify(self, request: Request) -> None:
        """Raises the Refusal that answers a caller who may not, with the challenge where there is one."""


class Gate:
    """
    What a caller of one endpoint has to show; every check that is not configured passes.

    reads_payload: the credentials are inside the body, so it is decoded before check_payload can be asked.
    """

    def __init__(self, endpoint: Endpoint, around: Surroundings) -> None:
        """Raises ConfigurationError for what would leave the gate open or could never let anyone in."""
        self._tokens = tuple(token.digest for token in endpoint.tokens)
        self._allow_list = AllowList(endpoint.allow, around.trusted_proxies)
        try:
            self._payload = _credentials(endpoint, around) if endpoint.auth.mode == "payload" else None
            self._certificates = _certificates(endpoint, around)
            self._verifier = _verifier(endpoint, around)
        except errors.ConfigurationError as error:
            raise errors.ConfigurationError(f"endpoint {endpoint.name}: {error}") from None

    @property
    def reads_payload(self) -> bool:
        return self._payload is not None

    def admits(self, token: str | None) -> bool:
        """Whether the path is right: with one of the tokens where there are any, else without one."""
        if token is None or not self._tokens:
            return token is None and not self._tokens
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        is_right = False
        for known in self._tokens:
            is_right |= hmac.compare_digest(digest, known)
        return is_right

    def check_caller(self, request: Request) -> None:
        """
        Address, client certificate, then what a header or signature shows. Raises Forbidden, or what the verifier does.

        An allow list always refuses a unix socket. Credentials inside the payload are checked by check_payload.
        """
        self.check_address(request)
        if self._certificates is not None:
            self._certificates.verify(request)
        if self._verifier is not None:
            self._verifier.verify(request)

    def check_address(self, request: Request) -> None:
        """Raises Forbidden where the address is not on the allow list."""
        if not self._allow_list.admits(request.peer, request.header("X-Forwarded-For")):
            raise errors.Forbidden("Callbacks to this endpoint are not accepted from this address.")

    def check_payload(self, credentials: tuple[str, str] | None) -> None:
        """
        Raises Unauthorized unless the body held right credentials; Unavailable when too many are being checked.

        Without a challenge, since no header would help. Other modes do not look at the body.
        """
        if self._payload is None:
            return
        if credentials is None:
            raise errors.Unauthorized("Expected user and password in the body.")
        if not self._payload.match(*credentials):
            raise errors.Unauthorized("The user or the password in the body is wrong.")


def _certificates(endpoint: Endpoint, around: Surroundings) -> ClientCertificates | None:
    if not endpoint.client_certificates:
        return None
    return ClientCertificates(endpoint.client_certificates, around.client_certificate_header, around.trusted_proxies)


def _verifier(endpoint: Endpoint, around: Surroundings) -> Verifier | None:
    auth = endpoint.auth
    if isinstance(auth, DigestOptions):
        return Digest(endpoint.name, auth, around.keys, around.claim, clock=around.clock)
    if isinstance(auth, SignatureOptions):
        return Signature(auth, clock=around.clock)
    if isinstance(auth, OAuth2):
        return _bearer(endpoint, auth, around)
    if auth.mode == "basic":
        return Basic(auth.realm, _credentials(endpoint, around))
    if auth.mode in ("none", "payload"):
        return None
    raise errors.ConfigurationError(f"auth.mode: {auth.mode} is not known")


def _credentials(endpoint: Endpoint, around: Surroundings) -> Credentials:
    return Credentials(endpoint.auth.credentials, clock=around.clock)


# --- OAuth2 ---------------------------------------------------------------------------------------------------------


def _bearer(endpoint: Endpoint, auth: OAuth2, around: Surroundings) -> Verifier:
    from receiver.auth.bearer import Asked, Bearer, Signed, Source
    from receiver.auth.introspection import Introspection

    source: Source
    if auth.issuer == SELF:
        source = _own_tokens(around)
    elif auth.introspection is not None:
        source = Asked(auth, Introspection(auth.introspection, label=endpoint.name))
    else:
        source = Signed(auth, _key_set(endpoint, auth, around))
    return Bearer(auth, _audience(endpoint, auth), source, clock=around.clock)


def _key_set(endpoint: Endpoint, auth: OAuth2, around: Surroundings) -> "KeySet":
    """One for all endpoints of an issuer."""
    from receiver.auth.jwks import KeySet

    assert auth.issuer is not None
    name = auth.issuer, auth.jwks_uri
    if name not in around.key_sets:
        around.key_sets[name] = KeySet(*name, around.state_dir, label=endpoint.name)
    return around.key_sets[name]


def issuer_trouble(endpoint: Endpoint) -> str | None:
    """Ask an endpoint's identity provider what a callback would make us ask; why that fails, None if it does not."""
    auth = endpoint.auth
    if not isinstance(auth, OAuth2) or auth.issuer == SELF:
        return None
    from receiver.auth.introspection import Introspection
    from receiver.auth.jwks import KeySet

    if auth.introspection is not None:
        return Introspection(auth.introspection).trouble()
    assert auth.issuer is not None
    return KeySet(auth.issuer, auth.jwks_uri, None).trouble()


def own_token_endpoint(endpoints: Iterable[Endpoint], around: Surroundings) -> "TokenEndpoint | None":
    """What gives out our own tokens; None where no endpoint takes them."""
    own = [(one, one.auth) for one in endpoints if isinstance(one.auth, OAuth2) and one.auth.issuer == SELF]
    if not own:
        return None
    from receiver.auth.token_endpoint import Access, TokenEndpoint

    accesses = [Access(_audience(one, auth), auth.scope, auth.allowed_clients) for one, auth in own]
    return TokenEndpoint(_own_tokens(around), around.clients.values(), accesses, clock=around.clock)


def _own_tokens(around: Surroundings) -> "OwnTokens":
    from receiver.auth.tokens import OwnTokens

    return OwnTokens(around.public_url or "faxhook", around.keys, around.clients)


def _audience(endpoint: Endpoint, auth: OAuth2) -> str:
    return auth.audience or endpoint.name
