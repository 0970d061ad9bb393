"""Faxes, as ``fax find``, ``fax list`` and ``fax show`` tell of them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from receiver.settings import Settings
from receiver.showing.masking import masked_facts, masked_fax
from receiver.store import Store, finding, history, projection
from receiver.store.finding import Found
from receiver.store.history import History
from receiver.store.projection import Keys

COLUMNS = (
    *("fax_id", "provider", "account", "endpoint", "outcome", "reason", "retryable", "state", "revision", "number"),
    *("reference", "job_id", "pages", "completed_at", "seen_at", "event"),
)


def search(
    store: Store, settings: Settings, keys: Keys, text: str, limit: int, *, longest_ending: int | None = None
) -> Found:
    """The faxes that this text names, by an id, a number or a reference. longest_ending: as for ``finding.search``."""
    with store.reading() as connection:
        notes = projection.foreign_keys(connection, store.tables, keys)
        may_be = numbers(settings, text)
        found = finding.search(connection, store.tables, keys, text, may_be, limit, longest_ending=longest_ending)
    return replace(found, notes=(*found.notes, *notes))


def of_reference(store: Store, keys: Keys, reference: str, limit: int) -> Found:
    """The faxes of one business reference, of whatever provider."""
    with store.reading() as connection:
        notes = projection.foreign_keys(connection, store.tables, keys)
        found = finding.of_reference(connection, store.tables, keys, reference, limit)
    return replace(found, notes=(*found.notes, *notes))


def numbers(settings: Settings, text: str) -> set[str]:
    """What it may be in E.164, read as each endpoint's numbers are."""
    from receiver import resolving  # with phonenumbers and the providers
    from receiver.providers.shared.normalising import e164

    regions = {account.source.region for account in resolving.resolve_accounts(settings).values()}
    return {number for region in (None, *regions) if (number := e164(text, region)) is not None}


def shown(found: Found, *, reveal: bool) -> list[dict[str, Any]]:
    """The rows of a list."""
    return found.rows if reveal else [masked_fax(row) for row in found.rows]


def read(store: Store, fax_id: str) -> History | None:
    """All that is kept of one fax; None where there is none of this id."""
    with store.reading() as connection:
        return history.of_fax(connection, store.tables, fax_id.lower())


def described(found: History, *, reveal: bool) -> Mapping[str, Any]:
    """The whole history as one object."""
    return {
        **found.fax,
        "facts": found.facts if reveal else masked_facts(found.facts),
        "history": [step.described() for step in found.steps],
        "gaps": list(found.gaps),
    }
