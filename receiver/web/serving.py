"""
``faxhook serve``: gunicorn and the relay as children of one parent that does little else.

The parent opens no store and no queue. It holds what must outlive a child: the socket that callbacks come to, and the
configuration that it has checked. Whatever happens to it, even kill -9, its children end as well.
"""

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from receiver import settings as configuration
from receiver.errors import ConfigurationError
from receiver.logs import error_class, log
from receiver.settings import Settings
from receiver.system import listening
from receiver.system.backoff import Backoff
from receiver.system.listening import Listener
from receiver.system.processes import die_with_parent, metrics_folder

_STOP_SECONDS = 9.0  # then children are killed; platforms kill us at 10
_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 30.0
_STEADY_SECONDS = 60.0  # a relay that lived this long starts again without a longer delay
_POLL_SECONDS = 0.25
_START_SECONDS = 120.0  # for new workers at a reload, also on a busy machine

# Variables with file descriptors for gunicorn: the bound socket, and a pipe that each worker that can answer writes a
# line to, with the number of workers there are to be.
SOCKET = "FAXHOOK_SOCKET"
READY = "FAXHOOK_READY"


def serve(settings: Settings, *, relay: bool) -> int:
    """
    Serve until a signal or gunicorn's end; the exit code.

    SIGTERM, SIGINT and SIGQUIT drain and give 0 within 10 s (a second SIGINT: at once). SIGHUP reads the configuration
    again, and starts a second gunicorn with it; when that can answer, the first one is stopped and the relay renewed.
    If it cannot, nothing changes. A relay that ends is started again; if gunicorn ends, so does everything, with its
    code. Raises ConfigurationError where the address cannot be bound, or the folder for metrics not be made.
    """
    listener = listening.bind(settings.server.bind)
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics_folder(settings.server.state_dir))}
    gunicorn_conf = Path(__file__).with_name("gunicorn_conf.py")
    config_path = settings.path
    return supervise(
        [sys.executable, "-m", "gunicorn", "-c", f"file:{gunicorn_conf}", "receiver.wsgi:app"],
        [sys.executable, "-m", "receiver", "relay"] if relay else None,
        environment,
        Edition(settings.document.seal(), listener),
        renew=lambda current: _renewed(current, config_path),
    )


@dataclass(frozen=True, slots=True)
class Edition:
    """What children work with. document: the file descriptor of a sealed configuration."""

    document: int
    listener: Listener

    def give_up(self, successor: "Edition | None") -> None:
        """Close what the successor does not use."""
        os.close(self.document)
        if successor is None or successor.listener is not self.listener:
            self.listener.give_up()


def _renewed(current: Edition, config_path: Path | None) -> Edition:
    """The configuration as it is now. Raises ConfigurationError where the children could not work with it."""
    settings = _check(config_path)
    address = settings.server.bind
    listener = current.listener if address == current.listener.address else _bind_beside(current.listener, address)
    return Edition(settings.document.seal(), listener)


def _bind_beside(current: Listener, address: str) -> Listener:
    """A second address, while the first is served."""
    try:
        return listening.bind(address)
    except ConfigurationError:
        is_tcp = not address.startswith(("unix:", "fd:")) and ":" in current.address
        if is_tcp and address.rpartition(":")[2] == current.address.rpartition(":")[2]:
            raise ConfigurationError(
                f"server.bind: {address} has the port of {current.address}, which is served until the reload is over:"
                " choose another port, or restart"
            ) from None
        raise


def _check(config_path: Path | None) -> Settings:
    """Raises ConfigurationError for what a worker would not begin with."""
    from receiver import bootstrap, resolving  # gunicorn loads this module before the variable for metrics is set

    settings = configuration.load(config_path, os.environ)
    resolving.resolve(settings)
    if trouble := bootstrap.check_store(settings, will_migrate=False):
        raise ConfigurationError(trouble)  # new workers would wait for it, and old ones may still reach theirs
    return settings


