"""serve, migrate, init."""

import os
from contextlib import closing
from pathlib import Path

import click

from receiver import bootstrap, hosting, logs, resolving, transports
from receiver import init as initialising
from receiver import settings as configuration
from receiver.cli import opening, printing
from receiver.errors import ConfigurationError
from receiver.settings import DEFAULT_FILE, NoConfiguration, Settings
from receiver.showing.configured import callback_urls
from receiver.store.damage import check_newest
from receiver.store.migrating import migrate as bring_up_to_date
from receiver.store.migrating import statements
from receiver.stores import open_store
from receiver.system import streams
from receiver.web import serving


@click.command()
@opening.config_option
@click.option("--relay/--no-relay", default=True, help="Whether the relay runs as well.", show_default=True)
@click.pass_context
def serve(ctx: click.Context, config: Path | None, relay: bool) -> None:
    """
    Take callbacks until SIGTERM.

    Without any configuration it writes ./faxhook.toml first, as `faxhook init` does. A SQLite store is migrated; a
    PostgreSQL one is expected to be: run `faxhook migrate` before.
    """
    streams.let_stdout_be_lost()
    settings = _settings_or_first(config)
    _prepare(settings)
    logs.stderr.never_wait()
    ctx.exit(serving.serve(settings, relay=relay))


def _settings_or_first(config: Path | None) -> Settings:
    try:
        return opening.load(config)
    except NoConfiguration as error:
        if name := hosting.platform(os.environ):
            raise ConfigurationError(f"{error}; on {name} one that faxhook made would be lost") from None
        initialising.write(DEFAULT_FILE)
    settings = opening.load(DEFAULT_FILE)
    _welcome(settings)
    return settings


def _prepare(settings: Settings) -> None:
    """Everything that a worker would fail on, before there are workers."""
    resolving.resolve(settings)
    hosting.check(settings, os.environ)
    bootstrap.check_obstacles(settings)
    for doubt in bootstrap.all_doubts(settings):
        click.echo(f"faxhook: warning: {doubt}", err=True)
    with closing(open_store(settings)) as store:
        check_newest(store)
        bootstrap.refuse_vanished(settings, store)
        if store.dialect == "sqlite":
            bring_up_to_date(store)
        bootstrap.prepare(settings, store)
    configuration.secret_keys(settings)  # one that has to be made is made once


def _welcome(settings: Settings) -> None:
    reveal = printing.is_terminal()
    click.echo(f"Wrote {settings.path}, with an endpoint for each provider:")
    for endpoint in settings.endpoints.values():
        for url in callback_urls(endpoint, settings.server, reveal=reveal):
            click.echo(f"  {endpoint.name:10} {url}")
    if not reveal:
        click.echo("  (tokens: faxhook endpoints --reveal)")
    click.echo(f"store  {open_store(settings).url.render_as_string()}")
    click.echo(f"queue  {transports.place(settings.queue.url)}")
    click.echo("Try it in another terminal:  faxhook simulate   and   faxhook consume")


@click.command()
@opening.config_option
@click.option("--new", is_flag=True, help="Begin a new store where the one that was used before is gone on purpose.")
@click.option("--dry-run", is_flag=True, help="Change nothing; say whether anything is due.")
@click.option("--sql", is_flag=True, help="With --dry-run: print the statements, for an administrator to run.")
def migrate(config: Path | None, new: bool, dry_run: bool, sql: bool) -> None:
    """Bring the store to this version's tables. Safe to run at any time, also twice."""
    if sql and not dry_run:
        raise click.UsageError("--sql prints statements and runs none: add --dry-run")
    settings = opening.load(config)
    hosting.check(settings, os.environ)  # a release process has a disk of its own, and would migrate that
    for doubt in bootstrap.former_stores(settings):
        click.echo(f"faxhook: warning: {doubt}", err=True)
    with closing(open_store(settings)) as store:
        check_newest(store)
        if not new:
            bootstrap.refuse_vanished(settings, store)
        if dry_run:
            due = statements(store)
            shown = due if sql else "a migration is due\n"
            click.echo(shown if due else "-- the store is up to date" if sql else "the store is up to date", nl=not due)
            return
        done = bring_up_to_date(store)
    click.echo("the store has been migrated" if done else "the store is up to date")


@click.command()
@opening.config_option
def init(config: Path | None) -> None:
    """Write a configuration with one endpoint per provider and fresh tokens; an existing file is never touched."""
    path = config or DEFAULT_FILE
    initialising.write(path)
    _welcome(opening.load(path))
    click.echo("Serve with:  faxhook serve")
