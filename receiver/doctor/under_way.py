"""What is under way: the relay, what waits for it, and what went wrong on the way."""

from collections.abc import Iterator

from receiver.doctor.finding import OK, TROUBLE, WARNING, Finding
from receiver.outgoing.broker_errors import words
from receiver.settings import Queue
from receiver.store.browsing import iso
from receiver.store.figures import Figures
from receiver.store.projection import LOOKED_THROUGH

_OLD_SECONDS = 300.0


def of_figures(queue: Queue, found: Figures) -> Iterator[Finding]:
    """All of it, as the figures of the store have it."""
    yield _relay(queue, found)
    yield _backlog(queue, found)
    yield _projector(found)
    yield _dead_letters(found)
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


def _refusals(found: Figures) -> Finding:
    """Paths that lead nowhere are no news: scanners of the internet ask for them."""
    if not found.refusals:
        return Finding("refused", OK, "no requests in the last hour")
    some = ", ".join(f"{count} {reason} at {endpoint}" for (endpoint, reason), count in found.refusals.most_common(5))
    verdict = WARNING if any(endpoint != "-" for endpoint, _ in found.refusals) else OK
    detail = f"{found.refusals.total()} requests in the last hour left no receipt: {some}"
    return Finding("refused", verdict, f"{detail}; the log has reasons and addresses (callback_refused)")
