"""
The load generator, a process of its own: ``sender.py PORT PATH FORM CONNECTIONS COUNT START`` prints one JSON line.

One thread, raw sockets and kept-alive connections, so that it costs the servers little of the machine. Bounded by
COUNT.
"""

import json
import re
import selectors
import socket
import sys
import time

from callbacks import bodies, content_type

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]+)")


def main() -> None:
    port, path, form, connections, count, start = sys.argv[1:7]
    share = int(count) // int(connections)
    requests = _requests(path, form, share * int(connections), int(start))
    seconds: list[float] = []
    failures: list[int] = []
    poller = selectors.DefaultSelector()
    began = time.perf_counter()
    for number in range(int(connections)):
        sender = _Sender(int(port), requests[number * share : (number + 1) * share])
        poller.register(sender.connection, selectors.EVENT_READ, sender)
    while poller.get_map():
        for key, _ in poller.select():
            status = key.data.receive()
            if status is None:
                continue
            seconds.append(time.perf_counter() - key.data.began)
            if not 200 <= status < 300:
                failures.append(status)
            if not key.data.send():
                poller.unregister(key.data.connection)
    took = time.perf_counter() - began
    seconds.sort()
    print(
        json.dumps(
            {
                "rate": len(seconds) / took,
                "p50": seconds[len(seconds) // 2],
                "p99": seconds[len(seconds) * 99 // 100],
                "failures": len(failures),
            }
        )
    )


def _requests(path: str, form: str, count: int, start: int) -> list[bytes]:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {content_type(form)}\r\nContent-Length: "
    source = bodies(form, start)
    made = []
    for _ in range(count):
        body = next(source)
        made.append(f"{head}{len(body)}\r\n\r\n".encode() + body)
    return made


class _Sender:
    """One connection, and what is still to be sent over it."""

    def __init__(self, port: int, requests: list[bytes]) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = iter(requests)
        self._received = b""
        self.send()

    def send(self) -> bool:
        """Whether there was one more request to send."""
        request = next(self._requests, None)
        self.began = time.perf_counter()
        if request is not None:
            self.connection.sendall(request)
        return request is not None

    def receive(self) -> int | None:
        """The status of an answer that is complete."""
        received = self.connection.recv(65536)
        if not received:
            raise SystemExit("the server closed the connection")
        self._received += received
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        length = _LENGTH.search(head)
        if len(rest) < (int(length[1]) if length else 0):
            return None
        self._received = b""
        return int(head[9:12])


if __name__ == "__main__":
    main()
