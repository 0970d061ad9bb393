"""Between a client and faxhook: bytes go through unchanged, and what they said is known afterwards."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from ports import listener

_HEAD = re.compile(rb"POST (\S+) HTTP/1\.1\r\n(.*?)\r\n\r\n", re.DOTALL)
_SHOWN = re.compile(rb"(?im)^Authorization: *(\w+)(.*?)\r?$")
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass
class _Way:
    """What has gone one way. pieces: where each began, and when it came."""

    data: bytearray = field(default_factory=bytearray)
    pieces: list[tuple[int, float]] = field(default_factory=list)

    def add(self, piece: bytes) -> None:
        self.pieces.append((len(self.data), time.monotonic()))
        self.data += piece

    def when(self, offset: int) -> float:
        return max(when for begin, when in self.pieces if begin <= offset)


@dataclass
class _Connection:
    asked: _Way = field(default_factory=_Way)
    answered: _Way = field(default_factory=_Way)

    def exchanges(self) -> list[tuple[float, str]]:
        asked = [(self.asked.when(match.start()), _shown(match[2])) for match in _HEAD.finditer(bytes(self.asked.data))]
        statuses = [status for status in _STATUS.findall(bytes(self.answered.data)) if status != b"100"]
        assert len(asked) == len(statuses), (asked, statuses)
        return [(when, f"{what} {status.decode()}") for (when, what), status in zip(asked, statuses, strict=True)]


@dataclass
class Recorder:
    port: int
    connections: list[_Connection] = field(default_factory=list)

    def exchanges(self) -> list[str]:
        """
        Each request with its answer, in the order of the requests.

        Such as ``- 401`` or ``SHA-256 nc=1 200``; ``Basic 401`` for another scheme.
        """
        return [what for _, what in sorted(one for known in self.connections for one in known.exchanges())]


def _shown(head: bytes) -> str:
    header = _SHOWN.search(b"\r\n" + head)
    if header is None:
        return "-"
    if header[1].lower() != b"digest":
        return header[1].decode()
    algorithm = re.search(rb'algorithm="?([\w-]+)', header[2])
    count = re.search(rb'nc="?([0-9a-fA-F]+)', header[2])
    assert count
    return f"{algorithm[1].decode() if algorithm else 'MD5'} nc={int(count[1], 16)}"


@contextmanager
def recording(port: int) -> Iterator[Recorder]:
    """A listener in front of that port, until the block ends."""
    with listener() as front:
        recorder = Recorder(front.getsockname()[1])
        threads: list[threading.Thread] = []

        def accept() -> None:
            with suppress(OSError):  # it is shut down below
                while True:
                    client, _ = front.accept()
                    recorder.connections.append(_Connection())
                    threads.append(
                        threading.Thread(target=_serve, args=(client, port, recorder.connections[-1]), daemon=True)
                    )
                    threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield recorder
        finally:
            front.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                thread.join(60)


def _serve(client: socket.socket, port: int, connection: _Connection) -> None:
    with client, socket.create_connection(("127.0.0.1", port), timeout=120) as server:
        client.settimeout(120)
        asking = threading.Thread(target=_pass_on, args=(client, server, connection.asked), daemon=True)
        asking.start()
        _pass_on(server, client, connection.answered)
        asking.join(120)


def _pass_on(source: socket.socket, target: socket.socket, way: _Way) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            way.add(data)
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
