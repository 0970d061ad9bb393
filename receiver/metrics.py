"""
All Prometheus metrics of faxhook, right with several processes.

With PROMETHEUS_MULTIPROC_DIR set before the first import (``receiver.web.serving`` does it) every process counts in
files of its own there, and any of them renders the sum. Labels hold names from the configuration or from closed lists,
never anything from a request.
"""

import collections
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeAlias

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# A second series for each counter, which no one reads.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

requests = Counter("faxhook_requests_total", "HTTP requests answered; endpoint - when unknown.", ["endpoint", "code"])
refusals = Counter(
    "faxhook_refusals_total", "Requests refused without a receipt; endpoint - when unknown.", ["endpoint", "reason"]
)
receipts = Counter("faxhook_receipts_total", "Callbacks and reports kept.", ["endpoint", "state", "reason"])
events = Counter(
    "faxhook_events_total",
    "Events written to the outbox; reason is that of a failure.",
    ["endpoint", "type", "outcome", "reason"],
)
conflicts = Counter("faxhook_conflicts_total", "Announcements that contradict a known outcome.", ["endpoint"])
differing_facts = Counter("faxhook_differing_facts_total", "Later values not taken over.", ["field"])
unknown_codes = Counter("faxhook_unknown_codes_total", "Provider codes that no table lists.", ["provider"])
partial_receipts = Counter("faxhook_partial_receipts_total", "Receipts with unusable recipients.", ["endpoint"])
unreadable_fields = Counter("faxhook_unreadable_fields_total", "Optional fields ignored as unreadable.", ["provider"])
repairs = Counter("faxhook_repairs_total", "Callbacks and reports read after a repair.", ["provider", "repair"])
outcome_flips = Counter("faxhook_outcome_flips_total", "Faxes that went delivered to failed or back.", ["endpoint"])
dropped_log_lines = Counter("faxhook_log_lines_dropped_total", "Log lines lost since nobody read stderr in time.")
published = Counter("faxhook_published_total", "Events confirmed by the broker.", ["type", "outcome"])
publish_failures = Counter("faxhook_publish_failures_total", "Batches that the broker did not take.", ["reason"])
sink_published = Counter("faxhook_sink_published_total", "Events confirmed by the sink.", ["sink"])
sink_failures = Counter("faxhook_sink_failures_total", "Batches that the sink did not take.", ["sink", "reason"])
publish_seconds = Histogram(
    "faxhook_publish_seconds",
    "From a batch's first byte sent to its last confirm.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
delivery_seconds = Histogram(
    "faxhook_delivery_seconds",
    "From a callback's arrival to the broker's confirm of its event.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600),
)
request_seconds = Histogram(
    "faxhook_request_seconds",
    "From the request's first byte read by the application to its answer.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

# Figures of the moment, read from the store: name -> HELP.
GAUGES = {
    "faxhook_discrepancies": "What does not add up with the providers and is open, by kind.",
    "faxhook_discrepancies_oldest_seconds": "Age of the oldest open discrepancy of each kind.",
    "faxhook_degraded": "1 while faxes of the endpoint fail more often than they used to.",
    "faxhook_available_credit": "What is left of a prepaid account, in the provider's unit, by endpoint.",
    "faxhook_ready": "1 while a 2xx can be promised: a callback could be committed now, as /readyz tries it.",
    "faxhook_store_up": "1 while the store can be read; the other figures from it are missing while it cannot.",
    "faxhook_backlog_events": "Events that have not arrived: waiting, or with a consumer.",
    "faxhook_unprojected_events": "Events that the projector has not made findable yet.",
    "faxhook_backlog_oldest_seconds": "Age of the oldest event of the backlog; 0 without one.",
    "faxhook_dead_letters": "Events that cannot be sent, parked until an operator has looked.",
    "faxhook_relay_last_seen_timestamp_seconds": "The active relay's last sign of life, since 1970; 0: never.",
    "faxhook_relay_trouble": "1 while the relay has trouble with the broker.",
    "faxhook_sink_backlog_events": "Events that have not arrived at the sink; the queue has figures of its own.",
    "faxhook_sink_backlog_oldest_seconds": "Age of the oldest event of the sink's backlog; 0 without one.",
    "faxhook_sink_dead_letters": "Events that cannot be sent to the sink, parked until an operator has looked.",
    "faxhook_sink_trouble": "1 while the relay has trouble with the sink.",
    "faxhook_sink_stopped": "1 while nothing goes to the sink, until `faxhook sinks resume`.",
    "faxhook_commit_to_consumer_seconds": "From commit to the broker's confirm, or without a broker to the consumer's"
    " acknowledgement: quantiles of the 500 newest events that have arrived.",
}

# Of the figures that have several values: what these are told apart by.
LABELS = {
    "faxhook_commit_to_consumer_seconds": "quantile",
    "faxhook_discrepancies": "kind",
    "faxhook_discrepancies_oldest_seconds": "kind",
    "faxhook_degraded": "endpoint",
    "faxhook_available_credit": "endpoint",
    "faxhook_sink_backlog_events": "sink",
    "faxhook_sink_backlog_oldest_seconds": "sink",
    "faxhook_sink_dead_letters": "sink",
    "faxhook_sink_trouble": "sink",
    "faxhook_sink_stopped": "sink",
}

Gauges: TypeAlias = Mapping[str, float | Mapping[str, float]]  # label -> value, where a figure has several


# What the end of the line counts, by the names that ``receiver.stations`` has for them.
COUNTERS = {
    "receipts": receipts,
    "events": events,
    "partial_receipts": partial_receipts,
    "conflicts": conflicts,
    "outcome_flips": outcome_flips,
    "differing_facts": differing_facts,
    "unknown_codes": unknown_codes,
    "unreadable_fields": unreadable_fields,
    "repairs": repairs,
}
Counts: TypeAlias = Mapping[tuple[str, ...], int]  # (name in COUNTERS, value of each label) -> how many


def alarms(endpoints: Iterable[str], providers: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """The series that are shown before their first count: ``increase()`` does not see one begin at 1."""
    for endpoint in endpoints:
        yield from ((name, endpoint) for name in ("conflicts", "partial_receipts", "outcome_flips"))
    yield from (("unknown_codes", provider) for provider in sorted(set(providers)))


def start_at_zero(endpoints: Iterable[str], providers: Iterable[str] = ()) -> None:
    """Show the alarms of these endpoints and providers."""
    for name, *labels in alarms(endpoints, providers):
        COUNTERS[name].labels(*labels)


class _Held(threading.local):
    counts: "MutableMapping[tuple[str, ...], int] | None" = None


_held = _Held()


@contextmanager
def together() -> Iterator[None]:
    """What this thread adds in the block is added at its end, each series once."""
    _held.counts = collections.Counter()
    try:
        yield
    finally:
        counts, _held.counts = _held.counts, None
        add(counts)


def add(counts: Counts) -> None:
    """Let the counters of this process grow."""
    for series, count in counts.items():
        if _held.counts is not None:
            _held.counts[series] += count
        else:
            _child(*series).inc(count)


def count_request(endpoint: str, status: int) -> None:
    """One was answered."""
    add({("requests", endpoint, str(status)): 1})


@lru_cache(maxsize=4096)  # far more than there are
def _child(name: str, *labels: str) -> Counter:
    return (requests if name == "requests" else COUNTERS[name]).labels(*labels)


class _Figures(Collector):
    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        for name, value in self._gauges.items():
            family = GaugeMetricFamily(name, GAUGES[name], labels=[LABELS[name]] if isinstance(value, Mapping) else [])
            for label, number in value.items() if isinstance(value, Mapping) else [(None, value)]:
                family.add_metric([label] if label is not None else [], number)
            yield family


class _WithReports(Collector):
    """The counters of the processes, and beside them those of the store: what reports told, with ``via="report"``."""

    def __init__(self, shown: CollectorRegistry, reported: Counts) -> None:
        self._shown = shown
        self._reported = reported

    def collect(self) -> Iterator[Metric]:
        families = {family.name: family for family in self._shown.collect()}
        for (name, *labels), count in self._reported.items():
            (described,) = COUNTERS[name].describe()
            family = families.setdefault(described.name, described)
            names = COUNTERS[name]._labelnames
            series = dict(zip(names, labels, strict=True)) | {"via": "report"}
            family.add_sample(f"{described.name}_total", series, count)
        yield from families.values()


def render(gauges: Gauges, reported: Counts | None = None) -> tuple[bytes, str]:
    """
    The text exposition and its content type.

    gauges: names of GAUGES with their values now. reported: the counters of what reports told.
    """
    shown = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        multiprocess.MultiProcessCollector(shown)  # type: ignore[no-untyped-call]
    else:
        shown = prometheus_client.REGISTRY
    own = CollectorRegistry()
    own.register(_WithReports(shown, reported or {}))
    own.register(_Figures(gauges))
    return generate_latest(own), prometheus_client.CONTENT_TYPE_LATEST


def mark_process_dead(pid: int) -> None:
    """A process ended; its counters stay, since totals never go back."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
