"""
Faxes that came in: how providers say so. They are none of ours, and must never be told as faxes that were sent.

Only words of one meaning count. Numbers and single letters do not, nor an "in" within a phrase ("in progress").
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from receiver.providers.shared.xml_bodies import leaf

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", re.ASCII)  # also those of camelCase
_INWARD = frozenset({"in", "inbound", "incoming", "receive", "received", "receiving", "recv", "rcv", "rcvd", "rx"})
# What the value of a direction may say beside the direction.
_NEUTRAL = frozenset({"", "bound", "call", "document", "message", "new", "notification", "transmission"})
# Providers call the ids of faxes that were sent by other names. "Received" alone may be the time of anything.
_NAMED_INBOUND = re.compile(
    r"inbound|incoming|\A@?(?:\w*[^a-z])?received|(?:fax|faxes|pages?)received"
    r"|\A@?(?:history)?(?:recv|rcvd?|rx|in(?:fax|trans))(?:fax|trans)?_?id\Z",
    re.ASCII | re.IGNORECASE,
)
# Most names tell nothing, which this finds out at once.
_MAY_TELL = re.compile(r"in[bcft]|recv|rcv|rx|received|outbound|outgoing|dir|type|event|kind", re.ASCII | re.IGNORECASE)
_INBOUND = re.compile(r"inbound|incoming", re.ASCII | re.IGNORECASE)
_OUTBOUND = re.compile(r"outbound|outgoing", re.ASCII | re.IGNORECASE)


def comes_in(fields: Any) -> bool:
    """Whether a field of a fax says outright that it came in, whatever else is said of it."""
    return isinstance(fields, Mapping) and any(
        _MAY_TELL.search(name)
        and ((_is_direction(name) and _all_say(value, _is_inward)) or (_is_kind(name) and _all_say(value, _is_inbound)))
        for name, value in fields.items()
    )


def says_inbound(data: Any) -> bool:
    """Whether something in data that name no fax says that one came in, and nothing that one went out."""
    return set(_signs(data)) == {True}


def _signs(data: Any) -> Iterator[bool]:
    """True for each name or word that says "in", False for "out"."""
    if isinstance(data, list):
        for one in data:
            yield from _signs(one)
    elif isinstance(data, Mapping):
        for name, value in data.items():
            if _MAY_TELL.search(name):
                yield from _said_by(name, value)
            if isinstance(value, dict | list):
                yield from _signs(value)


def _said_by(name: str, value: Any) -> Iterator[bool]:
    if _NAMED_INBOUND.search(name) or comes_in({name: value}):
        yield True
    elif _OUTBOUND.search(name):
        yield False
    elif _is_kind(name) or _is_direction(name):
        if _all_say(value, _NAMED_INBOUND.search):
            yield True
        elif _all_say(value, _OUTBOUND.search):
            yield False


def _all_say(value: Any, says: Callable[[str], object]) -> bool:
    """Whether each text that is there says so: a field that is repeated may contradict itself."""
    values = [leaf(one) for one in (value if isinstance(value, list) else [value])]
    texts = [one for one in values if isinstance(one, str) and one.strip()]
    return bool(texts) and all(says(text.strip()) for text in texts)


def _words(text: str) -> list[str]:
    """The words in small letters, without a "fax" that is written together with another word."""
    return [word.lower().removeprefix("fax").removesuffix("fax") for word in _WORD.findall(text)]


def _is_direction(name: str) -> bool:
    last = (_words(name) or [""])[-1]
    return last == "dir" or (last.endswith("direction") and not last.endswith("redirection"))


def _is_kind(name: str) -> bool:
    return (_words(name) or [""])[-1].endswith(("type", "event", "kind"))


def _is_inward(text: str) -> bool:
    words = set(_words(text)) - _NEUTRAL
    return bool(words) and words <= _INWARD


def _is_inbound(text: str) -> bool:
    return bool(_INBOUND.search(text)) and not _OUTBOUND.search(text)
