"""The queue, and the broker that has it."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from receiver import transports
from receiver.doctor.finding import OK, TROUBLE, WARNING, Finding
from receiver.errors import BrokerTrouble
from receiver.logs import error_class
from receiver.outgoing.broker import Broker
from receiver.outgoing.declared import declared, losses
from receiver.settings import Queue, Settings

_BROKER_SECONDS = 10.0  # for the whole look, whatever a client library makes of its timeouts


def of_queue(settings: Settings) -> Iterator[Finding]:
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
