"""
All Prometheus metrics of faxhook, right with several processes.

With PROMETHEUS_MULTIPROC_DIR set before the first import (``receiver.serving`` does it) every process counts in files
of its own there, and any of them renders the sum. Labels hold names from the configuration or from closed lists, never
anything from a request.
"""

import os
from collections.abc import Iterable, Iterator, Mapping

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# A second series for each counter, which no one reads.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

requests = Counter("faxhook_requests_total", "HTTP requests answered; endpoint - when unknown.", ["endpoint", "code"])
receipts = Counter("faxhook_receipts_total", "Callbacks and reports kept.", ["endpoint", "state", "reason"])
events = Counter("faxhook_events_total", "Events written to the outbox.", ["endpoint", "type", "outcome"])
conflicts = Counter("faxhook_conflicts_total", "Announcements that contradict a known outcome.", ["endpoint"])
differing_facts = Counter("faxhook_differing_facts_total", "Later values not taken over.", ["field"])
unknown_codes = Counter("faxhook_unknown_codes_total", "Provider codes that no table lists.", ["provider"])
partial_receipts = Counter("faxhook_partial_receipts_total", "Receipts with unusable recipients.", ["endpoint"])
unreadable_fields = Counter("faxhook_unreadable_fields_total", "Optional fields ignored as unreadable.", ["provider"])
outcome_flips = Counter("faxhook_outcome_flips_total", "Faxes that went delivered to failed or back.", ["endpoint"])
request_seconds = Histogram(
    "faxhook_request_seconds",
    "From the request's first byte read by the application to its answer.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


def start_at_zero(endpoints: Iterable[str]) -> None:
    """Show the alarms of these endpoints before their first count: ``increase()`` does not see a series begin at 1."""
    for endpoint in endpoints:
        conflicts.labels(endpoint)
        partial_receipts.labels(endpoint)
        outcome_flips.labels(endpoint)


class _Gauges(Collector):
    """Figures of the moment, read from the store and the same whichever process is asked."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = values

    def collect(self) -> Iterator[Metric]:
        for name, value in self._values.items():
            yield GaugeMetricFamily(name, "Read from the store.", value=value)


def render(gauges: Mapping[str, float] | None = None) -> tuple[bytes, str]:
    """The text exposition and its content type. gauges: metric name -> value now, from the store."""
    shown = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        multiprocess.MultiProcessCollector(shown)  # type: ignore[no-untyped-call]
    else:
        shown = prometheus_client.REGISTRY
    text = generate_latest(shown)
    if gauges:
        own = CollectorRegistry()
        own.register(_Gauges(gauges))
        text += generate_latest(own)
    return text, prometheus_client.CONTENT_TYPE_LATEST


def mark_process_dead(pid: int) -> None:
    """A process ended; its counters stay, since totals never go back."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
