"""secrets new, secrets hash."""

import hashlib
import secrets as random_secrets
import sys
from pathlib import Path

import click
from werkzeug.security import generate_password_hash

from receiver.cli import opening


@click.group()
def secrets() -> None:
    """New tokens, and secrets as the configuration may keep them."""


@secrets.command()
@opening.config_option
def new(config: Path | None) -> None:
    """A token of 256 bits, and the form of it that tells nobody the token."""
    token = random_secrets.token_urlsafe(32)
    click.echo(token)
    click.echo(_sha256(token))


@secrets.command("hash")
@opening.config_option
@click.option("--scrypt", is_flag=True, help="Slow to guess: for a password that people chose. Not for path tokens.")
def hash_(config: Path | None, scrypt: bool) -> None:
    """The hashed form of a secret, which is asked for, or read from standard input."""
    if sys.stdin.isatty():
        secret = click.prompt("Secret", hide_input=True, confirmation_prompt=True, err=True)
    else:
        secret = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not secret:
        raise click.UsageError("expected a secret that is not empty")
    click.echo(generate_password_hash(secret, "scrypt") if scrypt else _sha256(secret))


def _sha256(secret: str) -> str:
    return f"sha256:{hashlib.sha256(secret.encode()).hexdigest()}"
