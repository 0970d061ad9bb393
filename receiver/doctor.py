"""
``faxhook doctor``: what an operator asks when something is wrong, each question with a verdict.

Everything is asked of the real thing, within seconds, also while the store or the broker is away. Nothing is changed
but one row of the store, which is there to be written.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import sqlalchemy as sa

from receiver import __made__, bootstrap, hosting, transports
from receiver import settings as configuration
from receiver.errors import BrokerTrouble, ConfigurationError, StoreError, Unavailable
from receiver.logs import error_class
from receiver.outgoing.broker import Broker
from receiver.outgoing.broker_errors import words
from receiver.outgoing.declared import declared, losses
from receiver.settings import Queue, Settings
from receiver.store import Store, browsing, damage, figures, now_ms
from receiver.store.browsing import iso
from receiver.store.clock import doubted_since_ms
from receiver.store.figures import Figures
from receiver.store.identity import verify
from receiver.store.migrating import check_version
from receiver.store.probing import probe
from receiver.stores import open_store

Progress: TypeAlias = Callable[[], AbstractContextManager[Callable[[str], object]]]

OK, WARNING, TROUBLE = "ok", "warning", "trouble"

_BROKER_SECONDS = 10.0  # for the whole look, whatever a client library makes of its timeouts
_WRITE_SECONDS = 3.0
_LITTLE_SPACE = 1 << 30
_NO_SPACE = 64 << 20
_OLD_SECONDS = 300.0
_SKEW_SECONDS = 5.0
_DAY_MS = 24 * 3600 * 1000
_QUIET_DAYS = 366  # without a callback or a relay
_OLDEST_VERSION_DAYS = 10 * 365
_DAMAGES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """check: what was looked at. verdict: OK, WARNING or TROUBLE. detail: a sentence without secrets."""

    check: str
    verdict: str
    detail: str


def examine(settings: Settings, environ: Mapping[str, str], progress: Progress | None = None) -> Iterator[Finding]:
    """
    Look at everything, one after the other. Raises ConfigurationError where faxhook would not start.

    progress: the whole SQLite file is read as well, and this is told how far. Raises Interrupted at Ctrl-C meanwhile.
    """
    bootstrap.resolve(settings)
    hosting.check(settings, environ)
    yield from _configuration(settings)
    yield from _hosting(settings, environ)
    obstacles = bootstrap.obstacles(settings)
    yield from (Finding("server", TROUBLE, obstacle) for obstacle in obstacles)
    if not obstacles:
        yield _secret_key(settings)
    with closing(open_store(settings)) as store:
        yield from _vanished(settings, store)
        yield from _files(store)
        found = yield from _store(settings, store)
        if progress is not None:
            yield from _whole(store, progress)
    for doubt in bootstrap.former_stores(settings):
        yield Finding("store", WARNING, doubt)
    yield from _queue(settings)
    if found is None:
        yield Finding("relay", WARNING, "nobody knows of relay, backlog and dead letters without the store")
    else:
        yield _relay(settings.queue, found)
        yield _backlog(settings.queue, found)
        yield _dead_letters(found)
        yield _discrepancies(found)
        yield _refusals(found)


# --- what is configured ---------------------------------------------------------------------------------------------


def _configuration(settings: Settings) -> Iterator[Finding]:
    source = settings.path or "FAXHOOK_CONFIG_TOML"
    yield Finding("configuration", OK, f"{source}: {len(settings.endpoints)} endpoints")
    if settings.path is not None and _is_open_to_others(settings.path):
        yield Finding("configuration", WARNING, f"{settings.path} can be read by others; it holds secrets: chmod 600")
    for doubt in (*configuration.doubts(settings), *bootstrap.doubts(settings)):
        yield Finding("configuration", WARNING, doubt)


def _hosting(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    name = hosting.platform(environ)
    yield Finding("platform", OK, name or "none that shows")
    for doubt in hosting.doubts(settings):
        yield Finding("platform", WARNING, doubt)


def _secret_key(settings: Settings) -> Finding:
    if settings.server.secret_keys:
        return Finding("secret key", OK, f"configured, {len(settings.server.secret_keys)}")
    path = settings.server.state_dir / "secret_key"
    if not path.exists():
        return Finding("secret key", OK, f"will be made at the first start: {path}")
    if not os.access(path, os.R_OK):
        return Finding("secret key", TROUBLE, f"{path} cannot be read by this user")
    if _is_open_to_others(path):
        return Finding("secret key", WARNING, f"{path} can be read by others: chmod 600")
    return Finding("secret key", OK, f"made by faxhook: {path}")


def _is_open_to_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & 0o077)
    except OSError:
        return False


# --- the store ------------------------------------------------------------------------------------------------------


def _vanished(settings: Settings, store: Store) -> Iterator[Finding]:
    try:
        bootstrap.refuse_vanished(settings, store)
    except ConfigurationError as error:
        yield Finding("state_dir", TROUBLE, str(error))
    except Unavailable:
        return  # told where it is looked at


def _files(store: Store) -> Iterator[Finding]:
    """SQLite's: who may read it, and how much more fits beside it."""
    if store.file is None:
        return
    path = store.file.path
    try:
        folder = next((parent for parent in path.parents if parent.exists()), Path("/"))
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield Finding("disk", TROUBLE, f"{path.parent}: {error.strerror}")
        return
    verdict = TROUBLE if free < _NO_SPACE else WARNING if free < _LITTLE_SPACE else OK
    yield Finding("disk", verdict, f"{free / (1 << 20):,.0f} MiB free at {folder}")
    if _is_open_to_others(path):
        yield Finding("store", WARNING, f"{path} can be read by others; it holds personal data: chmod 600")


