"""doctor."""

import os
from dataclasses import asdict
from pathlib import Path

import click

from receiver.cli import opening, printing
from receiver.cli.progress import progress
from receiver.doctor import examine
from receiver.doctor.finding import OK, TROUBLE, WARNING
from receiver.system.stopping import Interrupted

_COLOURS = {OK: "green", WARNING: "yellow", TROUBLE: "red"}


@click.command()
@opening.config_option
@click.option("--deep", is_flag=True, help="Read the whole SQLite file as well, which takes a while.")
@click.option("--json", "is_json", is_flag=True, help="One JSON array.")
@click.pass_context
def doctor(ctx: click.Context, config: Path | None, deep: bool, is_json: bool) -> None:
    """
    Look at everything: configuration, disk, store, broker, relay, backlog.

    One line for each finding: ok, warning or trouble. Exit code 1 when there is trouble, 2 when the configuration
    cannot be used. Works while the store or the broker is away.
    """
    settings = opening.load(config)
    found = []
    try:
        for finding in examine(settings, os.environ, progress if deep else None):
            found.append(finding)
            if not is_json:
                verdict = click.style(f"{finding.verdict:8}", fg=_COLOURS[finding.verdict])
                click.echo(f"{verdict} {finding.check}: {finding.detail}")
    except Interrupted:
        raise KeyboardInterrupt from None
    if is_json:
        printing.as_json([asdict(finding) for finding in found])
    ctx.exit(1 if any(finding.verdict == TROUBLE for finding in found) else 0)
