"""``faxhook serve`` with real workers: reloads under load, and what it works with whatever becomes of its files."""

import os
import re
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import migrated
import pytest
from house import CONFIGURATION, FORM, TOKEN, ask
from ports import free_port
from served import children, relay_of
from stock import FAXHOOK, environment
from waiting import until

from receiver import settings
from receiver.errors import ConfigurationError
from receiver.system import listening
from receiver.system.processes import metrics_folder

# The short version runs with the suite.
RELOADS = 10 if os.environ.get("FAXHOOK_LONG_TESTS") else 2
OTHER = "another-token-of-enough-characters"


class Served:
    def __init__(self, folder: Path, port: int, process: "subprocess.Popen[bytes]") -> None:
        self.config = folder / "faxhook.toml"
        self.port = port
        self.process = process
        self._log = folder / "log"

    @property
    def log(self) -> str:
        return self._log.read_text()

    def status(self, token: str = TOKEN) -> int:
        return ask(self.port, "HEAD", f"/callbacks/openfax/{token}").status

    def reload(self, event: str = '"reloaded"') -> None:
        before = self.log.count(event)
        self.process.send_signal(signal.SIGHUP)
        until(lambda: self.log.count(event) > before, 120)

    def workers(self) -> list[int]:
        masters = [pid for pid in children(self.process.pid) if pid != relay_of(self.process)]
        return [pid for master in masters for pid in children(master)]


@contextmanager
def served(folder: Path, *, umask: int = -1, bind: str = "", **options: int) -> Iterator[Served]:
    folder.mkdir(exist_ok=True)
    port = free_port()
    text = CONFIGURATION.format(port=port, store=f"sqlite:///{folder}/var/faxhook.db")
    text = text.replace('state_dir = "state"', 'state_dir = "var"')
    if bind:
        text = text.replace(f'bind = "127.0.0.1:{port}"', f'bind = "{bind}"')
    (folder / "faxhook.toml").write_text(text)
    if umask < 0:  # else the test is about what serve makes
        migrated.make(f"sqlite:///{folder}/var/faxhook.db")
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*FAXHOOK, "serve"],
            cwd=folder,
            env=environment() | {"WEB_CONCURRENCY": "2"},
            umask=umask,
            stdout=log,
            **{"stderr": log, **options},
        )
    made = Served(folder, port, process)
    try:
        until(lambda: process.poll() is not None or bind or is_up(port), 120)
        assert process.poll() is None, made.log
        yield made
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_up(port: int) -> bool:
    try:
        return ask(port, "GET", "/healthz").status == 200
    except OSError:
        return False


# --- under load -----------------------------------------------------------------------------------------------------


class Client(threading.Thread):
    """Sends callbacks until it is stopped; the times of those that were answered with 200, and what went wrong."""

    def __init__(self, port: int, name: str, *, keeps: bool, stop: threading.Event) -> None:
        super().__init__(name=name)
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"Content-Type": FORM} | ({} if keeps else {"Connection": "close"})
        self._stop_asked = stop
        self.times: list[float] = []
        self.failures: list[object] = []

    def run(self) -> None:
        number = 0
        while not self._stop_asked.is_set():
            number += 1
            body = f"OutTransID={self.name}-{number}&AccountID=1&LastStatus=0"
            began = time.monotonic()
            try:
                self._connection.request("POST", f"/callbacks/openfax/{TOKEN}", body, self._headers)
                answer = self._connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.failures.append(answer.status)
            except (OSError, HTTPException) as error:
                self.failures.append(repr(error))
                self._connection.close()
            self.times.append(time.monotonic() - began)
        self._connection.close()