def _store(settings: Settings, store: Store) -> Generator[Finding, None, Figures | None]:
    """Its findings; and its figures, unless it cannot be used."""
    try:
        damage.check_newest(store)
        check_version(store)
        yield _durability(store)
        yield from _noted_damage(store)
        yield _write(store)
        with store.reading() as connection:
            verify(connection, store.tables, settings.endpoints.values(), settings.store.identity_salt)
            found = figures.read(connection, store.tables)
        yield _clock(store, found)
        yield from _log_of_the_database(store)
    except StoreError as error:
        yield Finding("store", TROUBLE, str(error))
    except Unavailable as error:
        yield Finding("store", TROUBLE, error.trouble)
    else:
        return found
    return None


def _whole(store: Store, progress: Progress) -> Iterator[Finding]:
    """Every page of a SQLite file, on a connection of its own that holds nobody up."""
    if store.file is None or not store.file.exists():
        return
    path, began = store.file.path, time.monotonic()
    with progress() as told:

        def go_on() -> bool:
            told(f"{path}: every page is being read, {time.monotonic() - began:.0f} s")
            return True

        try:
            found = damage.check_all(path, go_on)
        except Unavailable as error:
            yield Finding("store", TROUBLE, f"its pages could not be read: {error.trouble}")
            return
    for line in found[:_DAMAGES_SHOWN]:
        yield Finding("store", TROUBLE, f"damaged: {line}")
    if found:
        hint = "stop faxhook, restore a backup or see what `faxhook store salvage NEW_FILE` can read"
        yield Finding("store", TROUBLE, f"{len(found)} damage{'s' if len(found) > 1 else ''}; {hint}")
    else:
        yield Finding("store", OK, "every page was read, and is whole")


def _noted_damage(store: Store) -> Iterator[Finding]:
    with store.reading() as connection:
        known = damage.noted(connection, store.tables)
    if known is not None:
        what = f"{known['count']} damages: {'; '.join(known['found'])}" if "found" in known else "see doctor --deep"
        yield Finding("store", TROUBLE, f"damaged, noted {iso(known['since_ms'])}: {what}")


def _durability(store: Store) -> Finding:
    how = store.durability()
    words = f"{how.pop('store')} {how.pop('version')}, migrated, " + ", ".join(f"{k} {v}" for k, v in how.items())
    # PostgreSQL's other levels (local, remote_write, remote_apply) all wait for its own disk.
    if how["synchronous"] in ("off", "normal") or "off" in (how.get("fsync"), how.get("full_page_writes")):
        return Finding("store", TROUBLE, f"{words}: a power cut loses what was answered with 2xx")
    return Finding("store", OK, words)


