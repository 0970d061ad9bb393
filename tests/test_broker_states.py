"""What operators are told of a broker that is away, refuses, is full or loses events: by every command, in words."""

import json
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import RedisServer
from click.testing import CliRunner
from ports import listener
from queued import Queued, queued, virtual_host

from receiver.cli import main
from receiver.outgoing.broker import Broker
from receiver.settings import Queue

PASSWORD = "word-of-ours"
RABBITMQ = "127.0.0.1:5672"


def told(made: Queued, command: str, *options: str) -> Any:
    result = CliRunner().invoke(main, [command, *options, "--config", str(made.config)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert PASSWORD not in result.output
    return result


def is_told_everywhere(made: Queued, words: str) -> None:
    """By each command that asks the broker, with exit code 1; and in the relay's log."""
    for command in ("check", "doctor", "consume"):
        result = told(made, command)
        assert result.exit_code == 1
        assert words in result.output
    made.fill(1)
    with made.start("relay") as relay:
        said = next(one for one in map(json.loads, relay.stderr or ()) if one["event"] == "publish_failed")
        relay.terminate()
        relay.communicate(timeout=60)
    assert words in said["cause"]
    assert PASSWORD not in json.dumps(said)


# --- away, and refusing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_port_where_nobody_listens(tmp_path: Path, scheme: str) -> None:
    with listener() as held:  # bound and closed, so that it is nobody else's
        port = held.getsockname()[1]
    with queued(tmp_path, f"{scheme}://user:{PASSWORD}@127.0.0.1:{port}/") as made:
        is_told_everywhere(made, f"{scheme}://127.0.0.1:{port}: connection refused; is the broker running")


@pytest.mark.parametrize("scheme", ["amqps", "rediss", "amqp", "redis"])
def test_a_host_that_does_not_exist(tmp_path: Path, scheme: str) -> None:
    with queued(tmp_path, f"{scheme}://user:{PASSWORD}@nowhere.invalid/") as made:
        result = told(made, "check")
        port = {"amqps": 5671, "rediss": 6379, "amqp": 5672, "redis": 6379}[scheme]
        assert result.exit_code == 1
        assert f"trouble: queue.url: {scheme}://nowhere.invalid:{port}: no such host" in result.output


@pytest.mark.service("rabbitmq")
def test_a_wrong_password_of_rabbitmq(tmp_path: Path) -> None:
    with queued(tmp_path, f"amqp://guest:{PASSWORD}@{RABBITMQ}//") as made:
        is_told_everywhere(made, f"amqp://{RABBITMQ}: user or password is wrong")


@pytest.mark.service("rabbitmq")
def test_a_virtual_host_that_does_not_exist(tmp_path: Path) -> None:
    with queued(tmp_path, f"amqp://guest:guest@{RABBITMQ}/absent-{secrets.token_hex(4)}") as made:
        name = made.queue.url.rpartition("/")[2]
        is_told_everywhere(made, f"amqp://{RABBITMQ}: virtual host {name} does not exist")


@pytest.mark.service("redis")
def test_redis_with_a_wrong_password_a_missing_database_or_full(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis", "--databases", "2", "--maxmemory-policy", "noeviction") as server:
        with queued(tmp_path, server.url.replace("/0", "/7")) as made:
            assert "the database in the URL's path does not exist" in told(made, "consume").output
        with queued(tmp_path, server.url) as made, server.client() as client:
            client.config_set("maxmemory", 1)
            made.fill(1)
            with made.start("relay") as relay:
                said = next(one for one in map(json.loads, relay.stderr or ()) if one["event"] == "publish_failed")
                relay.terminate()
                relay.communicate(timeout=60)
            assert (said["reason"], made.states()) == ("full", {"pending": 1})
            assert "its memory is full (maxmemory)" in said["cause"]
            client.config_set("maxmemory", 0)
            client.config_set("requirepass", "another-one")
        with queued(tmp_path, server.url.replace("//", f"//:{PASSWORD}@")) as made:
            is_told_everywhere(made, "user or password is wrong")


def test_a_port_that_speaks_another_language_is_trouble_and_no_traceback(tmp_path: Path) -> None:
    def answer(listener: Any) -> None:
        while True:
            try:
                near, _ = listener.accept()
                with near:
                    near.recv(1024)
                    near.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            except OSError:
                return

    said = {"amqp": "ended the connection; is it being restarted, and is this its port?", "redis": "is no Redis"}
    for scheme in ("amqp", "redis"):
        with listener() as taken:
            threading.Thread(target=answer, args=(taken,), daemon=True).start()
            with queued(tmp_path, f"{scheme}://user:{PASSWORD}@127.0.0.1:{taken.getsockname()[1]}/") as made:
                for command in ("check", "consume"):
                    result = told(made, command)
                    assert result.exit_code == 1, result.output
                    assert f"{scheme}://127.0.0.1:" in result.output
                    assert said[scheme] in result.output


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_port_that_takes_connections_and_says_nothing_is_no_answer(tmp_path: Path, scheme: str) -> None:
    with listener() as silent:
        silent.listen()
        url = f"{scheme}://user:{PASSWORD}@127.0.0.1:{silent.getsockname()[1]}/"
        with queued(tmp_path, url) as made:
            for command in ("check", "consume", "doctor"):
                result = told(made, command)
                assert result.exit_code == 1, result.output
                assert f"{scheme}://127.0.0.1:{silent.getsockname()[1]}: no answer in time" in result.output


# --- queues that lose ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with virtual_host() as made:
        yield made


def declare(made: Queued, *, durable: bool = True, auto_delete: bool = False, **arguments: Any) -> None:
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    with made.channel() as channel:
        channel.exchange_declare(made.queue.exchange, "topic", durable=True, auto_delete=False)
        channel.queue_declare(made.queue.queue, durable=durable, auto_delete=auto_delete, arguments=named)


LOSING = [
    ({"durable": False}, "is not durable"),
    ({"auto_delete": True}, "is deleted with its last consumer"),
    ({"x_expires": 60_000}, "is deleted, with its events, after 60000 ms without a consumer"),
    ({"x_message_ttl": 5_000}, "drops events after 5000 ms"),
    ({"x_max_length": 10}, "drops its oldest events when it is full (x-max-length 10"),
    (
        {"x_max_length_bytes": 10_000, "x_queue_type": "quorum"},
        "drops its oldest events when it is full (x-max-length-b",
    ),
    ({"x_max_length": 10, "x_overflow": "drop-head"}, "drops its oldest events when it is full"),
    ({"x_queue_type": "stream", "x_max_age": "7D"}, "is a stream"),
]


@pytest.mark.service("rabbitmq")
@pytest.mark.parametrize(("arguments", "said"), LOSING)
def test_a_queue_that_was_declared_to_lose_events_is_told_of(
    tmp_path: Path, host: str, arguments: dict[str, Any], said: str
) -> None:
    with queued(tmp_path, host) as made:
        declare(made, **arguments)
        for command in ("doctor", "check"):
            result = told(made, command)
            assert f"{made.queue.queue} {said}" in result.output
        assert "warning: queue.url: " in result.output
        assert result.exit_code == 0


@pytest.mark.service("rabbitmq")
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"x_queue_type": "classic", "x_queue_mode": "lazy", "x_single_active_consumer": True},
        {"x_queue_type": "quorum", "x_max_length": 10, "x_overflow": "reject-publish", "x_delivery_limit": 5},
        {"x_max_length": 10, "x_overflow": "reject-publish-dlx", "x_dead_letter_exchange": "elsewhere"},
    ],
)
def test_a_queue_that_keeps_its_events_is_said_to_and_stays_as_it_is(
    tmp_path: Path, host: str, arguments: dict[str, Any]
) -> None:
    with queued(tmp_path, host) as made:
        declare(made, **arguments)
        result = told(made, "doctor")
        assert f"{made.queue.queue} was declared to keep its events; a policy may still drop some" in result.output
        declare(made, **arguments)  # the same again is refused where anything has changed


