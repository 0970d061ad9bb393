"""events list, events show, events republish."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from receiver.cli import Failure, opening, printing
from receiver.cli.masking import masked
from receiver.store import browsing

COLUMNS = ("id", "fax_id", "type", "outcome", "state", "receipt", "created_at", "published_at")
NARROW = ("id", "outcome", "state", "created_at")
_STATES = click.Choice(["pending", "leased", "published", "dead"])


@click.group()
def events() -> None:
    """The events in the outbox."""


@events.command("list")
@opening.config_option
@click.option("--state", type=_STATES, help="Only events in this state.")
@click.option("--since", type=opening.SINCE, help="Only events made since then.")
@click.option("--fax", "fax_id", help="Only events of this fax_id.")
@printing.limit_option
@printing.wide_option
@click.option("--json", "is_json", is_flag=True, help="One JSON array.")
def list_(
    config: Path | None, state: str | None, since: datetime | None, fax_id: str | None, limit: int | None, is_json: bool
) -> None:
    """The newest events."""
    with opening.open_store(config) as store, store.reading() as connection:
        most = printing.limit(limit, is_json=is_json)
        rows = browsing.events(
            connection,
            store.tables,
            limit=most,
            state=state,
            since_ms=opening.milliseconds(since),
            fax_id=fax_id,
        )
    printing.listing(COLUMNS, rows, is_json=is_json, narrow=NARROW)
    printing.say_if_cut(rows, limit, is_json=is_json)


@events.command()
@click.argument("event_id", metavar="ID")
@opening.config_option
@click.option("--reveal", is_flag=True, help="Show numbers, names and references as well.")
def show(event_id: str, config: Path | None, reveal: bool) -> None:
    """One event and what was published, as JSON. Personal data is masked without --reveal, which is audited."""
    with opening.open_store(config) as store, store.writing() if reveal else store.reading() as connection:
        found = browsing.event(connection, store.tables, event_id)
        if found is not None and reveal:
            browsing.audit(connection, store.tables, "events.reveal", event_id)
    if found is None:
        raise Failure(f"there is no event {event_id}")
    row, payload = found
    printing.as_json({**row, "payload": _payload(payload, reveal=reveal)})


def _payload(stored: bytes | None, *, reveal: bool) -> Any:
    """None once it is purged."""
    if stored is None:
        return None
    try:
        envelope = json.loads(stored)
    except ValueError:
        return "damaged"
    return envelope if reveal else masked(envelope)


@events.command()
@opening.config_option
@click.option("--since", type=opening.SINCE, help="Events made since then.")
@click.option("--id", "event_id", help="This event.")
@click.option("--endpoint", help="Events of this endpoint's callbacks.")
def republish(config: Path | None, since: datetime | None, event_id: str | None, endpoint: str | None) -> None:
    """
    Put published events into the queue again: the same ids and the same bytes.

    Several options narrow the choice. Events whose payload is purged stay out.
    """
    if since is None and event_id is None and endpoint is None:
        raise click.UsageError("expected at least one of --since, --id and --endpoint")
    named = {"id": event_id, "since": since and since.isoformat(), "endpoint": endpoint}
    subject = " ".join(f"{name}={value}" for name, value in named.items() if value is not None)
    with opening.open_store(config) as store, store.writing() as connection:
        browsing.audit(connection, store.tables, "events.republish", subject)
        count = browsing.republish(
            connection,
            store.tables,
            event_id=event_id,
            since_ms=opening.milliseconds(since),
            endpoint=endpoint,
        )
    if event_id is not None and count == 0:
        raise Failure(f"event {event_id} is not there as published, or its payload is purged")
    click.echo(f"{count} event{'' if count == 1 else 's'} put into the queue again")
