"""What is a request, and where it ends: our loop, its thread pool and gunicorn's own worker give the same verdicts."""

import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import live
import pytest
from gunicorn.config import Config
from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import ParseException
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader

from receiver.web.arriving import Arriving
from receiver.web.chunks import Chunks, MalformedError
from receiver.web.exchange import status_of

APPLICATION = """
from hashlib import sha256
import receiver.web.arriving
from receiver import body, errors

receiver.web.arriving.BODY_SECONDS = receiver.web.arriving.HEAD_SECONDS = 5.0

def app(environ, start_response):
    try:
        data = body.read(environ, 1024 * 1024, deadline_seconds=5.0)
    except errors.Refusal as refusal:
        status, text = f"{refusal.status} Refused", f"{refusal.code}: {refusal.detail}"
    else:
        status, text = "200 OK", f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} {sha256(data).hexdigest()}"
    start_response(status, [("Content-Length", str(len(text)))])
    return [text.encode()]
"""


def post(*headers: str, line: str = "POST {path} HTTP/1.1", host: str = "Host: x") -> bytes:
    return "\r\n".join([line, *([host] if host else []), *headers, "", ""]).encode("latin-1")


CHUNKED = "Transfer-Encoding: chunked"
THREE = "Content-Length: 3"

# Each with {path} in the place of the path.
CORPUS = {
    "a body": post(THREE) + b"abc",
    "no length": post(),
    "length 0": post("Content-Length: 0"),
    "chunked": post(CHUNKED) + b"3\r\nabc\r\n0\r\n\r\n",
    "chunked, with extension and trailer": post(CHUNKED) + b'3 ;a="b"\r\nabc\r\n00;x\r\nX-Trailer: 1\r\n\r\n',
    "chunk sizes in upper case, with zeros": post(CHUNKED) + b"00A\r\n0123456789\r\n0\r\n\r\n",
    "CHUNKED": post("Transfer-Encoding: CHUNKED") + b"0\r\n\r\n",
    "both lengths": post(THREE, CHUNKED) + b"0\r\n\r\n",
    "both lengths, other order": post(CHUNKED, THREE) + b"0\r\n\r\n",
    "chunked twice": post("Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n",
    "two Transfer-Encodings": post(CHUNKED, CHUNKED) + b"0\r\n\r\n",
    "chunked, then identity": post("Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
    "identity": post("Transfer-Encoding: identity", THREE) + b"abc",
    "unknown coding": post("Transfer-Encoding: magic"),
    "unknown coding, then chunked": post("Transfer-Encoding: magic, chunked") + b"0\r\n\r\n",
    "gzip, chunked": post("Transfer-Encoding: gzip, chunked") + b"3\r\nabc\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": post(CHUNKED, line="POST {path} HTTP/1.0") + b"0\r\n\r\n",
    "gzip content": post("Content-Encoding: gzip", THREE) + b"abc",
    "identity content": post("Content-Encoding: identity", THREE) + b"abc",
    **{
        f"length {text}": post(f"Content-Length: {text}") + b"abc"
        for text in ("+3", "-1", "3,3", "0x3", "3 3", "1_0", "", "abc", "\xb2", "0003", "0" * 30 + "3", "9" * 40)
    },
    "two equal lengths": post(THREE, THREE) + b"abc",
    "two lengths": post(THREE, "Content-Length: 4") + b"abcd",
    "space before the colon": post("Content-Length : 3") + b"abc",
    "line folded": post("X-A: 1\r\n 2", THREE) + b"abc",
    "name without value": post("X-A", THREE) + b"abc",
    "empty name": post(": 1", THREE) + b"abc",
    "NUL in a value": post("X-A: a\0b", THREE) + b"abc",
    "name with an underscore": post("Content_Length: 4", THREE) + b"abc",
    "two Hosts": post("Host: y", THREE) + b"abc",
    "no Host": post(THREE, host="") + b"abc",
    "two Content-Types": post("Content-Type: a/b", "Content-Type: c/d", THREE) + b"abc",
    "bare LF after the line": post(THREE).replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n") + b"abc",
    "bare LF after a header": post(THREE).replace(b"Host: x\r\n", b"Host: x\n") + b"abc",
    "bare LF at the end": post(THREE)[:-2] + b"\nabc",
    "bare CR in a value": post("X-A: a\rb", THREE) + b"abc",
    "empty line before": b"\r\n" + post(THREE) + b"abc",
    "two empty lines before": b"\r\n\r\n" + post(THREE) + b"abc",
    "lower-case method": post(line="post {path} HTTP/1.1"),
    "method with odd characters": post(line="PO(ST {path} HTTP/1.1"),
    "unknown method": post(line="BREW {path} HTTP/1.1"),
    "GET": post(line="GET {path}?a=b HTTP/1.1"),
    "GET with a body": post(THREE, line="GET {path} HTTP/1.1") + b"abc",
    "HEAD": post(line="HEAD {path} HTTP/1.1"),
    "OPTIONS *": post(line="OPTIONS * HTTP/1.1"),
    "POST *": post(line="POST * HTTP/1.1"),
    "absolute form": post(line="POST http://x{path} HTTP/1.1"),
    "authority form": post(line="POST x:80 HTTP/1.1"),
    "path that is not ASCII": post(line="POST {path}\xe4 HTTP/1.1"),
    "two spaces": post(line="POST  {path} HTTP/1.1"),
    "no version": post(line="POST {path}"),
    "HTTP/2.0": post(line="POST {path} HTTP/2.0"),
    "HTTP/1.0": post(THREE, line="POST {path} HTTP/1.0") + b"abc",
    "HTTP/1.0, kept": post(THREE, "Connection: keep-alive", line="POST {path} HTTP/1.0") + b"abc",
    "closing": post(THREE, "Connection: close") + b"abc",
    "upgrade": post(THREE, "Connection: Upgrade", "Upgrade: websocket") + b"abc",
    "101 headers": post(*(f"X-{number}: 1" for number in range(101))),
    "a header of 9 kB": post("X-A: " + "a" * 9000),
    "a URL of 9 kB": post(line="POST {path}?" + "a" * 9000 + " HTTP/1.1"),
    "a line without end": b"POST {path}" + b"a" * 9000,
    "headers without end": post(*(f"X-{number}: " + "a" * 8000 for number in range(120)))[:-4],
    "Expect": post(THREE, "Expect: 100-continue") + b"abc",
    "Expect something else": post(THREE, "Expect: more") + b"abc",
    "Expect in HTTP/1.0": post(THREE, "Expect: 100-continue", line="POST {path} HTTP/1.0") + b"abc",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
    "nothing": b"",
    "half a head": post(THREE)[:-10],
    "body cut": post("Content-Length: 30") + b"abc",
    "chunk cut": post(CHUNKED) + b"5\r\nabc",
    "trailers cut": post(CHUNKED) + b"0\r\nX: 1\r\n",
    "no last chunk": post(CHUNKED) + b"3\r\nabc\r\n",
    "chunk too long": post(CHUNKED) + b"2\r\nabc\r\n0\r\n\r\n",
    "chunk size -1": post(CHUNKED) + b"-1\r\nabc\r\n0\r\n\r\n",
    "chunk size 0x3": post(CHUNKED) + b"0x3\r\nabc\r\n0\r\n\r\n",
    "chunk size of 40 digits": post(CHUNKED) + b"f" * 40 + b"\r\nabc\r\n0\r\n\r\n",
    "chunk with bare LF": post(CHUNKED) + b"3\nabc\r\n0\r\n\r\n",
    "chunk with a space": post(CHUNKED) + b"3 \r\nabc\r\n0\r\n\r\n",
    "bad extension": post(CHUNKED) + b'3;"\r\nabc\r\n0\r\n\r\n',
    "bad trailer": post(CHUNKED) + b"0\r\nContent-Length: 3\r\n\r\n",
    "trailer with bare LF": post(CHUNKED) + b"0\r\nX: 1\nY: 2\r\n\r\n",
    "too large": post("Content-Length: 1048577") + b"x" * 1048577,
    "too large, chunked": post(CHUNKED) + b"100001\r\n" + b"x" * 1048577 + b"\r\n0\r\n\r\n",
    "large": post("Content-Length: 100000") + b"x" * 100000,
    "far too large": post("Content-Length: 100000000000") + b"x",
    "two in one packet": post(THREE) + b"abc" + post(THREE) + b"def",
}
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
SERVERS = {"loop": "/callbacks/x", "pool": "/other", "gthread": "/callbacks/x"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, live.Server]]:
    with ExitStack() as stack:
        folders = {name: tmp_path_factory.mktemp(name) for name in ("loop", "gthread")}
        loop = stack.enter_context(live.gunicorn(folders["loop"], APPLICATION))
        gthread = stack.enter_context(live.gunicorn(folders["gthread"], APPLICATION, "--worker-class", "gthread"))
        yield {"loop": loop, "pool": loop, "gthread": gthread}


def verdicts(server: live.Server, path: str, *pieces: bytes) -> list[tuple[str, bytes]]:
    """Of each request that was answered, the status, and what the application said of it."""
    received = b""
    with server.connect() as sock:
        try:
            for piece in pieces:
                sock.sendall(piece.replace(b"{path}", path.encode()))
                time.sleep(0.01 * (len(pieces) > 1))
            sock.shutdown(socket.SHUT_WR)
            while data := sock.recv(65536):
                received += data
        except (ConnectionResetError, BrokenPipeError):
            pass  # it was refused before it had been sent
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100"):
            received = rest
            continue
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = 0 if b"HEAD" in pieces[0][:10] else int(fields[b"content-length"])
        status = head.split()[1].decode()
        said = rest[:length].replace(path.encode(), b"{path}") if fields.get(b"content-type") is None else b""
        found.append((status, said))
        received = rest[length:]
    return found


@pytest.mark.parametrize("name", CORPUS)
def test_the_verdict_is_everywhere_the_same(servers: dict[str, live.Server], name: str) -> None:
    for follows in (b"", NEXT):
        sent = CORPUS[name] + follows
        found = {server: verdicts(servers[server], path, sent) for server, path in SERVERS.items()}
        cut = len(sent) // 2
        found["in pieces"] = verdicts(servers["loop"], "/callbacks/x", sent[:cut], sent[cut : cut + 1], sent[cut + 1 :])
        assert len({str(one) for one in found.values()}) == 1, found


HOW_MANY = pytest.mark.parametrize("count", [500, pytest.param(40_000, marks=pytest.mark.campaign)])


def mutated(source: random.Random, wire: bytes) -> bytes:
    changed = bytearray(wire)
    for _ in range(source.randint(1, 3)):
        at = source.randrange(len(changed))
        match source.randrange(3):
            case 0:
                changed[at] = source.choice(b'\r\n\0 ;:0123456789afx,\t"\xe4')
            case 1:
                del changed[at]
            case _:
                changed.insert(at, source.choice(b"\r\n 0;:,a"))
    return bytes(changed)


@HOW_MANY
def test_chunks_are_decoded_as_gunicorn_does_whatever_becomes_of_them(count: int) -> None:
    source = random.Random(11)
    wires = [CORPUS[name].partition(b"\r\n\r\n")[2] for name in CORPUS if "chunk" in name or "trailer" in name]
    wires = [wire for wire in wires if 0 < len(wire) < 100]
    for _ in range(count):
        wire = mutated(source, source.choice(wires))
        request = Request(Config(), IterUnreader([post(CHUNKED).replace(b"{path}", b"/")]), ("", 0))
        unreader = IterUnreader([wire])
        whole: Any
        try:
            reader, decoded = ChunkedReader(request, unreader), b""
            while piece := reader.read(1000):
                decoded += piece
            whole = decoded, unreader.buf.getvalue()
        except (ParseException, OSError):
            whole = None
        chunks, buffer, ours = Chunks(request), bytearray(), b""
        found: Any = None
        try:
            for byte in wire:
                if not chunks.is_complete:
                    buffer.append(byte)
                    ours += chunks.take(buffer)
                else:
                    buffer.append(byte)
            found = (ours, bytes(buffer)) if chunks.is_complete else None
        except MalformedError:
            pass
        assert found == whole, wire


@HOW_MANY
def test_a_head_that_comes_in_pieces_is_what_it_is_in_one(count: int) -> None:
    source = random.Random(12)
    heads = [CORPUS[name].replace(b"{path}", b"/callbacks/x") for name in CORPUS]
    heads = [head for head in heads if 0 < len(head) < 300]
    for _ in range(count):
        wire = mutated(source, source.choice(heads))
        whole = parsed(wire)
        buffer = bytearray()
        arriving = Arriving(Config(), ("", 0), 1, buffer)
        found: Any = None
        at = 0
        while at < len(wire) and found is None:
            step = source.randint(1, 40)
            buffer += wire[at : at + step]
            at += step
            try:
                if arriving.read_head():
                    found = described(arriving.request)
            except ParseException as error:
                found = status_of(error)
        assert found == whole, wire


def parsed(wire: bytes) -> Any:
    try:
        return described(Request(Config(), IterUnreader([wire]), ("", 0)))
    except ParseException as error:
        return status_of(error)
    except OSError:
        return None  # not yet complete


def described(request: Any) -> tuple[Any, ...]:
    return request.method, request.uri, request.version, request.headers
