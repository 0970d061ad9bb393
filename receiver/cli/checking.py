"""check."""

import os
from pathlib import Path

import click

from receiver import bootstrap, hosting, resolving
from receiver.cli import opening
from receiver.doctor.finding import TROUBLE, WARNING
from receiver.doctor.queue import broker
from receiver.outgoing import sinks


@click.command()
@opening.config_option
@click.pass_context
def check(ctx: click.Context, config: Path | None) -> None:
    """
    Look at the configuration without starting anything, and ask store, broker and the identity providers it names.

    Exit code 2 when it cannot be used, 1 when what it names cannot be reached. Doubtful settings are printed as
    warnings, with exit code 0.
    """
    settings = opening.load(config)
    resolving.resolve(settings)
    sinks.check(settings)
    hosting.check(settings, os.environ)
    bootstrap.check_obstacles(settings)
    unusable = bootstrap.check_store(settings)
    busy = None if unusable else bootstrap.busy_store(settings)
    doubts = [
        *bootstrap.all_doubts(settings),
        *([busy] if busy else []),
        *bootstrap.check_issuers(settings),
    ]
    troubles = [unusable] if unusable else []
    for finding in broker(settings):
        if finding.verdict == WARNING:
            doubts.append(f"queue.url: {finding.detail}")
        elif finding.verdict == TROUBLE:
            troubles.append(f"queue.url: {finding.detail}")
    for doubt in doubts:
        click.echo(f"warning: {doubt}")
    for trouble in troubles:
        click.echo(f"trouble: {trouble}")
    if troubles:
        ctx.exit(1)
    found = f", {len(doubts)} warning{'s' if len(doubts) > 1 else ''}" if doubts else ""
    click.echo(f"ok: {settings.path or 'FAXHOOK_CONFIG_TOML'}: {len(settings.endpoints)} endpoints{found}")
