"""``faxhook consume`` as a process, with RabbitMQ as the queue: killed, interrupted, cut off from reader and broker."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from amqp.exceptions import NotFound
from queued import Queued, Way, ids, queued, virtual_host
from stock import environment
from waiting import terminate_twice, until

from receiver.outgoing.broker import DEAD
from schemas.envelope import CONTENT_TYPE

pytestmark = pytest.mark.service("rabbitmq")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with virtual_host() as made:
        yield made


@pytest.fixture
def made(tmp_path: Path, url: str) -> Iterator[Queued]:
    with queued(tmp_path, url) as it:
        yield it
        with it.channel() as channel:
            channel.queue_delete(it.queue.queue)


def test_each_line_is_exactly_the_published_envelope(made: Queued) -> None:
    expected = made.fill_queue(120)
    lines = made.consumed()
    assert len(lines) == 120
    assert set(ids(lines)) == expected
    assert all(line == made.payload(event_id) for line, event_id in zip(lines, ids(lines), strict=True))
    assert made.consumed() == []


def test_events_of_one_fax_come_in_the_order_of_their_revisions(made: Queued) -> None:
    made.fax(1, status="0")
    made.fax(1, status="2")
    made.send()
    lines = [json.loads(line) for line in made.consumed()]
    assert [line["data"]["revision"] for line in lines] == [1, 2]


@pytest.mark.parametrize("count", [1, 50, 73])
def test_max_takes_exactly_so_many_and_the_rest_is_there_at_once_untouched(made: Queued, count: int) -> None:
    made.fill_queue(120)
    assert len(made.consumed("--max", str(count))) == count
    assert made.waiting() == 120 - count
    with made.channel() as channel:
        left = [channel.basic_get(made.queue.queue) for _ in range(120 - count)]
    assert not any(message.delivery_info["redelivered"] for message in left)  # nobody has had them before


def test_max_counts_events_that_come_one_by_one(made: Queued) -> None:
    with made.start("consume", "--follow", "--max", "60") as process:
        for number in range(60):
            made.fax(number)
            if number % 7 == 0:
                made.send()
        made.fax(100)
        made.send()
        assert len(process.communicate(timeout=120)[0].splitlines()) == 60
        assert process.returncode == 0
    assert made.waiting() == 1


def test_it_ends_after_seconds_without_an_event(made: Queued) -> None:
    made.fill_queue(2)
    started = time.monotonic()
    assert len(made.consumed("--follow", "--idle-seconds", "1")) == 2
    assert time.monotonic() - started >= 1


def test_a_follower_gets_an_event_within_moments_and_ends_at_sigterm(made: Queued) -> None:
    with made.start("consume", "--follow") as process:
        made.fill_queue(1)
        assert process.stdout is not None
        process.stdout.readline()  # it is up
        made.fax(2)
        made.send()
        started = time.monotonic()
        assert json.loads(process.stdout.readline())["data"]["provider_job_id"] == "2"
        assert time.monotonic() - started < 30
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert made.waiting() == 0


def unread(process: "subprocess.Popen[bytes]") -> int:
    """Bytes in its output that nobody has taken."""
    assert process.stdout is not None
    return int.from_bytes(fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_what_a_killed_consumer_had_not_acknowledged_goes_to_the_next(made: Queued) -> None:
    """It is killed while the pipe is full, in the middle of a batch."""
    expected = made.fill_queue(160)
    with made.start("consume", "--follow") as process:
        until(lambda: unread(process) > 45_000)  # more than the first batches, which are small: it is in a larger one
        assert made.waiting() >= 60  # the consumer waits for its reader
        process.kill()
        assert process.stdout is not None
        read = process.stdout.read().splitlines(keepends=True)
    whole = [line for line in read if line.endswith(b"\n")]
    following = made.consumed()
    assert set(ids(whole)) | set(ids(following)) == expected
    assert len(whole) + len(following) > len(expected)  # some come twice


def test_sigterm_ends_a_consumer_whose_reader_does_not_read_and_its_events_are_given_back(made: Queued) -> None:
    expected = made.fill_queue(160)
    with made.start("consume", "--follow") as process:
        until(lambda: made.waiting() < 160)
        time.sleep(0.5)
        terminate_twice(process)  # the second one ends the wait for the reader
        assert process.wait(60) == 0
        assert process.stdout is not None
        read = process.stdout.read().splitlines(keepends=True)
    following = made.consumed()
    assert set(ids([line for line in read if line.endswith(b"\n")])) | set(ids(following)) == expected


def test_a_reader_that_goes_away_ends_it_and_what_it_may_not_have_read_is_told(made: Queued) -> None:
    made.fill_queue(3)
    with made.start("consume", "--follow") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(3):
            process.stdout.readline()
        process.stdout.close()
        made.fax(1)
        made.send()
        assert process.wait(60) == 1
        assert b"3 events were acknowledged but perhaps not read" in process.stderr.read()
    assert made.waiting() == 1


def test_a_full_disk_behind_standard_output_is_trouble_and_nothing_is_lost(made: Queued) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    made.fill_queue(3)
    with open("/dev/full", "wb") as full:
        process = made.start("consume", stdout=full)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"standard output" in err
    assert made.waiting() == 3


IMPATIENT = (
    "from receiver import cli; from receiver.outgoing import broker;"
    " broker.HEARTBEAT_SECONDS = {0}; broker.SOCKET_SECONDS = {0}; cli.main()"
)


def impatient(made: Queued, heartbeat: float, *options: str) -> "subprocess.Popen[bytes]":
    """With heartbeats in seconds, so that no test waits for half a minute."""
    command = [sys.executable, "-c", IMPATIENT.format(heartbeat), "consume", *options, "--config", str(made.config)]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_reader_that_sleeps_costs_neither_the_connection_nor_an_event(made: Queued) -> None:
    """For longer than the broker waits for a heartbeat."""
    made.fill_queue(90)
    heartbeat = 4.0  # a busy machine may stop us for a second or two
    with impatient(made, heartbeat, "--idle-seconds", "1") as process:
        until(lambda: unread(process) > 50_000)
        time.sleep(1)  # the pipe is full
        for number in range(30):
            made.fax(number)
        made.send()  # what comes meanwhile is no heartbeat
        time.sleep(3.5 * heartbeat)  # the broker gives up after the third one that it misses
        out, err = process.communicate(timeout=120)
    assert err == b""
    assert sorted(ids(out.splitlines())) == sorted(event["id"] for event in made.events())
    assert made.states() == {"published": 120}


def test_a_follower_at_rest_costs_next_to_nothing(made: Queued) -> None:
    made.fill_queue(1)
    with made.start("consume", "--follow") as process:
        assert process.stdout is not None
        process.stdout.readline()
        before = cpu_seconds(process.pid)
        time.sleep(1.5)
        assert cpu_seconds(process.pid) - before < 0.15
        process.terminate()
        assert process.wait(60) == 0


def cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        pytest.skip("no /proc")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_two_consumers_share_the_events(made: Queued) -> None:
    expected = made.fill_queue(200)
    processes = [made.start("consume", "--idle-seconds", "1") for _ in range(2)]
    lines = [line for process in processes for line in process.communicate(timeout=120)[0].splitlines()]
    assert sorted(ids(lines)) == sorted(expected)


def test_what_is_no_event_of_ours_becomes_a_dead_letter(made: Queued) -> None:
    made.fill_queue(1)
    with made.channel() as channel:
        for body, kind in ((b"{}", "application/json"), (b"{\n}", CONTENT_TYPE)):
            message = channel.prepare_message(body, content_type=kind, content_encoding="utf-8")
            channel.basic_publish_confirm(message, exchange="", routing_key=made.queue.queue)
    until(lambda: made.waiting() == 3)
    before = made.waiting(made.queue.queue + DEAD)
    process = made.start("consume")
    out, err = process.communicate(timeout=120)
    assert len(out.splitlines()) == 1
    assert [json.loads(line)["event"] for line in err.splitlines()] == ["message_rejected"] * 2
    until(lambda: made.waiting(made.queue.queue + DEAD) == before + 2)


# --- a broker that is away ------------------------------------------------------------------------------------------


@pytest.fixture
def way(url: str) -> Iterator[Way]:
    with Way() as it:
        yield it


@pytest.fixture
def far(tmp_path: Path, url: str, way: Way) -> Iterator[Queued]:
    """With RabbitMQ behind a way that can be closed."""
    with queued(tmp_path, url.replace(":5672", f":{way.port}")) as it:
        yield it
        way.open()
        with it.channel() as channel:
            channel.queue_delete(it.queue.queue)


def test_a_follower_survives_a_broker_that_goes_away_and_comes_back(far: Queued, way: Way) -> None:
    far.fill_queue(1)
    with far.start("consume", "--follow") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        way.cut()
        for _ in range(2):  # when it is lost, and when it cannot be found again
            said = json.loads(process.stderr.readline())
            assert (said["event"], said["reason"]) == ("broker_unavailable", "connection")
        way.open()
        far.fax(2)
        far.send()
        assert json.loads(process.stdout.readline())["data"]["provider_job_id"] in ("2", "1000")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_follower_notices_a_broker_that_has_frozen(far: Queued, way: Way) -> None:
    far.fill_queue(1)
    with impatient(far, 1.0, "--follow") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        way.freeze()
        assert json.loads(process.stderr.readline())["event"] == "broker_unavailable"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_sigterm_is_obeyed_while_the_broker_is_frozen(far: Queued, way: Way) -> None:
    far.fill_queue(1)
    with far.start("consume", "--follow") as process:
        assert process.stdout is not None
        process.stdout.readline()
        way.freeze()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_without_follow_a_broker_that_is_away_is_trouble(far: Queued, way: Way) -> None:
    way.cut()
    process = far.start("consume")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert out == b""
    refused = "connection refused; is the broker running, and is this its port?"
    assert err.decode() == f"faxhook: queue.url: amqp://127.0.0.1:{way.port}: {refused}\n"


def test_a_follower_that_was_given_an_end_does_not_wait_for_a_broker_beyond_it(far: Queued, way: Way) -> None:
    way.cut()
    process = far.start("consume", "--follow", "--idle-seconds", "0.5")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.decode().splitlines()[-1].startswith(f"faxhook: queue.url: amqp://127.0.0.1:{way.port}: ")


def test_a_queue_that_is_missing_and_may_not_be_made_is_named(tmp_path: Path, url: str) -> None:
    with queued(tmp_path, url, "declare = false") as made:
        process = made.start("consume")
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"the exchange {made.queue.exchange} does not exist, and with queue.declare = false".encode() in err


def test_a_follower_comes_back_to_a_queue_that_was_deleted(made: Queued) -> None:
    made.fill_queue(1)
    with made.start("consume", "--follow") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        with made.channel() as channel:
            channel.queue_delete(made.queue.queue)
        assert json.loads(process.stderr.readline())["event"] == "broker_unavailable"
        until(lambda: consumers(made) == 1)
        made.fax(2)
        made.send()
        assert json.loads(process.stdout.readline())["data"]["provider_job_id"] == "2"
        process.terminate()
        assert process.wait(60) == 0


def consumers(made: Queued) -> int:
    try:
        with made.channel() as channel:
            return int(channel.queue_declare(made.queue.queue, passive=True).consumer_count)
    except NotFound:
        return 0