def refuse_signal(name: str) -> None:
    log.warning("signal_refused", signal=name)
    advice = "SIGHUP reads the configuration again; for a new version, restart"
    print(f"faxhook: {name} is not supported: {advice}", file=sys.stderr, flush=True)


def supervise(
    web: Sequence[str],
    relay: Sequence[str] | None,
    environment: Mapping[str, str],
    edition: Edition,
    *,
    renew: Callable[[Edition], Edition],
    stop_seconds: float = _STOP_SECONDS,
) -> int:
    """
    Run the two commands as ``serve`` describes.

    renew: the next edition; raises ConfigurationError when a reload must not happen. Children that are still there
    stop_seconds after SIGTERM are killed.
    """
    return _Parent(web, relay, environment, edition, renew, stop_seconds).run()


class _Parent:
    def __init__(
        self,
        web: Sequence[str],
        relay: Sequence[str] | None,
        environment: Mapping[str, str],
        edition: Edition,
        renew: Callable[[Edition], Edition],
        stop_seconds: float,
    ) -> None:
        self._command = web
        self._environment = environment
        self._renew = renew
        self._stop_seconds = stop_seconds
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()  # its put() may interrupt itself
        for noted in ("TERM", "INT", "QUIT", "HUP", "CHLD", "USR1", "USR2"):
            signal.signal(signal.Signals[f"SIG{noted}"], self._note)
        self._web = _Web(web, environment, edition)
        self._next: _Web | None = None  # starts, and will take over
        self._former: list[tuple[float, subprocess.Popen[bytes]]] = []  # stop, and are killed at that time
        self._reload_again = False
        self._relay = _Relay(relay, environment, edition) if relay is not None else None

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signals.put(number)

    def run(self) -> int:
        while True:
            if (code := self._web.process.poll()) is not None:
                log.error("web_ended", exit_code=code)
                self._stop()
                return code if code >= 0 else 128 - code  # killed by a signal: the shell's way to say it
            self._tend_next()
            self._tend_former()
            if self._relay is not None:
                self._relay.tend()
            match _next(self._signals, _POLL_SECONDS):
                case signal.SIGTERM | signal.SIGINT | signal.SIGQUIT as number:
                    log.info("stopping", signal=signal.Signals(number).name)
                    self._stop()
                    return 0
                case signal.SIGHUP:
                    self._reload()
                case signal.SIGUSR1 | signal.SIGUSR2 as number:
                    refuse_signal(signal.Signals(number).name)

    def _reload(self) -> None:
        if self._next is not None:
            self._reload_again = True  # the file may have changed since
            return
        try:
            edition = self._renew(self._web.edition)
        except ConfigurationError as error:
            # The message names key and file, for a person.
            log.error("reload_refused", error=error_class(error))
            print(f"faxhook: not reloaded: {error}", file=sys.stderr, flush=True)
            return
        log.info("reloading")
        self._next = _Web(self._command, self._environment, edition)

    def _tend_next(self) -> None:
        if self._next is None:
            return
        if self._next.is_ready():
            log.info("reloaded")
            self._former.append((time.monotonic() + self._stop_seconds, self._web.process))
            self._web.process.terminate()
            former, self._web, self._next = self._web.edition, self._next, None
            if self._relay is not None:
                self._relay.renew(self._web.edition)
            former.give_up(self._web.edition)
        elif (code := self._next.process.poll()) is not None:
            log.error("reload_failed", exit_code=code)
            print("faxhook: not reloaded: the new workers did not start; the lines above say why", file=sys.stderr)
            self._next.edition.give_up(self._web.edition)
            self._next = None
        elif self._next.age_seconds > _START_SECONDS:
            _kill(self._next.process)  # which the next look finds ended
        if self._next is None and self._reload_again:
            self._reload_again = False
            self._reload()

    def _tend_former(self) -> None:
        now = time.monotonic()
        self._former = [(until, process) for until, process in self._former if process.poll() is None]
        for until, process in self._former:
            if now >= until:
                _kill(process)

    def _stop(self) -> None:
        """SIGTERM to all, SIGKILL to those that are still there after stop_seconds or at a second SIGINT."""
        editions = [self._web.edition] + ([self._next.edition] if self._next else [])
        for listener in {edition.listener for edition in editions}:
            listener.give_up()
        children = [self._web.process, *(process for _, process in self._former)]
        children += [self._next.process] if self._next else []
        children += [self._relay.process] if self._relay and self._relay.process else []
        running = [child for child in children if child.poll() is None]
        for child in running:
            child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._stop_seconds
        while running and time.monotonic() < deadline and _next(self._signals, 0.05) != signal.SIGINT:
            running = [child for child in running if child.poll() is None]
        for child in running:
            _kill(child)


