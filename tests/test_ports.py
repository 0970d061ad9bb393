"""Ports for tests: each of one test process only, until it ends."""

import socket
import subprocess
import sys
from contextlib import ExitStack

import ports


def holder() -> "subprocess.Popen[str]":
    """Another process with as many ports as it can have."""
    command = [sys.executable, ports.__file__, "100"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_test_processes_have_different_ports_until_they_end() -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(holder()) for _ in range(4)]
        found = [set(map(int, process.stdout.readline().split())) for process in processes if process.stdout]
        ours = {ports.free_port() for _ in range(100)}
    assert len(ours.union(*found)) == sum(map(len, [ours, *found]))


def test_a_port_is_not_given_out_again_while_others_are_left() -> None:
    first = ports.free_port()
    assert first not in {ports.free_port() for _ in range(50)}


def test_a_port_that_something_else_uses_is_passed_over() -> None:
    with ports.listener() as used, socket.socket() as other:
        assert used.getsockname()[1] not in {ports.free_port() for _ in range(100)}
        other.bind(("127.0.0.1", ports.free_port()))
