"""What is expected of a consumer's answers: 25 rules, each with what it is tried with, and why."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from receiver.verifying import samples
from receiver.verifying.asking import Answer, Consumer, in_time, refused, taken
from schemas.encoding import compact
from schemas.event import FailureReason, Outcome

Check = Callable[[Consumer], str | None]  # what was otherwise; None: nothing

_BURST = 100  # events of as many faxes
_HOUR = 3600
_DOES = "schemas/README.md#what-a-consumer-does"
_HTTP = "schemas/README.md#over-http"
_AMENDMENTS = "schemas/README.md#amendments"
_FIELDS = "schemas/README.md#fields"
_STAYS = "schemas/README.md#what-will-not-change"
_ANOTHER_KEY = b"a key that the consumer does not have"


@dataclass(frozen=True, slots=True)
class Rule:
    """expected: of the consumer. why: what happens to it otherwise. source: where the documents say so."""

    id: str
    expected: str
    why: str
    source: str
    check: Check


def _sends(*make: Callable[[], samples.Event]) -> Check:
    """Each of these events is taken."""
    return lambda consumer: taken(consumer.ask(*(consumer.request(one()) for one in make)))


def _in_time(consumer: Consumer) -> str | None:
    return in_time(consumer.ask(consumer.request(samples.completed())), consumer.limit)


def _outcomes(consumer: Consumer) -> str | None:
    return taken(consumer.ask(*(consumer.request(samples.completed(one, None), f"outcome {one}") for one in Outcome)))


def _reasons(consumer: Consumer) -> str | None:
    made = (consumer.request(samples.completed("failed", one), f"failure.reason {one}") for one in FailureReason)
    return taken(consumer.ask(*made))


def _revisions(consumer: Consumer, *order: int) -> list[Answer]:
    """Three revisions of one fax, sent in this order."""
    first = samples.completed()
    second = samples.amended(first)
    by_number = {1: first, 2: second, 3: samples.amended(second, duration_seconds=43)}
    return consumer.ask(*(consumer.request(by_number[number], f"revision {number}") for number in order))


def _conflict(consumer: Consumer) -> str | None:
    first, other = samples.completed(), samples.completed()
    lost = samples.amended(other, changed=[], conflict=True)
    made = [(first, "delivered"), (samples.contradicting(first), "then failed"), (other, "delivered")]
    made.append((lost, "then a conflict in which the earlier result holds, and nothing changed"))
    return taken(consumer.ask(*(consumer.request(event, name) for event, name in made)))


def _duplicate(consumer: Consumer) -> str | None:
    request = consumer.request(samples.completed(), "the same request, sent twice")
    return taken(consumer.ask(request, request))


def _retry(consumer: Consumer) -> str | None:
    event = samples.completed()
    ages = (90, 45, 0)
    return taken(consumer.ask(*(consumer.request(event, f"the event, signed {age} s ago", age=age) for age in ages)))


def _at_once(consumer: Consumer) -> str | None:
    request = consumer.request(samples.completed(), "one of eight requests with the same event at the same time")
    return taken(consumer.ask_at_once([request] * 8))


def _burst(consumer: Consumer) -> str | None:
    made = [
        consumer.request(samples.completed(hours_ago=5), f"event {number} of {_BURST}, eight at a time")
        for number in range(1, _BURST + 1)
    ]
    answers = consumer.ask_at_once(made)
    return taken(answers) or in_time(answers, consumer.limit)


def _unsigned(consumer: Consumer) -> str | None:
    request = consumer.request(samples.completed())
    none = dict.fromkeys(("webhook_id", "webhook_timestamp", "webhook_signature"))
    return refused(
        consumer.ask(
            request.with_headers("no header of a webhook", **none),
            request.with_headers("no webhook-signature", webhook_signature=None),
            request.with_headers("no webhook-timestamp", webhook_timestamp=None),
            request.with_headers("an empty webhook-signature", webhook_signature=""),
        )
    )


def _wrongly_signed(consumer: Consumer) -> str | None:
    event = samples.completed()
    request = consumer.request(event)
    zeros = f"v1,{base64.b64encode(bytes(32)).decode()}"
    return refused(
        consumer.ask(
            consumer.request(event, "signed with another secret", key=_ANOTHER_KEY),
            request.with_headers("a signature of zeros", webhook_signature=zeros),
            request.with_headers("a signature that is no base64", webhook_signature="v1,***"),
        )
    )


def _changed(consumer: Consumer) -> str | None:
    event = samples.completed()
    request = consumer.request(event)
    other: dict[str, Any] = {**event, "data": {**event["data"], "pages": {"total": 9, "sent": 9}}}
    headers = {**consumer.request(other).headers, **_signature(request.headers)}
    at = str(int(request.headers["webhook-timestamp"]) + 1)
    return refused(
        consumer.ask(
            type(request)("another body than was signed", compact(other).encode(), headers),
            request.with_headers("another webhook-id than was signed", webhook_id=samples.completed()["id"]),
            request.with_headers("another webhook-timestamp than was signed", webhook_timestamp=at),
        )
    )


def _signature(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("webhook-")}


def _old(consumer: Consumer) -> str | None:
    return refused(
        consumer.ask(
            consumer.request(samples.completed(), "signed an hour ago", age=_HOUR),
            consumer.request(samples.completed(), "signed in an hour", age=-_HOUR),
        )
    )


def _rotated(consumer: Consumer) -> str | None:
    requests = []
    for name, signatures in (
        ("the new secret's signature, then the right one", "{other} {mine}"),
        ("the right one, then the new secret's", "{mine} {other}"),
        ("one of an unknown version, then the right one", "v9,x {mine}"),
    ):
        event = samples.completed()
        right, other = consumer.request(event), consumer.request(event, key=_ANOTHER_KEY)
        both = {"mine": right.headers["webhook-signature"], "other": other.headers["webhook-signature"]}
        requests.append(right.with_headers(name, webhook_signature=signatures.format(**both)))
    return taken(consumer.ask(*requests))


def _marks_nothing(consumer: Consumer) -> str | None:
    event = samples.completed()
    wrong, right = consumer.ask(
        consumer.request(event, "a forged request with the id of an event", key=_ANOTHER_KEY),
        consumer.request(event, "the real event after it"),
    )
    return refused([wrong]) or taken([right])


RULES = (
    Rule(
        "completion",
        "A signed fax.completed.v1 is answered with 2xx.",
        "Any other answer means: not taken. The event comes again, for days, and later ones of its fax wait for it.",
        _HTTP,
        _sends(samples.completed),
    ),
    Rule(
        "answer-in-time",
        "The answer comes within the time that faxhook waits.",
        "After that the event counts as not taken and comes again, whatever has been done with it.",
        _HTTP,
        _in_time,
    ),
    Rule(
        "amendment",
        "A fax.amended.v1 is answered with 2xx, like the completion before it.",
        "Providers correct themselves. Who refuses corrections keeps a wrong result.",
        _AMENDMENTS,
        lambda consumer: taken(_revisions(consumer, 1, 2, 3)),
    ),
    Rule("outcomes", "Each of the four outcomes is taken.", "All of them are final and happen.", _FIELDS, _outcomes),
    Rule(
        "reasons",
        "Each failure.reason of the closed list is taken.",
        "The list is complete for v1, and every one of them happens.",
        _FIELDS,
        _reasons,
    ),
    Rule(
        "conflict",
        "An amendment that contradicts the outcome is taken, also one that changes nothing.",
        "A provider that says both is reported with conflict: true; which result holds is in the event.",
        _AMENDMENTS,
        _conflict,
    ),
    Rule(
        "duplicate",
        "The same request once more gets 2xx again.",
        "Delivery is at least once. An error for a repetition makes it come again, for ever.",
        _DOES,
        _duplicate,
    ),
    Rule(
        "retry",
        "The same event with a newer time and signature gets 2xx again.",
        "So it comes when an answer was lost: what has been taken is known by webhook-id, not by the signature.",
        _HTTP,
        _retry,
    ),
    Rule(
        "duplicates-at-once",
        "The same event in eight requests at the same time gets 2xx each time.",
        "When one relay takes over from another both may send it. The id and the effect belong into one transaction.",
        _DOES,
        _at_once,
    ),
    Rule(
        "reversed-revisions",
        "Revisions 3, 2 and 1 in this order are all answered with 2xx.",
        "A lower revision than one already seen is ignored: that is success, and no error.",
        _DOES,
        lambda consumer: taken(_revisions(consumer, 3, 2, 1)),
    ),
    Rule(
        "amendment-first",
        "An amendment of a fax that was never heard of is taken.",
        "A sink that was made later, or has a filter, begins there. Every event carries all that is known.",
        _DOES,
        lambda consumer: taken(_revisions(consumer, 2)),
    ),
    Rule(
        "burst",
        f"{_BURST} events of hours ago, eight at a time, are taken, each in time.",
        "That is how it goes after an outage.",
        _HTTP,
        _burst,
    ),
    Rule(
        "unknown-fields",
        "Fields that the consumer does not know are ignored, in the envelope and anywhere in data.",
        "Fields are added within v1.",
        _STAYS,
        _sends(samples.with_unknown_fields),
    ),
    Rule(
        "unknown-words",
        "Unknown words of the open lists are taken: provider, observed_via, changed, advice.action and advice.fault.",
        "These lists grow within v1, and codes of providers are no list at all.",
        _STAYS,
        lambda consumer: taken(
            consumer.ask(
                consumer.request(samples.with_unknown_words(), "unknown words"),
                consumer.request(
                    samples.amended(samples.completed(), changed=["pages.sent", "something.new"]),
                    "an unknown word in changed",
                ),
            )
        ),
    ),
    Rule(
        "unknown-type",
        "An event of a type that the consumer does not know is answered with 2xx, and ignored.",
        "An error would make it come again for days.",
        _HTTP,
        _sends(samples.of_unknown_type),
    ),
    Rule(
        "nulls",
        "Null is taken wherever a field may be null.",
        "Null means: not stated by the provider. Some state little.",
        _FIELDS,
        _sends(samples.with_nulls),
    ),
    Rule(
        "former-fields",
        "An event without the fields that were added later is taken.",
        "Events that were made before come again when they are republished.",
        _FIELDS,
        _sends(samples.of_before),
    ),
    Rule(
        "unicode",
        "Texts in any script are taken.",
        "Names and references come as people write them, in UTF-8, with characters of up to four bytes.",
        _FIELDS,
        _sends(lambda: samples.with_texts("Ärzte 医院 مستشفى 🏥 e\u0301 \"'<b>&\\ \t\n\u2028 '; DROP TABLE faxes; --")),
    ),
    Rule(
        "large",
        "An event of a hundred and fifty kilobytes is taken.",
        "Each text may have 4,096 characters, and each of them four bytes.",
        _FIELDS,
        _sends(lambda: samples.with_texts("🏥")),
    ),
    Rule(
        "missing-signature",
        "A request without signature, or with part of it only, is refused with 4xx.",
        "Anybody may post to a URL.",
        _HTTP,
        _unsigned,
    ),
    Rule(
        "wrong-signature",
        "A request with a signature that is not ours is refused with 4xx.",
        "Without a check of the signature anybody who knows the URL can report faxes.",
        _HTTP,
        _wrongly_signed,
    ),
    Rule(
        "changed-request",
        "A request whose body, id or time is not the one that was signed is refused with 4xx.",
        "All three are signed together, over the bytes as they came.",
        _HTTP,
        _changed,
    ),
    Rule(
        "old-signature",
        "A request that was signed an hour ago, or will be in an hour, is refused with 4xx.",
        "Else a recorded request can be sent again at any time. Five minutes are usual.",
        _HTTP,
        _old,
    ),
    Rule(
        "rotated-secret",
        "One right signature among several is enough.",
        "While secrets are exchanged each request is signed with both.",
        _HTTP,
        _rotated,
    ),
    Rule(
        "refusal-marks-nothing",
        "An event is taken after a forged request with its id was refused.",
        "Who notes the id before checking the signature can be made to lose events.",
        _HTTP,
        _marks_nothing,
    ),
)
