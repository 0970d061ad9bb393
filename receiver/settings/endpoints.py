"""[endpoints.<name>], with who may call them."""

import ipaddress
import re
from collections.abc import Iterator

from phonenumbers import SUPPORTED_REGIONS

from receiver.settings import forms
from receiver.settings.authentication import auth
from receiver.settings.model import Endpoint
from receiver.settings.tables import Table

_ENDPOINT_KEYS = (
    *("provider", "account", "timezone", "region"),
    *("auth", "tokens", "allow", "client_certificates", "answer", "insecure"),
)
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
    endpoint = Endpoint(
        name=name,
        provider=table.required("provider", "the name of a provider"),
        account=table.one("account", forms.matching(_ACCOUNT), "an account's name"),
        timezone=table.one("timezone", forms.zone, 'an IANA zone such as "America/Denver"'),
        region=table.one("region", forms.one_of(SUPPORTED_REGIONS), 'two letters such as "US"'),
        auth=auth(table),
        tokens=table.many("tokens", forms.token, forms.TOKEN),
        allow=table.many("allow", ipaddress.ip_network, forms.NETWORK),
        client_certificates=table.many("client_certificates", forms.fingerprint, forms.FINGERPRINT),
        answer=_answer(table),
        insecure=table.flag("insecure"),
    )
    is_protected = endpoint.tokens or endpoint.allow or endpoint.client_certificates or endpoint.insecure
    if endpoint.auth.mode == "none" and not is_protected:
        expected = "tokens, allow or client_certificates, or insecure = true to accept anybody"
        raise table.error("auth", f'mode "none" expects {expected}')
    return endpoint


def _answer(table: Table) -> int:
    answer = table.values.get("answer", 200)
    if type(answer) is not int or answer not in ANSWERS:
        raise table.error("answer", f"expected one of {', '.join(map(str, ANSWERS))}")
    return answer
