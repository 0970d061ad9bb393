"""The real gunicorn with faxhook's settings around a small application, and raw sockets to talk to it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ports import listener

import receiver

CONFIGURATION = """
[server]
bind = "127.0.0.1:20000"
state_dir = "var"

[endpoints.openfax]
provider = "openfax"
auth = { mode = "none" }
tokens = ["uX2mFfN0Q2v6c4Yw8bJ1kZ5tR7sD9gH3"]
"""


@dataclass(frozen=True)
class Server:
    port: int
    log: Path  # stdout and stderr

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def ask(self, *pieces: bytes, end: bool = False) -> tuple[int, str, bytes]:
        """Send the pieces, and with end also the end of the stream; status, head and body of the answer."""
        with self.connect() as sock:
            for piece in pieces:
                sock.sendall(piece)
            if end:
                sock.shutdown(socket.SHUT_WR)
            return answer(sock)


def answer(sock: socket.socket) -> tuple[int, str, bytes]:
    """Exactly one answer, by its Content-Length; a 100 before it is skipped."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += _exactly(sock, 1)
    if head.startswith(b"HTTP/1.1 100 "):
        return answer(sock)
    text = head.decode()
    length = next(int(line.split(":")[1]) for line in text.split("\r\n") if line.lower().startswith("content-length"))
    return int(text.split()[1]), text, _exactly(sock, length)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        received = sock.recv(size - len(data))
        assert received, f"connection closed {size - len(data)} bytes before the end"
        data += received
    return data


@contextmanager
def gunicorn(folder: Path, application: str, *options: str, configuration: str = CONFIGURATION) -> Iterator[Server]:
    """application: the source of a module with ``app``. options: further ones of gunicorn."""
    (folder / "application.py").write_text(application)
    (folder / "faxhook.toml").write_text(configuration)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FAXHOOK", "PROMETHEUS"))}
    environment["FAXHOOK_CONFIG"] = str(folder / "faxhook.toml")
    environment["PYTHONPATH"] = str(Path(receiver.__path__[0]).parent)
    conf = Path(receiver.__path__[0]) / "web" / "gunicorn_conf.py"
    log = folder / "log"
    with listener() as sock, log.open("wb") as output:
        port = sock.getsockname()[1]
        command = [
            "-m",
            "gunicorn",
            "-c",
            f"file:{conf}",
            "--bind",
            f"fd://{sock.fileno()}",
            "--workers",
            "1",
            *options,
        ]
        process = subprocess.Popen(
            [sys.executable, *command, *options, "application:app"],
            cwd=folder,
            env=environment,
            pass_fds=[sock.fileno()],
            stdout=output,
            stderr=output,
        )
    try:
        server = Server(port, log)
        assert _serves(server, process), log.read_text()
        yield server
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def _serves(server: Server, process: "subprocess.Popen[bytes]") -> bool:
    """The port is open before the worker is there: ask until it answers."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return server.ask(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")[0] == 200
        except (OSError, AssertionError):
            time.sleep(0.05)
    return False
