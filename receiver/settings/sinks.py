"""[sinks.<name>]: where events go beside the queue."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from receiver import destinations
from receiver.destinations import COMMON, KINDS, QUEUE
from receiver.settings import forms
from receiver.settings.model import FORMATS, Endpoint, Filter, Queue, Sink
from receiver.settings.tables import Table
from schemas.envelope import AMENDED, COMPLETED
from schemas.event import Outcome

_MOST = 16
_TAKEN = (QUEUE, "projector")
_FILTER = ("outcome", "provider", "endpoint", "type")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_URL = "the URL of a sink, such as " + ", ".join(dict.fromkeys(kind.url for kind in KINDS.values()))


def sinks(root: Table) -> Iterator[tuple[str, Sink]]:
    """Name -> sink, in the order of the file."""
    tables = root.table("sinks", None)
    if len(tables.values) > _MOST:
        raise root.error("sinks", f"expected {_MOST} sinks at most")
    for name in tables.values:
        if name in _TAKEN:
            raise tables.error(name, "expected another name: this one is " + ("[queue]" if name == QUEUE else "ours"))
        if not _NAME.fullmatch(name):
            raise tables.error(name, "expected a name of 1 to 40 characters of [a-z0-9_-], not beginning with _ or -")
        yield name, _sink(name, tables)


def check_filters(root: Table, sinks: Mapping[str, Sink], endpoints: Mapping[str, Endpoint]) -> None:
    """Raise ConfigurationError where a filter names what is not configured: misspelt, it would let nothing pass."""
    known = {"endpoint": set(endpoints), "provider": {endpoint.provider for endpoint in endpoints.values()}}
    for name, sink in sinks.items():
        for key, names in known.items():
            if not names.issuperset(getattr(sink.filter, key)):
                expected = f"expected some of those that are configured: {', '.join(sorted(names))}"
                raise root.error(f"sinks.{name}.filter.{key}", expected)


def _sink(name: str, tables: Table) -> Sink:
    every = tables.table(name, None)
    url = every.one("url", _url, _URL)
    if url is None:
        raise every.error("url", f"missing; expected {_URL}")
    scheme = destinations.scheme(url)
    if reason := destinations.REFUSED.get(scheme):
        raise every.error("url", f"{scheme} is not offered: {reason}")
    kind = KINDS[scheme]
    if not kind.is_installed:
        raise every.error("url", f"{scheme} expects its client library: pip install 'faxhook[{kind.extra}]'")
    others = {key for one in KINDS.values() for key in one.takes} - set(kind.takes)
    unfit = dict.fromkeys(others, f"expected without this key: a sink with {scheme}: has no use for it")
    table = tables.table(name, (*COMMON, *kind.takes), refused=unfit)
    return Sink(
        name=name,
        url=url,
        format=table.one("format", forms.one_of(FORMATS), f"one of {', '.join(FORMATS)}") or FORMATS[0],
        filter=_filter(table),
        from_oldest=(table.one("from", forms.one_of(("now", "oldest")), '"now" or "oldest"') or "now") == "oldest",
        secrets=_secrets(table) if "secrets" in kind.takes else (),
        allow_private=table.flag("allow_private"),
        ca_file=_file(table, "ssl_ca_certs"),
        certificate=_file(table, "ssl_certfile"),
        key=_file(table, "ssl_keyfile"),
        queue=_queue(table, url) if "exchange" in kind.takes else None,
    )


def _url(text: str) -> str:
    scheme = destinations.scheme(text)
    if scheme not in KINDS and scheme not in destinations.REFUSED:
        raise ValueError
    if scheme.startswith("amqp"):
        return forms.broker_url(text)
    if any(character <= " " for character in text):
        raise ValueError
    return text


def _filter(table: Table) -> Filter:
    below = table.table("filter", _FILTER)
    types = (COMPLETED, AMENDED)
    return Filter(
        outcome=below.many("outcome", forms.one_of(tuple(Outcome)), f"one of {', '.join(Outcome)}"),
        provider=below.many("provider", str, "the name of a provider"),
        endpoint=below.many("endpoint", str, "the name of an endpoint"),
        type=below.many("type", forms.one_of(types), f"one of {', '.join(types)}"),
    )


def _secrets(table: Table) -> tuple[str, ...]:
    found = table.many("secrets", forms.webhook_secret, forms.WEBHOOK_SECRET)
    if not found:
        raise table.error("secrets", f"missing; expected a list with {forms.WEBHOOK_SECRET}: `faxhook secrets new`")
    return found


def _file(table: Table, key: str) -> Path | None:
    """Whether it is one is seen where it is used: it may be there in time."""
    text = table.text(key)
    return None if text is None else table.source.folder / text


def _queue(table: Table, url: str) -> Queue:
    return Queue(
        url=url,
        exchange=table.one("exchange", forms.broker_name, forms.BROKER_NAME) or "fax.events",
        queue=table.one("queue", forms.broker_name, forms.BROKER_NAME) or "fax.completed",
        declare=table.flag("declare", default=True),
    )
