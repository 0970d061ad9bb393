"""The parent of ``faxhook serve``, with stand-ins for gunicorn and relay where the real ones would only be slower."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import live
import pytest
from ports import free_port
from waiting import until

import receiver
from receiver.errors import ConfigurationError
from receiver.web import serving

PARENT = """
import os, sys
from pathlib import Path
from receiver.system import listening
from receiver.web import serving
from receiver.errors import ConfigurationError
from receiver.settings import Document
def renew(current):
    if os.path.exists("invalid"):
        raise ConfigurationError("faxhook.toml: [server] bind: expected host:port")
    return serving.Edition(Document("faxhook.toml", None, Path.cwd(), "").seal(), current.listener)
first = serving.Edition(Document("faxhook.toml", None, Path.cwd(), "").seal(), listening.bind("127.0.0.1:0"))
relay = [sys.executable, "-c", sys.argv[2]] if sys.argv[2] else None
web = [sys.executable, "-c", sys.argv[1]]
serving._START_SECONDS = float(sys.argv[3])
sys.exit(serving.supervise(web, relay, os.environ, first, renew=renew, stop_seconds=float(sys.argv[4])))
"""

# Each stand-in adds a line to a file of its name whenever it starts or gets SIGTERM, at which it ends. That of gunicorn
# says that it can answer.
CHILD = """
import os, signal, sys, time
def note(text):
    with open({name!r}, "a") as file:
        file.write(f"{{text}} {{os.getpid()}}\\n")
def ended(*_):
    note("end")
    sys.exit(0)
signal.signal(signal.SIGTERM, ended)
note("start")
if os.path.exists("broken") or os.path.exists("slow"):
    time.sleep(0.5)
    sys.exit(3) if os.path.exists("broken") else time.sleep(100)