def _next(signals: "queue.SimpleQueue[int]", seconds: float) -> int | None:
    try:
        return signals.get(timeout=seconds)
    except queue.Empty:
        return None


class _Web:
    """A gunicorn with its workers, made of one edition."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], edition: Edition) -> None:
        self.edition = edition
        ready, told = os.pipe()
        for end in (ready, told):
            os.set_blocking(end, False)
        self._ready = open(ready, "rb", buffering=0)  # noqa: SIM115 - as long as this gunicorn
        self._said = b""
        self._began = time.monotonic()
        handed = {configuration.SEALED: edition.document, SOCKET: edition.listener.fileno(), READY: told}
        self.process = _start(command, environment, handed)
        os.close(told)

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self._began

    def is_ready(self) -> bool:
        """Whether as many workers can answer as there are to be."""
        self._said += self._ready.read(4096) or b""  # None: nothing new
        lines = self._said.split()
        return bool(lines) and len(lines) >= int(lines[0])


class _Relay:
    """The relay's process: started again when it ends, later and later while it keeps ending early."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], edition: Edition) -> None:
        self._command = command
        self._environment = environment
        self._edition = edition
        self._backoff = Backoff(_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS)
        self._due = 0.0
        self._started = 0.0
        self._renewing = False
        self.process: subprocess.Popen[bytes] | None = None

    def tend(self) -> None:
        """Notice its end, and start it when that is due."""
        now = time.monotonic()
        if self.process is not None:
            if self.process.poll() is None:
                return
            self._due = now
            if not self._renewing:
                if now - self._started >= _STEADY_SECONDS:
                    self._backoff.reset()
                delay = self._backoff.next()
                self._due += delay
                log.error("relay_ended", exit_code=self.process.returncode, delay_seconds=delay)
            self._renewing = False
            self.process = None
        if now >= self._due:
            handed = {configuration.SEALED: self._edition.document}
            self.process = _start(self._command, self._environment, handed)
            self._started = now

    def renew(self, edition: Edition) -> None:
        """Let it finish what it is doing and begin again, with this edition."""
        self._edition = edition
        self._backoff.reset()
        self._due = 0.0
        if self.process is not None:
            self._renewing = True
            self.process.send_signal(signal.SIGTERM)


def _start(
    command: Sequence[str], environment: Mapping[str, str], handed: Mapping[str, int]
) -> subprocess.Popen[bytes]:
    """handed: file descriptors, by the variables that tell the child their numbers."""
    parent = os.getpid()
    return subprocess.Popen(  # noqa: S603 - our own commands
        command,
        env={**environment, **{name: str(descriptor) for name, descriptor in handed.items()}},
        pass_fds=tuple(handed.values()),
        stdin=subprocess.DEVNULL,
        # Ctrl-C reaches the whole foreground group, and gunicorn takes SIGINT as "drop everything": only the parent
        # shall get it. It also makes each child and its workers one group to kill.
        start_new_session=True,
        # Runs between fork and exec, where another thread's lock would stay locked: it takes none, and the library is
        # loaded.
        preexec_fn=lambda: die_with_parent(parent),
    )


def _kill(child: "subprocess.Popen[bytes]") -> None:
    log.warning("killed", pid=child.pid)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
