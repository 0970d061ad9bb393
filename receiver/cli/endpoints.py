"""endpoints."""

from pathlib import Path

import click

from receiver import resolving
from receiver.cli import opening, printing
from receiver.errors import StoreError
from receiver.settings import Settings
from receiver.showing import configured
from receiver.store import browsing
from receiver.store.migrating import check_version
from receiver.stores import open_store

_COLUMNS = ("endpoint", "provider", "account", "auth", "url")


@click.command()
@opening.config_option
@click.option("--reveal", is_flag=True, help="Show the tokens, also where standard output is not a terminal.")
@printing.wide_option
@click.option("--json", "is_json", is_flag=True, help="One JSON array.")
def endpoints(config: Path | None, reveal: bool, is_json: bool) -> None:
    """The configured endpoints and the URLs to enter at the providers. Tokens are masked unless on a terminal."""
    settings = opening.load(config)
    resolving.resolve(settings)
    if reveal:
        audit_reveal(settings, "endpoints.reveal", "tokens")
    rows = configured.endpoints(settings, reveal=reveal or printing.is_terminal())
    printing.listing(_COLUMNS, rows, is_json=is_json, narrow=("endpoint", "auth", "url"))


def audit_reveal(settings: Settings, action: str, subject: str) -> None:
    """Note who saw secrets of the configuration. Before the first start there is no store to note it in."""
    store = open_store(settings)
    try:
        check_version(store)
        with store.writing() as connection:
            browsing.audit(connection, store.tables, action, subject)
    except StoreError as error:
        click.echo(f"faxhook: no audit row was written: {error}", err=True)
    finally:
        store.close()
