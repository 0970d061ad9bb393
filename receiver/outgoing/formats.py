"""
The forms in which an event goes to a sink. Each follows from the stored bytes alone, so that it is the same each time.

``structured``: the stored envelope. ``binary``: its ``data`` as the body, and its attributes beside it, as CloudEvents
has it. ``thin``: an envelope with ids and outcome alone, for who may not have more.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from receiver.outgoing.contract import Message
from schemas.encoding import compact
from schemas.envelope import CONTENT_TYPE, traceparent_of

_THIN = ("fax_id", "provider", "provider_job_id", "provider_fax_id", "outcome", "revision")


@dataclass(frozen=True, slots=True)
class Packed:
    """
    attributes: of CloudEvents, in the binary form; each sink has a prefix of its own for them. headers: what is looked
    for under just these names, in every form.
    """

    body: bytes
    content_type: str
    attributes: Mapping[str, str]
    headers: Mapping[str, str]


def packed(message: Message, form: str) -> Packed:
    traceparent = traceparent_of(message.body)
    headers = {"traceparent": traceparent} if traceparent else {}
    if form == "structured":
        return Packed(message.body, CONTENT_TYPE, {}, headers)
    envelope = json.loads(message.body)
    data = envelope.pop("data")
    if form == "thin":
        del envelope["dataschema"]  # it asks for more
        thin = {**envelope, "data": {name: data[name] for name in _THIN}}
        return Packed(compact(thin).encode(), CONTENT_TYPE, {}, headers)
    content_type = envelope.pop("datacontenttype")
    attributes = {name: str(value) for name, value in envelope.items()}
    return Packed(compact(data).encode(), content_type, attributes, headers)
