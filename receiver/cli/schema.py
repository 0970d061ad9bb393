"""schema event."""

from importlib.resources import files
from pathlib import Path

import click

from receiver.cli import opening


@click.group()
def schema() -> None:
    """The schema of what is published."""


@schema.command()
@opening.config_option
def event(config: Path | None) -> None:
    """JSON Schema of an event, both fax.completed.v1 and fax.amended.v1."""
    click.echo(files("schemas").joinpath("fax_completed.v1.json").read_text(encoding="utf-8").rstrip("\n"))
