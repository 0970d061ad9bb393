"""The real ``faxhook serve`` with two web workers, asked over real HTTP and raw sockets."""

import base64
import http.client
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import live
import migrated
from house import FORM
from ports import free_port
from stock import environment

_numbers = itertools.count(os.getpid() * 100_000)  # of faxes: no two callbacks of a test run are for the same


@dataclass(frozen=True)
class Told:
    """One answer. challenges: its WWW-Authenticate headers. stays: whether the connection could be used again."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    stays: bool

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def challenges(self) -> list[str]:
        return self.all("WWW-Authenticate")


@dataclass(frozen=True)
class Served(live.Server):
    process: "subprocess.Popen[bytes]"
    config: Path

    def post(
        self,
        path: str,
        *headers: tuple[str, str],
        body: bytes | None = None,
        method: str = "POST",
        source: str = "127.0.0.1",
    ) -> Told:
        """
        A callback; body None: that of a fax nobody has heard of. source: the loopback address to come from.

        Headers are Latin-1 text and may repeat. Afterwards the connection is used once more.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60, source_address=(source, 0))
        try:
            connection.putrequest(method, path)
            content = fax() if body is None else body
            usual = {"Content-Type": FORM, "Content-Length": str(len(content))}
            named = {name for name, _ in headers}
            for name, value in (*((name, usual[name]) for name in usual if name not in named), *headers):
                connection.putheader(name, value.encode("latin-1"))
            connection.endheaders(content)
            answer = connection.getresponse()
            told = answer.read()
            return Told(answer.status, answer.getheaders(), told, _is_usable(connection))
        finally:
            connection.close()

    def reload(self, configuration: str) -> None:
        """As an operator does it: another file in place of the old one, and SIGHUP."""
        draft = self.config.with_suffix(".new")
        draft.write_text(configuration)
        draft.replace(self.config)
        self.process.send_signal(1)


def _is_usable(connection: http.client.HTTPConnection) -> bool:
    if connection.sock is None:
        return False  # closed, and a request would open another
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False


def fax() -> bytes:
    """FAXAGE's callback for a fax of its own."""
    return f"jobid={next(_numbers)}&shortstatus=success&destnum=2085550139".encode()


def basic(text: str | bytes, charset: str = "utf-8") -> tuple[str, str]:
    raw = text if isinstance(text, bytes) else text.encode(charset)
    return "Authorization", "Basic " + base64.b64encode(raw).decode()


def configured(port: int, store_url: str, endpoints: str, server: str = "") -> str:
    return f"""
[server]
bind = "127.0.0.1:{port}"
state_dir = "state"
{server}
[store]
url = "{store_url}"
{endpoints}
"""


def faxage(name: str, auth: str, more: str = "") -> str:
    """The table of one endpoint."""
    return f"""
[endpoints.{name}]
provider = "faxage"
account = "acme"
timezone = "America/Denver"
auth = {auth}
{more}
"""


@contextmanager
def serving(folder: Path, store_url: str, endpoints: str, server: str = "") -> Iterator[Served]:
    """Until the block ends. endpoints: their tables. server: more lines for [server]."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "faxhook.toml"
    config.write_text(configured(port, store_url, endpoints, server))
    log = folder / "log"
    options: dict[str, Any] = {"cwd": folder, "env": environment() | {"WEB_CONCURRENCY": "2"}}
    command = [sys.executable, "-m", "receiver"]
    migrated.make(store_url)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "serve", "--no-relay", "--config", str(config)], stdout=output, stderr=output, **options
        )
    try:
        server_ = Served(port, log, process, config)
        deadline = time.monotonic() + 120
        while not _is_ready(server_):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.05)
        yield server_
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(server: Served) -> bool:
    try:
        return server.ask(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")[0] == 200
    except (OSError, AssertionError):
        return False
