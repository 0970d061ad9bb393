"""Counters as Prometheus reads them, from one process and from several."""

import os
import subprocess
import sys
from pathlib import Path

import receiver

PROCESS = """
import os, sys
from receiver import metrics
metrics.start_at_zero(["acme"])
for _ in range(3):
    if os.fork() == 0:
        metrics.requests.labels("acme", "200").inc()
        metrics.requests.labels("-", "404").inc()
        metrics.receipts.labels("acme", "accepted", "").inc()
        metrics.events.labels("acme", "fax.completed.v1", "delivered").inc(2)
        metrics.differing_facts.labels("sender.name").inc()
        metrics.unknown_codes.labels("retarus").inc()
        metrics.unreadable_fields.labels("efax").inc()
        metrics.request_seconds.observe(0.002)
        os._exit(0)
    pid, _ = os.wait()
    metrics.mark_process_dead(pid)
text, content_type = metrics.render({"faxhook_outbox_pending": 7, "faxhook_relay_lag_seconds": 0.5})
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
    assert 'faxhook_events_total{endpoint="acme",outcome="delivered",type="fax.completed.v1"} 6.0' in text
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


def test_gauges_of_the_store_are_shown_as_given(tmp_path: Path) -> None:
    for text in (rendered(PROMETHEUS_MULTIPROC_DIR=str(tmp_path)), rendered()):
        assert "faxhook_outbox_pending 7.0" in text
        assert "faxhook_relay_lag_seconds 0.5" in text
        assert "# TYPE faxhook_outbox_pending gauge" in text


def test_one_process_needs_no_directory() -> None:
    text = rendered()
    assert "# TYPE faxhook_requests_total counter" in text
    assert any(line.startswith("process_resident_memory_bytes") for line in text)
