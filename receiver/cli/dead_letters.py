"""dead-letters list, dead-letters show, dead-letters replay, dead-letters drop."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from receiver.cli import Failure, opening, printing
from receiver.showing import events as showing
from receiver.store import Store, browsing, sinks
from receiver.store import dead_letters as letters
from receiver.store.dead_letters import DeadLetter

_NARROW = ("id", "reason", "damaged", "receipt", "created_at")


@click.group("dead-letters")
def dead_letters() -> None:
    """The events that could not be sent: damaged, too large, or refused by the broker. The log says which."""


@dead_letters.command("list")
@opening.config_option
@printing.limit_option
@printing.wide_option
@click.option("--json", "is_json", is_flag=True, help="One JSON array.")
def list_(config: Path | None, limit: int | None, is_json: bool) -> None:
    """The newest dead letters. One without an id has lost its event to a damaged file: its fax is all that is known."""
    with opening.open_store(config) as store:
        rows = [showing.dead_row(letter) for letter in letters.newest(store, printing.limit(limit, is_json=is_json))]
    printing.listing(showing.DEAD_COLUMNS, rows, is_json=is_json, narrow=_NARROW)
    printing.say_if_cut(rows, limit, is_json=is_json)


@dead_letters.command()
@click.argument("event_id", metavar="ID")
@opening.config_option
@click.option("--reveal", is_flag=True, help="Show numbers, names and references as well, and what is damaged.")
def show(event_id: str, config: Path | None, reveal: bool) -> None:
    """One dead letter as JSON, and whether it is damaged. Personal data is masked unless revealed, which is audited."""
    with opening.open_store(config) as store, store.writing() if reveal else store.reading() as connection:
        of_event = letters.of_event(connection, store.tables, event_id)
        letter = next(iter(of_event), None)
        found = browsing.event(connection, store.tables, event_id)
        if letter is not None and reveal:
            browsing.audit(connection, store.tables, "dead-letters.reveal", event_id)
    if letter is None or found is None:
        raise Failure(f"there is no dead letter {event_id}")
    row, payload = found
    printing.as_json(showing.dead(row, payload, of_event, reveal=reveal))


@dead_letters.command()
@click.argument("event_ids", metavar="[ID...]", nargs=-1)
@opening.config_option
@click.option("--all", "every", is_flag=True, help="Every dead letter that is not damaged.")
@click.option("--sink", help="Only those of this sink; by default of each.")
@click.pass_context
def replay(ctx: click.Context, event_ids: tuple[str, ...], config: Path | None, every: bool, sink: str | None) -> None:
    """
    Put dead letters into the queue again, for instance after the broker's limit was raised.

    A damaged one stays: its bytes are no longer what was written. Drop it, and replay its receipt. Exit code 1 when one
    is damaged or is no dead letter.
    """
    if every == bool(event_ids):
        raise click.UsageError("expected event ids, or --all")
    count = bad = 0
    with opening.open_store(config) as store:
        for some in _chosen(store, event_ids, sink):
            revived = _replay(store, some)
            count, bad = count + revived, bad + len(some) - revived
    click.echo(f"{_events(count)} put into the queue again")
    ctx.exit(1 if bad else 0)


def _replay(store: Store, some: Sequence[DeadLetter | str]) -> int:
    """In one transaction; how many of them wait again."""
    whole = []
    for letter in some:
        if isinstance(letter, str):
            click.echo(f"{letter}: there is no such dead letter", err=True)
        elif letter.is_damaged:
            click.echo(f"{letter.name}: damaged, and stays a dead letter", err=True)
        else:
            whole.append(letter)
    if not whole:
        return 0
    with store.writing() as connection:
        for letter in whole:
            browsing.audit(connection, store.tables, "dead-letters.replay", letter.name)
        return letters.revive(connection, store.tables, whole)


@dead_letters.command()
@click.argument("event_ids", metavar="[ID...]", nargs=-1)
@opening.config_option
@click.option("--all-damaged", "every", is_flag=True, help="Every dead letter that is damaged, or has lost its event.")
@click.option("--sink", help="Only those of this sink; by default of each.")
@click.option("--yes", "is_meant", is_flag=True, help="Drop them. Without it they are only counted.")
@click.pass_context
def drop(
    ctx: click.Context,
    event_ids: tuple[str, ...],
    config: Path | None,
    every: bool,
    sink: str | None,
    is_meant: bool,
) -> None:
    """
    Delete dead letters with their events; consumers never get these. Without --yes they are only counted.

    A fax without another event is forgotten with this one: `faxhook receipts replay` makes both anew, under
    the same ids. Exit code 1 when one of the ids is no dead letter.
    """
    if every == bool(event_ids):
        raise click.UsageError("expected event ids, or --all-damaged")
    count = bad = 0
    with opening.open_store(config) as store:
        for some in _chosen(store, event_ids, sink):
            found = [one for one in some if isinstance(one, DeadLetter) and (one.is_damaged or not every)]
            for unknown in (one for one in some if isinstance(one, str)):
                click.echo(f"{unknown}: there is no such dead letter", err=True)
                bad += 1
            count += _drop(store, found) if is_meant else len(found)
    click.echo(f"{_events(count)} dropped" if is_meant else f"{_events(count)} would be dropped; --yes drops")
    ctx.exit(1 if bad else 0)


def _drop(store: Store, some: Sequence[DeadLetter]) -> int:
    with store.writing() as connection:
        for letter in some:
            browsing.audit(connection, store.tables, "dead-letters.drop", letter.name)
        return letters.drop(connection, store.tables, some)


def _chosen(store: Store, event_ids: Sequence[str], sink: str | None) -> Iterator[Sequence[DeadLetter | str]]:
    """The dead letters of these events, an id where there is none; without ids all of them, some at a time."""
    for event_id in event_ids:
        with store.reading() as connection:
            yield letters.of_event(connection, store.tables, event_id, sink) or [event_id]
    if not event_ids:
        with store.reading() as connection:
            names = [sink] if sink else sinks.names(connection, store.tables)
        for name in names:
            yield from letters.all_of(store, name)


def _events(count: int) -> str:
    return f"{count} event{'' if count == 1 else 's'}"
