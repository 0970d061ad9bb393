"""
The load generator, a process of its own: ``sender.py PORT PATH FORM CONNECTIONS COUNT START`` prints one JSON line.

Raw sockets with kept-alive connections, so that it costs the servers little of the machine. Bounded by COUNT.
"""

import json
import socket
import sys
import threading
import time

from callbacks import bodies, content_type


def main() -> None:
    port, path, form, connections, count, start = sys.argv[1:7]
    shares = [int(count) // int(connections)] * int(connections)
    requests = _requests(path, form, sum(shares), int(start))
    seconds: list[float] = []
    failures: list[int] = []
    threads = []
    for number, share in enumerate(shares):
        mine = requests[number * share : (number + 1) * share]
        threads.append(threading.Thread(target=_send, args=(int(port), mine, seconds, failures)))
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
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


def _send(port: int, requests: list[bytes], seconds: list[float], failures: list[int]) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request in requests:
            began = time.perf_counter()
            connection.sendall(request)
            status = _answer(connection)
            seconds.append(time.perf_counter() - began)
            if not 200 <= status < 300:
                failures.append(status)


def _answer(connection: socket.socket) -> int:
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, rest = received.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    length = next((int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")), 0)
    while len(rest) < length:
        rest += _more(connection)
    return int(lines[0].split()[1])


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(65536)
    if not received:
        raise SystemExit("the server closed the connection")
    return received


if __name__ == "__main__":
    main()
