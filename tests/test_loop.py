"""The worker's loop: whom it waits for, which is nobody, and what becomes of requests meanwhile."""

import fcntl
import json
import select
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from hashlib import md5
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asked
import live
import pytest
from gunicorn.config import Config
from house import FORM
from served import children
from waiting import until

from receiver import errors
from receiver.body import UNASKED, Arrived, Expected
from receiver.system.waiting import WouldWait, may_wait, without_waiting
from receiver.web import connections
from receiver.web.arriving import Arriving, Room
from receiver.web.exchange import Failed
from receiver.web.worker import Worker

TOKEN = "uX2mFfN0Q2v6c4Yw8bJ1kZ5tR7sD9gH3"
PATH = f"/callbacks/line/{TOKEN}"
OPEN = asked.faxage("line", '{ mode = "none" }', f'tokens = ["{TOKEN}"]')
MIB = 1024 * 1024


def post(body: bytes, *headers: str, path: str = PATH) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {FORM}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture
def server(tmp_path: Path, sqlite_url: str) -> Iterator[asked.Served]:
    with asked.serving(tmp_path, sqlite_url, OPEN, 'max_body = "8MiB"') as running:
        yield running


def workers(server: asked.Served) -> list[int]:
    return [pid for child in children(server.process.pid) for pid in children(child)]


# --- clients that are slow -------------------------------------------------------------------------------------------

PATIENT = """
from receiver import body, errors

def app(environ, start_response):
    try:
        size = len(body.read(environ, 1 << 20))
        status = "200 OK"
    except errors.Refusal:
        size, status = 0, "400 Bad Request"
    answer = b"x" * (8 << 20 if environ["PATH_INFO"] == "/much" else 0)
    start_response(status, [("Content-Length", str(len(answer)))])
    return [answer]
"""
BEGUN = {
    "head": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Le",
    "body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx",
    "large body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100000,
    "chunked": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nabc",
    "expect": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
    "answer": b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n",
}


def test_of_many_slow_clients_none_hinders_a_good_one(tmp_path: Path) -> None:
    with live.gunicorn(tmp_path, PATIENT) as server, ExitStack() as stack:
        slow = {name: [stack.enter_context(server.connect()) for _ in range(20)] for name in BEGUN}
        idle = [stack.enter_context(server.connect()) for _ in range(100)]
        for name, begun in BEGUN.items():
            for sock in slow[name]:
                sock.sendall(begun)
        stalled = [sock for name in BEGUN if name not in ("expect", "answer") for sock in slow[name]]
        for _ in range(10):
            with server.connect() as good:
                good.sendall(post(b"a=b", path="/"))
                first, _, _ = select.select([good, *stalled, *idle], [], [], 60)
                assert first == [good]  # before any slow one is given up
                assert live.answer(good)[0] == 200


