"""Tables for people on a terminal, plain lines or JSON for everybody else."""

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from rich.cells import cell_len, set_cell_size

F = TypeVar("F", bound=Callable[..., Any])

_SHOWN = 50
_SHOWN_AS_JSON = 1000

limit_option = click.option(
    "--limit",
    type=click.IntRange(min=1),
    help=f"At most so many; by default {_SHOWN}, and {_SHOWN_AS_JSON} with --json.",
)


def limit(given: int | None, *, is_json: bool) -> int:
    """How many rows a list has at most."""
    return given or (_SHOWN_AS_JSON if is_json else _SHOWN)


def is_terminal() -> bool:
    return sys.stdout.isatty()


def as_json(value: Any) -> None:
    """A value that is none of JSON's comes from a damaged row: it is only named so."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=lambda _: "damaged"))


def table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], narrow: Sequence[str] = ()) -> None:
    """
    One row a line; separated by tabs where nobody looks at it, with whole values and all columns.

    A terminal gets short ids and times, and the columns of ``narrow`` where not all fit; where these do not fit either,
    each row as a block with a line for each column. What is left out is said; with ``--wide`` nothing is.
    """
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    if not is_terminal():
        for line in (columns, *cells):
            click.echo("\t".join(line))
        return
    if is_wide():
        _print_lines([columns, *cells])
        return
    whole, cells = cells, [list(map(_short, row)) for row in cells]
    fitting = next(
        (some for some in (columns, narrow) if some and _width(_chosen(columns, some, cells)) <= _room()), None
    )
    if fitting is None:
        _print_blocks(columns, narrow or columns, cells)
    else:
        _print_lines(_chosen(columns, fitting, cells))
    left = [column for column in columns if column not in (fitting or narrow or columns)]
    if left or cells != whole:
        more = f", and {', '.join(left)}" if left else ""
        click.echo(f"(--wide: whole values{more})", err=True)


def listing(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    is_json: bool,
    narrow: Sequence[str] = (),
) -> None:
    """narrow: the columns for a terminal, where not all fit."""
    if is_json:
        as_json(rows)
    else:
        table(columns, rows, narrow)


def say_if_cut(rows: Sequence[object], given: int | None, *, is_json: bool) -> None:
    """Beside a list: that it may have no end there. given: the option."""
    if given is None and len(rows) == limit(None, is_json=is_json):
        click.echo(f"(there may be more than these {len(rows)}; --limit N shows N of them)", err=True)


_WIDE = f"{__name__}.wide"


def wide_option(command: F) -> F:
    """``--wide``, which ``table`` looks up by itself."""

    def note(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        ctx.meta[_WIDE] = value

    help_text = "On a terminal: all columns with whole values, however long the lines."
    return click.option("--wide", is_flag=True, expose_value=False, callback=note, help=help_text)(command)


def is_wide() -> bool:
    ctx = click.get_current_context(silent=True)
    return ctx is not None and bool(ctx.meta.get(_WIDE))


def _room() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size().columns


def _chosen(columns: Sequence[str], some: Sequence[str], cells: Sequence[Sequence[str]]) -> list[list[str]]:
    """The lines of a table with the columns ``some``, the names first."""
    at = [columns.index(column) for column in some]
    return [list(some), *([row[index] for index in at] for row in cells)]


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(*lines, strict=True)]


def _width(lines: Sequence[Sequence[str]]) -> int:
    return sum(_widths(lines)) + 2 * (len(lines[0]) - 1)


def _print_lines(lines: Sequence[Sequence[str]]) -> None:
    widths = _widths(lines)
    for number, line in enumerate(lines):
        text = "  ".join(set_cell_size(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip()
        click.secho(text, bold=number == 0)


def _print_blocks(columns: Sequence[str], some: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """A line for each value, broken between words; a value without blanks stays whole."""
    for row in cells:
        for column in some:
            text = f"{column}: {row[columns.index(column)]}"
            broken = textwrap.wrap(
                text, _room(), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )
            click.echo("\n".join(broken))
        click.echo()


_LONG_ID = re.compile(r"([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_LONG_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z")


def _short(text: str) -> str:
    """Its ids by their beginnings, and its times without fractions."""
    return _LONG_TIME.sub(r"\1 \2", _LONG_ID.sub(r"\1…", text))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text)
