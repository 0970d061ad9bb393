"""[endpoints.<name>], with who may call them."""

import ipaddress
import re
from collections.abc import Iterator
from datetime import timedelta
from types import MappingProxyType

from receiver.settings import forms
from receiver.settings.authentication import auth
from receiver.settings.model import Auth, Endpoint, Reports
from receiver.settings.tables import Table

_ENDPOINT_KEYS = (
    *("provider", "account", "timezone", "region"),
    *("auth", "tokens", "allow", "client_certificates", "answer", "insecure", "reports", "job_keys"),
)
_CALLBACK_KEYS = ("tokens", "allow", "client_certificates", "answer", "insecure")
_MOST_REQUESTS = 100_000
_ACCOUNT = r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]*\S)?"
ANSWERS = (200, 202, 204)


def endpoints(root: Table) -> Iterator[tuple[str, Endpoint]]:
    tables = root.table("endpoints", None)
    if not tables.values:
        raise root.error("endpoints", "expected at least one table [endpoints.<name>]")
    for name in tables.values:
        if not re.fullmatch("[a-z0-9][a-z0-9-]{0,62}", name):
            raise tables.error(name, "expected a name of 1 to 63 characters of [a-z0-9-], the first not a hyphen")
        yield name, _endpoint(name, tables.table(name, _ENDPOINT_KEYS))


def _endpoint(name: str, table: Table) -> Endpoint:
    # Without auth it is only asked for reports; "none" must be written out.
    takes_callbacks = "auth" in table.values or "reports" not in table.values
    endpoint = Endpoint(
        name=name,
        provider=table.required("provider", "the name of a provider"),
        account=table.one("account", forms.matching(_ACCOUNT), "an account's name"),
        timezone=table.one("timezone", forms.zone, 'an IANA zone such as "America/Denver"'),
        region=table.one("region", forms.region, 'two letters such as "US"'),
        auth=auth(table) if takes_callbacks else Auth("none", "", ()),
        tokens=table.many("tokens", forms.token, forms.TOKEN),
        allow=table.many("allow", ipaddress.ip_network, forms.NETWORK),
        client_certificates=table.many("client_certificates", forms.fingerprint, forms.FINGERPRINT),
        answer=_answer(table),
        insecure=table.flag("insecure"),
        takes_callbacks=takes_callbacks,
        reports=_reports(table),
        job_keys=table.many("job_keys", forms.token, forms.TOKEN),
    )
    if not takes_callbacks:
        for key in _CALLBACK_KEYS:
            if key in table.values:
                raise table.error(key, "expected auth beside it; without auth the endpoint takes no callbacks")
        return endpoint
    is_protected = endpoint.tokens or endpoint.allow or endpoint.client_certificates or endpoint.insecure
    if endpoint.auth.mode == "none" and not is_protected:
        expected = "tokens, allow or client_certificates, or insecure = true to accept anybody"
        raise table.error("auth", f'mode "none" expects {expected}')
    return endpoint


def _reports(endpoint: Table) -> Reports | None:
    if "reports" not in endpoint.values:
        return None
    table = endpoint.table("reports", None)
    own = [key for key in table.values if key not in ("every", "requests")]
    requests = table.values.get("requests", 200)
    if type(requests) is not int or not 0 < requests <= _MOST_REQUESTS:
        raise table.error("requests", f"expected a number of 1 to {_MOST_REQUESTS}")
    return Reports(
        every=table.one("every", forms.period, forms.PERIOD) or timedelta(minutes=15),
        requests=requests,
        options=MappingProxyType({key: _option(table, key) for key in own}),
    )


def _option(table: Table, key: str) -> str:
    value = table.values[key]
    if isinstance(value, bool):
        return "true" if value else "false"
    return table.text(key, empty_ok=True) or ""


def _answer(table: Table) -> int:
    answer = table.values.get("answer", 200)
    if type(answer) is not int or answer not in ANSWERS:
        raise table.error("answer", f"expected one of {', '.join(map(str, ANSWERS))}")
    return answer
