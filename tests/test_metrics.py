"""Counters as Prometheus reads them, from one process and from several."""

import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
from house import CONFIGURATION, House, house

import receiver
from receiver.store import now_ms, outbox
from receiver.store.leading import sign_of_life
from receiver.web import operations

PROCESS = """
import os, sys
from receiver import metrics
metrics.start_at_zero(["acme"])
for _ in range(3):
    if os.fork() == 0:
        metrics.requests.labels("acme", "200").inc()
        metrics.requests.labels("-", "404").inc()
        metrics.receipts.labels("acme", "accepted", "").inc()
        metrics.events.labels("acme", "fax.completed.v1", "delivered", "").inc(2)
        metrics.differing_facts.labels("sender.name").inc()
        metrics.unknown_codes.labels("retarus").inc()
        metrics.unreadable_fields.labels("efax").inc()
        metrics.request_seconds.observe(0.002)
        os._exit(0)
    pid, _ = os.wait()
    metrics.mark_process_dead(pid)
text, content_type = metrics.render(
    {"faxhook_backlog_events": 7, "faxhook_commit_to_consumer_seconds": {"0.5": 0.25, "0.99": 2}}
)
assert content_type.startswith("text/plain")
sys.stdout.buffer.write(text)
"""


def rendered(**environment: str) -> list[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PROMETHEUS")}
    path = str(Path(receiver.__path__[0]).parent)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROCESS],
        env={**inherited, "PYTHONPATH": path, **environment},
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout.splitlines()