@pytest.mark.campaign
def test_reloads_under_load_fail_no_callback(tmp_path: Path) -> None:
    with served(tmp_path) as made:
        stop = threading.Event()
        clients = [Client(made.port, f"{number}", keeps=number < 8, stop=stop) for number in range(16)]
        for client in clients:
            client.start()
        try:
            for _ in range(RELOADS):
                made.reload()
        finally:
            stop.set()
            for client in clients:
                client.join()
    times = sorted(one for client in clients for one in client.times)
    print(f"{len(times)} callbacks, the slowest {times[-1]:.3f} s, p99 {times[len(times) * 99 // 100]:.3f} s")
    assert [one for client in clients for one in client.failures] == []
    assert times[-1] < 30


def test_until_there_is_a_worker_to_answer_connections_are_refused(tmp_path: Path) -> None:
    listener = listening.bind(f"127.0.0.1:{(port := free_port())}")
    with pytest.raises(ConnectionRefusedError):
        ask(port, "GET", "/healthz")
    listener.begin(5)
    listener.begin(5)
    assert listener.getsockopt(1, 30) == 1  # SO_ACCEPTCONN
    listener.give_up()


# --- the configuration that was checked -----------------------------------------------------------------------------


def test_what_nobody_has_reloaded_is_used_by_no_process_that_starts_anew(tmp_path: Path) -> None:
    tmp_path.mkdir(exist_ok=True)
    with served(tmp_path) as made:
        good = made.config.read_text()
        (tmp_path / "secret").write_text(TOKEN)
        made.config.write_text(good.replace(f'"{TOKEN}"', '{ file = "secret" }'))
        made.reload()
        for edit in ("[server", good.replace(TOKEN, OTHER)):
            made.config.write_text(edit)
            (tmp_path / "secret").write_text(OTHER)
            old = made.workers()
            for pid in old:
                os.kill(pid, signal.SIGKILL)
            until(lambda old=old: len(made.workers()) == 2 and not {*made.workers()} & {*old})  # type: ignore[misc]
            relay = relay_of(made.process)
            os.kill(relay, signal.SIGKILL)
            until(lambda relay=relay: relay_of(made.process) not in (0, relay))  # type: ignore[misc]
            until(lambda: made.status() == 200)
            assert {made.status(OTHER) for _ in range(10)} == {404}
        active = made.log.count('"relay_started"')
        made.reload()
        until(lambda: made.log.count('"relay_started"') > active)
        until(lambda: made.status(OTHER) == 200)
        assert {made.status() for _ in range(10)} == {404}


def test_a_reload_that_is_refused_names_the_key_and_the_service_goes_on(tmp_path: Path) -> None:
    with served(tmp_path) as made:
        good = made.config.read_text()
        for edit, word in (
            ("[server", "faxhook.toml: expected TOML"),
            (good.replace('state_dir = "var"', 'state_dri = "var"'), "server.state_dri: unknown key"),
            (
                good.replace(f"127.0.0.1:{made.port}", "203.0.113.1:1"),
                "server.bind: 203.0.113.1:1 is no address of this",
            ),
            (good.replace(f'"{TOKEN}"', '"${ABSENT}"'), "ABSENT is not set"),
            (good.replace("faxhook.db", "another.db"), "store.url: the store does not exist yet; run: faxhook migrate"),
            (
                good.replace(f"127.0.0.1:{made.port}", f"0.0.0.0:{made.port}"),
                f"0.0.0.0:{made.port} has the port of 127.0.0.1:{made.port}, which is served",
            ),
        ):
            made.config.write_text(edit)
            made.reload(event="faxhook: not reloaded: ")
            until(lambda word=word: word in made.log)  # type: ignore[misc]
            assert made.status() == 200
        whole = ("{", "faxhook: ")  # no line of one process is inside another's
        assert all(line.startswith(whole) for line in made.log.splitlines())


def test_a_new_address_is_taken_at_a_reload(tmp_path: Path) -> None:
    with served(tmp_path) as made:
        port = free_port()
        made.config.write_text(made.config.read_text().replace(f"127.0.0.1:{made.port}", f"127.0.0.1:{port}"))
        made.reload()
        assert is_up(port)
        until(lambda: not is_up(made.port))


