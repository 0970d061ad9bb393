"""``faxhook doctor`` on what is well, and on what is away, broken, full or silent."""

import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kombu.connection import Connection
from stock import Stock, stock

from receiver import doctor, hosting, transports
from receiver.cli import main
from receiver.outgoing.broker import Broker
from receiver.settings import Queue
from receiver.store import now_ms, refusals
from receiver.store.clock import RetentionClock
from receiver.store.leading import sign_of_life

RABBITMQ = "amqp://guest:guest@127.0.0.1:5672/"


@pytest.fixture(autouse=True)
def _nothing_of_the_callers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FAXHOOK_BROKER_URL", "CLOUDAMQP_URL", "DATABASE_URL", "PORT", *hosting._PLATFORMS):
        monkeypatch.delenv(name, raising=False)


def examined(made: Stock, *, exit_code: int) -> dict[str, list[tuple[str, str]]]:
    """Check -> verdicts and details, from the JSON."""
    result = CliRunner().invoke(main, ["doctor", "--json", "--config", str(made.config)], catch_exceptions=False)
    assert result.exit_code == exit_code, result.output
    found: dict[str, list[tuple[str, str]]] = {}
    for one in json.loads(result.stdout):
        assert one.keys() == {"check", "verdict", "detail"}
        found.setdefault(one["check"], []).append((one["verdict"], one["detail"]))
    return found


def verdicts(found: dict[str, list[tuple[str, str]]]) -> dict[str, set[str]]:
    return {check: {verdict for verdict, _ in told} for check, told in found.items()}


def show_life(made: Stock, *, at_ms: int | None = None, trouble: str | None = None) -> None:
    store = made.runtime.store
    with store.writing() as connection:
        sign_of_life(connection, store.tables, at_ms or now_ms(), trouble)


def settle(made: Stock) -> None:
    """What the tests' own file has as nobody's should."""
    made.config.chmod(0o600)


def use_broker(made: Stock, url: str, **queue: Any) -> None:
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in {"url": url, **queue}.items())
    made.config.write_text(made.config.read_text() + f"\n[queue]\n{lines}")


def test_where_all_is_well_everything_is_ok(anywhere: Stock) -> None:
    settle(anywhere)
    show_life(anywhere)
    found = examined(anywhere, exit_code=0)
    if anywhere.runtime.store.dialect == "sqlite":
        found.pop("platform")  # of the folder the tests are run in
        assert found.pop("disk")
    names = {
        "configuration",
        "secret key",
        "store",
        "clock",
        "queue",
        "relay",
        "backlog",
        "projector",
        "dead letters",
        "discrepancies",
        "refused",
    }
    assert found.keys() - {"platform"} == names
    assert set().union(*verdicts(found).values()) == {"ok"}, found
    told = " ".join(detail for _, detail in found["store"])
    assert anywhere.runtime.store.dialect in told
    assert "migrated" in told
    assert "a write took" in told


def test_people_get_a_line_for_each_finding(filled: Stock) -> None:
    result = CliRunner().invoke(main, ["doctor", "--config", str(filled.config)])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert all(line.startswith(("ok ", "warning ")) for line in lines)
    assert any(line.startswith("ok       configuration: ") for line in lines)


