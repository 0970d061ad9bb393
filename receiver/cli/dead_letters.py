"""dead-letters list, dead-letters show, dead-letters replay."""

import json
from pathlib import Path
from typing import Any

import click

from receiver.cli import Failure, opening, printing
from receiver.cli.events import COLUMNS, NARROW
from receiver.cli.masking import masked
from receiver.store import Store, browsing


@click.group("dead-letters")
def dead_letters() -> None:
    """The events that could not be sent: damaged, too large, or refused by the broker. The log says which."""


@dead_letters.command("list")
@opening.config_option
@printing.limit_option
@printing.wide_option
@click.option("--json", "is_json", is_flag=True, help="One JSON array.")
def list_(config: Path | None, limit: int | None, is_json: bool) -> None:
    """The newest dead letters."""
    with opening.open_store(config) as store, store.reading() as connection:
        most = printing.limit(limit, is_json=is_json)
        rows = browsing.events(connection, store.tables, limit=most, state="dead")
    printing.listing(COLUMNS, rows, is_json=is_json, narrow=NARROW)
    printing.say_if_cut(rows, limit, is_json=is_json)


@dead_letters.command()
@click.argument("event_id", metavar="ID")
@opening.config_option
@click.option("--reveal", is_flag=True, help="Show numbers, names and references as well, and what is damaged.")
def show(event_id: str, config: Path | None, reveal: bool) -> None:
    """One dead letter as JSON, and whether it is damaged. Personal data is masked unless revealed, which is audited."""
    with opening.open_store(config) as store, store.writing() if reveal else store.reading() as connection:
        letters = browsing.dead_letters(connection, store.tables, event_id=event_id)
        found = browsing.event(connection, store.tables, event_id)
        if letters and reveal:
            browsing.audit(connection, store.tables, "dead-letters.reveal", event_id)
    if not letters or found is None:
        raise Failure(f"there is no dead letter {event_id}")
    row, payload = found
    is_damaged = letters[0].is_damaged
    shown = _payload(payload, is_damaged=is_damaged, reveal=reveal)
    printing.as_json({**row, "damaged": is_damaged, "payload": shown})


def _payload(stored: bytes | None, *, is_damaged: bool, reveal: bool) -> Any:
    """What is damaged may be anything, and is not masked but left out."""
    if stored is None or (is_damaged and not reveal):
        return None
    if is_damaged:
        return printing.readable(stored)
    return json.loads(stored) if reveal else masked(json.loads(stored))


@dead_letters.command()
@click.argument("event_ids", metavar="[ID...]", nargs=-1)
@opening.config_option
@click.option("--all", "every", is_flag=True, help="Every dead letter that is not damaged.")
@click.pass_context
def replay(ctx: click.Context, event_ids: tuple[str, ...], config: Path | None, every: bool) -> None:
    """
    Put dead letters into the queue again, for instance after the broker's limit was raised.

    A damaged one stays: its bytes are no longer what was written. What the provider said is in its receipt. Exit code 1
    when one is damaged or is no dead letter.
    """
    if every == bool(event_ids):
        raise click.UsageError("expected event ids, or --all")
    count = bad = 0
    with opening.open_store(config) as store:
        for event_id in event_ids:
            letters, revived = _replay(store, event_id=event_id)
            if not letters:
                click.echo(f"{event_id}: there is no such dead letter", err=True)
            count, bad = count + revived, bad + 1 - revived
        after: int | None = 0 if every else None
        while after is not None:
            letters, revived = _replay(store, after=after)
            count, bad = count + revived, bad + len(letters) - revived
            after = letters[-1].seq if letters else None
    click.echo(f"{count} event{'' if count == 1 else 's'} put into the queue again")
    ctx.exit(1 if bad else 0)


def _replay(store: Store, *, event_id: str | None = None, after: int = 0) -> tuple[list[browsing.DeadLetter], int]:
    """One transaction: the letters that were looked at, and how many of them wait again."""
    with store.writing() as connection:
        letters = browsing.dead_letters(connection, store.tables, event_id=event_id, after=after)
        for letter in letters:
            if not letter.is_damaged:
                browsing.audit(connection, store.tables, "dead-letters.replay", letter.id)
        revived = browsing.revive(connection, store.tables, letters)
    for letter in letters:
        if letter.is_damaged:
            click.echo(f"{letter.id}: damaged, and stays a dead letter", err=True)
    return letters, revived
