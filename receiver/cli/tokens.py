"""secrets new, secrets hash."""

import base64
import hashlib
import secrets as random_secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click
from werkzeug.security import generate_password_hash

from receiver.cli import opening


@click.group()
def secrets() -> None:
    """New secrets, and secrets as the configuration may keep them."""


def _for_webhooks() -> str:
    return f"whsec_{base64.b64encode(random_secrets.token_bytes(32)).decode()}"


def _of_letters() -> str:
    return random_secrets.token_urlsafe(32)


# Kind -> what makes a secret of 256 bits, and the lines that a configuration needs for it.
_KINDS: Mapping[str, tuple[Callable[[], str], str]] = {
    "token": (_of_letters, 'tokens = ["{sha256}"]'),
    "basic": (_of_letters, 'auth = {{ mode = "basic", credentials = [{{ user = "…", password = "{sha256}" }}] }}'),
    "digest": (_of_letters, 'auth = {{ mode = "digest", credentials = [{{ user = "…", password = "{secret}" }}] }}'),
    "client": (_of_letters, '[oauth2.clients."…"]\nsecret = "{sha256}"'),
    "hmac": (_for_webhooks, 'auth = {{ mode = "hmac", secrets = ["{secret}"] }}'),
}


@secrets.command()
@opening.config_option
@click.option("--kind", type=click.Choice(list(_KINDS)), default="token", show_default=True, help="What it is for.")
def new(config: Path | None, kind: str) -> None:
    """
    A secret of 256 bits for the other side, and below it the lines for the configuration.

    These hold only its hash where that is enough: token, basic and client. Replace each … by a name.
    """
    make, lines = _KINDS[kind]
    secret = make()
    click.echo(secret)
    click.echo(lines.format(secret=secret, sha256=_sha256(secret)))


@secrets.command("hash")
@opening.config_option
@click.option("--scrypt", is_flag=True, help="Slow to guess: for a password that people chose. Not for path tokens.")
@click.option("--digest", is_flag=True, help="The HA1s for auth mode digest; with --user and --realm.")
@click.option("--user", help="With --digest: the user, as in the configuration.")
@click.option("--realm", help="With --digest: the realm, as in the configuration.")
def hash_(config: Path | None, scrypt: bool, digest: bool, user: str | None, realm: str | None) -> None:
    """The hashed form of a secret, which is asked for, or read from standard input; never an argument."""
    if scrypt and digest:
        raise click.UsageError("expected one of --scrypt and --digest")
    if digest != (user is not None) or digest != (realm is not None):
        raise click.UsageError("expected --user and --realm with --digest, and only then")
    secret = _asked_for()
    if digest:
        click.echo(_ha1(f"{user}:{realm}:{secret}".encode()))
    else:
        click.echo(generate_password_hash(secret, "scrypt") if scrypt else _sha256(secret))


def _asked_for() -> str:
    if sys.stdin.isatty():
        secret = click.prompt("Secret", hide_input=True, confirmation_prompt=True, err=True)
    else:
        secret = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not secret:
        raise click.UsageError("expected a secret that is not empty")
    return str(secret)


def _sha256(secret: str) -> str:
    return f"sha256:{hashlib.sha256(secret.encode()).hexdigest()}"


def _ha1(text: bytes) -> str:
    # MD5 because Digest wants it; the result is as good as the password for this realm.
    return f"ha1:{hashlib.md5(text, usedforsecurity=False).hexdigest()}:{hashlib.sha256(text).hexdigest()}"