@pytest.mark.service("rabbitmq")
def test_where_we_may_not_ask_doctor_says_that_it_does_not_know(tmp_path: Path, host: str) -> None:
    with queued(tmp_path, host, "declare = false") as made:
        declare(made, durable=False)
        assert f"whether {made.queue.queue} keeps its events is not known" in told(made, "doctor").output


@pytest.mark.service("rabbitmq")
def test_the_queue_that_the_relay_makes_keeps_its_events(tmp_path: Path, host: str) -> None:
    with queued(tmp_path, host) as made:
        made.fill_queue(1)
        assert "was declared to keep its events" in told(made, "doctor").output


@pytest.mark.service("rabbitmq")
@pytest.mark.parametrize("options", [(), ("--follow", "--idle-seconds", "5")])
def test_a_stream_cannot_be_consumed_and_is_named(tmp_path: Path, host: str, options: tuple[str, ...]) -> None:
    with queued(tmp_path, host) as made:
        declare(made, x_queue_type="stream")
        result = told(made, "consume", *options)
        assert result.exit_code == 2
        assert f"queue.queue: {made.queue.queue} is a stream; expected a classic or quorum queue" in result.output


def test_a_url_with_several_hosts_names_each(tmp_path: Path) -> None:
    url = f"amqp://u:{PASSWORD}@127.0.0.1:1/;amqp://u:{PASSWORD}@nowhere.invalid/"
    with queued(tmp_path, url) as made:
        output = told(made, "check").output
    assert "amqp://127.0.0.1:1: connection refused" in output
    assert "amqp://nowhere.invalid:5672: no such host" in output


@pytest.mark.service("rabbitmq")
@pytest.mark.parametrize("host_part", ["localhost:5672", "127.0.0.1", "LOCALHOST"])
def test_hosts_are_written_in_many_ways(tmp_path: Path, host_part: str) -> None:
    name = f"test.{secrets.token_hex(4)}"
    broker = Broker(Queue(f"amqp://guest:guest@{host_part}/%2F", name, name, True), "test", tmp_path)
    broker.open()
    for one in (name, f"{name}.dead"):
        broker.channel.queue_delete(one)
        broker.channel.exchange_delete(one)
    broker.close()
