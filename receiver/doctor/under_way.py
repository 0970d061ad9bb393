"""What is under way: the relay, what waits for it, and what went wrong on the way."""

from collections.abc import Iterator

from receiver.doctor.finding import OK, TROUBLE, WARNING, Finding
from receiver.outgoing.broker_errors import words
from receiver.settings import Queue, Settings
from receiver.store.browsing import iso
from receiver.store.figures import Figures, OfSink
from receiver.store.projection import LOOKED_THROUGH

_OLD_SECONDS = 300.0


def of_figures(settings: Settings, found: Figures) -> Iterator[Finding]:
    """All of it, as the figures of the store have it."""
    queue = settings.queue
    yield _relay(queue, found)
    yield _backlog(queue, found)
    yield _projector(found)
    yield _dead_letters(found)
    for one in found.sinks.values():
        yield _sink(settings, found, one)
    yield _discrepancies(found)
    yield _refusals(found)


def _relay(queue: Queue, found: Figures) -> Finding:
    relay = found.relay
    # Without a broker it only keeps the store in order.
    verdict = WARNING if queue.is_embedded else TROUBLE
    if relay is None:
        return Finding("relay", verdict, "none has run on this store; `faxhook serve` or `faxhook relay` starts one")
    if not found.relay_is_alive:
        return Finding("relay", verdict, f"no sign of life since {iso(relay.seen_at_ms)}; `faxhook relay` starts one")
    if relay.trouble is not None and not queue.is_embedded:
        detail = f"{relay.trouble} since {iso(relay.trouble_since_ms)}; it goes on trying"
        return Finding("relay", TROUBLE, f"{detail}. The broker: {words(relay.trouble)}")
    return Finding("relay", OK, f"seen {iso(relay.seen_at_ms)}")


def _backlog(queue: Queue, found: Figures) -> Finding:
    if found.backlog == 0:
        return Finding("backlog", OK, "empty")
    detail = f"{found.backlog} events, the oldest for {found.oldest_seconds:.0f} s"
    if found.oldest_seconds < _OLD_SECONDS:
        return Finding("backlog", OK, detail)
    return Finding("backlog", WARNING, detail + ("; is there a consumer?" if queue.is_embedded else ""))


def _projector(found: Figures) -> Finding:
    detail = f"{found.unprojected} events wait until they can be found by number, reference and the like"
    return Finding("projector", OK if found.unprojected <= LOOKED_THROUGH else WARNING, detail)


def _discrepancies(found: Figures) -> Finding:
    if not found.discrepancies:
        return Finding("discrepancies", OK, "none")
    counts = ", ".join(f"{count} {kind}" for kind, (count, _) in sorted(found.discrepancies.items()))
    return Finding("discrepancies", WARNING, f"{counts}; see `faxhook discrepancies list`")


def _dead_letters(found: Figures) -> Finding:
    if found.dead == 0:
        return Finding("dead letters", OK, "none")
    return Finding("dead letters", TROUBLE, f"{found.dead}; see `faxhook dead-letters list`")


def _sink(settings: Settings, found: Figures, one: OfSink) -> Finding:
    """One beside the queue."""
    how, waits = one.standing, found.seconds_since(one.oldest_at_ms)
    detail = f"{one.backlog} events wait" + (f", the oldest for {waits:.0f} s" if one.backlog else "")
    kept = "; they are kept, with what is personal in them, until it is resumed or dropped"
    if how.stopped_at_ms is not None:
        why = f"stopped since {iso(how.stopped_at_ms)} ({how.stopped_for})"
        return Finding(f"sink {how.name}", TROUBLE, f"{why}: {detail}{kept}: `faxhook sinks resume {how.name}`")
    if waits > settings.retention.bodies.total_seconds():
        return Finding(f"sink {how.name}", TROUBLE, f"{detail}, which is longer than retention.bodies{kept}")
    if how.trouble is not None:
        since = f"{how.trouble} since {iso(how.trouble_since_ms)}; it is tried again"
        return Finding(f"sink {how.name}", TROUBLE, f"{since}. {detail}. The sink: {words(how.trouble)}")
    if one.dead:
        return Finding(f"sink {how.name}", TROUBLE, f"{one.dead} dead letters; see `faxhook dead-letters list`")
    return Finding(f"sink {how.name}", OK if waits < _OLD_SECONDS else WARNING, detail)


def _refusals(found: Figures) -> Finding:
    """Paths that lead nowhere are no news: scanners of the internet ask for them."""
    if not found.refusals:
        return Finding("refused", OK, "no requests in the last hour")
    some = ", ".join(f"{count} {reason} at {endpoint}" for (endpoint, reason), count in found.refusals.most_common(5))
    verdict = WARNING if any(endpoint != "-" for endpoint, _ in found.refusals) else OK
    detail = f"{found.refusals.total()} requests in the last hour left no receipt: {some}"
    return Finding("refused", verdict, f"{detail}; the log has reasons and addresses (callback_refused)")
