"""
What is known to be wrong as yet: each test states what is right, and is expected to fail until it is mended.

Strictly: with its mend a test turns the suite red, and loses its mark. Work is counted, never timed.
"""

import json
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asked
import live
import pytest
from click.testing import CliRunner
from served import children
from stock import Stock

from receiver.cli import main
from receiver.outgoing.relay import tidy
from receiver.store import figures, kept_receipts, now_ms
from receiver.store.clock import RetentionClock
from receiver.store.retention import Limits, Purged, purge

DAY = timedelta(days=1)
LIMITS = Limits(bodies=7 * DAY, rejected=30 * DAY, ids=90 * DAY)
DAY_MS = 24 * 3600 * 1000
MIB = 1024 * 1024


def fill(made: Stock, count: int, *, age_ms: int = 0) -> None:
    """So many events more, a hundred of one callback."""
    for _ in range(count // 100):
        recipients = "".join(
            f"<faxRecipient><number>+4989999981{number:02}</number><status>OK</status></faxRecipient>"
            for number in range(100)
        )
        job = f"<jobId>FJ{time.monotonic_ns()}</jobId>{recipients}"
        body = f'<faxJobReport xmlns="http://retarus.com/fax4ba/faxws/3/0">{job}</faxJobReport>'
        made.take("retarus", body.encode(), "text/xml", age_ms=age_ms)


@contextmanager
def steps(connection: Any) -> Iterator[list[int]]:
    """The hundreds of instructions of SQLite's machine that the block has taken, in one number."""
    counted = [0]

    def count() -> int:
        counted[0] += 1
        return 0

    driver = connection.connection.driver_connection
    driver.set_progress_handler(count, 100)
    try:
        yield counted
    finally:
        driver.set_progress_handler(None, 0)


# --- each receipt's body ---------------------------------------------------------------------------------------------


def test_a_refused_callback_can_be_replayed_for_its_whole_time_though_an_older_one_was_the_same(filled: Stock) -> None:
    body = b"OutTransID=1&AccountID=1&LastStatus=none"
    older = filled.take("openfax", body, age_ms=31 * DAY_MS)
    newer = filled.take("openfax", body, age_ms=2 * DAY_MS)
    store = filled.runtime.store
    with store.writing() as connection:
        while purge(connection, store.tables, LIMITS, now_ms()) != Purged():
            pass
    with store.reading() as connection:
        found = [kept_receipts.one(connection, store.tables, receipt) for receipt in (older, newer)]
    assert [one is not None and one.state for one in found] == ["rejected", "rejected"]
    assert [one is not None and one.body is not None for one in found] == [False, True]


# --- clients that are slow -------------------------------------------------------------------------------------------

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
PATIENT = """
import receiver.web.arriving
from receiver import body, errors

receiver.web.arriving.HEAD_SECONDS = receiver.web.arriving.BODY_SECONDS = 3.0

def app(environ, start_response):
    try:
        body.read(environ, 10000)
        status = "200 OK"
    except errors.BadFraming:
        status = "400 Bad Request"
    start_response(status, [("Content-Length", "0")])
    return []
"""


@pytest.mark.parametrize("begun", [HEAD, HEAD + b"\r\nx"], ids=["in the head", "in the body"])
def test_a_good_request_is_answered_before_slow_ones_are_given_up(tmp_path: Path, begun: bytes) -> None:
    with live.gunicorn(tmp_path, PATIENT) as server, ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(40)]  # more than there are threads
        for sock in slow:
            sock.sendall(begun)
        with server.connect() as good:
            good.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            first, _, _ = select.select([good, *slow], [], [], 60)
            assert good in first
            assert live.answer(good)[0] == 200


# --- strangers -------------------------------------------------------------------------------------------------------


def peak(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def test_the_body_of_a_stranger_is_not_kept_in_memory(tmp_path: Path, sqlite_url: str) -> None:
    token = "uX2mFfN0Q2v6c4Yw8bJ1kZ5tR7sD9gH3"
    endpoint = asked.faxage("line", '{ mode = "none" }', f'tokens = ["{token}"]')
    with asked.serving(tmp_path, sqlite_url, endpoint, 'max_body = "32MiB"') as server:
        workers = [pid for child in children(server.process.pid) for pid in children(child)]
        assert workers
        assert server.post(f"/callbacks/line/{token}").status == 200
        before = sum(map(peak, workers))
        for path in ("/callbacks/nobody/token", "/callbacks/line/wrong-token"):
            assert server.post(path, body=b"x" * 24 * MIB).status == 404
        assert sum(map(peak, workers)) - before < 12 * MIB


# --- a store that has grown ------------------------------------------------------------------------------------------


def most_steps_under_the_lock(made: Stock) -> int:
    """Of one transaction of a round of housekeeping that has nothing to forget."""
    store, found = made.runtime.store, [0]
    writing = store.writing

    @contextmanager
    def counting() -> Iterator[Any]:
        with writing() as connection, steps(connection) as counted:
            yield connection
        found.append(counted[0])

    for _ in tidy(store, LIMITS, RetentionClock()):
        pass  # so that nothing is left
    store.writing = counting  # type: ignore[assignment, method-assign]
    try:
        for _ in tidy(store, LIMITS, RetentionClock()):
            pass
    finally:
        store.writing = writing  # type: ignore[method-assign]
    return max(found)


def test_a_backlog_does_not_make_forgetting_hold_the_lock_for_longer(filled: Stock) -> None:
    fill(filled, 1000, age_ms=8 * DAY_MS)
    few = most_steps_under_the_lock(filled)
    fill(filled, 4000, age_ms=8 * DAY_MS)
    assert most_steps_under_the_lock(filled) < 2 * few


def steps_of(made: Stock, question: Any) -> int:
    store = made.runtime.store
    with store.reading() as connection, steps(connection) as counted:
        question(connection, store.tables)
    return counted[0]


QUESTIONS = {
    "/metrics": figures.read,
    "receipts list --state": lambda connection, tables: kept_receipts.listing(
        connection, tables, limit=50, chosen=kept_receipts.Chosen(state="rejected")
    ),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_of_an_operator_takes_no_more_work_in_a_larger_store(filled: Stock, name: str) -> None:
    fill(filled, 1200)
    for number in range(100):
        filled.fax(number)
    few = steps_of(filled, QUESTIONS[name])
    fill(filled, 2400)
    for number in range(100, 800):
        filled.fax(number)
    assert steps_of(filled, QUESTIONS[name]) < 2 * few + 10


def test_a_list_for_programs_has_a_limit_unless_told_and_says_so(filled: Stock) -> None:
    fill(filled, 1500)
    result = CliRunner().invoke(main, ["events", "list", "--json", "--config", str(filled.config)])
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)) <= 1000
    assert "--limit" in result.stderr
