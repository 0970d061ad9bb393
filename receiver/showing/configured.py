"""What the configuration has, beside what the store says of it: endpoints and sinks."""

from typing import Any

from receiver import settings as configuration
from receiver.destinations import scheme
from receiver.settings import Settings
from receiver.showing.masking import MASK
from receiver.store.browsing import iso
from receiver.store.figures import Figures, OfSink


def endpoints(settings: Settings, *, reveal: bool) -> list[dict[str, Any]]:
    """A row for each URL that a provider is to call."""
    return [
        {
            "endpoint": endpoint.name,
            "provider": endpoint.provider,
            "account": endpoint.account,
            "auth": endpoint.auth.mode,
            "url": url,
        }
        for endpoint in settings.endpoints.values()
        if endpoint.takes_callbacks
        for url in callback_urls(endpoint, settings.server, reveal=reveal)
    ]


def callback_urls(endpoint: configuration.Endpoint, server: configuration.Server, *, reveal: bool) -> list[str]:
    """What a provider is to call, one URL for each of the endpoint's tokens."""
    base = f"{base_url(server)}/callbacks/{endpoint.name}"
    if not endpoint.tokens:
        return [base]
    return [f"{base}/{token_text(token, reveal=reveal)}" for token in endpoint.tokens]


def base_url(server: configuration.Server) -> str:
    if server.public_url:
        return server.public_url
    host, _, port = server.bind.rpartition(":")
    if not port.isdigit():
        return "https://<your host>"  # a unix socket
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104 - not bound here


def token_text(token: configuration.Token, *, reveal: bool) -> str:
    if token.plain is None:
        return "<the token of this sha256>"
    return token.plain if reveal else MASK


def sink(found: Figures, one: OfSink, settings: Settings) -> dict[str, Any]:
    """How one sink beside the queue stands."""
    how = one.standing
    known = settings.sinks.get(how.name)
    state = "stopped" if how.stopped_at_ms is not None else "filling" if how.filled_to is not None else "active"
    return {
        "name": how.name,
        "state": state if known is not None else "unknown",
        "kind": scheme(known.url) if known is not None else None,
        "backlog": one.backlog,
        "oldest_seconds": round(found.seconds_since(one.oldest_at_ms)),
        "dead": one.dead,
        "trouble": how.stopped_for or how.trouble,
        "trouble_since": iso(how.trouble_since_ms),
        "stopped_at": iso(how.stopped_at_ms),
    }
