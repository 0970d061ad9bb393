"""The command line for people: tables at every width, suggestions, examples, completion."""

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from stock import Stock, environment

from receiver.cli import EXAMPLES, main, printing
from receiver.cli.verifying import SECRET_VARIABLE

LISTS = [
    "events list",
    "receipts list",
    "dead-letters list",
    "jobs list",
    "discrepancies list",
    "providers list",
    "endpoints --reveal",
]


def commands(command: click.Command, *path: str) -> "list[tuple[str, click.Command]]":
    if not isinstance(command, click.Group):
        return [(" ".join(path), command)]
    context = click.Context(command)
    return [
        found
        for name in command.list_commands(context)
        if (one := command.get_command(context, name)) is not None
        for found in commands(one, *path, name)
    ]


COMMANDS = dict(commands(main))


# --- tables ----------------------------------------------------------------------------------------------------------


def on_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(printing, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))


def shown(made: Stock, command: str, *options: str) -> Any:
    result = CliRunner().invoke(main, [*command.split(), *options, "--config", str(made.config)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


@pytest.mark.parametrize("width", [20, 60, 80, 100, 200])
@pytest.mark.parametrize("command", LISTS)
def test_no_width_breaks_a_word_or_hides_that_something_is_left_out(
    filled: Stock, monkeypatch: pytest.MonkeyPatch, command: str, width: int
) -> None:
    filled.fill(3)
    header, *rows = [line.split("\t") for line in shown(filled, command).stdout.splitlines()]
    on_terminal(monkeypatch, width)
    result = shown(filled, command)
    for column in header:
        assert column in result.output or not rows  # in the table, or in the line about --wide
    words = set(re.split(r":?\s+", result.stdout))
    whole = {printing._short(cell) for row in rows for cell in row}
    known = {word for cell in whole for word in re.split(r":?\s+", cell)} | set(header) | {f"{one}:" for one in header}
    assert words <= known | {""}
    if "\n\n" not in result.stdout:  # a table, not blocks
        assert all(len(line) <= width for line in result.stdout.splitlines())


@pytest.mark.parametrize("command", LISTS)
def test_wide_and_a_pipe_have_whole_values(filled: Stock, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    filled.fill(2)
    lines = shown(filled, command).stdout.splitlines()
    on_terminal(monkeypatch, 40)
    result = shown(filled, command, "--wide")
    assert result.stderr == ""
    assert [line.split() for line in result.stdout.splitlines()] == [line.split() for line in lines]


def test_at_80_columns_the_events_are_a_table_with_short_ids_and_times(
    filled: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.fill(1)
    (event,) = filled.events()
    on_terminal(monkeypatch, 80)
    result = shown(filled, "events list")
    names, row = result.stdout.splitlines()
    assert names.split() == ["id", "outcome", "state", "created_at"]
    assert re.fullmatch(rf"{event['id'][:8]}…  \w+ +pending  \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d", row)
    assert result.stderr.startswith("(--wide: whole values, and fax_id, type, receipt, published_at)")


def test_a_real_terminal_of_80_columns_gets_lines_of_80(filled: Stock) -> None:
    filled.fill(1)
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "receiver", "events", "list", "--config", str(filled.config)]
    without = {name: value for name, value in environment().items() if name != "COLUMNS"}
    with subprocess.Popen(command, stdout=far, stderr=subprocess.PIPE, env=without) as process:
        os.close(far)
        assert process.wait(60) == 0
        text = re.sub(r"\x1b\[[0-9;]*m", "", os.read(near, 4096).decode())
    os.close(near)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "created_at" in text


# --- suggestions, examples -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("recepts list", "receipts"),
        ("event list", "events"),
        ("consum", "consume"),
        ("events lst", "list"),
        ("dead-letters reply", "replay"),
        ("events list --stat dead", "--state"),
        ("consume --folow", "--follow"),
    ],
)
def test_what_was_probably_meant_is_suggested(typed: str, meant: str) -> None:
    result = CliRunner().invoke(main, typed.split())
    assert result.exit_code == 2
    assert re.search(rf"Did you mean .*'?{meant}'?", result.output)


def test_every_command_has_an_example_and_no_example_is_of_another() -> None:
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_example_is_in_the_help_and_can_be_typed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = EXAMPLES[name]
    assert f"Example: {example}" in " ".join(CliRunner().invoke(main, [*name.split(), "--help"]).output.split())
    (typed,) = re.findall(r"faxhook ([^|>)]+)", example)
    words = shlex.split(typed)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sent.jsonl").touch()
    assert words[: len(name.split())] == name.split()
    monkeypatch.setenv(SECRET_VARIABLE, f"whsec_{'A' * 32}")  # which nobody types
    COMMANDS[name].make_context(name, words[len(name.split()) :]).close()


# --- completion ------------------------------------------------------------------------------------------------------


@pytest.mark.tool("bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("faxhook rec", {"receipts", "reconcile"}),
        ("faxhook events list --sta", {"--state"}),
        ("faxhook events li", {"list"}),
    ],
)
def test_bash_completes_after_sourcing(tmp_path: Path, line: str, expected: set[str]) -> None:
    program = tmp_path / "faxhook"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m receiver "$@"\n')
    program.chmod(0o755)
    words = line.split()
    script = (
        'eval "$(faxhook completion bash)"\n'
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}\n"
        '_faxhook_completion faxhook; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment() | path, capture_output=True, text=True, timeout=60, check=True
    )
    assert set(done.stdout.split()) == expected


@pytest.mark.parametrize(("shell", "word"), [("bash", "complete "), ("zsh", "compdef"), ("fish", "complete ")])
def test_completion_prints_a_script_for_each_shell(shell: str, word: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert word in result.output
    assert "_FAXHOOK_COMPLETE" in result.output
