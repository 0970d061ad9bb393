"""
A client that sends its whole body before it looks at an answer gets that answer, and can go on.

Refused before the body was read, Apache's HttpClient, Go, Ruby and others saw a broken connection instead of the 401
that asks them for credentials.
"""

import json
import socket

import live
import pytest
from asked import Served, basic, fax, faxage, serving

CREDENTIALS = 'credentials = [{ user = "me", password = "right-word" }]'
SIGNED = 'mode = "hmac", secrets = ["a-secret-of-16-characters"], header = "X-Signature"'
ENDPOINTS = (
    faxage("basic", f'{{ mode = "basic", {CREDENTIALS} }}')
    + faxage("digest", f'{{ mode = "digest", {CREDENTIALS} }}')
    + faxage("hmac", f"{{ {SIGNED} }}")
    + faxage("listed", '{ mode = "none" }', 'allow = ["203.0.113.7"]')
)
KB, MB = 1000, 1000 * 1000
SIZES = {"0": 0, "150kB": 150 * KB, "3MB": 3 * MB, "20MB": 20 * MB}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("early")
    with serving(folder, f"sqlite:///{folder}/faxhook.db", ENDPOINTS, 'max_body = "32MB"') as started:
        yield started


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def whole(sock: socket.socket, path: str, body: bytes, *lines: str) -> None:
    sock.sendall(head(path, f"Content-Length: {len(body)}", *lines) + body)


def expecting(sock: socket.socket, path: str, body: bytes, *lines: str) -> None:
    """As a client does that waits for 100 Continue."""
    sock.sendall(head(path, f"Content-Length: {len(body)}", "Expect: 100-continue", *lines))
    told = b""
    while not told.endswith(b"\r\n\r\n"):
        told += sock.recv(1)
    assert told.startswith(b"HTTP/1.1 100 ")
    sock.sendall(body)


def chunked(sock: socket.socket, path: str, body: bytes, *lines: str) -> None:
    sock.sendall(head(path, "Transfer-Encoding: chunked", *lines))
    for start in range(0, len(body), 64 * KB):
        part = body[start : start + 64 * KB]
        sock.sendall(b"%x\r\n%s\r\n" % (len(part), part))
    sock.sendall(b"0\r\n\r\n")


def is_served_next(sock: socket.socket) -> None:
    """On the same connection: the fax, with credentials."""
    whole(sock, "/callbacks/basic", fax(), ": ".join(basic("me:right-word")))
    status, _, body = live.answer(sock)
    assert (status, json.loads(body)["status"]) == (200, "accepted")


@pytest.mark.parametrize("send", [whole, expecting, chunked])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
def test_a_401_is_read_and_the_connection_used_again(server: Served, send, size):
    with server.connect() as sock:
        for lines in ((), (": ".join(basic("me:wrong-word")),)):
            send(sock, "/callbacks/basic", b"x" * size, *lines)
            status, told, body = live.answer(sock)
            assert (status, json.loads(body)["status"]) == (401, 401)
            assert 'WWW-Authenticate: Basic realm="faxhook"' in told
        is_served_next(sock)


REFUSED = [
    ("digest", (), 401),
    ("digest", ("Authorization: Digest username=me",), 400),
    ("hmac", ("X-Signature: 00",), 401),
    ("listed", (), 403),
    ("basic/wrong-wrong-wrong-wrong", (), 404),
    ("basic", ("Authorization: Basic",), 400),
]


@pytest.mark.parametrize("send", [whole, expecting, chunked])
@pytest.mark.parametrize(("path", "lines", "expected"), REFUSED)
def test_so_is_every_other_refusal(server: Served, send, path, lines, expected):
    with server.connect() as sock:
        send(sock, f"/callbacks/{path}", b"x" * 3 * MB, *lines)
        status, _, body = live.answer(sock)
        assert (status, json.loads(body)["status"]) == (expected, expected)
        is_served_next(sock)


@pytest.mark.parametrize("send", [whole, chunked])
def test_beyond_max_body_it_is_413_without_a_challenge(server: Served, send):
    with server.connect() as sock:
        send(sock, "/callbacks/basic", b"x" * 40 * MB)
        status, told, _ = live.answer(sock)
        assert status == 413
        assert "WWW-Authenticate" not in told
        assert "Connection: close" in told
