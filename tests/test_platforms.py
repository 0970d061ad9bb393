"""faxhook where others have put it: variables, RabbitMQ with few rights or little room, and what is said of both."""

import re
import secrets
from pathlib import Path

import pytest
from kombu.connection import Connection
from platforms import ROOT, amqp, faxhook, is_ready, log, of_documents, rabbitmqctl, running, take_all, variables
from ports import free_port
from stock import stock
from waiting import until

from receiver import settings
from receiver.errors import BrokerTrouble
from receiver.outgoing import delivery
from receiver.outgoing.publisher import Message, Publisher
from receiver.settings import Queue

README = (ROOT / "README.md").read_text()
DEPLOY_README = (ROOT / "deploy" / "README.md").read_text()
HOOKS = (ROOT / "deploy" / "hooks.toml").read_text()


def test_the_variables_win_over_the_file(tmp_path: Path) -> None:
    environ = {
        "FAXHOOK_CONFIG_TOML": HOOKS,
        "PORT": "8080",
        "WEB_CONCURRENCY": "3",
        "DATABASE_URL": "postgres://user:word@host/name",
        "CLOUDAMQP_URL": "amqps://user:word@host/vhost",
        **of_documents(HOOKS),
    }
    loaded = settings.load(None, environ)
    assert (loaded.server.bind, loaded.server.workers) == ("0.0.0.0:8080", 3)
    assert loaded.store.url == "postgresql+psycopg://user:word@host/name"
    assert loaded.queue.url == "amqps://user:word@host/vhost"
    both = settings.load(None, environ | {"FAXHOOK_BROKER_URL": "amqp://other/x"})
    assert both.queue.url == "amqp://other/x"


# --- RabbitMQ -------------------------------------------------------------------------------------------------------


@pytest.mark.service("rabbitmq")
def test_the_readmes_line_for_rabbitmq_brings_the_first_callback_there(slug: Path, vhost: str) -> None:
    (line,) = [one for one in README.splitlines() if one.startswith("FAXHOOK_BROKER_URL=")]
    assignment, command = line.split(" ", 1)
    assert command == ".venv/bin/faxhook serve"
    url = assignment.partition("=")[2]
    assert url == "amqp://guest:guest@127.0.0.1:5672//"
    port = free_port()
    env = variables(slug, PORT=str(port), WEB_CONCURRENCY="1", FAXHOOK_BROKER_URL=url.removesuffix("/") + vhost)
    with running(slug, ["faxhook", "serve"], env) as served:
        until(lambda: served.poll() is not None or is_ready(port))
        assert served.poll() is None, log(slug)
        assert faxhook(slug, env, "simulate", "retarus").returncode == 0
        (event,) = take_all(env["FAXHOOK_BROKER_URL"], 1)
        assert event["data"]["provider"] == "retarus"


def permissions() -> dict[str, list[str]]:
    """Who -> the documented patterns to configure, write and read."""
    rows = re.findall(r"^\| (relay|consumer)(.*?) \| `(.+?)` \| `(.+?)` \| `(.+?)` \|$", DEPLOY_README, re.MULTILINE)
    return {who + of: patterns for who, of, *patterns in rows}


@pytest.mark.service("rabbitmq")
def test_the_documented_permissions_are_enough_and_needed(vhost: str, tmp_path: Path) -> None:
    with_declare, without, reader = permissions().values()
    user = f"faxhook-test-{secrets.token_hex(6)}"
    rabbitmqctl("add_user", user, "word")

    def publish(patterns: list[str], *, declare: bool) -> str | None:
        """The trouble of a relay with these permissions."""
        rabbitmqctl("set_permissions", "-p", vhost, user, *patterns)
        queue = Queue(amqp(vhost, f"{user}:word"), "fax.events", "fax.completed", declare)
        publisher = Publisher(queue, tmp_path)
        result = publisher.publish([Message("1", "2", "fax.completed.delivered", b"{}")])
        publisher.broker.discard()
        trouble: BrokerTrouble | None = result.trouble
        return trouble.kind if trouble else None

    try:
        assert publish(without, declare=True) == "forbidden"
        assert publish(with_declare, declare=True) is None
        assert publish(without, declare=False) is None
        assert publish(reader, declare=False) == "forbidden"
        rabbitmqctl("set_permissions", "-p", vhost, user, *reader)
        assert take_all(amqp(vhost, f"{user}:word"), 2) == [{}, {}]
    finally:
        rabbitmqctl("delete_user", user)


@pytest.mark.service("rabbitmq")
def test_a_full_queue_that_rejects_loses_nothing(vhost: str, tmp_path: Path) -> None:
    """The policy that the document calls safe."""
    with Connection(amqp(vhost)) as connection:
        channel = connection.channel()
        channel.exchange_declare("fax.events", "topic", durable=True, auto_delete=False)
        limit = {"x-max-length": 2, "x-overflow": "reject-publish"}
        channel.queue_declare("fax.completed", durable=True, auto_delete=False, arguments=limit)
        channel.queue_bind("fax.completed", "fax.events", "fax.completed.*")
    messages = [Message(str(number), "f", "fax.completed.delivered", b"{}") for number in range(6)]
    publisher = Publisher(Queue(amqp(vhost), "fax.events", "fax.completed", False), tmp_path)
    confirmed: set[str] = set()

    def publish() -> bool:
        result = publisher.publish([message for message in messages if message.event_id not in confirmed])
        assert not result.is_about_message  # so that it waits, and is no dead letter
        confirmed.update(result.confirmed)
        return len(confirmed) == 6

    assert not publish()
    taken = take_all(amqp(vhost), len(confirmed))
    until(lambda: publish() or taken.extend(take_all(amqp(vhost), 1)))
    publisher.broker.discard()
    taken += take_all(amqp(vhost), 6 - len(taken))
    assert len(taken) == 6


# --- what else the documents say ------------------------------------------------------------------------------------


def test_a_fax_takes_as_much_of_the_store_as_is_said(tmp_path: Path, sqlite_url: str) -> None:
    said = re.search(r"a fax takes (\d) to (\d) kB of a SQLite store", DEPLOY_README)
    assert said
    with stock(tmp_path, sqlite_url) as made:
        store = made.runtime.store
        assert store.file is not None
        store.empty_log()
        before = store.file.path.stat().st_size
        for number in range(400):
            made.fax(number, From="Example Sender", To="Example Recipient", Duration="31", RealCost="0.03")
        store.empty_log()
        each = (store.file.path.stat().st_size - before) / 400
    assert int(said[1]) * 1000 <= each <= int(said[2]) * 1000


def test_the_delays_of_an_outage_are_those_of_the_relay() -> None:
    said = re.search(r"tries again after ([\d.]+) s, then later and later, every (\d+) s at most", DEPLOY_README)
    assert said
    assert (float(said[1]), float(said[2])) == (delivery._FIRST_DELAY_SECONDS, Publisher.longest_delay)
