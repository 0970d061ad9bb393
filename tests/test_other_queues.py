"""Queues other than RabbitMQ, from a callback to ``faxhook consume``: Redis, SQS (moto's), and those for trying out."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
import redis
from brokers import RedisServer as Server
from click.testing import CliRunner
from moto.server import ThreadedMotoServer
from ports import free_port
from queued import Queued, ids, queued
from waiting import until

from receiver import settings
from receiver.cli import main


def logged(process: "subprocess.Popen[bytes]", event: str) -> dict[str, Any]:
    """The next line of the log about this."""
    assert process.stderr is not None
    for line in process.stderr:
        said: dict[str, Any] = json.loads(line)
        if said["event"] == event:
            return said
    raise AssertionError(f"it ended without saying {event}")


def round_trip(made: Queued) -> None:
    expected = made.fill_queue(20)
    lines = made.consumed()
    assert sorted(ids(lines)) == sorted(expected)
    assert all(line == made.payload(event_id) for line, event_id in zip(lines, ids(lines), strict=True))
    assert made.consumed() == []


# --- Redis ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always") as it:
        yield it


@pytest.fixture
def made(tmp_path: Path, server: Server) -> Iterator[Queued]:
    with queued(tmp_path, server.url) as it:
        yield it


pytestmark_redis = pytest.mark.service("redis")


@pytestmark_redis
def test_redis_gives_the_very_bytes(made: Queued) -> None:
    round_trip(made)


@pytestmark_redis
@pytest.mark.parametrize("options", [("--max", "7"), ("--max", "7", "--follow")])
def test_redis_keeps_what_max_leaves(made: Queued, server: Server, options: tuple[str, ...]) -> None:
    made.fill_queue(20)
    assert len(made.consumed(*options)) == 7
    with server.client() as client:
        assert client.llen(made.queue.queue) == 13
        assert client.hlen("unacked") == 0


@pytestmark_redis
def test_an_empty_redis_is_a_queue_even_where_nothing_may_be_declared(tmp_path: Path, server: Server) -> None:
    with queued(tmp_path, server.url, "declare = false") as made:
        assert made.consumed() == []
        round_trip(made)


@pytestmark_redis
def test_a_follower_of_redis_gets_an_event_within_moments_and_leaves_nothing_behind(
    made: Queued, server: Server
) -> None:
    with made.start("consume", "--follow") as process:
        made.fill_queue(1)
        assert process.stdout is not None
        process.stdout.readline()
        made.fax(2)
        made.send()
        started = time.monotonic()
        assert json.loads(process.stdout.readline())["data"]["provider_job_id"] == "2"
        assert time.monotonic() - started < 30
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    with server.client() as client:
        assert client.keys() == []


@pytest.mark.campaign
@pytestmark_redis
def test_what_a_killed_consumer_held_in_redis_comes_again(made: Queued, server: Server) -> None:
    """After a minute; here it is made to have passed."""
    expected = made.fill_queue(120)
    with made.start("consume", "--follow") as process, server.client() as client:
        until(lambda: client.hlen("unacked") == 1)
        until(lambda: _is_stuck(client, made))
        process.kill()
        assert process.stdout is not None
        read = [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
        tags = client.zrange("unacked_index", 0, -1)
        assert len(tags) == 1
        client.zadd("unacked_index", {tags[0]: time.time() - 61})
        following = made.consumed("--idle-seconds", "4")
        assert set(ids(read)) | set(ids(following)) == expected
        assert client.hlen("unacked") == 0


def _is_stuck(client: "redis.Redis[Any]", made: Queued) -> bool:
    """Whether the consumer waits for its reader."""
    before = client.llen(made.queue.queue)
    time.sleep(1.0)
    return bool(client.llen(made.queue.queue) == before)


@pytest.mark.campaign
@pytestmark_redis
def test_redis_killed_in_the_middle_loses_nothing_that_it_had_synced_and_the_relay_resumes(
    made: Queued, server: Server
) -> None:
    with made.start("relay") as relay:
        expected = made.fill(50)
        until(lambda: made.states().get("published", 0) > 0)
        server.kill()
        expected |= made.fill(150)
        assert logged(relay, "publish_failed")["reason"] == "connection"
        server.start()
        until(lambda: made.states() == {"published": 150})
        relay.terminate()
        relay.communicate(timeout=120)
        assert relay.returncode == 0
    assert set(ids(made.consumed())) == expected


@pytestmark_redis
def test_a_follower_survives_redis_that_goes_away(made: Queued, server: Server) -> None:
    made.fill_queue(1)
    with made.start("consume", "--follow") as process:
        assert process.stdout is not None
        process.stdout.readline()
        server.kill()
        said = logged(process, "broker_unavailable")
        assert said["reason"] == "connection"
        server.start()
        made.fax(2)
        made.send()
        until(lambda: json.loads(process.stdout.readline())["data"]["provider_job_id"] == "2")
        process.terminate()
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0
        assert {json.loads(line)["event"] for line in err.splitlines()} <= {"broker_unavailable"}


@pytestmark_redis
def test_a_full_redis_parks_nothing_and_loses_nothing(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(Server(tmp_path / "redis", "--maxmemory-policy", "noeviction"))
        made = stack.enter_context(queued(tmp_path, server.url))
        client = stack.enter_context(server.client())
        expected = made.fill(200)
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 200_000)
        relay = stack.enter_context(made.start("relay"))
        logged(relay, "publish_failed")
        assert set(made.states()) <= {"pending", "published"}
        assert made.states()["pending"] > 0
        client.config_set("maxmemory", "100mb")
        until(lambda: made.states() == {"published": 200})
        relay.terminate()
        relay.communicate(timeout=120)
        assert set(ids(made.consumed())) == expected


@pytestmark_redis
@pytest.mark.parametrize(
    ("options", "level", "appendonly", "appendfsync", "eviction"),
    [
        (("--appendonly", "yes", "--appendfsync", "always"), "info", "yes", "always", "noeviction"),
        (("--appendonly", "yes"), "warning", "yes", "everysec", "noeviction"),
        (("--maxmemory-policy", "allkeys-lru"), "warning", "no", "everysec", "allkeys-lru"),
        (("--rename-command", "CONFIG", ""), "warning", "unknown", "unknown", "unknown"),
    ],
)
def test_the_relay_says_what_redis_does_to_keep_events(
    tmp_path: Path, options: tuple[str, ...], level: str, appendonly: str, appendfsync: str, eviction: str
) -> None:
    with Server(tmp_path / "redis", *options) as server, queued(tmp_path, server.url) as made:
        expected = made.fill(1)
        with made.start("relay") as relay:
            assert logged(relay, "relay_started")["guarantee"] == "best effort"
            said = logged(relay, "queue_durability")
            assert said["level"] == level
            assert (said["appendonly"], said["appendfsync"], said["eviction"]) == (appendonly, appendfsync, eviction)
            until(lambda: made.states() == {"published": 1})
            relay.terminate()
            relay.communicate(timeout=120)
        assert set(ids(made.consumed())) == expected


# --- SQS ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sqs() -> Iterator[int]:
    """The port of an SQS in this process."""
    server = ThreadedMotoServer("127.0.0.1", free_port(), verbose=False)
    server.start()
    try:
        yield server._port
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def _region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


def client(port: int, region: str = "eu-central-1") -> Any:
    return boto3.client(
        "sqs",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=region,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )


@contextmanager
def on_sqs(folder: Path, port: int, name: str, more: str = "") -> Iterator[Queued]:
    with queued(folder, f"sqs://key:secret@127.0.0.1:{port}/", f'queue = "{name}"\n{more}') as made:
        yield made


def test_sqs_gets_the_keys_of_order_and_deduplication(tmp_path: Path, sqs: int) -> None:
    with on_sqs(tmp_path, sqs, "keys.fifo") as made:
        made.fax(1, status="0")
        made.fax(1, status="2")
        made.fax(2)
        made.send()
        url = client(sqs).get_queue_url(QueueName="keys.fifo")["QueueUrl"]
        assert client(sqs).get_queue_attributes(QueueUrl=url, AttributeNames=["FifoQueue"])["Attributes"] == {
            "FifoQueue": "true"
        }
        found = []
        while len(found) < 3:
            given = client(sqs).receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"], WaitTimeSeconds=1
            )
            for message in given["Messages"]:
                attributes = message["Attributes"]
                found.append((attributes["MessageDeduplicationId"], attributes["MessageGroupId"]))
                client(sqs).delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        expected = {(event["id"], event["fax_id"]) for event in made.events()}
        assert set(found) == expected
        assert len(expected) == 3


def test_sqs_gives_the_very_bytes(tmp_path: Path, sqs: int) -> None:
    with on_sqs(tmp_path, sqs, "bytes.fifo") as made:
        round_trip(made)


def test_a_repetition_is_dropped_by_a_fifo_queue(tmp_path: Path, sqs: int) -> None:
    with on_sqs(tmp_path, sqs, "again.fifo") as made:
        (event_id,) = made.fill_queue(1)
        result = CliRunner().invoke(main, ["events", "republish", "--id", event_id, "--config", str(made.config)])
        assert result.exit_code == 0
        made.send()
        assert ids(made.consumed()) == [event_id]


def test_max_takes_exactly_so_many_from_sqs(tmp_path: Path, sqs: int) -> None:
    with on_sqs(tmp_path, sqs, "max.fifo") as made:
        expected = made.fill_queue(25)
        taken = made.consumed("--max", "13")
        assert len(taken) == 13
        rest = made.consumed()
        assert len(rest) == 12
        assert set(ids(taken)) | set(ids(rest)) == expected


def test_a_follower_of_sqs_ends_at_sigterm(tmp_path: Path, sqs: int) -> None:
    with on_sqs(tmp_path, sqs, "follow.fifo") as made, made.start("consume", "--follow") as process:
        made.fill_queue(1)
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_the_region_is_the_environments(tmp_path: Path, sqs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    with on_sqs(tmp_path, sqs, "region.fifo") as made:
        made.fill_queue(1)
    assert "QueueUrls" in client(sqs, "us-west-2").list_queues(QueueNamePrefix="region.fifo")
    assert "QueueUrls" not in client(sqs).list_queues(QueueNamePrefix="region.fifo")


def test_a_queue_of_sqs_that_is_missing_is_named_where_it_may_not_be_made(tmp_path: Path, sqs: int) -> None:
    with on_sqs(tmp_path, sqs, "absent.fifo", "declare = false") as made:
        process = made.start("consume")
        _, err = process.communicate(timeout=120)
        assert process.returncode == 1
        assert b"the queue absent.fifo does not exist, and with queue.declare = false it is not made" in err
        assert "QueueUrls" not in client(sqs).list_queues(QueueNamePrefix="absent")
        client(sqs).create_queue(QueueName="absent.fifo", Attributes={"FifoQueue": "true"})
        round_trip(made)


def test_sqs_that_is_away_is_trouble_within_seconds(tmp_path: Path) -> None:
    with on_sqs(tmp_path, free_port(), "away.fifo") as made:
        process = made.start("consume")
        _, err = process.communicate(timeout=120)
        assert process.returncode == 1
        assert b"queue.url: sqs: it cannot be reached, or ended the connection" in err


@pytest.mark.parametrize(
    ("url", "is_doubted"),
    [
        ("sqs://", False),
        ("sqs://k:s@sqs.example.com/", False),
        ("sqs://k:s@h:4566/", True),
        ("sqs://127.0.0.1:1/", False),
    ],
)
def test_an_endpoint_of_sqs_without_tls_is_doubted(tmp_path: Path, url: str, is_doubted: bool) -> None:
    with queued(tmp_path, url, 'queue = "a.fifo"') as made:
        assert any("in the clear" in doubt for doubt in settings.doubts(made.runtime.settings)) is is_doubted


# --- for trying out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["filesystem://", "sqla+sqlite:///{folder}/queue.db"])
def test_a_demo_queue_works_between_processes_and_is_called_one(tmp_path: Path, url: str) -> None:
    with queued(tmp_path, url.format(folder=tmp_path)) as made:
        expected = made.fill(5)
        with made.start("relay") as relay:
            assert logged(relay, "relay_started")["guarantee"] == "demo"
            until(lambda: made.states() == {"published": 5})
            relay.terminate()
            relay.communicate(timeout=120)
        assert set(ids(made.consumed_apart())) == expected
        checked = CliRunner().invoke(main, ["check", "--config", str(made.config)])
        assert "queue.url: demo: " in checked.output


def test_memory_is_a_demo_too(tmp_path: Path) -> None:
    with queued(tmp_path, "memory://") as made:
        made.fill_queue(1)
        assert made.states() == {"published": 1}
        assert made.consumed_apart() == []
        checked = CliRunner().invoke(main, ["check", "--config", str(made.config)])
        assert "nobody reads them" in checked.output


def test_nothing_but_the_demo_is_left_in_its_folder(tmp_path: Path) -> None:
    with queued(tmp_path, "filesystem://") as made:
        made.fill_queue(3)
        folder = made.runtime.settings.server.state_dir / "queue"
        assert len(list(folder.glob("*.msg"))) == 3
        made.consumed_apart()
        assert list(folder.glob("*.msg")) == []
        assert os.stat(folder).st_mode & 0o077 == 0
