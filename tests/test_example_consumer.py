"""The example of a company's own consumer, as a process beside the real RabbitMQ."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from queued import Queued, Way, queued, virtual_host
from stock import Process
from waiting import until

from receiver.outgoing.broker import DEAD
from schemas.envelope import CONTENT_TYPE

EXAMPLE = Path(__file__).parents[1] / "deploy" / "examples" / "consumer.py"
pytestmark = pytest.mark.service("rabbitmq")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with virtual_host() as made:
        yield made


@pytest.fixture
def made(tmp_path: Path, url: str) -> Iterator[Queued]:
    with queued(tmp_path, url) as it:
        yield it


@pytest.fixture
def faxes(tmp_path: Path) -> Path:
    return tmp_path / "faxes.db"


def start(made: Queued, faxes: Path, url: str = "", script: str | None = None) -> Process:
    program = [str(EXAMPLE)] if script is None else ["-c", script]
    command = [sys.executable, *program, url or made.queue.url, str(faxes), made.queue.queue]
    return Process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def rows(faxes: Path, query: str = "SELECT revision, outcome FROM faxes ORDER BY rowid") -> list[Any]:
    with closing(sqlite3.connect(faxes, timeout=60)) as database:
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError:  # it has not begun
            return []


def put(made: Queued, body: bytes) -> None:
    """Straight into the queue, as nobody should."""
    with made.channel() as channel:
        message = channel.prepare_message(body, content_type=CONTENT_TYPE, content_encoding="utf-8")
        channel.basic_publish(message, exchange="", routing_key=made.queue.queue)


def stop(process: Process) -> list[str]:
    process.kill()
    out, _ = process.communicate(timeout=120)
    return out.decode().splitlines()


def test_an_amendment_replaces_the_completion(made: Queued, faxes: Path) -> None:
    made.fax(1, status="0")
    made.send()
    with start(made, faxes) as process:
        until(lambda: rows(faxes) == [(1, "delivered")])
        made.fax(1, status="2")
        made.send()
        until(lambda: rows(faxes) == [(2, "failed")])
        said = stop(process)
    assert [line.split()[0] for line in said] == ["ended", "corrected"]


def test_a_repetition_has_no_effect(made: Queued, faxes: Path) -> None:
    made.fill_queue(1)
    event_id = made.events()[0]["id"]
    for _ in range(3):
        put(made, made.payload(event_id))
    made.fax(2)
    made.send()
    with start(made, faxes) as process:
        until(lambda: len(rows(faxes)) == 2)
        assert len(stop(process)) == 2


def test_a_lower_revision_that_comes_late_changes_nothing(made: Queued, faxes: Path) -> None:
    made.fax(1, status="0")
    made.fax(1, status="2")
    by_type = {event["type"]: made.payload(event["id"]) for event in made.events()}
    made.fill_queue(1)  # makes the queue, and puts all three into it
    made.consumed()
    put(made, by_type["fax.amended.v1"])
    put(made, by_type["fax.completed.v1"])
    with start(made, faxes) as process:
        until(lambda: len(rows(faxes, "SELECT * FROM seen")) == 2)
        assert rows(faxes) == [(2, "failed")]
        assert [line.split()[0] for line in stop(process)] == ["corrected"]


def test_killed_between_commit_and_acknowledgement_it_does_nothing_twice(made: Queued, faxes: Path) -> None:
    made.fill_queue(1)
    dies = (
        "import os, runpy, signal, kombu.message as m\n"
        "m.Message.ack = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"import sys; runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    )
    with start(made, faxes, script=dies) as process:
        assert process.wait(120) == -9
    assert len(rows(faxes)) == 1
    until(lambda: made.waiting() == 1)  # RabbitMQ has it again
    with start(made, faxes) as process:
        until(lambda: made.waiting() == 0)
        made.fax(2)
        made.send()
        until(lambda: len(rows(faxes)) == 2)
        assert len(stop(process)) == 1  # the second fax
    assert made.consumed() == []


def test_what_is_no_event_becomes_a_dead_letter_and_the_others_go_on(made: Queued, faxes: Path) -> None:
    made.fill_queue(1)
    before = made.waiting(made.queue.queue + DEAD)
    for body in (b"poison \xff", b"[1]", json.dumps({"type": "order.shipped"}).encode()):
        put(made, body)
    made.fax(2)
    made.send()
    with start(made, faxes) as process:
        until(lambda: len(rows(faxes)) == 2)
        until(lambda: made.waiting(made.queue.queue + DEAD) == before + 3)
        stop(process)


def test_it_comes_back_after_a_broker_that_was_away(made: Queued, faxes: Path) -> None:
    made.fill_queue(1)
    with Way() as way, start(made, faxes, made.queue.url.replace(":5672", f":{way.port}")) as process:
        until(lambda: len(rows(faxes)) == 1)
        way.cut()
        assert process.stderr is not None
        assert b"RabbitMQ is away" in process.stderr.readline()
        way.open()
        made.fax(2)
        made.send()
        until(lambda: len(rows(faxes)) == 2)
        stop(process)