def test_several_processes_are_summed(tmp_path: Path) -> None:
    text = rendered(PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert 'faxhook_requests_total{code="200",endpoint="acme"} 3.0' in text
    assert 'faxhook_requests_total{code="404",endpoint="-"} 3.0' in text
    assert 'faxhook_receipts_total{endpoint="acme",reason="",state="accepted"} 3.0' in text
    assert 'faxhook_events_total{endpoint="acme",outcome="delivered",reason="",type="fax.completed.v1"} 6.0' in text
    assert 'faxhook_differing_facts_total{field="sender.name"} 3.0' in text
    assert 'faxhook_unknown_codes_total{provider="retarus"} 3.0' in text
    assert 'faxhook_unreadable_fields_total{provider="efax"} 3.0' in text
    assert "faxhook_request_seconds_count 3.0" in text
    assert 'faxhook_request_seconds_bucket{le="0.0025"} 3.0' in text
    assert not [line for line in text if "pid=" in line or "_created" in line]


def test_alarms_are_there_before_the_first_one(tmp_path: Path) -> None:
    for text in (rendered(PROMETHEUS_MULTIPROC_DIR=str(tmp_path)), rendered()):
        assert 'faxhook_conflicts_total{endpoint="acme"} 0.0' in text
        assert 'faxhook_partial_receipts_total{endpoint="acme"} 0.0' in text
        assert 'faxhook_outcome_flips_total{endpoint="acme"} 0.0' in text


def test_figures_of_the_store_are_shown_as_given(tmp_path: Path) -> None:
    for text in (rendered(PROMETHEUS_MULTIPROC_DIR=str(tmp_path)), rendered()):
        assert "faxhook_backlog_events 7.0" in text
        assert "# TYPE faxhook_backlog_events gauge" in text
        assert 'faxhook_commit_to_consumer_seconds{quantile="0.5"} 0.25' in text
        assert 'faxhook_commit_to_consumer_seconds{quantile="0.99"} 2.0' in text


def test_one_process_needs_no_directory() -> None:
    text = rendered()
    assert "# TYPE faxhook_requests_total counter" in text
    assert any(line.startswith("process_resident_memory_bytes") for line in text)


# --- as they are asked for ------------------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(operations, "_FIGURES_SECONDS", 0.0)
    monkeypatch.setattr(operations, "_READY_SECONDS", 0.0)
    with house(tmp_path, store_url) as one:
        yield one


def fax(made: House, number: int, status: int = 0) -> None:
    fields = {"OutTransID": number, "AccountID": 123456789, "LastStatus": status}
    assert made.post("openfax", urlencode(fields)).status == 200


def figures(made: House) -> dict[str, float]:
    """The series read from the store."""
    text = made.ask("GET", "/metrics").body.decode()
    found = re.findall(r"^(faxhook_(?:ready|store|backlog|dead|relay|commit)\S*) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def publish(made: House, count: int, *, after_ms: int) -> None:
    store = made.runtime.store
    with store.writing() as connection:
        for row in outbox.pending(connection, store.tables, count):
            outbox.publish(connection, store.tables, [row], row.created_at_ms + after_ms)


def test_a_new_store_has_figures_too(made: House) -> None:
    assert figures(made) == {
        "faxhook_ready": 1,
        "faxhook_store_up": 1,
        "faxhook_backlog_events": 0,
        "faxhook_backlog_oldest_seconds": 0,
        "faxhook_dead_letters": 0,
        "faxhook_relay_last_seen_timestamp_seconds": 0,
        "faxhook_relay_trouble": 0,
    }


def test_backlog_dead_letters_and_delays_are_those_of_the_store(made: House) -> None:
    for number in range(6):
        fax(made, number)
    publish(made, 2, after_ms=1500)
    store = made.runtime.store
    with store.writing() as connection:
        leased, _ = outbox.lease(connection, store.tables, "somebody/1/1", 1, now_ms())
        outbox.park(connection, store.tables, outbox.pending(connection, store.tables, 1), "refused", now_ms())
        events = store.tables.events
        an_hour_ago = events.update().where(events.c.seq == leased[0].seq).values(created_at_ms=now_ms() - 3_600_000)
        connection.execute(an_hour_ago)
    found = figures(made)
    assert found["faxhook_backlog_events"] == 3
    assert found["faxhook_dead_letters"] == 1
    assert 3600 <= found["faxhook_backlog_oldest_seconds"] < 3660
    assert found['faxhook_commit_to_consumer_seconds{quantile="0.5"}'] == 1.5
    assert found['faxhook_commit_to_consumer_seconds{quantile="0.99"}'] == 1.5


def test_the_relays_life_and_trouble_are_seen_and_turn_nothing_red(made: House) -> None:
    store = made.runtime.store
    began = now_ms() - 7000
    with store.writing() as connection:
        sign_of_life(connection, store.tables, began, "connection")
        sign_of_life(connection, store.tables, began + 5000, "timeout")
    found = figures(made)
    assert found["faxhook_relay_trouble"] == 1
    assert found["faxhook_relay_last_seen_timestamp_seconds"] == pytest.approx((began + 5000) / 1000)
    ready = made.ask("GET", "/readyz")
    assert ready.status == 200
    told = ready.json["relay"]
    assert (told["alive"], told["trouble"]) == (True, "timeout")
    assert told["trouble_since"] < told["seen_at"]
    with store.writing() as connection:
        sign_of_life(connection, store.tables, now_ms(), None)
    assert figures(made)["faxhook_relay_trouble"] == 0
    assert made.ask("GET", "/readyz").json["relay"]["trouble_since"] is None


def test_a_relay_that_has_been_silent_for_minutes_is_not_alive(made: House) -> None:
    assert made.ask("GET", "/readyz").json["relay"]["alive"] is False
    with made.runtime.store.writing() as connection:
        sign_of_life(connection, made.runtime.store.tables, now_ms() - 120_000, None)
    assert made.ask("GET", "/readyz").json["relay"]["alive"] is False


def test_readiness_tells_the_backlog_to_those_who_may_know(made: House) -> None:
    fax(made, 1)
    ready = made.ask("GET", "/readyz")
    assert ready.json["backlog"]["events"] == 1
    assert ready.json["dead_letters"] == 0
    stranger = made.ask("GET", "/readyz", X_Forwarded_For="198.51.100.7")
    assert (stranger.status, stranger.body) == (200, b"")


SAID_BY_PROXIES = (
    *("Forwarded", "Via", "X-Real-IP", "CF-Connecting-IP", "True-Client-IP", "X-Forwarded-For", "X-Forwarded-Proto"),
    *("X-Forwarded-Host", "X-Forwarded", "X-Original-Forwarded-For", "Fastly-Client-IP", "X-Client-IP"),
    *("X-Cluster-Client-IP", "X-Azure-ClientIP", "X-ProxyUser-Ip", "CF-Connecting-IPv6", "X-Amzn-Trace-Id", "CDN-Loop"),
)


def test_what_a_proxy_on_this_machine_passes_on_is_not_from_loopback(made: House) -> None:
    assert made.ask("GET", "/metrics").status == 200
    for header in SAID_BY_PROXIES:
        for value in ("for=198.51.100.7", ""):
            assert made.ask("GET", "/metrics", **{header: value}).status == 404, header


def test_who_asks_by_the_public_name_has_come_through_a_proxy(tmp_path: Path, sqlite_url: str) -> None:
    public = CONFIGURATION.replace("[server]", '[server]\npublic_url = "https://hooks.example.com"')
    with house(tmp_path, sqlite_url, public) as made:
        for host in ("hooks.example.com", "Hooks.Example.com:443"):
            assert made.ask("GET", "/metrics", Host=host).status == 404
        for host in ("localhost:8000", "[::1", "x"):
            assert made.ask("GET", "/metrics", Host=host).status == 200


def test_a_store_that_is_away_leaves_the_counters(tmp_path: Path, sqlite_url: str) -> None:
    with house(tmp_path, sqlite_url) as made:
        fax(made, 1)
        made.runtime.store.close()
        assert made.runtime.store.file is not None
        made.runtime.store.file.path.unlink()
        answer = made.ask("GET", "/metrics")
        assert answer.status == 200
        assert b"# TYPE faxhook_requests_total counter" in answer.body
        assert figures(made) == {"faxhook_ready": 0, "faxhook_store_up": 0}
        ready = made.ask("GET", "/readyz")
        assert (ready.status, ready.json["ready"]) == (503, False)


def test_events_are_counted_by_outcome_and_reason(made: House) -> None:
    def counted() -> float:
        labels = r'endpoint="openfax",outcome="failed",reason="busy",type="fax.completed.v1"'
        found = re.search(rf"faxhook_events_total\{{{labels}\}} (\S+)", made.ask("GET", "/metrics").body.decode())
        return float(found[1]) if found else 0.0

    fax(made, 1)
    before = counted()
    fax(made, 2, status=2)
    assert counted() == before + 1


def test_figures_take_little_where_a_hundred_thousand_events_wait(made: House) -> None:
    store = made.runtime.store
    waiting = store.tables.waiting
    with store.writing(time.monotonic() + 60) as connection:
        for start in range(1, 100_001, 10_000):
            rows = [
                {"sink": "queue", "turn": number, "seq": number, "fax_id": str(uuid.UUID(int=number)), "revision": 1}
                for number in range(start, start + 10_000)
            ]
            connection.execute(sa.insert(waiting), rows)
    began = time.monotonic()
    assert figures(made)["faxhook_backlog_events"] == 100_000
    assert time.monotonic() - began < 30