if {name!r} == "web":
    os.write(int(os.environ["FAXHOOK_READY"]), b"1\\n")
{then}
"""
STAYS = "while True: time.sleep(0.05)"


def child(name: str, then: str = STAYS) -> str:
    return CHILD.format(name=name, then=then)


@contextmanager
def parent(
    folder: Path, web: str, relay: str = "", *, starts_within: float = 60, stops_within: float = 2
) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT, web, relay, str(starts_within), str(stops_within)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path(receiver.__path__[0]).parent)},
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def notes(folder: Path, name: str, word: str) -> list[int]:
    """The pids that noted the word."""
    try:
        lines = (folder / name).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [int(line.split()[1]) for line in lines if line.startswith(word)]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def both_run(folder: Path) -> bool:
    return bool(notes(folder, "web", "start") and notes(folder, "relay", "start"))


def test_sigterm_ends_both_children_and_exits_0(tmp_path: Path) -> None:
    with parent(tmp_path, child("web"), child("relay")) as process:
        until(lambda: both_run(tmp_path))
        process.terminate()
        assert process.wait(60) == 0
    assert notes(tmp_path, "web", "end") == notes(tmp_path, "web", "start")
    assert notes(tmp_path, "relay", "end") == notes(tmp_path, "relay", "start")


def test_ctrl_c_drains_as_well(tmp_path: Path) -> None:
    with parent(tmp_path, child("web")) as process:
        until(lambda: notes(tmp_path, "web", "start"))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert notes(tmp_path, "web", "end")


def test_a_child_that_does_not_end_is_killed_and_the_parent_exits_0(tmp_path: Path) -> None:
    stubborn = "signal.signal(signal.SIGTERM, lambda *_: note('deaf'))\nnote('ready')\n" + STAYS
    with parent(tmp_path, child("web"), child("relay", stubborn)) as process:
        until(lambda: notes(tmp_path, "web", "start") and notes(tmp_path, "relay", "ready"))
        began = time.monotonic()
        process.terminate()
        assert process.wait(60) == 0
        assert time.monotonic() - began > 1.9
    assert notes(tmp_path, "relay", "deaf")
    assert not lives(notes(tmp_path, "relay", "start")[0])


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    stubborn = "signal.signal(signal.SIGTERM, lambda *_: note('deaf'))\nnote('ready')\n" + STAYS
    with parent(tmp_path, child("web", stubborn), stops_within=3600) as process:
        until(lambda: notes(tmp_path, "web", "ready"))
        process.send_signal(signal.SIGINT)
        until(lambda: notes(tmp_path, "web", "deaf"))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_a_dead_relay_is_started_again_and_web_is_left_alone(tmp_path: Path) -> None:
    with parent(tmp_path, child("web"), child("relay")) as process:
        for number in (1, 2):
            until(lambda number=number: len(notes(tmp_path, "relay", "start")) == number)  # type: ignore[misc]
            os.kill(notes(tmp_path, "relay", "start")[-1], signal.SIGKILL)
        until(lambda: len(notes(tmp_path, "relay", "start")) == 3)
        assert len(notes(tmp_path, "web", "start")) == 1
        assert process.poll() is None


def test_a_relay_that_ends_at_once_is_started_later_and_later(tmp_path: Path) -> None:
    with parent(tmp_path, child("web"), child("relay", "note(f'at {time.monotonic()}')\nsys.exit(2)")) as process:

        def moments() -> list[float]:
            lines = (tmp_path / "relay").read_text().splitlines() if (tmp_path / "relay").exists() else []
            return [float(line.split()[1]) for line in lines if line.startswith("at")]

        until(lambda: len(moments()) == 3)
        assert process.poll() is None
        first, second, third = moments()
    assert second - first > 0.4
    assert third - second > second - first


def test_the_end_of_gunicorn_ends_the_relay_and_gives_its_code(tmp_path: Path) -> None:
    leaves = "while not os.path.exists('relay'): time.sleep(0.02)\nsys.exit(3)"
    with parent(tmp_path, child("web", leaves), child("relay")) as process:
        assert process.wait(60) == 3
    assert not lives(notes(tmp_path, "relay", "start")[0])


def test_a_killed_gunicorn_gives_the_shells_code(tmp_path: Path) -> None:
    with parent(tmp_path, child("web", "os.kill(os.getpid(), signal.SIGKILL)")) as process:
        assert process.wait(60) == 128 + signal.SIGKILL


def test_a_killed_parent_leaves_no_children(tmp_path: Path) -> None:
    with parent(tmp_path, child("web"), child("relay")) as process:
        until(lambda: both_run(tmp_path))
        process.kill()
        children = notes(tmp_path, "web", "start") + notes(tmp_path, "relay", "start")
        until(lambda: not any(map(lives, children)))


def test_at_sighup_a_second_gunicorn_takes_over_when_it_can_answer_and_the_relay_is_renewed(tmp_path: Path) -> None:
    with parent(tmp_path, child("web"), child("relay")) as process:
        until(lambda: both_run(tmp_path))
        process.send_signal(signal.SIGHUP)
        until(lambda: notes(tmp_path, "web", "end") and len(notes(tmp_path, "relay", "start")) == 2)
        first, second = notes(tmp_path, "web", "start")
        assert notes(tmp_path, "web", "end") == [first]
        assert lives(second)
        assert process.poll() is None


def test_while_the_second_gunicorn_cannot_answer_the_first_is_left_alone(tmp_path: Path) -> None:
    with parent(tmp_path, child("web"), child("relay")) as process:
        until(lambda: both_run(tmp_path))
        (tmp_path / "slow").touch()
        process.send_signal(signal.SIGHUP)
        until(lambda: len(notes(tmp_path, "web", "start")) == 2)
        time.sleep(0.5)
        assert not notes(tmp_path, "web", "end")
        process.terminate()
        assert process.wait(60) == 0
        assert not any(map(lives, notes(tmp_path, "web", "start")))


def test_a_second_gunicorn_that_ends_at_once_changes_nothing(tmp_path: Path) -> None:
    with parent(tmp_path, child("web"), child("relay")) as process:
        until(lambda: both_run(tmp_path))
        (tmp_path / "broken").touch()
        process.send_signal(signal.SIGHUP)
        until(lambda: "reload_failed" in (tmp_path / "log").read_text())
        assert not notes(tmp_path, "web", "end")
        assert len(notes(tmp_path, "relay", "start")) == 1
        (tmp_path / "broken").unlink()
        process.send_signal(signal.SIGHUP)
        until(lambda: notes(tmp_path, "web", "end"))
        assert process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_that_is_not_supported_ends_nothing_and_is_answered_with_what_to_do(
    tmp_path: Path, number: signal.Signals
) -> None:
    with parent(tmp_path, child("web"), child("relay")) as process:
        until(lambda: both_run(tmp_path))
        process.send_signal(number)
        until(lambda: f"faxhook: {number.name} is not supported: SIGHUP" in (tmp_path / "log").read_text())
        assert process.poll() is None


def test_sighup_with_an_invalid_configuration_changes_nothing_and_says_why(tmp_path: Path) -> None:
    with parent(tmp_path, child("web"), child("relay")) as process:
        until(lambda: both_run(tmp_path))
        (tmp_path / "invalid").touch()
        process.send_signal(signal.SIGHUP)
        until(lambda: "expected host:port" in (tmp_path / "log").read_text())
        assert len(notes(tmp_path, "web", "start")) == 1
        assert len(notes(tmp_path, "relay", "start")) == 1
        assert process.poll() is None


def test_a_killed_gunicorn_master_frees_the_port(tmp_path: Path) -> None:
    application = """
