"""Which endpoints are called, where, and as whom."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

from receiver.errors import ConfigurationError
from receiver.providers import Provider
from receiver.settings import Endpoint, Settings
from receiver.simulator.identity import Identity, Tokens, http_url, identify

_ACCOUNT = "123456789"  # where the payload names it and the endpoint takes any
_MAX_BODY = 8 * 1024**2  # where the server's is not known


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint to call. account and timezone go into the payloads of providers that need them."""

    endpoint: str
    provider: Provider
    https: bool
    host: str
    port: int
    path: str = field(repr=False)  # holds the token
    account: str
    timezone: ZoneInfo | None
    identity: Identity
    max_body: int  # bytes, the longest that the server takes


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one endpoint is. user, password: as the address names them."""

    https: bool
    host: str
    port: int
    path: str = field(repr=False)
    user: str = ""
    password: str = field(default="", repr=False)

    def beside(self, path: str) -> str:
        """The address of another path of the same faxhook."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        prefix = self.path.partition("/callbacks/")[0]
        return f"{'https' if self.https else 'http'}://{host}:{self.port}{prefix}{path}"


def targets(
    settings: Settings | None,
    known: Mapping[str, Provider],
    *,
    provider: str | None = None,
    endpoint: str | None = None,
    to: str | None = None,
    mode: str | None = None,
    tokens: Tokens = Tokens(),  # noqa: B008 - frozen
) -> list[Target]:
    """
    The endpoints to call: all, those of one provider, or one.

    to: the address of one, where it is not this machine's; its path also tells which endpoint is meant. With it and a
    provider, there need be no settings. mode: shown in place of the endpoint's own. Raises ConfigurationError where
    nothing can be called, or where the secrets are not known, or known here only as a hash.
    """
    if provider is not None and provider not in known:
        raise ConfigurationError(f"there is no provider {provider}; expected one of {', '.join(sorted(known))}")
    if provider is not None and known[provider].callback is None:
        raise ConfigurationError(f"{known[provider].title} sends no callbacks; its reports are fetched")
    if settings is None:
        if provider is None or to is None:
            raise ConfigurationError("without a configuration, a provider and --to are needed")
        return [_target(_place(to), known[provider], None, None, mode, tokens)]
    chosen = [
        one
        for name, one in settings.endpoints.items()
        if one.takes_callbacks
        and (provider is None or one.provider == provider)
        and (endpoint is None or name == endpoint)
    ]
    if not chosen:
        raise ConfigurationError("there is no such endpoint; configured are: " + ", ".join(sorted(settings.endpoints)))
    if to is not None and len(chosen) > 1:
        chosen = [one for one in chosen if one.name == _endpoint_in(urlsplit(to).path)]
    if to is not None and len(chosen) != 1:
        raise ConfigurationError("--to is the address of one endpoint; say which one with --endpoint")
    return [
        _target(place, known[one.provider], one, settings, mode, tokens)
        for one in chosen
        for place in [_own_place(settings, one) if to is None else _place(to)]
    ]


def _target(
    place: "_Place",
    provider: Provider,
    endpoint: Endpoint | None,
    settings: Settings | None,
    mode: str | None,
    tokens: Tokens,
) -> Target:
    if mode is None and endpoint is not None:
        mode = endpoint.auth.mode
    elif mode is None:
        by_password = "payload" if provider.push.credentials else "basic"
        mode = by_password if place.user else "none"
    return Target(
        endpoint=endpoint.name if endpoint else _endpoint_in(place.path) or place.host,
        provider=provider,
        https=place.https,
        host=place.host,
        port=place.port,
        path=place.path,
        account=(endpoint and endpoint.account) or _ACCOUNT,
        timezone=endpoint.timezone if endpoint else None,
        identity=identify(
            mode,
            endpoint,
            given=(place.user, place.password) if place.user else None,
            token_url=place.beside("/oauth2/token"),
            clients=settings.clients if settings else {},
            tokens=tokens,
        ),
        max_body=settings.server.max_body if settings else _MAX_BODY,
    )


# --- where ----------------------------------------------------------------------------------------------------------


def _endpoint_in(path: str) -> str:
    return path.partition("/callbacks/")[2].partition("/")[0]


def _own_place(settings: Settings, endpoint: Endpoint) -> _Place:
    bind = settings.server.bind
    host, _, port = bind.rpartition(":")
    if not port.isdecimal() or port == "0" or bind.startswith(("unix:", "fd:")):
        raise ConfigurationError(
            f"server.bind is {bind}, which cannot be called; give the address of one URL with --to"
        )
    plain = [token.plain for token in endpoint.tokens if token.plain is not None]
    if endpoint.tokens and not plain:
        raise ConfigurationError(
            f"endpoints.{endpoint.name}.tokens: only a sha256 is configured, so the token itself is not known here; "
            "give the whole address with --to"
        )
    host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))  # noqa: S104
    return _Place(False, host, int(port), "/".join(["/callbacks", endpoint.name, *plain[:1]]))


def _place(url: str) -> _Place:
    """``https://user:password@host/...`` gives credentials that the configuration here does not have."""
    parts = http_url(url)
    if parts is None or not parts.path.startswith("/"):
        raise ConfigurationError(
            "--to: expected a whole address such as https://hooks.example.com/callbacks/name/token"
        )
    https = parts.scheme == "https"
    return _Place(
        https=https,
        host=parts.hostname or "",
        port=parts.port or (443 if https else 80),
        path=parts.path + (f"?{parts.query}" if parts.query else ""),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )
