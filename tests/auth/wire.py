"""``faxhook serve`` with two workers, and requests to it written byte by byte."""

import hashlib
import os
import re
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import live
import migrated
from ports import free_port
from stock import FAXHOOK, environment

FIXTURES = Path(__file__).parents[1] / "fixtures"
XML = (FIXTURES / "retarus" / "06_minimal.xml").read_bytes()


@dataclass(frozen=True)
class Answer:
    status: int
    head: str
    body: bytes

    @property
    def challenges(self) -> list[str]:
        return re.findall(r"(?im)^WWW-Authenticate: (.*?)\r?$", self.head)

    def header(self, name: str) -> str | None:
        found = re.search(rf"(?im)^{name}: (.*?)\r?$", self.head)
        return found and found[1]


@dataclass(frozen=True)
class Served:
    port: int
    folder: Path
    process: "subprocess.Popen[bytes]"

    def ask(self, *pieces: bytes, sock: socket.socket | None = None) -> Answer:
        """Raw bytes in pieces, over a connection of its own unless one is given."""
        if sock is not None:
            for piece in pieces:
                sock.sendall(piece)
            return Answer(*live.answer(sock))
        with self.connect() as own:
            return self.ask(*pieces, sock=own)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def post(
        self,
        target: str,
        *authorization: str | bytes,
        body: bytes = XML,
        method: str = "POST",
        headers: tuple[str, ...] = ("Content-Type: text/xml",),
        sock: socket.socket | None = None,
    ) -> Answer:
        """With any number of Authorization headers. Text is sent as Latin-1, one byte a character."""
        lines = [f"{method} {target} HTTP/1.1", "Host: fax.example", f"Content-Length: {len(body)}", *headers]
        head = "\r\n".join(lines).encode("latin-1")
        for one in authorization:
            head += b"\r\nAuthorization: " + (one if isinstance(one, bytes) else one.encode("latin-1"))
        return self.ask(head + b"\r\n\r\n" + body, sock=sock)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


@contextmanager
def served(
    folder: Path, configuration: str, store_url: str | None = None, *, workers: int = 2, port: int | None = None
) -> Iterator[Served]:
    """configuration: without [server] bind and [store]. The store is migrated."""
    folder.mkdir(parents=True, exist_ok=True)
    if port is None:
        port = free_port()
    store = store_url or f"sqlite:///{folder / 'faxhook.db'}"
    text = configuration.replace("[server]", f'[server]\nbind = "127.0.0.1:{port}"', 1)
    (folder / "faxhook.toml").write_text(f'{text}\n[store]\nurl = "{store}"\n')
    run = {"cwd": folder, "env": environment() | {"WEB_CONCURRENCY": str(workers)}}
    migrated.make(store)
    with (folder / "log").open("ab") as output:
        process = subprocess.Popen([*FAXHOOK, "serve", "--no-relay"], stdout=output, stderr=output, **run)
    try:
        found = Served(port, folder, process)
        _await(found, workers)
        yield found
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _await(server: Served, workers: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.process.poll() is None, server.log
        try:
            ready = server.ask(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").status == 200
        except (OSError, AssertionError):
            ready = False
        if ready and server.log.count("Booting worker") >= workers:
            return
        time.sleep(0.05)
    raise AssertionError(server.log)


# --- Digest, as a client does it ------------------------------------------------------------------------------------


@dataclass
class Client:
    """Answers a challenge. Each part of the answer can be given otherwise; None leaves it out."""

    user: str = "retarus"
    password: str = "example-password"
    realm: str = "retarus"
    algorithm: str = "MD5"
    nonce: str = ""
    charset: str = "utf-8"  # of what is hashed
    count: int = 0
    other: dict[str, str | None] = field(default_factory=dict)

    def ha1(self) -> str:
        return self.hash(f"{self.user}:{self.realm}:{self.password}".encode(self.charset))

    def hash(self, data: bytes) -> str:
        return (hashlib.md5 if self.algorithm.startswith("MD5") else hashlib.sha256)(data).hexdigest()

    def parts(self, uri: str, method: str = "POST", **given: str | None) -> dict[str, str | None]:
        """The parameters as they are written, quotes included; names with ``_`` for ``*``."""
        self.count += 1
        raw = {
            "nc": f"{self.count:08x}",
            "cnonce": secrets.token_hex(8),
            "qop": "auth",
            "nonce": self.nonce,
            "uri": uri,
        }
        raw |= {name: value for name, value in given.items() if name in raw and value is not None}
        ha2 = self.hash(f"{method}:{raw['uri']}".encode("latin-1"))
        middle = "" if given.get("qop", "") is None else f"{raw['nc']}:{raw['cnonce']}:{raw['qop']}:"
        response = self.hash(f"{self.ha1()}:{raw['nonce']}:{middle}{ha2}".encode("latin-1"))
        name = self.user.encode().decode("latin-1").replace("\\", "\\\\").replace('"', '\\"')
        written: dict[str, str | None] = {
            "username": f'"{name}"',
            "realm": f'"{self.realm}"',
            "nonce": f'"{raw["nonce"]}"',
            "uri": f'"{raw["uri"]}"',
            "algorithm": self.algorithm,
            "qop": raw["qop"],
            "nc": raw["nc"],
            "cnonce": f'"{raw["cnonce"]}"',
            "response": f'"{response}"',
        }
        for key, value in given.items():
            if value is None:
                written.pop(key)
        return written

    def header(
        self, uri: str, method: str = "POST", *, written: dict[str, str | None] | None = None, **given: str | None
    ) -> str:
        """given: what the answer is computed with. written: what is put into the header whatever was computed."""
        parts = self.parts(uri, method, **given)
        for key, value in (written or {}).items():
            if value is None:
                parts.pop(key, None)
            else:
                parts[key] = value
        return "Digest " + ", ".join(f"{key}={value}" for key, value in parts.items())


def nonce_of(answer: Answer) -> str:
    return re.findall(r'nonce="([^"]*)"', answer.challenges[0])[0]