def test_a_configuration_that_cannot_be_used_is_exit_2(filled: Stock) -> None:
    filled.config.write_text(filled.config.read_text().replace('account = "acme"', 'account = "other"'))
    result = CliRunner().invoke(main, ["doctor", "--json", "--config", str(filled.config)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "endpoints.faxage" in result.stderr


def test_doubts_and_files_that_others_can_read_are_warnings(filled: Stock) -> None:
    file = filled.runtime.store.file
    assert file is not None
    file.path.chmod(0o644)
    filled.config.chmod(0o644)
    filled.config.write_text(filled.config.read_text() + '\n[retention]\nbodies = "1d"\nrejected = "1d"\nids = "2d"\n')
    found = examined(filled, exit_code=0)
    configured = [detail for verdict, detail in found["configuration"] if verdict == "warning"]
    assert any("retention.ids" in detail for detail in configured)
    assert any("can be read by others" in detail for detail in configured)
    assert any("can be read by others" in detail for verdict, detail in found["store"] if verdict == "warning")


def test_requests_that_left_no_receipt_are_told_by_reason(anywhere: Stock) -> None:
    settle(anywhere)
    show_life(anywhere)
    store = anywhere.runtime.store
    hour, now = 3600_000, now_ms()
    with store.writing() as connection:
        refusals.add(connection, store.tables, {("openfax", "wrong_token"): 7}, now - 2 * hour)
        refusals.add(connection, store.tables, {("-", "no_endpoint"): 3}, now)
    ((verdict, detail),) = examined(anywhere, exit_code=0)["refused"]
    assert (verdict, detail.partition(";")[0]) == (
        "ok",
        "3 requests in the last hour left no receipt: 3 no_endpoint at -",
    )
    with store.writing() as connection:
        refusals.add(connection, store.tables, {("openfax", "wrong_token"): 5}, now)
    ((verdict, detail),) = examined(anywhere, exit_code=0)["refused"]
    assert verdict == "warning"
    assert "8 requests in the last hour left no receipt: 5 wrong_token at openfax, 3 no_endpoint at -" in detail


# --- the store ------------------------------------------------------------------------------------------------------


def test_a_store_that_is_not_there_is_trouble_and_says_what_to_do(filled: Stock) -> None:
    filled.runtime.store.close()
    assert filled.runtime.store.file is not None
    filled.runtime.store.file.path.unlink()
    found = examined(filled, exit_code=1)
    assert found["store"] == [("trouble", "the store does not exist yet; run: faxhook migrate")]
    assert verdicts(found)["relay"] == {"warning"}
    assert not filled.runtime.store.file.path.exists()


def test_a_store_that_is_away_is_trouble_within_seconds(filled: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as deaf:  # takes connections and says nothing
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        port = deaf.getsockname()[1]
        monkeypatch.setenv("DATABASE_URL", f"postgres://somebody:secret-word@127.0.0.1:{port}/faxhook")
        began = time.monotonic()
        result = CliRunner().invoke(main, ["doctor", "--config", str(filled.config)])
    assert time.monotonic() - began < 60
    assert result.exit_code == 1
    assert f"trouble  store: PostgreSQL at 127.0.0.1:{port}, database faxhook, user somebody: no answer in time" in (
        result.stdout
    )
    assert "secret-word" not in result.output


def test_a_locked_store_is_trouble(filled: Stock) -> None:
    with filled.runtime.store.writing():
        out, _ = filled.start("doctor").communicate(timeout=120)
    assert re.search(rb"^trouble +store: .*Locked", out, re.MULTILINE)


def test_a_full_disk_is_trouble(filled: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.store, "_NO_SPACE", 1 << 60)
    assert verdicts(examined(filled, exit_code=1))["disk"] == {"trouble"}


@pytest.mark.service("postgresql")
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, ""),
        ({"log_statement": "ddl"}, ""),
        ({"log_statement": "mod"}, "log_statement writes callbacks"),
        ({"log_min_duration_statement": "1000"}, "log_min_duration_statement writes callbacks"),
        ({"log_min_duration_statement": "1000", "log_parameter_max_length": "0"}, ""),
        ({"log_parameter_max_length_on_error": "-1"}, "when a statement fails; set it to 0"),
    ],
)
def test_a_database_that_logs_callbacks_is_warned_of(
    tmp_path: Path, postgresql_url: str, settings: dict[str, str], told: str
) -> None:
    with stock(tmp_path, postgresql_url) as made:
        with made.runtime.store.engine.connect() as connection:
            name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
            for setting, value in settings.items():
                connection.exec_driver_sql(f"ALTER DATABASE {name} SET {setting} = '{value}'")
            connection.commit()
        made.runtime.store.close()
        found = [detail for verdict, detail in examined(made, exit_code=0)["store"] if verdict == "warning"]
    assert len(found) == bool(told)
    assert told in "".join(found)