import os
def app(environ, start_response):
    text = f"{os.getppid()} {os.getpid()}".encode()
    start_response("200 OK", [("Content-Length", str(len(text)))])
    return [text]
"""
    with live.gunicorn(tmp_path, application) as server:
        master, worker = map(int, server.ask(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")[2].split())
        os.kill(master, signal.SIGKILL)
        until(lambda: not lives(worker) and is_free(server.port))


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
            sock.listen()
        except OSError:
            return False
        return True


def test_clients_that_never_finish_their_head_hold_no_thread_for_long(tmp_path: Path) -> None:
    application = """
import receiver.web.arriving
receiver.web.arriving.HEAD_SECONDS = 1.0
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""
    with live.gunicorn(tmp_path, application) as server:
        slow = [server.connect() for _ in range(20)]
        for sock in slow:
            sock.sendall(b"POST / HTTP/1.1\r\nX: ")
        began = time.monotonic()
        assert server.ask(b"GET / HTTP/1.1\r\n\r\n")[0] == 200
        assert time.monotonic() - began < 60
        for sock in slow:
            assert sock.recv(1) == b""
            sock.close()


def test_a_reload_with_an_account_that_the_store_knows_otherwise_is_refused(filled):
    """No worker would begin with it, and without workers the whole service ends."""
    filled.config.write_text(filled.config.read_text().replace('account = "acme"', 'account = "other"'))
    with pytest.raises(ConfigurationError, match=r"endpoints\.faxage"):
        serving._check(filled.config)


def test_a_reload_with_a_store_that_cannot_be_reached_is_refused(filled):
    """New workers would wait for it, while the old ones are still with theirs."""
    url = f'url = "postgresql://nobody@127.0.0.1:{free_port()}/nothing"'
    filled.config.write_text(re.sub(r'url = "sqlite.*"', url, filled.config.read_text()))
    with pytest.raises(ConfigurationError, match=r"store\.url"):
        serving._check(filled.config)


def test_new_workers_that_never_come_are_given_up(tmp_path: Path) -> None:
    with parent(tmp_path, child("web"), starts_within=0.5) as process:
        until(lambda: notes(tmp_path, "web", "start"))
        (tmp_path / "slow").touch()
        process.send_signal(signal.SIGHUP)
        until(lambda: "reload_failed" in (tmp_path / "log").read_text())
        assert not notes(tmp_path, "web", "end")
        assert process.poll() is None
