"""Tables for people on a terminal, plain lines or JSON for everybody else."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from receiver import settings

MASK = "********"
_SHOWN = 50

limit_option = click.option(
    "--limit", type=click.IntRange(min=1), help=f"At most so many; by default {_SHOWN}, and all with --json."
)


def limit(given: int | None, *, is_json: bool) -> int | None:
    """How many rows a list has; None: all. A program wants all of them, a person the newest."""
    return given if given is not None or is_json else _SHOWN


def is_terminal() -> bool:
    return sys.stdout.isatty()


def as_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def readable(content: bytes) -> str:
    """As text; bytes that are none, and what a terminal might obey, as \\x1b."""
    text = content.decode("utf-8", "backslashreplace")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)


def table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """One row a line: with a frame on a terminal, else separated by tabs, the names first."""
    if not is_terminal():
        click.echo("\t".join(columns))
        for row in rows:
            click.echo("\t".join(_cell(row[column]) for column in columns))
        return
    shown = Table(box=SIMPLE)
    for column in columns:
        shown.add_column(column, no_wrap=column == "id", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(_cell(row[column])) for column in columns))
    Console().print(shown)


def listing(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, is_json: bool, narrow: Sequence[str] = ()
) -> None:
    """narrow: the columns for a terminal, where not all fit."""
    if is_json:
        as_json(rows)
    else:
        table(narrow if narrow and is_terminal() else columns, rows)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text)


def callback_urls(endpoint: settings.Endpoint, server: settings.Server, *, reveal: bool) -> list[str]:
    """What a provider is to call, one URL for each of the endpoint's tokens."""
    base = f"{base_url(server)}/callbacks/{endpoint.name}"
    if not endpoint.tokens:
        return [base]
    return [f"{base}/{token_text(token, reveal=reveal)}" for token in endpoint.tokens]


def base_url(server: settings.Server) -> str:
    if server.public_url:
        return server.public_url
    host, _, port = server.bind.rpartition(":")
    if not port.isdigit():
        return "https://<your host>"  # a unix socket
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104 - not bound here


def token_text(token: settings.Token, *, reveal: bool) -> str:
    if token.plain is None:
        return "<the token of this sha256>"
    return token.plain if reveal else MASK
