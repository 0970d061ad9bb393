"""AsyncAPI 3: where events are published, and how they look there."""

from collections.abc import Mapping
from typing import Any

from receiver import __version__
from schemas.envelope import AMENDED, COMPLETED, CONTENT_TYPE
from schemas.event import Outcome

# As they are unless [queue] says otherwise.
EXCHANGE, QUEUE = "fax.events", "fax.completed"
_AMQP = "0.3.0"  # of the binding
_MESSAGES = {
    "completed": (COMPLETED, "The first announcement of a fax's end."),
    "amended": (AMENDED, "What was learned or contradicted later, with a higher revision."),
}


def document(event: Mapping[str, Any]) -> dict[str, Any]:
    """event: its JSON Schema."""
    messages = {name: {"$ref": f"#/components/messages/{name}"} for name in _MESSAGES}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "faxhook: what is published",
            "version": __version__,
            "description": (
                "One event for each recipient of a fax that has reached its end, whichever provider sent it, as a"
                " CloudEvents 1.0 envelope in structured JSON. At least once: deduplicate on id, and ignore a revision"
                " lower than one already seen of the same fax. Events of one fax leave in the order of their revisions."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {"events": _exchange(messages), "queue": _queue(messages)},
        "operations": {
            "publish": _operation("events", "An event goes out when its callback or report is committed."),
            "deliver": _operation("queue", "Each event reaches the queue, for the first consumer that takes it."),
        },
        "components": {
            "messages": {name: _message(*described, event) for name, described in _MESSAGES.items()},
            # Draft 7, which AsyncAPI's own schemas are an extension of, has all the words that it uses.
            "schemas": {"event": {name: value for name, value in event.items() if name not in ("$schema", "$id")}},
        },
    }


def _exchange(messages: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "address": "fax.{type}.{outcome}",
        "title": "Topic exchange",
        "description": (
            f"The exchange [queue] exchange, {EXCHANGE} unless it is configured. Bind queues of your own to it:"
            " fax.*.* for everything, fax.*.failed for failures."
        ),
        "messages": dict(messages),
        "parameters": {
            "type": {"enum": list(_MESSAGES), "description": "Of the event."},
            "outcome": {"enum": list(Outcome), "description": "data.outcome of the event."},
        },
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {"name": EXCHANGE, "type": "topic", "durable": True, "autoDelete": False, "vhost": "/"},
                "bindingVersion": _AMQP,
            }
        },
    }


def _queue(messages: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "address": QUEUE,
        "title": "Queue",
        "description": (
            "The queue [queue] queue, with everything; a quorum queue unless it was there before. Elsewhere than in"
            " RabbitMQ it is the only place that events are put into. What a consumer rejects goes to"
            f" {QUEUE}.dead."
        ),
        "messages": dict(messages),
        "bindings": {
            "amqp": {
                "is": "queue",
                "queue": {"name": QUEUE, "durable": True, "exclusive": False, "autoDelete": False, "vhost": "/"},
                "bindingVersion": _AMQP,
            }
        },
    }


def _operation(channel: str, summary: str) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "bindings": {"amqp": {"deliveryMode": 2, "mandatory": True, "priority": 0, "bindingVersion": _AMQP}},
    }


def _message(event_type: str, summary: str, event: Mapping[str, Any]) -> dict[str, Any]:
    examples = [one for one in event["examples"] if one["type"] == event_type]
    return {
        "name": event_type,
        "title": event_type,
        "summary": summary,
        "contentType": CONTENT_TYPE,
        "payload": {"$ref": "#/components/schemas/event"},
        "bindings": {"amqp": {"contentEncoding": "utf-8", "bindingVersion": _AMQP}},
        **({"examples": [{"payload": one} for one in examples]} if examples else {}),
    }