@pytest.mark.service("postgresql")
def test_a_database_that_does_not_wait_for_its_disk_is_trouble(tmp_path: Path, postgresql_url: str) -> None:
    with stock(tmp_path, postgresql_url) as made:
        name = made.runtime.store.url.database
        with made.runtime.store.writing() as connection:
            connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        found = examined(made, exit_code=1)
        assert any("a power cut loses" in detail for verdict, detail in found["store"] if verdict == "trouble")


def test_another_users_store_is_not_written_to(filled: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    found = examined(filled, exit_code=0)
    assert any("another user" in detail for verdict, detail in found["store"] if verdict == "warning")


# --- relay, backlog, dead letters -----------------------------------------------------------------------------------


def test_a_silent_relay_an_old_backlog_and_dead_letters_are_told(filled: Stock) -> None:
    filled.take("openfax", b"OutTransID=1&AccountID=1&LastStatus=0", age_ms=3_600_000)
    event_id, *_ = filled.fill(2)
    show_life(filled, at_ms=now_ms() - 300_000)
    found = examined(filled, exit_code=0)
    assert found["relay"][0][0] == "warning"
    assert found["backlog"][0][0] == "warning"
    assert found["backlog"][0][1].startswith("3 events, the oldest for 360")
    filled.park(event_id)
    found = examined(filled, exit_code=1)
    assert found["dead letters"][0][0] == "trouble"
    assert found["dead letters"][0][1].startswith("1;")


def test_the_relays_trouble_is_told_with_its_beginning(filled: Stock) -> None:
    use_broker(filled, "amqp://guest:secret-word@127.0.0.1:1//")
    show_life(filled, trouble="connection")
    found = examined(filled, exit_code=1)
    assert found["relay"][0][0] == "trouble"
    assert found["relay"][0][1].startswith("connection since 20")


def test_a_relay_that_the_broker_blocks_leads_to_its_alarm(filled: Stock) -> None:
    use_broker(filled, "memory://")
    show_life(filled, trouble="blocked")
    ((verdict, detail),) = examined(filled, exit_code=1)["relay"]
    assert verdict == "trouble"
    assert detail.startswith("blocked since 20")
    assert "a memory or disk alarm; free some, or see `rabbitmqctl status`" in detail


def test_with_a_broker_a_relay_that_never_ran_is_trouble(filled: Stock) -> None:
    use_broker(filled, "memory://")
    assert verdicts(examined(filled, exit_code=1))["relay"] == {"trouble"}


def test_a_clock_that_is_not_believed_is_told(filled: Stock) -> None:
    times = iter([now_ms(), now_ms()] + 2 * [now_ms() + 8 * 86_400_000])
    clock = RetentionClock(lambda: next(times))
    store = filled.runtime.store
    with store.writing() as connection:
        clock.note(connection, store.tables)
        clock.note(connection, store.tables)
    ((verdict, detail),) = examined(filled, exit_code=0)["clock"]
    assert verdict == "warning"
    assert "nothing is forgotten" in detail


YEAR_MS = 365 * 86_400_000


@pytest.mark.parametrize(
    ("wrong_ms", "said"),
    [
        (74 * YEAR_MS, "years after this version was made"),
        (2 * YEAR_MS, "days after the newest sign of life in the store (20"),
        (-57 * YEAR_MS, "behind the newest receipt"),
    ],
)
def test_a_clock_that_cannot_be_right_is_told(
    filled: Stock, monkeypatch: pytest.MonkeyPatch, wrong_ms: int, said: str
) -> None:
    filled.fill(1)
    at = now_ms() + wrong_ms
    monkeypatch.setattr(doctor.clock, "now_ms", lambda: at)
    ((verdict, detail),) = examined(filled, exit_code=0)["clock"]
    assert verdict == "warning"
    assert said in detail


def test_where_the_store_tells_nothing_this_version_does(filled: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong_ms, said in ((74 * YEAR_MS, "years after"), (-57 * YEAR_MS, "before this version was made")):
        at = now_ms() + wrong_ms
        monkeypatch.setattr(doctor.clock, "now_ms", lambda at=at: at)
        ((verdict, detail),) = examined(filled, exit_code=0)["clock"]
        assert verdict == "warning"
        assert said in detail


# --- the broker -----------------------------------------------------------------------------------------------------


def test_a_broker_that_refuses_is_named_without_its_password(filled: Stock) -> None:
    use_broker(filled, "amqp://somebody:secret-word@127.0.0.1:1//")
    result = CliRunner().invoke(main, ["doctor", "--config", str(filled.config)])
    assert result.exit_code == 1
    assert (
        "trouble  broker: amqp://127.0.0.1:1: connection refused; is the broker running, and is this its port?\n"
        in result.stdout
    )
    assert "secret-word" not in result.output
    assert "somebody" not in result.output


def test_a_broker_that_says_nothing_is_trouble_within_seconds(filled: Stock) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        use_broker(filled, f"amqp://guest:guest@127.0.0.1:{deaf.getsockname()[1]}//")
        began = time.monotonic()
        found = examined(filled, exit_code=1)
    assert time.monotonic() - began < 60
    assert found["broker"][0][0] == "trouble"


@pytest.fixture
def names() -> Iterator[dict[str, str]]:
    """Exchange and queue of this test's own; they and their dead letters' are removed."""
    own = f"faxhook-test-{secrets.token_hex(6)}"
    yield {"exchange": own, "queue": own}
    with Connection(RABBITMQ + "/") as connection:
        channel = connection.channel()
        for name in (own, own + ".dead"):
            channel.queue_delete(name)
            channel.exchange_delete(name)


@pytest.mark.service("rabbitmq")
def test_the_queue_in_rabbitmq_is_looked_at_and_never_made(
    filled: Stock, names: dict[str, str], tmp_path: Path
) -> None:
    use_broker(filled, RABBITMQ + "/", **names)
    show_life(filled)
    for _ in range(2):
        (told,) = examined(filled, exit_code=0)["broker"]
        assert told == ("warning", f"amqp://127.0.0.1:5672: {names['exchange']} is not there yet; the relay makes it")
    broker = Broker(Queue(RABBITMQ + "/", names["exchange"], names["queue"], True), "test", tmp_path)
    broker.open()
    told, kept = examined(filled, exit_code=0)["broker"]
    assert kept[1].startswith(f"amqp://127.0.0.1:5672: {names['queue']} was declared to keep its events; a policy")
    assert told == ("ok", f"amqp://127.0.0.1:5672: {names['queue']} holds 0 messages for 0 consumers")
    with Connection(RABBITMQ + "/") as connection:
        connection.Producer().publish("x", exchange=names["exchange"], routing_key="fax.completed.delivered")
    deadline = time.monotonic() + 60
    while "holds 1 messages" not in (told := examined(filled, exit_code=0)["broker"][0])[1]:
        assert time.monotonic() < deadline, told
    assert told[0] == "warning"
    broker.close()


@pytest.mark.service("rabbitmq")
def test_a_queue_that_we_may_not_make_is_trouble(filled: Stock, names: dict[str, str]) -> None:
    use_broker(filled, RABBITMQ + "/", declare=False, **names)
    (told,) = examined(filled, exit_code=1)["broker"]
    said = f"amqp://127.0.0.1:5672: the exchange {names['exchange']} does not exist, and with queue.declare = false"
    assert told == ("trouble", f"{said} it is not made here")


@pytest.mark.service("redis")
def test_redis_is_asked_whether_it_keeps_what_it_is_given(filled: Stock) -> None:
    use_broker(filled, "redis://127.0.0.1:6379/0", queue=f"faxhook-test-{secrets.token_hex(6)}")
    show_life(filled)
    found = examined(filled, exit_code=0)
    assert ("ok", "redis://127.0.0.1:6379: reached") in found["broker"]
    assert any("appendfsync is everysec" in detail for verdict, detail in found["broker"] if verdict == "warning")
    assert transports.find("redis://x").guarantee in found["queue"][0][1]