def test_strangers_with_very_many_chunks_hinder_nobody(server: asked.Served) -> None:
    head = f"POST {PATH[:-4]}none HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    ended = threading.Event()

    def send(_number: int) -> None:
        with suppress(OSError), server.connect() as sock:
            sock.settimeout(60)
            sock.sendall(head)
            for _ in range(10):
                if not ended.is_set():
                    sock.sendall(b"1;a\r\nx\r\n" * 2000)

    with ThreadPoolExecutor(40) as threads, server.connect() as good:
        sending = [threads.submit(send, number) for number in range(40)]
        times: list[float] = []
        while not times or not all(one.done() for one in sending):
            began = time.monotonic()
            good.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert live.answer(good)[0] == 200
            times.append(time.monotonic() - began)
            time.sleep(0.05)
        ended.set()
    # Of all that strangers have sent, a round of the loop reads a little.
    assert sorted(times)[len(times) // 2] < 2


def test_a_request_that_cannot_even_begin_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """And ends no worker: gunicorn refuses a path outside SCRIPT_NAME while it makes the environ."""
    monkeypatch.setenv("SCRIPT_NAME", "/fax")
    arriving = Arriving(Config(), ("127.0.0.1", 1), 1, bytearray(post(b"")))
    assert arriving.read_head()
    connection = SimpleNamespace(arriving=arriving, client=("127.0.0.1", 1), server=("127.0.0.1", 2))
    found = Worker._run(SimpleNamespace(cfg=Config()), connection)  # type: ignore[arg-type]
    assert isinstance(found, Failed)
    assert found.answer.startswith(b"HTTP/1.1 500 ")


def test_where_there_are_too_many_connections_the_new_one_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_MOST", 3)
    with ExitStack() as stack, selectors.DefaultSelector() as poller:
        complete: list[Any] = []
        made = connections.Connections(Config(), poller, Expected(), complete.append)
        clients = []

        def add(sent: bytes) -> socket.socket:
            near, far = (stack.enter_context(sock) for sock in socket.socketpair())
            made.add(near, "", "")
            clients.append(far)
            far.sendall(sent)
            for key, _ in poller.select(5):
                made.ready(key.data)
            return far

        slow = [add(b"POST / HT") for _ in range(3)]
        add(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (len(made), len(complete)) == (3, 1)
        assert slow[0].recv(1) == b""


def test_a_body_is_gone_when_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack, selectors.DefaultSelector() as poller:
        complete: list[Any] = []
        made = connections.Connections(Config(), poller, Expected(), complete.append)
        near, far = (stack.enter_context(sock) for sock in socket.socketpair())
        made.add(near, "", "")
        far.sendall(post(b"x" * 100))
        for key, _ in poller.select(5):
            made.ready(key.data)
        body = complete[0].arriving.body
        made.answer(complete[0], b"HTTP/1.1 200 OK\r\n\r\n", closes=True)
        assert body.closed


def test_a_body_in_many_pieces_is_one_body(server: asked.Served) -> None:
    wire = post(asked.fax(), "Connection: close")
    with server.connect() as sock:
        for at in range(len(wire)):
            sock.sendall(wire[at : at + 1])
        assert live.answer(sock)[0] == 200


def test_requests_behind_each_other_are_answered_in_their_order(server: asked.Served) -> None:
    faxes = [asked.fax() for _ in range(20)]
    with server.connect() as sock:
        sock.sendall(b"".join(map(post, [*faxes, faxes[0]])) + post(b"jobid=1", path="/nowhere"))
        found = [live.answer(sock) for _ in range(22)]
    assert [status for status, _, _ in found] == [200] * 21 + [404]
    states = [json.loads(body)["status"] for _, _, body in found[:21]]
    assert states == ["accepted"] * 20 + ["duplicate"]


def test_what_a_thread_takes_and_what_the_loop_takes_is_committed_alike(server: asked.Served) -> None:
    def send(number: int) -> int:
        padding = b"&longstatus=" + b"x" * (40_000 if number % 2 else 10)
        return server.post(PATH, body=asked.fax() + padding).status

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(send, range(64))) == {200}


def test_a_client_that_goes_before_its_answer_changes_nothing(server: asked.Served) -> None:
    body = asked.fax()
    with server.connect() as sock:
        sock.sendall(post(body))
    until(lambda: json.loads(server.post(PATH, body=body).body)["status"] == "duplicate")


def test_idle_connections_cost_no_thread(server: asked.Served) -> None:
    def threads() -> int:
        return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in workers(server))

    with ExitStack() as stack:
        kept = [stack.enter_context(server.connect()) for _ in range(100)]
        for sock in kept[:10]:
            sock.sendall(post(asked.fax()))
            assert live.answer(sock)[0] == 200
        before = threads()
        for sock in kept[10:]:
            sock.sendall(post(asked.fax()))
            assert live.answer(sock)[0] == 200
        # Some may have begun to commit or to answer meanwhile, where the disk is slow; not one for each connection.
        assert threads() - before < 20


# --- strangers -------------------------------------------------------------------------------------------------------


def memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def test_of_forty_strangers_at_once_nothing_is_kept(server: asked.Served) -> None:
    def send(_number: int) -> int:
        return server.post("/callbacks/line/wrong-token", body=b"x" * 8 * MIB).status

    for _ in range(20):  # so that what is loaded once is there
        assert server.post(PATH).status == 200
        assert server.post("/callbacks/line/wrong-token", body=b"x" * MIB).status == 404
    before = sum(map(memory, workers(server)))
    with ThreadPoolExecutor(40) as threads:
        assert set(threads.map(send, range(40))) == {404}
    assert sum(map(memory, workers(server))) - before < 10 * MIB


