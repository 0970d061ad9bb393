"""sinks list, sinks resume, sinks drop."""

from collections.abc import Iterator
from pathlib import Path

import click

from receiver.cli import Failure, opening, printing
from receiver.destinations import QUEUE
from receiver.showing import configured
from receiver.store import Store, browsing, figures, listening
from receiver.store import sinks as standing

_COLUMNS = ("name", "state", "kind", "backlog", "oldest_seconds", "dead", "trouble", "trouble_since", "stopped_at")
_NARROW = ("name", "state", "backlog", "oldest_seconds", "dead", "trouble")


@click.group()
def sinks() -> None:
    """Where events go beside the queue: what waits for each, and what is the matter with it."""


@sinks.command("list")
@opening.config_option
@printing.wide_option
@click.option("--json", "is_json", is_flag=True, help="One JSON array.")
def list_(config: Path | None, is_json: bool) -> None:
    """Every sink but the queue. Exit code 0 whatever their state; `faxhook doctor` judges."""
    settings = opening.load(config)
    with opening.open_store(config) as store, store.reading() as connection:
        found = figures.read(connection, store.tables)
    rows = [configured.sink(found, one, settings) for one in found.sinks.values()]
    printing.listing(_COLUMNS, rows, is_json=is_json, narrow=_NARROW)


@sinks.command()
@click.argument("name", metavar="NAME")
@opening.config_option
def resume(name: str, config: Path | None) -> None:
    """Let events go to a sink again that has said it wants no more (HTTP 410). What waits for it goes first."""
    with opening.open_store(config) as store, store.writing() as connection:
        browsing.audit(connection, store.tables, "sinks.resume", name)
        if not standing.resume(connection, store.tables, name):
            raise Failure(f"the sink {name} is not stopped")
    click.echo(f"{name} is resumed; the relay sees that within a second")


@sinks.command()
@click.argument("name", metavar="NAME")
@opening.config_option
@click.option("--yes", "is_meant", is_flag=True, help="Drop it. Without it the events are only counted.")
def drop(name: str, config: Path | None, is_meant: bool) -> None:
    """
    Forget a sink that the configuration does not have any more, and what waits for it: that never goes there. So it
    is with what `faxhook listen` has left: its sink is listen: and its name.

    The events stay for the other sinks, and until [retention] ends.
    """
    settings = opening.load(config)
    if name in settings.every_sink:
        where = "[queue]" if name == QUEUE else f"[sinks.{name}]"
        raise click.UsageError(f"{where} is configured; take it out of the configuration first")
    with opening.open_store(config) as store:
        with store.reading() as connection:
            known = listening.every_sink(connection, store.tables)
            found = standing.left(connection, store.tables, name)
        if name not in known:
            raise Failure(f"there is no sink {name}")
        if is_meant:
            with store.writing() as connection:
                browsing.audit(connection, store.tables, "sinks.drop", name)
            found = sum(_dropped(store, name))
    events = f"{found} event{'' if found == 1 else 's'}"
    click.echo(f"{name} is dropped, with {events}" if is_meant else f"{events} would be dropped; --yes drops")


def _dropped(store: Store, name: str) -> Iterator[int]:
    """Some in each transaction, so that callbacks do not wait."""
    while True:
        with store.writing() as connection:
            count = standing.drop_some(connection, store.tables, name)
        if count == 0:
            return
        yield count
