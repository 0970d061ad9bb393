"""schema event, schema asyncapi, schema openapi."""

from pathlib import Path

import click

from receiver import contracts
from receiver.cli import opening


@click.group()
def schema() -> None:
    """The contracts with other programs, as documents for them."""


@schema.command()
@opening.config_option
def event(config: Path | None) -> None:
    """JSON Schema of an event, both fax.completed.v1 and fax.amended.v1."""
    click.echo(contracts.event())


@schema.command()
@opening.config_option
def asyncapi(config: Path | None) -> None:
    """AsyncAPI 3 of what is published, with the bindings of RabbitMQ."""
    click.echo(contracts.asyncapi())


@schema.command()
@opening.config_option
def openapi(config: Path | None) -> None:
    """OpenAPI 3.1 of what can be called: callbacks, jobs, tokens, operations."""
    click.echo(contracts.openapi())
