"""
``GET /references/<id>``: all faxes of one business reference, for those who may register jobs.

A fax that one provider could not deliver is often sent again through another; so the sender asks for its own reference.
Only faxes of the accounts that the key opens are told of; a reference that none of them has is unknown to the caller.
"""

import json
from collections.abc import Mapping
from typing import Any

from receiver import registration
from receiver.errors import NotFound
from receiver.logs import last_two
from receiver.runtime import Runtime
from receiver.store import finding

_MOST = 100  # faxes in an answer
_SHOWN = (
    *("fax_id", "provider", "account", "endpoint", "outcome", "reason", "retryable", "state", "revision", "job_id"),
    *("pages", "completed_at", "event"),
)


def answer(environ: Mapping[str, Any], reference: str, runtime: Runtime) -> bytes:
    """
    The JSON of the answer.

    Raises Unauthorized, always the same one, without a right key; NotFound where no fax of its accounts has the
    reference; and Unavailable.
    """
    accounts = registration.opened(environ, runtime.accounts)
    mine = {(account.provider.name, account.source.account or "") for account in accounts.values()}
    store = runtime.store
    with store.reading() as connection:
        found = finding.of_reference(connection, store.tables, runtime.find_keys, reference, _MOST, mine)
    if not found.rows:
        raise NotFound("no fax of this reference is known")
    faxes = [_described(row) for row in found.rows]
    delivered = any(fax["outcome"] == "delivered" for fax in faxes)
    return json.dumps({"reference": reference, "delivered": delivered, "faxes": faxes}).encode()


def _described(row: Mapping[str, Any]) -> dict[str, Any]:
    """With the last two digits of the number only."""
    digits = last_two(row["number"])
    return {name: row[name] for name in _SHOWN} | {"number": digits and f"********{digits}"}
