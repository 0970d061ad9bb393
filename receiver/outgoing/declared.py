"""
How an existing queue of RabbitMQ was declared.

A passive declaration does not tell, and the management API need not be there. But a declaration that differs from the
queue is refused with the first difference, and changes nothing; so we repeat it with what it names until none is left.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from amqp.exceptions import AccessRefused, PreconditionFailed, ResourceLocked

from receiver.outgoing.broker import Broker, arguments

_MOST_DIFFERENCES = 30  # RabbitMQ 4 knows 20 arguments
_DIFFERENCE = re.compile(
    r"PRECONDITION_FAILED - inequivalent arg '(?P<name>[a-z_-]+)' for queue .*: received .*"
    r" but current is (?:the value )?(?:none|'(?P<value>[^']*)'(?: of type '(?P<type>\w+)')?)"
)


def declared(broker: Broker) -> Mapping[str, Any] | None:
    """
    The queue's arguments, with ``durable`` and ``auto_delete`` among them. The queue must be there.

    None where RabbitMQ does not tell us: without the right to configure the queue, and of an exclusive one. What a
    policy adds to a queue is never told. Raises BrokerTrouble.
    """
    known = {"durable": True, "auto_delete": False, **arguments(broker.queue)}
    with broker.trouble():
        for _ in range(_MOST_DIFFERENCES):
            try:
                broker.declare(**known)
            except PreconditionFailed as error:
                found = _DIFFERENCE.match(str(error.reply_text))
                if found is None:
                    return None
                known.pop(found["name"], None)
                if found["value"] is not None:
                    known[found["name"]] = _value(**found.groupdict())
            except (AccessRefused, ResourceLocked):
                return None
            else:
                return known
    return None


def _value(name: str, value: str, type: str | None) -> str | int | bool:  # noqa: A002 - RabbitMQ's word
    """type: None where it is the same as what we have sent: text, or one of the two flags that are no arguments."""
    if type == "bool" or name in ("durable", "auto_delete"):
        return value == "true"
    return value if type in (None, "longstr") else int(value)


def losses(known: Mapping[str, Any]) -> Iterator[str]:
    """How a queue that was declared so loses events, each way a sentence that begins with its verb."""
    if not known["durable"]:
        yield "is not durable: its events are gone when RabbitMQ restarts"
    if known["auto_delete"]:
        yield "is deleted with its last consumer (auto-delete), and its events with it"
    if "x-expires" in known:
        yield f"is deleted, with its events, after {known['x-expires']} ms without a consumer (x-expires)"
    if "x-message-ttl" in known:
        yield f"drops events after {known['x-message-ttl']} ms (x-message-ttl)"
    if is_stream(known):
        yield "is a stream: it drops its oldest events by size or age, and `faxhook consume` cannot read it"
    elif not str(known.get("x-overflow")).startswith("reject-publish"):
        for name in known.keys() & {"x-max-length", "x-max-length-bytes"}:
            yield f"drops its oldest events when it is full ({name} {known[name]}, without x-overflow reject-publish)"


def is_stream(known: Mapping[str, Any]) -> bool:
    return known.get("x-queue-type") == "stream"
