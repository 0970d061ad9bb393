"""faxhook behind a real socket in this process, on a fresh store: up in milliseconds, and asked over real HTTP."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import migrated
import sqlalchemy as sa
from ports import listener
from werkzeug.serving import WSGIRequestHandler, make_server

from receiver import bootstrap, providers, settings
from receiver.providers import Provider
from receiver.runtime import Runtime
from receiver.store import kept_receipts
from receiver.web.app import create_app

TOKEN = "uX2mFfN0Q2v6c4Yw8bJ1kZ5tR7sD9gH3"
FORM = "application/x-www-form-urlencoded"
EFAX_USER, EFAX_PASSWORD = "exampleuser", "example-password"  # as in the samples

# {port} and {store} are filled in.
CONFIGURATION = f"""
[server]
bind = "127.0.0.1:{{port}}"
state_dir = "state"

[store]
url = "{{store}}"

[endpoints.openfax]
provider = "openfax"
auth = {{{{ mode = "none" }}}}
tokens = ["{TOKEN}"]

[endpoints.faxage]
provider = "faxage"
account = "acme"
timezone = "America/Denver"
auth = {{{{ mode = "none" }}}}
tokens = ["{TOKEN}"]

[endpoints.retarus]
provider = "retarus"
account = "99999TE"
auth = {{{{ mode = "none" }}}}
tokens = ["{TOKEN}"]

[endpoints.efax]
provider = "efax"
account = "me"
timezone = "America/Los_Angeles"
tokens = ["{TOKEN}"]
auth = {{{{ mode = "payload", credentials = [{{{{ user = "{EFAX_USER}", password = "{EFAX_PASSWORD}" }}}}] }}}}
"""


def _further(provider: Provider) -> str:
    """An endpoint for a provider that is not above."""
    timezone = f'timezone = "{provider.timezone or "UTC"}"\n' if provider.zoneless else ""
    return (
        f'\n[endpoints.{provider.name}]\nprovider = "{provider.name}"\naccount = "acme"\n{timezone}'
        f'auth = {{{{ mode = "none" }}}}\ntokens = ["{TOKEN}"]\n'
    )


CONFIGURATION += "".join(
    _further(provider)
    for name, provider in providers.load().items()
    if provider.callback and f"[endpoints.{name}]" not in CONFIGURATION
)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
    """One request over a connection of its own; headers: underscores for hyphens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return Reply(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class House:
    port: int
    runtime: Runtime
    config: Path

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        return ask(self.port, method, path, body, **headers)

    def post(self, endpoint: str, body: bytes | str, content_type: str = "", *, reference: str = "") -> Reply:
        """To the endpoint with its token."""
        path = f"/callbacks/{endpoint}/{TOKEN}" + (f"/r/{reference}" if reference else "")
        data = body.encode() if isinstance(body, str) else body
        kind = content_type or {b"<": "text/xml", b"{": "application/json"}.get(data[:1], FORM)
        return self.ask("POST", path, data, Content_Type=kind)

    def events(self) -> list[Any]:
        """The outbox's envelopes in row order."""
        tables = self.runtime.store.tables
        with self.runtime.store.reading() as connection:
            bodies = connection.scalars(sa.select(tables.events.c.body).order_by(tables.events.c.seq))
            return [json.loads(body) for body in bodies if body is not None]

    def receipts(self) -> list[tuple[str, str | None]]:
        """State and reason of each receipt, in the order of arrival."""
        with self.runtime.store.reading() as connection:
            rows = kept_receipts.listing(connection, self.runtime.store.tables, limit=None)
        return [(row["state"], row["reason"]) for row in reversed(rows)]


@contextmanager
def serving(application: Any, sock: socket.socket) -> Iterator[int]:
    """A WSGI application on a listening socket; its port."""
    host, port = sock.getsockname()
    server = make_server(host, port, application, threaded=True, request_handler=_Quiet, fd=sock.fileno())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def house(folder: Path, store_url: str, configuration: str = CONFIGURATION) -> Iterator[House]:
    """Served until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "faxhook.toml"
    with listener() as sock:
        config.write_text(configuration.format(port=sock.getsockname()[1], store=store_url))
        chosen = settings.load(config, {})
        migrated.make(chosen.store.url)
        runtime = bootstrap.build(chosen)
        try:
            with serving(create_app(runtime), sock) as port:
                yield House(port, runtime, config)
        finally:
            runtime.close()
