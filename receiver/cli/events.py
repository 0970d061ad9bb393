"""events list, events show, events republish."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from receiver.cli import Failure, opening, printing
from receiver.destinations import QUEUE
from receiver.settings import EVERYTHING, Filter
from receiver.showing import events as showing
from receiver.store import Store, browsing, listening, republishing
from receiver.store.republishing import Chosen

F = TypeVar("F", bound=Callable[..., Any])

NARROW = ("id", "outcome", "state", "created_at")
_OUTCOMES = click.Choice(showing.OUTCOMES)
_STATES = click.Choice(showing.STATES)


@click.group()
def events() -> None:
    """The events in the outbox."""


def narrowing(command: F) -> F:
    """Options that say which events, given to the function as ``named``."""
    return filtering(click.option("--reason", help="Only failures with this reason, such as busy.")(command))


def filtering(command: F) -> F:
    """Those of them that a sink's filter can have as well."""
    for option in (
        click.option("--outcome", type=_OUTCOMES, help="Only events with this outcome."),
        click.option("--endpoint", help="Only events of this endpoint's callbacks."),
        click.option("--provider", help="Only events of this provider."),
    ):
        command = option(command)
    return command


def only(named: Mapping[str, str | None]) -> Filter:
    keys = ("outcome", "provider", "endpoint")
    return Filter(**{key: (value,) for key in keys if (value := named[key]) is not None})


@events.command("list")
@opening.config_option
@click.option("--state", type=_STATES, help="Only events in this state.")
@click.option("--since", type=opening.SINCE, help="Only events made since then.")
@click.option("--until", type=opening.SINCE, help="Only events made until then.")
@click.option("--fax", "fax_id", help="Only events of this fax_id.")
@narrowing
@printing.limit_option
@printing.wide_option
@click.option("--json", "is_json", is_flag=True, help="One JSON array.")
def list_(
    config: Path | None,
    state: str | None,
    since: datetime | None,
    until: datetime | None,
    fax_id: str | None,
    limit: int | None,
    is_json: bool,
    **named: str | None,
) -> None:
    """The newest events. Of those whose payload is purged, no reason is known."""
    with opening.open_store(config) as store, store.reading() as connection:
        most = printing.limit(limit, is_json=is_json)
        rows = browsing.events(
            connection,
            store.tables,
            limit=most,
            state=state,
            since_ms=opening.milliseconds(since),
            until_ms=opening.milliseconds(until),
            fax_id=fax_id,
            only=only(named),
            reason=named["reason"],
        )
    printing.listing(showing.COLUMNS, rows, is_json=is_json, narrow=NARROW)
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
    printing.as_json(showing.described(row, payload, reveal=reveal))


@events.command()
@opening.config_option
@click.option("--since", type=opening.SINCE, help="Events made since then.")
@click.option("--until", type=opening.SINCE, help="Events made until then.")
@click.option("--id", "event_id", help="This event.")
@narrowing
@click.option("--sink", help="Only into this sink; by default into the queue and each sink whose filter they pass.")
@click.option("--dry-run", is_flag=True, help="Only say how many.")
def republish(
    config: Path | None,
    since: datetime | None,
    until: datetime | None,
    event_id: str | None,
    sink: str | None,
    dry_run: bool,
    **narrowed: str | None,
) -> None:
    """
    Put published events into the queue again: the same ids and the same bytes.

    Several options narrow the choice. Events whose payload is purged stay out. Many are put in some at a time, and
    those that are in stay there if it is interrupted.
    """
    if since is None and until is None and event_id is None and not any(narrowed.values()):
        expected = "--since, --until, --id, --provider, --endpoint, --outcome and --reason"
        raise click.UsageError(f"expected at least one of {expected}")
    if event_id is not None and dry_run:
        raise click.UsageError("expected --dry-run with several events, and not with --id")
    named = {"id": event_id, "since": since and since.isoformat(), "until": until and until.isoformat()}
    named |= {**narrowed, "sink": sink}
    subject = " ".join(f"{name}={value}" for name, value in named.items() if value is not None)
    both = opening.milliseconds(since), opening.milliseconds(until)
    with opening.open_store(config) as store:
        targets = [
            Chosen(*both, only(narrowed), narrowed["reason"], name, passing)
            for name, passing in _sinks(config, store, sink).items()
        ]
        if not dry_run:
            with store.writing() as connection:
                browsing.audit(connection, store.tables, "events.republish", subject)
        counts = {
            chosen.sink: republishing.some(store, chosen, dry_run=dry_run)
            if event_id is None
            else republishing.one(store, chosen, event_id)
            for chosen in targets
        }
    if event_id is not None and not any(counts.values()):
        raise Failure(f"event {event_id} is not there as published, or its payload is purged")
    done = "would be put" if dry_run else "put"
    for name, count in counts.items():
        where = "the queue" if name == QUEUE else f"the sink {name}"
        click.echo(f"{count} event{'' if count == 1 else 's'} {done} into {where} again")


def _sinks(config: Path | None, store: Store, sink: str | None) -> dict[str, Filter]:
    """Where to, and what goes there: configured ones, and those of `faxhook listen`."""
    with store.reading() as connection:
        listeners = listening.filters(connection, store.tables)
    configured = {QUEUE: EVERYTHING, **opening.load(config).filters, **listeners}
    if sink is None:
        return configured
    if sink not in configured:
        raise click.UsageError(f"--sink: expected one of {', '.join(configured)}")
    return {sink: configured[sink]}
