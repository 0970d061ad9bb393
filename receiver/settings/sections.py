"""[server], [store], [queue], [retention] and [advice.<reason>]."""

import ipaddress
import os
from datetime import timedelta

from receiver import transports
from receiver.advice import RULES, Override
from receiver.settings import forms
from receiver.settings.model import CLIENT_CERTIFICATE, Queue, Retention, Server, StoreSettings
from receiver.settings.tables import LATER, Table
from schemas.advice import RESENDS, RETRIES, Action, Fault
from schemas.event import Outcome

_OVERRIDE_KEYS = ("action", "after_seconds", "max_tries", "fault")
_MOST_SECONDS, _MOST_TRIES = 30 * 24 * 3600, 100


def server(root: Table) -> Server:
    table = root.table(
        "server",
        (
            *("bind", "public_url", "trusted_proxies", "client_certificate_header", "max_body"),
            *("secret_key", "state_dir", "ops_token", "keep_alive"),
        ),
        refused={"workers": "unknown key; the number of workers is the variable WEB_CONCURRENCY"},
    )
    port = root.source.variable("PORT", forms.number(1, 65535), "a port number")
    bind = table.one("bind", forms.bind(root.source.folder), forms.BIND) or "127.0.0.1:8000"
    return Server(
        bind=f"0.0.0.0:{port}" if port else bind,
        public_url=table.one("public_url", forms.public_url, 'a URL such as "https://hooks.example.com"'),
        trusted_proxies=table.many("trusted_proxies", ipaddress.ip_network, forms.NETWORK, empty_ok=True),
        client_certificate_header=table.one("client_certificate_header", forms.header, forms.HEADER)
        or CLIENT_CERTIFICATE,
        max_body=_max_body(table),
        secret_keys=_configured_keys(table),
        state_dir=root.source.folder / (table.text("state_dir") or "var"),
        ops_token=table.text("ops_token", empty_ok=True) or None,
        keep_alive=table.one("keep_alive", forms.keep_alive, forms.KEEP_ALIVE) or timedelta(seconds=75),
        workers=root.source.variable("WEB_CONCURRENCY", forms.number(1, 999), "a number of workers")
        or min(max(os.cpu_count() or 1, 2), 4),
    )


def _max_body(table: Table) -> int:
    value = table.values.get("max_body", "8MiB")
    if type(value) is int and value > 0:
        return value
    if type(value) in (int, bool, float):
        raise table.error("max_body", f"expected {forms.SIZE}")
    return table.one("max_body", forms.size, forms.SIZE) or forms.size("8MiB")


def _configured_keys(table: Table) -> tuple[str, ...]:
    if isinstance(table.values.get("secret_key"), list):
        return table.many("secret_key", forms.secret, forms.SECRET)
    key = table.one("secret_key", forms.secret, forms.SECRET)
    return () if key is None else (key,)


def store(root: Table) -> StoreSettings:
    table = root.table("store", ("url", "identity_salt", "ephemeral_ok"), refused={"encryption_key": LATER})
    url = forms.store_url(root.source.folder)
    return StoreSettings(
        url=root.source.variable("DATABASE_URL", url, forms.STORE_URL)
        or table.one("url", url, forms.STORE_URL)
        or url("sqlite:///var/faxhook.db"),
        identity_salt=table.text("identity_salt"),
        ephemeral_ok=table.flag("ephemeral_ok"),
    )


def queue(root: Table) -> Queue:
    table = root.table("queue", ("url", "exchange", "queue", "declare"))
    url = (
        root.source.variable("FAXHOOK_BROKER_URL", forms.broker_url, forms.BROKER_URL)
        or root.source.variable("CLOUDAMQP_URL", forms.broker_url, forms.BROKER_URL)
        or table.one("url", forms.broker_url, forms.BROKER_URL)
        or transports.EMBEDDED
    )
    _refuse_unusable(table, url)
    return Queue(
        url=url,
        exchange=table.one("exchange", forms.broker_name, forms.BROKER_NAME) or "fax.events",
        queue=table.one("queue", forms.broker_name, forms.BROKER_NAME) or "fax.completed",
        declare=table.flag("declare", default=True),
    )


def _refuse_unusable(table: Table, url: str) -> None:
    scheme = transports.scheme(url)
    if reason := transports.REFUSED.get(scheme):
        raise table.error("url", f"{scheme} is not offered: {reason}")
    transport = transports.TRANSPORTS.get(scheme)
    if transport is not None and not transport.is_installed:
        raise table.error("url", f"{scheme} expects its client library: pip install 'faxhook[{transport.extra}]'")


def retention(root: Table) -> Retention:
    table = root.table("retention", ("bodies", "rejected", "ids"))
    retention = Retention(
        bodies=_or(table.one("bodies", forms.period_or_zero, forms.PERIOD + ' or "0"'), timedelta(days=7)),
        rejected=_or(table.one("rejected", forms.period, forms.PERIOD), timedelta(days=30)),
        ids=_or(table.one("ids", forms.period, forms.PERIOD), timedelta(days=90)),
    )
    if retention.ids < max(retention.bodies, retention.rejected):
        raise table.error("ids", "expected to be no shorter than bodies and rejected")
    return retention


def _or(given: timedelta | None, default: timedelta) -> timedelta:
    return default if given is None else given


def advice(root: Table) -> dict[str, Override]:
    """By failure reason, or outcome: what is advised instead of its rule."""
    tables = root.table("advice", tuple(RULES))
    return {reason: _override(reason, tables) for reason in tables.values}


def _override(reason: str, tables: Table) -> Override:
    table = tables.table(reason, _OVERRIDE_KEYS)
    if not table.values:
        raise tables.error(reason, f"expected at least one of {', '.join(_OVERRIDE_KEYS)}")
    action = table.one("action", Action, f"one of {', '.join(Action)}")
    if reason == Outcome.CANCELED and action in RESENDS:
        raise table.error("action", "expected one that does not send again what its sender has canceled")
    rule = RULES[reason]
    may_retry = RETRIES & ({action} if action else {rule.yes.action, rule.unknown.action})
    for key in ("after_seconds", "max_tries"):
        if key in table.values and not may_retry:
            raise table.error(key, 'expected only beside action = "retry" or "retry_later"')
    return Override(
        action=action,
        after_seconds=_whole(table, "after_seconds", _MOST_SECONDS),
        max_tries=_whole(table, "max_tries", _MOST_TRIES),
        fault=table.one("fault", Fault, f"one of {', '.join(Fault)}"),
    )


def _whole(table: Table, key: str, most: int) -> int | None:
    value = table.values.get(key)
    if value is not None and (type(value) is not int or not 1 <= value <= most):
        raise table.error(key, f"expected a number of 1 to {most}")
    return value