def test_gunicorn_itself_refuses_sigusr2(tmp_path: Path) -> None:
    with served(tmp_path) as made:
        (master,) = (pid for pid in children(made.process.pid) if pid != relay_of(made.process))
        os.kill(master, signal.SIGUSR2)
        until(lambda: "faxhook: SIGUSR2 is not supported" in made.log)
        assert made.status() == 200
        assert "Error" not in made.log


# --- addresses that cannot be used ----------------------------------------------------------------------------------


def refusal(address: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        listening.bind(address)
    return str(caught.value)


def test_an_address_that_cannot_be_used_is_named_with_its_key_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    assert refusal("203.0.113.7:8000") == (
        "server.bind: 203.0.113.7:8000 is no address of this machine: choose one that is, or 0.0.0.0 for all of them"
    )
    assert "names a host that does not exist" in refusal("no-such-host.invalid:8000")
    assert "its folder does not exist" in refusal(f"unix:{tmp_path}/absent/x.sock")
    assert "which is no socket" in refusal(f"unix:{tmp_path}/file")
    assert "too long" in refusal(f"unix:{tmp_path}/{'x' * 200}")
    for descriptor in ("999", "0"):
        assert f"fd://{descriptor} is no socket" in refusal(f"fd://{descriptor}")
    assert (tmp_path / "file").exists()
    monkeypatch.setenv("PORT", "1")
    assert refusal("203.0.113.7:1").startswith("variable PORT: ")


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_an_address_in_use_ends_serve_with_a_sentence(tmp_path: Path, kind: str) -> None:
    address = f"unix:{tmp_path}/x.sock" if kind == "unix" else f"127.0.0.1:{free_port()}"
    first = listening.bind(address)
    first.begin(5)
    text = CONFIGURATION.format(port=1, store=f"sqlite:///{tmp_path}/faxhook.db")
    (tmp_path / "faxhook.toml").write_text(text.replace("127.0.0.1:1", address))
    done = subprocess.run([*FAXHOOK, "serve"], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"faxhook: server.bind: {address} is in use by another process: end it, or choose another address"
    )
    assert "Traceback" not in done.stderr
    first.give_up()


def test_a_port_that_needs_a_right_is_named_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(listening, "_tcp", denied)
    assert "server.bind: 0.0.0.0:80 needs a right that this user does not have" in refusal("0.0.0.0:80")


def test_a_socket_that_a_supervisor_passes_is_not_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd would take connections that nobody answers."""
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    assert refusal("127.0.0.1:0") == (
        'server.bind: 127.0.0.1:0 leaves the socket unused that systemd passes (LISTEN_FDS): choose "fd://3" to'
        " serve it, or stop and disable the .socket unit"
    )
    monkeypatch.setenv("LISTEN_PID", "1")  # of a parent, to which they were passed
    listening.bind("127.0.0.1:0").give_up()


def test_a_socket_that_a_supervisor_passes_is_served(tmp_path: Path) -> None:
    with listening.bind(f"127.0.0.1:{free_port()}") as passed:
        passed.begin(5)
        with served(tmp_path, bind=f"fd://{passed.fileno()}", pass_fds=[passed.fileno()]):  # type: ignore[arg-type]
            until(lambda: is_up(passed.getsockname()[1]))


def test_a_unix_socket_is_open_to_user_and_group_stays_at_a_reload_and_goes_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    stale = listening.bind(f"unix:{path}")
    stale.close()  # without removing it, like a server that was killed
    with served(tmp_path, bind="unix:x.sock", umask=0) as made:
        until(lambda: answers(path), 120)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        made.reload()
        time.sleep(0.5)
        assert answers(path)
    assert not path.exists()


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            return sock.recv(1000).startswith(b"HTTP/1.1 200 ")
        except OSError:
            return False


# --- files, and streams that cannot be written ----------------------------------------------------------------------


def test_all_that_is_made_belongs_to_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    with served(tmp_path / "made", umask=0) as made:
        assert (
            ask(made.port, "POST", f"/callbacks/openfax/{TOKEN}", b"OutTransID=1&LastStatus=0&AccountID=1").status
            == 200
        )
        found = {
            path: stat.S_IMODE(path.stat().st_mode)
            for path in [tmp_path / "made/var", *(tmp_path / "made/var").rglob("*")]
        }
    assert len(found) > 8
    assert set(found.values()) == {0o700, 0o600}


def test_two_services_with_one_state_dir_keep_their_counters(tmp_path: Path) -> None:
    with served(tmp_path) as first:
        count = 'faxhook_requests_total{code="200",endpoint="openfax"}'
        for _ in range(3):
            assert first.status() == 200
        before = re.findall(rf"^{re.escape(count)} .*", metrics(first.port), re.MULTILINE)
        text = first.config.read_text().replace(f"127.0.0.1:{first.port}", f"127.0.0.1:{(port := free_port())}")
        (tmp_path / "second.toml").write_text(text)
        command = [*FAXHOOK, "serve", "--no-relay", "--config", "second.toml"]
        second = subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            until(lambda: is_up(port))
            assert before
            assert re.findall(rf"^{re.escape(count)} .*", metrics(first.port), re.MULTILINE) == before
            assert len(list((tmp_path / "var" / "metrics").iterdir())) == 2
        finally:
            second.kill()
            second.wait()


def metrics(port: int) -> str:
    return ask(port, "GET", "/metrics").body.decode()


def test_folders_of_ended_runs_are_removed_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    (tmp_path / "metrics" / "dead").mkdir(parents=True)
    (tmp_path / "metrics" / "dead" / "counter_1.db").touch()
    first = metrics_folder(tmp_path)
    second = metrics_folder(tmp_path)
    assert {*(tmp_path / "metrics").iterdir()} == {first, second}


def test_a_state_dir_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"server\.state_dir: .*file.* cannot be written: Not a directory"):
        metrics_folder(tmp_path / "file" / "var")


@pytest.mark.parametrize("stream", ["full", "closed"])
def test_serve_starts_where_stderr_cannot_be_written(tmp_path: Path, stream: str) -> None:
    port = free_port()
    doubtful = CONFIGURATION.format(port=port, store=f"sqlite:///{tmp_path}/var/faxhook.db")
    (tmp_path / "faxhook.toml").write_text(doubtful.replace(TOKEN, "change-me-change-me"))
    redirected = "2>/dev/full >/dev/full" if stream == "full" else "2>&- >&- <&-"
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", *FAXHOOK, "serve"], cwd=tmp_path, env=environment()
    )
    try:
        until(lambda: process.poll() is not None or is_up(port))
        assert process.poll() is None
        assert ask(port, "HEAD", "/callbacks/openfax/change-me-change-me").status == 200
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    integrity = subprocess.run(
        [*FAXHOOK, "events", "list", "--json"], cwd=tmp_path, env=environment(), capture_output=True
    )
    assert (integrity.returncode, integrity.stdout.strip()) == (0, b"[]")


def test_a_sealed_configuration_is_what_was_read_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{TOKEN}\n")
    text = '[endpoints.openfax]\nprovider = "openfax"\nauth = { mode = "none" }\ntokens = [{ file = "secret" }]\n'
    (tmp_path / "x.toml").write_text(text)
    read = settings.load(tmp_path / "x.toml", {})
    descriptor = read.document.seal()
    (tmp_path / "secret").unlink()
    (tmp_path / "x.toml").unlink()
    again = settings.load(None, {settings.SEALED: str(descriptor)})
    assert again == read
    with pytest.raises(OSError):
        os.write(descriptor, b"x")
    assert TOKEN not in repr(again)
    os.close(descriptor)