def test_large_bodies_share_a_room(tmp_path: Path) -> None:
    def arriving(size: int) -> Arriving:
        buffer = bytearray(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        made = Arriving(Config(), ("", 0), 1, buffer)
        assert made.read_head()
        assert made.read_body(MIB, lambda _: True, room)
        return made

    room = Room(2 * MIB)
    first, second, third = (arriving(MIB - 1) for _ in range(3))
    assert [len(one.body.getvalue()) for one in (first, second, third)] == [MIB - 1, MIB - 1, 0]
    with pytest.raises(errors.Unavailable):
        third.body.whole(MIB - 1, MIB, lambda: True)
    assert arriving(UNASKED).body.trouble == ""  # small ones need none
    first.release(room)
    assert arriving(MIB - 1).body.trouble == ""
    assert arriving(MIB + 1).body.trouble == ""
    assert third.body.trouble == Arrived.CROWDED


# --- what may block --------------------------------------------------------------------------------------------------


def test_what_may_wait_is_told_so_where_nobody_may() -> None:
    may_wait()
    with without_waiting(), pytest.raises(WouldWait):
        may_wait()
    may_wait()


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Somebody else writes, and does not end."""
    path = Path(url.removeprefix("sqlite:///") + ".lock")
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_while_others_hold_the_store_the_worker_lives_and_answers_503_after_4_seconds(
    server: asked.Served, sqlite_url: str
) -> None:
    def send(_number: int) -> tuple[int, list[str], float]:
        began = time.monotonic()
        told = server.post(PATH)
        return told.status, told.all("Retry-After"), time.monotonic() - began

    # More than all workers together accept while none of them has to wait.
    with ThreadPoolExecutor(100) as threads, locked(sqlite_url):
        waiting = [threads.submit(send, number) for number in range(100)]
        alive = 0
        while not all(one.done() for one in waiting):
            assert server.post("/healthz", method="GET", body=b"").status == 200
            assert server.post("/callbacks/line/wrong-token").status == 404
            alive += 1
            time.sleep(0.02)
        assert alive > 10
    for status, retry_after, seconds in (one.result() for one in waiting):
        assert (status, retry_after) == (503, ["5"])
        assert 3.9 < seconds < 60
    assert server.post(PATH).status == 200


def test_a_digest_retry_after_503_is_told_that_its_nonce_is_stale(tmp_path: Path, sqlite_url: str) -> None:
    """The nonce is claimed before anything is decoded, and no claim is taken back."""
    auth = '{ mode = "digest", algorithms = ["MD5"], credentials = [{ user = "u", password = "a long password" }] }'
    with asked.serving(tmp_path, sqlite_url, asked.faxage("line", auth)) as server:
        path = "/callbacks/line"

        def challenge() -> dict[str, str]:
            (text,) = server.post(path).challenges
            fields = (one.split("=", 1) for one in text.removeprefix("Digest ").split(", "))
            return {name: value.strip('"') for name, value in fields}

        def header(given: dict[str, str]) -> tuple[str, str]:
            def hashed(text: str) -> str:
                return md5(text.encode(), usedforsecurity=False).hexdigest()

            one, two = hashed(f"u:{given['realm']}:a long password"), hashed(f"POST:{path}")
            response = hashed(f"{one}:{given['nonce']}:00000001:c:auth:{two}")
            shown = {"username": "u", "realm": given["realm"], "nonce": given["nonce"], "uri": path}
            shown |= {"cnonce": "c", "response": response, "algorithm": "MD5"}
            pairs = ", ".join(f'{name}="{value}"' for name, value in shown.items())
            return "Authorization", f"Digest {pairs}, qop=auth, nc=00000001"

        def told(answer: asked.Told) -> Any:
            return answer.status, any("stale=true" in one for one in answer.challenges)

        body, shown = asked.fax(), header(challenge())
        with locked(sqlite_url):
            assert told(server.post(path, shown, body=body)) == (503, False)
        assert told(server.post(path, shown, body=body)) == (401, True)
        assert told(server.post(path, header(challenge()), body=body)) == (200, False)


def test_a_stopping_worker_answers_what_waits_for_its_commit(server: asked.Served, sqlite_url: str) -> None:
    answers: list[int] = []
    with ExitStack() as stack:
        sent = [stack.enter_context(server.connect()) for _ in range(8)]
        with locked(sqlite_url):
            for sock in sent:
                sock.sendall(post(asked.fax()))
            time.sleep(0.3)
            server.process.terminate()
            time.sleep(0.3)
        for sock in sent:
            status, head, _ = live.answer(sock)
            answers.append(status)
            assert "Connection: close" in head
    assert answers == [200] * 8
    assert server.process.wait(60) == 0


def test_connections_are_shared_among_the_workers(server: asked.Served) -> None:
    """As many as one would take at most, and more: the other has some of them."""
    stop = threading.Event()

    def send(sock: socket.socket) -> None:
        while not stop.is_set():
            sock.sendall(post(asked.fax()))
            assert live.answer(sock)[0] == 200

    with ThreadPoolExecutor(50) as threads, ExitStack() as stack:
        sockets = [stack.enter_context(server.connect()) for _ in range(50)]
        ports = {sock.getsockname()[1] for sock in sockets}
        running = [threads.submit(send, sock) for sock in sockets]
        until(lambda: sum(taken(pid, ports) for pid in workers(server)) == len(ports))
        shares = [taken(pid, ports) for pid in workers(server)]
        stop.set()
        for one in running:
            one.result()
    assert min(shares) >= 10, shares


def taken(pid: int, ports: set[int]) -> int:
    """How many of the connections that come from these ports the process has."""
    links = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            links.add(str(link.readlink()))
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(int(row[2].rpartition(":")[2], 16) in ports and f"socket:[{row[9]}]" in links for row in rows)
