"""Which secrets a callback shows: the endpoint's own, as far as the configuration has them and not just their hash."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import SplitResult, urlsplit

from receiver.errors import ConfigurationError
from receiver.settings import SELF, Client, Endpoint, OAuth2, Signature
from receiver.simulator.authenticating import Basic, Bearer, Digest, Nothing, Proof, Ready, Signed, TokenEndpoint

CLIENT_SECRET = "FAXHOOK_SIMULATE_CLIENT_SECRET"  # noqa: S105 - the variable
TOKEN = "FAXHOOK_SIMULATE_TOKEN"  # noqa: S105 - the variable

_HASHES = ("sha256:", "scrypt:", "pbkdf2:", "ha1:")
_BY_ADDRESS = "--to https://<user>:<password>@<host>/<path>"


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom one endpoint is called. user, password: those inside the payload, blank in every other mode."""

    mode: str
    proof: Proof = field(repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def spoiled(self) -> "Identity":
        """The same with wrong secrets."""
        return replace(self, proof=self.proof.spoiled(), password=self.password and self.password + "x")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What is said of access tokens beside the configuration: where to fetch them and as whom, or one that is ready."""

    url: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    ready: str | None = field(default=None, repr=False)


def identify(
    mode: str,
    endpoint: Endpoint | None,
    *,
    given: tuple[str, str] | None,
    token_url: str,
    clients: Mapping[str, Client],
    tokens: Tokens,
) -> Identity:
    """
    mode: as it is shown, whatever the endpoint's is. given: user and password that win over the endpoint's.

    token_url, clients: of our own token endpoint. Raises ConfigurationError where a secret is needed and not known.
    """
    match mode:
        case "none":
            return Identity(mode, Nothing())
        case "payload":
            return Identity(mode, Nothing(), *(given or _credentials(mode, endpoint)))
        case "basic":
            return Identity(mode, Basic(*(given or _credentials(mode, endpoint))))
        case "digest":
            return Identity(mode, Digest(*(given or _credentials(mode, endpoint))))
        case "oauth2":
            return Identity(mode, _bearer(endpoint, token_url, clients, tokens))
        case "hmac" if endpoint is not None and isinstance(endpoint.auth, Signature):
            return Identity(mode, Signed(endpoint.auth))
    raise ConfigurationError(f"{mode}: the secret is that of an endpoint whose auth.mode it is, and there is none")


def _credentials(mode: str, endpoint: Endpoint | None) -> tuple[str, str]:
    """A user and password valid now."""
    if endpoint is None or not endpoint.auth.credentials:
        raise ConfigurationError(f"{mode}: no user and password are configured; give them with {_BY_ADDRESS}")
    where = f"endpoints.{endpoint.name}.auth.credentials"
    now = datetime.now(UTC)
    valid = [
        one
        for one in endpoint.auth.credentials
        if (one.not_before is None or one.not_before <= now) and (one.not_after is None or now < one.not_after)
    ]
    if not valid:
        raise ConfigurationError(f"{where}: none of them is valid now")
    for one in valid:
        if not one.password.startswith(_HASHES):
            return one.user, one.password
    raise ConfigurationError(
        f"{where}: only hashed passwords are configured, and a callback needs the plain one; give it with {_BY_ADDRESS}"
    )


def _bearer(endpoint: Endpoint | None, own_url: str, clients: Mapping[str, Client], tokens: Tokens) -> Proof:
    if tokens.ready:
        return Ready(tokens.ready)
    auth = endpoint.auth if endpoint is not None and isinstance(endpoint.auth, OAuth2) else None
    scope = " ".join(auth.scope) if auth else ""
    if tokens.url or tokens.client_id:
        if not (tokens.url and tokens.client_id and tokens.client_secret):
            raise ConfigurationError(f"--token-url and --client-id go together, with the secret in {CLIENT_SECRET}")
        if http_url(tokens.url) is None:
            raise ConfigurationError("--token-url: expected an address such as https://login.example.com/oauth2/token")
        return Bearer(TokenEndpoint(tokens.url, tokens.client_id, tokens.client_secret, scope).fetch)
    if auth is None or auth.issuer != SELF:
        raise ConfigurationError(
            "oauth2: say where to fetch an access token, with --token-url, --client-id and the secret in"
            f" {CLIENT_SECRET}; or give one in {TOKEN}"
        )
    for client in clients.values():
        may_call = not auth.allowed_clients or client.id in auth.allowed_clients
        if may_call and not client.secret.startswith(_HASHES):
            return Bearer(TokenEndpoint(own_url, client.id, client.secret, scope).fetch)
    raise ConfigurationError(
        "oauth2.clients: no client of the endpoint is configured with its plain secret; give it with --token-url,"
        f" --client-id and {CLIENT_SECRET}"
    )


def http_url(url: str) -> SplitResult | None:
    """The parts of an address; None where it is none of HTTP."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is none
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname else None
