"""
``faxhook serve``: gunicorn and the relay as children of one parent that does nothing else.

The parent opens no store, no queue and no port, so there is little in it that can fail; whatever happens to it, even
kill -9, its children end as well.
"""

import ctypes
import os
import queue
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from receiver import settings as configuration
from receiver.errors import ConfigurationError
from receiver.logs import error_class, log
from receiver.settings import Settings

_STOP_SECONDS = 9.0  # then children are killed; platforms kill us at 10
_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 30.0
_STEADY_SECONDS = 60.0  # a relay that lived this long starts again without a longer delay
_POLL_SECONDS = 0.25


def serve(settings: Settings, config_path: Path | None, *, relay: bool) -> int:
    """
    Serve until a signal or gunicorn's end; the exit code.

    SIGTERM and SIGINT drain and give 0 within 10 s (a second SIGINT: at once). SIGHUP reads the configuration again
    and renews workers and relay, unless the new one is invalid. A relay that ends is started again; if gunicorn
    ends, so does everything, with its code. config_path: as found by ``settings``; None when there is no file.
    """
    environment = {
        **os.environ,
        "PROMETHEUS_MULTIPROC_DIR": str(fresh_metrics_directory(settings.server.state_dir)),
    }
    if config_path is not None:
        environment["FAXHOOK_CONFIG"] = str(config_path.absolute())
    # By its path, not as python:receiver.gunicorn_conf: a module would not be read again at SIGHUP.
    gunicorn_conf = Path(__file__).with_name("gunicorn_conf.py")
    return supervise(
        [sys.executable, "-m", "gunicorn", "-c", f"file:{gunicorn_conf}", "receiver.wsgi:app"],
        [sys.executable, "-m", "receiver", "relay"] if relay else None,
        environment,
        check=lambda: _check(config_path),
    )


def _check(config_path: Path | None) -> None:
    """Raises ConfigurationError for what a worker would not begin with."""
    from receiver import bootstrap  # gunicorn's master imports this module, and its counters' files are for workers

    settings = configuration.load(config_path, os.environ)
    bootstrap.resolve(settings)
    bootstrap.check_store(settings)


def supervise(
    web: Sequence[str],
    relay: Sequence[str] | None,
    environment: Mapping[str, str],
    *,
    check: Callable[[], object] = lambda: None,
    stop_seconds: float = _STOP_SECONDS,
) -> int:
    """
    Run the two commands as ``serve`` describes.

    check: raises ConfigurationError when a reload must not happen. Children that are still there stop_seconds after
    SIGTERM are killed.
    """
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()  # its put() may interrupt itself

    def note(number: int, _frame: FrameType | None) -> None:
        signals.put(number)

    for noted in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(noted, note)

    web_process = _start(web, environment)
    relay_keeper = _Relay(relay, environment) if relay is not None else None
    while True:
        if web_process.poll() is not None:
            log.error("web_ended", exit_code=web_process.returncode)
            _stop([relay_keeper.process] if relay_keeper else [], signals, stop_seconds)
            # Killed by a signal: the shell's way to say it.
            return web_process.returncode if web_process.returncode >= 0 else 128 - web_process.returncode
        if relay_keeper is not None:
            relay_keeper.tend()
        match _next(signals, _POLL_SECONDS):
            case signal.SIGTERM | signal.SIGINT as number:
                log.info("stopping", signal=signal.Signals(number).name)
                _stop([web_process, relay_keeper.process if relay_keeper else None], signals, stop_seconds)
                return 0
            case signal.SIGHUP:
                try:
                    check()
                except ConfigurationError as error:
                    # Workers that cannot start would end gunicorn. The message names key and file, for a person.
                    log.error("reload_refused", error=error_class(error))
                    print(f"faxhook: not reloaded: {error}", file=sys.stderr, flush=True)
                else:
                    log.info("reloading")
                    web_process.send_signal(signal.SIGHUP)
                    if relay_keeper is not None:
                        relay_keeper.renew()


def _next(signals: "queue.SimpleQueue[int]", seconds: float) -> int | None:
    try:
        return signals.get(timeout=seconds)
    except queue.Empty:
        return None


class _Relay:
    """The relay's process: started again when it ends, later and later while it keeps ending early."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = command
        self._environment = environment
        self._delay = _FIRST_DELAY_SECONDS
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
                    self._delay = _FIRST_DELAY_SECONDS
                self._due += self._delay
                log.error("relay_ended", exit_code=self.process.returncode, delay_seconds=self._delay)
                self._delay = min(2 * self._delay, _LONGEST_DELAY_SECONDS)
            self._renewing = False
            self.process = None
        if now >= self._due:
            self.process = _start(self._command, self._environment)
            self._started = now

    def renew(self) -> None:
        """Let it finish what it is doing and begin again, with the configuration as it is now."""
        self._delay = _FIRST_DELAY_SECONDS
        self._due = 0.0
        if self.process is not None:
            self._renewing = True
            self.process.send_signal(signal.SIGTERM)


def _start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    return subprocess.Popen(  # noqa: S603 - our own commands
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        # Ctrl-C reaches the whole foreground group, and gunicorn takes SIGINT as "drop everything": only the parent
        # shall get it. It also makes each child and its workers one group to kill.
        start_new_session=True,
        # Safe although it runs between fork and exec: the parent has one thread, and the library is loaded.
        preexec_fn=lambda: die_with_parent(parent),
    )


def _stop(
    children: Sequence["subprocess.Popen[bytes] | None"], signals: "queue.SimpleQueue[int]", stop_seconds: float
) -> None:
    """SIGTERM to each, SIGKILL to those that are still there after stop_seconds or at a second SIGINT."""
    running = [child for child in children if child is not None and child.poll() is None]
    for child in running:
        child.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + stop_seconds
    while running and time.monotonic() < deadline and _next(signals, 0.05) != signal.SIGINT:
        running = [child for child in running if child.poll() is None]
    for child in running:
        log.warning("killed", pid=child.pid)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


# --- processes and folders ------------------------------------------------------------------------------------------

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, of this pid, is gone. Only Linux can; elsewhere nothing."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # gone before we could ask
            os._exit(1)


def fresh_metrics_directory(state_dir: Path) -> Path:
    """An empty folder for the counters of this run's processes."""
    directory = state_dir / "metrics"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory
