"""faxhook as platforms start it, in the documents' own words: the Procfile, variables, a volume, RabbitMQ."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from amqp.exceptions import InternalError, NotFound
from house import ask
from kombu.connection import Connection
from ports import free_port
from stock import environment, stock
from waiting import until

from receiver import hosting, settings
from receiver.errors import BrokerTrouble
from receiver.outgoing import delivery
from receiver.outgoing.publisher import Message, Publisher
from receiver.settings import Queue

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DEPLOY_README = (ROOT / "deploy" / "README.md").read_text()


def below(text: str, heading: str) -> str:
    """The section of a heading."""
    level = heading.split()[0]
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


HEROKU = blocks(below(DEPLOY_README, "#### Heroku"), "toml")[0]
FLY, FLY_TOML, FLY_RELEASE = blocks(below(DEPLOY_README, "#### Fly.io"), "toml")


def rabbitmqctl(*arguments: str) -> None:
    subprocess.run(["rabbitmqctl", "--quiet", *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture
def vhost() -> Iterator[str]:
    """A virtual host of this test's own. The tests that use it are marked service("rabbitmq")."""
    name = f"faxhook-test-{secrets.token_hex(6)}"
    try:
        rabbitmqctl("add_vhost", name)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to use rabbitmqctl")
    rabbitmqctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
    try:
        yield name
    finally:
        rabbitmqctl("delete_vhost", name)


def amqp(vhost: str, user: str = "guest:guest") -> str:
    return f"amqp://{user}@127.0.0.1:5672/{vhost}"


def take_all(url: str, count: int) -> list[dict[str, Any]]:
    """So many events from the queue, once the relay has made it."""
    found: list[dict[str, Any]] = []

    def take() -> bool:
        with Connection(url) as connection, suppress(NotFound, InternalError):  # there, but not begun
            channel = connection.channel()
            while message := channel.basic_get("fax.completed", no_ack=True):
                found.append(json.loads(message.body))
        return len(found) >= count

    until(take)
    return found


@pytest.fixture
def slug(tmp_path: Path) -> Path:
    """What is deployed: the Procfile, and ``faxhook`` on the path."""
    command = tmp_path / "bin" / "faxhook"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m receiver "$@"\n')
    command.chmod(0o755)
    shutil.copy(ROOT / "Procfile", tmp_path)
    return tmp_path


def variables(slug: Path, **own: str) -> dict[str, str]:
    """Of a process there, and nothing of any other platform or configuration."""
    strange = {"PORT", "DATABASE_URL", "CLOUDAMQP_URL", "WEB_CONCURRENCY", *hosting._PLATFORMS}
    inherited = {name: value for name, value in environment().items() if name not in strange}
    path = os.pathsep.join((str(slug / "bin"), str(Path(sys.executable).parent), inherited["PATH"]))
    return {**inherited, "PATH": path, **own}


def of_documents(text: str) -> dict[str, str]:
    """The secrets that a documented configuration asks for."""
    return {name: secrets.token_urlsafe(32) for name in set(re.findall(r"\$\{([A-Z_]+)\}", text))}


@contextmanager
def running(slug: Path, command: list[str], env: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """In a process group of its own, its output in the file ``log``; whatever is left at the end is killed."""
    with (slug / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=slug, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def faxhook(slug: Path, env: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["faxhook", *arguments],
        cwd=slug,
        env=env,
        executable=str(slug / "bin" / "faxhook"),
        capture_output=True,
        text=True,
        timeout=60,
    )


def is_ready(port: int) -> bool:
    try:
        return ask(port, "GET", "/readyz").status == 200
    except OSError:
        return False


def log(slug: Path) -> str:
    return (slug / "log").read_text()


# --- Heroku ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def heroku(slug: Path, postgresql_url: str, vhost: str) -> dict[str, str]:
    return variables(
        slug,
        DYNO="web.1",
        PORT=str(free_port()),
        WEB_CONCURRENCY="2",
        DATABASE_URL=postgresql_url.replace("postgresql+psycopg:", "postgres:"),
        CLOUDAMQP_URL=amqp(vhost),
        FAXHOOK_CONFIG_TOML=HEROKU,
        **of_documents(HEROKU),
    )


@pytest.mark.service("postgresql")
@pytest.mark.service("rabbitmq")
def test_on_heroku_the_procfile_migrates_serves_relays_and_ends_in_time(
    slug: Path, heroku: dict[str, str], vhost: str
) -> None:
    port = int(heroku["PORT"])
    with running(slug, ["honcho", "start", "release"], heroku) as release:
        assert release.wait(60) == 0, log(slug)
    assert "the store has been migrated" in log(slug)
    with running(slug, ["honcho", "start", "web"], heroku) as web:
        until(lambda: web.poll() is not None or is_ready(port))
        assert web.poll() is None, log(slug)
        sent = faxhook(slug, heroku, "simulate", "--count", "20", "--parallel", "4")
        assert sent.returncode == 0, sent.stdout + sent.stderr
        events = take_all(amqp(vhost), 20)
        assert len({event["id"] for event in events}) == 20
        assert {event["data"]["outcome"] for event in events} == {"delivered"}
        assert_everybody_counts_alike(port)
        told = faxhook(slug, heroku, "doctor", "--json")
        assert told.returncode == 0, told.stdout
        found = {one["check"]: one for one in json.loads(told.stdout)}
        assert found["platform"]["detail"] == "Heroku"
        assert "fax.completed holds 0 messages for 0 consumers" in told.stdout
        began = time.monotonic()
        web.terminate()
        web.wait(60)
        assert time.monotonic() - began < 60
    assert "(rc=0)" in log(slug)  # honcho's word on how web ended
    for secret in (*of_values(heroku), "guest:guest"):
        assert secret not in log(slug)


def of_values(env: dict[str, str]) -> list[str]:
    return [
        value for name, value in env.items() if name in ("FAXHOOK_SECRET_KEY", "FAXHOOK_OPS_TOKEN", "OPENFAX_TOKEN")
    ]


def assert_everybody_counts_alike(port: int) -> None:
    """Either worker sums what both and the relay have counted, and reads the same figures from the store."""
    lines = (
        'faxhook_receipts_total{endpoint="openfax",reason="",state="accepted"} 20.0',
        'faxhook_published_total{outcome="delivered",type="fax.completed.v1"} 20.0',
        "faxhook_delivery_seconds_count 20.0",
        "faxhook_backlog_events 0.0",
        "faxhook_relay_trouble 0.0",
    )

    def is_told(text: str) -> bool:
        # The figures are some seconds old, and at first of before the callbacks and the relay.
        seen = re.findall(r"^faxhook_relay_last_seen_\w+ (\S+)$", text, re.MULTILINE)
        return (
            "faxhook_commit_to_consumer_seconds{" in text
            and all(line in text.splitlines() for line in lines)
            and time.time() - float(seen[0]) < 120
        )

    def metrics() -> str:
        return ask(port, "GET", "/metrics").body.decode()

    until(lambda: is_told(metrics()) and is_told(metrics()) and is_told(metrics()))
    text = metrics()
    assert float(re.findall(r"^faxhook_publish_seconds_count (\S+)$", text, re.MULTILINE)[0]) >= 1


@pytest.mark.service("postgresql")
def test_a_relay_of_its_own_takes_what_another_process_has_received(slug: Path, postgresql_url: str) -> None:
    """The two lines of the Procfile for scaling out."""
    port = free_port()
    env = variables(
        slug,
        DYNO="web.1",
        PORT=str(port),
        DATABASE_URL=postgresql_url.replace("postgresql+psycopg:", "postgres:"),
        FAXHOOK_CONFIG_TOML=HEROKU,
        **of_documents(HEROKU),
    )
    scaled = re.sub(r"(?m)^# (relay: )", r"\1", (slug / "Procfile").read_text())
    scaled = scaled.replace("web: faxhook serve", "web: faxhook serve --no-relay")
    (slug / "Procfile").write_text(scaled)
    assert faxhook(slug, env, "migrate").returncode == 0
    with running(slug, ["honcho", "start", "web", "relay"], env) as both:
        until(
            lambda: both.poll() is not None or (is_ready(port) and ask(port, "GET", "/readyz").json["relay"]["alive"])
        )
        assert both.poll() is None, log(slug)
        assert log(slug).count("relay_started") == 1


def test_without_a_store_that_lasts_heroku_gets_an_explanation(slug: Path) -> None:
    env = variables(slug, DYNO="web.1", PORT=str(free_port()), FAXHOOK_CONFIG_TOML=HEROKU, **of_documents(HEROKU))
    if hosting.mount(slug)[0] != "/" and hosting.mount(slug)[1] not in hosting._DOUBTFUL:
        pytest.fail("temporary files are on a volume of their own: set TMPDIR to another place")
    for process in ("release", "web"):
        with running(slug, ["honcho", "start", process], env) as started:
            assert started.wait(60) != 0
    assert log(slug).count("store.url: expected PostgreSQL") == 2
    assert "(rc=2)" in log(slug)
    assert not (slug / "var").exists()


# --- Fly.io ---------------------------------------------------------------------------------------------------------


def can_mount() -> bool:
    return subprocess.run(["unshare", "--mount", "--map-root-user", "true"], capture_output=True).returncode == 0


def test_on_fly_sqlite_is_served_from_a_volume_and_refused_without(slug: Path) -> None:
    """The volume is a mount of its own, in a namespace that only this server sees."""
    data = slug / "data"
    data.mkdir()
    assert 'destination = "/data"' in FLY_TOML
    assert "sqlite:////data/" in FLY
    text = FLY.replace("sqlite:////data/", f"sqlite:///{data}/")
    port = free_port()
    env = variables(
        slug, FLY_APP_NAME="hooks", PORT=str(port), WEB_CONCURRENCY="1", FAXHOOK_CONFIG_TOML=text, **of_documents(text)
    )
    refused = faxhook(slug, env, "serve")
    assert refused.returncode == 2
    assert "store.url: expected PostgreSQL, or SQLite on a volume of its own: Fly.io" in refused.stderr
    assert list(data.iterdir()) == []
    if not can_mount():
        pytest.skip("no right to make mounts")
    volume = ["unshare", "--mount", "--map-root-user", "sh", "-c", 'mount --bind data data && exec "$@"', "sh"]
    with running(slug, [*volume, "faxhook", "serve"], env) as served:
        until(lambda: served.poll() is not None or is_ready(port))
        assert served.poll() is None, log(slug)
        assert faxhook(slug, env, "simulate").returncode == 0
        until(lambda: "relay_active" in log(slug))
        served.send_signal(signal.SIGTERM)
        assert served.wait(60) == 0
    assert "warning" not in log(slug)
    consumed = faxhook(slug, {**env, "FLY_APP_NAME": ""}, "consume")
    assert json.loads(consumed.stdout)["data"]["outcome"] == "delivered"


@pytest.mark.service("postgresql")
def test_on_fly_postgresql_wins_over_the_volume(slug: Path, postgresql_url: str) -> None:
    port = free_port()
    env = variables(
        slug,
        FLY_APP_NAME="hooks",
        PORT=str(port),
        WEB_CONCURRENCY="1",
        DATABASE_URL=postgresql_url.replace("postgresql+psycopg:", "postgres:"),
        FAXHOOK_CONFIG_TOML=FLY,
        **of_documents(FLY),
    )
    command = re.search(r'release_command = "faxhook (\w+)"', FLY_RELEASE)
    assert command
    assert faxhook(slug, env, command[1]).stdout == "the store has been migrated\n"
    with running(slug, ["faxhook", "serve"], env) as served:
        until(lambda: served.poll() is not None or is_ready(port))
        assert ask(port, "GET", "/readyz").json["store"]["store"] == "postgresql"
        assert faxhook(slug, env, "simulate").returncode == 0
    with psycopg.connect(postgresql_url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT count(*) FROM faxhook.events").fetchone() == (1,)


@pytest.mark.parametrize("text", [HEROKU, FLY], ids=["Heroku", "Fly.io"])
def test_the_secrets_of_a_walk_through_are_those_its_configuration_asks_for(text: str) -> None:
    section = next(one for one in ("#### Heroku", "#### Fly.io") if text in below(DEPLOY_README, one))
    (loop,) = re.findall(r"for name in ([A-Z_ ]+); do", below(DEPLOY_README, section))
    assert set(loop.split()) == of_documents(text).keys()


def test_the_variables_win_over_the_file(tmp_path: Path) -> None:
    environ = {
        "FAXHOOK_CONFIG_TOML": FLY,
        "PORT": "8080",
        "WEB_CONCURRENCY": "3",
        "DATABASE_URL": "postgres://user:word@host/name",
        "CLOUDAMQP_URL": "amqps://user:word@host/vhost",
        **of_documents(FLY),
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
    (line,) = [one for one in "".join(blocks(README, "sh")).splitlines() if one.startswith("FAXHOOK_BROKER_URL=")]
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