def _write(store: Store) -> Finding:
    if store.file is not None and store.file.owner() != os.geteuid():
        # A lock file made by this user would keep the service out.
        return Finding("store", WARNING, "belongs to another user, so nothing was written; run this as that user")
    began = time.monotonic()
    probe(store, _WRITE_SECONDS)
    return Finding("store", OK, f"a write took {(time.monotonic() - began) * 1000:.1f} ms")


def _clock(store: Store, found: Figures) -> Finding:
    """Against what wrote before, against the database's own, and against when this version was made."""
    with store.reading() as connection:
        newest = browsing.newest_receipt_ms(connection, store.tables)
        theirs = None
        if store.file is None:
            theirs = connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp()) * 1000").scalar_one()
        doubted_ms = doubted_since_ms(connection, store.tables)
    now = now_ms()
    if doubted_ms is not None:
        jumped = f"jumped ahead, to {iso(doubted_ms)}"
        return Finding("clock", WARNING, f"{jumped}; until it has run evenly for an hour, nothing is forgotten")
    if theirs is not None and abs(now - float(theirs)) > _SKEW_SECONDS * 1000:
        return Finding("clock", WARNING, f"{(now - float(theirs)) / 1000:+.0f} s from the database's")
    if newest is not None and newest - now > _SKEW_SECONDS * 1000:
        return Finding("clock", WARNING, f"behind the newest receipt, of {iso(newest)}")
    sign = max(newest or 0, found.relay.seen_at_ms if found.relay else 0)
    if doubt := _implausible(now, sign):
        return Finding("clock", WARNING, f"{iso(now)}, {doubt}")
    return Finding("clock", OK, iso(now) or "")


def _implausible(now: int, sign: int) -> str | None:
    """What speaks against the clock where nobody else's can be asked. sign: the newest sign of life; 0: none."""
    made = datetime.fromisoformat(f"{__made__}T00:00:00Z").timestamp() * 1000
    if now < made:
        return f"which is before this version was made ({__made__}); set the machine's clock"
    if now - made > _OLDEST_VERSION_DAYS * _DAY_MS:
        return f"which is years after this version was made ({__made__}); is the machine's clock right (timedatectl)?"
    if sign and now - sign > _QUIET_DAYS * _DAY_MS:
        days = (now - sign) // _DAY_MS
        quiet = f"{days} days after the newest sign of life in the store ({iso(sign)})"
        return f"which is {quiet}; where faxhook has run since, the machine's clock is wrong (timedatectl)"
    return None


# A statement is logged with its parameters, which hold callbacks, where one of these is not at its default.
_LOGS_STATEMENTS = {
    "log_statement": frozenset({"none", "ddl"}),
    "log_min_duration_statement": frozenset({"-1"}),
    "log_min_duration_sample": frozenset({"-1"}),
    "log_transaction_sample_rate": frozenset({"0"}),
}


def _log_of_the_database(store: Store) -> Iterator[Finding]:
    """Whether PostgreSQL's own log holds callbacks; nothing for SQLite, which has none."""
    if store.file is not None:
        return
    asked = (*_LOGS_STATEMENTS, "log_parameter_max_length", "log_parameter_max_length_on_error")
    with store.reading() as connection:
        query = sa.text("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)")
        found = {row.name: row.setting for row in connection.execute(query, {"names": list(asked)})}
    telling = [name for name, silent in _LOGS_STATEMENTS.items() if found.get(name, min(silent)) not in silent]
    if telling and found.get("log_parameter_max_length") != "0":
        detail = f"{', '.join(telling)} writes callbacks and events into PostgreSQL's log"
        yield Finding("store", WARNING, f"{detail}; set log_parameter_max_length = 0 there")
    if found.get("log_parameter_max_length_on_error", "0") != "0":
        detail = "log_parameter_max_length_on_error writes callbacks into PostgreSQL's log when a statement fails"
        yield Finding("store", WARNING, f"{detail}; set it to 0")


