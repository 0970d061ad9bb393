"""Ctrl-C in the first moments and in the middle of a command: exit code 130, never a traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from stock import FAXHOOK, environment

from receiver.cli import main, opening
from receiver.system import interrupting

# Ctrl-C may be ignored where the tests run in the background.
CTRL_C = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), "env": environment()}

WHILE_IMPORTING = """
import os, signal, sys, time
from receiver import entry
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "receiver.cli":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
sys.meta_path.insert(0, Slow())
entry.main()
"""


def test_ctrl_c_while_a_command_is_imported_ends_it_without_a_word() -> None:
    done = subprocess.run([sys.executable, "-c", WHILE_IMPORTING], capture_output=True, timeout=60, **CTRL_C)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


@pytest.mark.parametrize("command", ["check", "doctor", "store salvage x.db"])
def test_ctrl_c_in_the_middle_of_a_command_is_exit_code_130(tmp_path: Path, command: str) -> None:
    config = tmp_path / "faxhook.toml"
    os.mkfifo(config)
    full = [*FAXHOOK, *command.split(), "--config", str(config)]
    with subprocess.Popen(full, cwd=tmp_path, stderr=subprocess.PIPE, **CTRL_C) as process, config.open("w"):
        process.send_signal(signal.SIGINT)  # it has opened the file, and waits for what is in it
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, b"\nfaxhook: interrupted\n")


@pytest.mark.parametrize(
    "command",
    [
        *("check", "doctor", "migrate", "consume", "simulate", "endpoints", "events list", "receipts list", "relay"),
        *("dead-letters list", "jobs list", "discrepancies list", "reconcile", "store salvage x.db", "serve"),
        *("store backup x.db", "store verify x.db", "store restore x.db"),
    ],
)
def test_it_is_so_with_every_command(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    def interrupted(_config: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(opening, "load", interrupted)
    result = CliRunner().invoke(main, command.split())
    assert (result.exit_code, result.output) == (130, "\nfaxhook: interrupted\n")


@pytest.mark.parametrize(("reason", "exit_code"), [(KeyboardInterrupt, 130), (EOFError, 1)])
def test_at_a_prompt_ctrl_c_is_told_from_the_end_of_what_is_typed(
    monkeypatch: pytest.MonkeyPatch, reason: type[BaseException], exit_code: int
) -> None:
    def prompt(_config: object) -> None:
        aborted = click.Abort()
        aborted.__context__ = reason()  # as click has it
        raise aborted

    monkeypatch.setattr(opening, "load", prompt)
    assert CliRunner().invoke(main, ["check"]).exit_code == exit_code


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupting.while_starting()
        with interrupting.as_exception():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