# --- the queue ------------------------------------------------------------------------------------------------------


def _queue(settings: Settings) -> Iterator[Finding]:
    queue = settings.queue
    if queue.is_embedded:
        yield Finding("queue", OK, "embedded: the store is the queue, read by `faxhook consume`")
        return
    transport = transports.find(queue.url)
    # Where it is not durable, the doubts about the configuration have said so.
    yield Finding("queue", OK, f"{transports.scheme(queue.url)}, {transport.guarantee}: {transport.note}")
    yield from broker(settings)


def broker(settings: Settings) -> list[Finding]:
    """What can be seen of the broker, within seconds; nothing where there is none."""
    if settings.queue.is_embedded:
        return []
    found: list[Finding] = []
    # A thread, since not every client library keeps to its timeouts; one that hangs ends with the process.
    arguments = (settings.queue, settings.server.state_dir)
    look = threading.Thread(target=lambda: found.extend(_reach(*arguments)), daemon=True)
    look.start()
    look.join(_BROKER_SECONDS)
    place = transports.place(settings.queue.url)
    return found or [Finding("broker", TROUBLE, f"{place}: no answer within {_BROKER_SECONDS:.0f} s")]


def _reach(queue: Queue, state_dir: Path) -> list[Finding]:
    """Connect, and look for the queue without making it."""
    transport = transports.find(queue.url)
    is_redis = transports.scheme(queue.url) in ("redis", "rediss")
    # An empty list does not exist in Redis, so that a passive look would miss a queue that is well.
    looking = Broker(queue if is_redis else replace(queue, declare=False), "faxhook doctor", state_dir)
    try:
        looking.open()
        if transport.speaks_amqp:
            found = _rabbitmq(looking, queue)
        elif is_redis:
            found = _redis(looking)
        else:
            found = [Finding("broker", OK, "can be reached")]
    except BrokerTrouble as trouble:
        return [_trouble(queue, trouble)]
    looking.close()
    return found


def _trouble(queue: Queue, trouble: BrokerTrouble) -> Finding:
    if trouble.kind in ("exchange_missing", "queue_missing") and queue.declare:
        name = queue.exchange if trouble.kind == "exchange_missing" else queue.queue
        return Finding("broker", WARNING, f"{transports.place(queue.url)}: {name} is not there yet; the relay makes it")
    return Finding("broker", TROUBLE, trouble.detail)


def _rabbitmq(looking: Broker, queue: Queue) -> list[Finding]:
    """queue: as it is configured; looking does not declare."""
    place = transports.place(queue.url)
    with looking.trouble():
        name, messages, consumers = looking.channel.queue_declare(queue.queue, passive=True)
    held = f"{place}: {name} holds {messages} messages for {consumers} consumers"
    found = [Finding("broker", OK if consumers or not messages else WARNING, held)]
    known = declared(looking) if queue.declare else None
    if known is None:
        unknown = f"{place}: whether {name} keeps its events is not known: RabbitMQ tells only who may configure it"
        return [*found, Finding("broker", OK, unknown)]
    lossy = [Finding("broker", WARNING, f"{place}: {name} {loss}") for loss in losses(known)]
    safe = f"{place}: {name} was declared to keep its events; a policy may still drop some (rabbitmqctl list_policies)"
    return [*found, *(lossy or [Finding("broker", OK, safe)])]


def _redis(looking: Broker) -> list[Finding]:
    where = transports.place(looking.queue.url)
    found = [Finding("broker", OK, f"{where}: reached")]
    wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    try:
        told: Mapping[str, str] = {}
        for name in wanted:
            told = {**told, **looking.channel.client.config_get(name)}
    except Exception as error:  # noqa: BLE001 - a hosted Redis answers CONFIG in its own way
        return [*found, Finding("broker", WARNING, f"{where}: it does not tell what it keeps ({error_class(error)})")]
    return found + [
        Finding("broker", WARNING, f"{where}: {name} is {told.get(name)}; only {good} keeps every event")
        for name, good in wanted.items()
        if told.get(name) != good
    ]


# --- what is under way ----------------------------------------------------------------------------------------------


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
