"""
gunicorn's settings for ``faxhook serve``, read from the configuration; ``deploy/gunicorn.conf.py`` repeats them.

Workers take the configuration that is read here, whatever becomes of the file. Under ``faxhook serve`` it is the sealed
one of the parent, and each reload begins a gunicorn of its own. gunicorn alone reads the file again at SIGHUP.
"""

import os
import sys
from contextlib import suppress
from typing import Any

from receiver import settings as _settings
from receiver.errors import ConfigurationError
from receiver.logs import error_class, log
from receiver.system.collecting import importing as _importing
from receiver.system.listening import Listener
from receiver.system.processes import die_with_parent, metrics_folder
from receiver.web import serving as _serving
from receiver.web.worker import Worker

os.umask(0o077)
_is_alone = _serving.SOCKET not in os.environ


def _sealed() -> _settings.Settings:
    """For gunicorn alone: the configuration as it is now; at a reload the one before, where this cannot be used."""
    try:
        environ = {name: value for name, value in os.environ.items() if name != _settings.SEALED}
        loaded = _settings.load(None, environ)
    except ConfigurationError as error:
        if _settings.SEALED not in os.environ:
            raise
        log.error("reload_refused", error=error_class(error))
        print(f"faxhook: not reloaded: {error}", file=sys.stderr, flush=True)
        return _settings.load(None, os.environ)
    os.environ[_settings.SEALED] = str(loaded.document.seal())
    return loaded


_server = (_sealed() if _is_alone else _settings.load(None, os.environ)).server

# Several workers count in files of one directory. `faxhook serve` has made it; gunicorn started by hand has not, and
# a reload must not empty it.
if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_folder(_server.state_dir))

# Imported once, before the fork: a new worker answers at once, and shares the memory. Metrics need the variable above.
with _importing():
    from receiver import metrics as _metrics
    from receiver.web import app as _app  # noqa: F401

bind = _server.bind
workers = _server.workers
worker_class = Worker
threads = 16  # for what does not run in the worker's loop
# A worker accepts while it has fewer busy connections than this. At the default of 1000 one worker can take every
# connection of a busy client while its neighbours idle (0.45 of the throughput). The expected number, 64 (a proxy's
# pool, or a burst of a provider), divided by workers; at least what its threads serve and as many waiting.
worker_connections = max(64 // workers, 2 * threads) + 1
keepalive = int(_server.keep_alive.total_seconds())
timeout = 30  # for a worker whose main loop hangs; requests have their own deadlines
graceful_timeout = 8  # `faxhook serve` kills after 9 s, to be gone within 10

# The store opens files, connections and threads, none of which survives a fork.
preload_app = False
# The heartbeat file; on a disk it can block the worker for seconds.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108

# A path with endpoint, token and reference is short; an Openfax GET carries its whole result in the query.
limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190  # bearer tokens can take 4 kB
# The one parser whose framing errors we have tested; "auto" would take another when it happens to be installed.
http_parser = "python"
# Who may say X-Forwarded-For is decided by [server] trusted_proxies in the application.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""

logger_class = "receiver.logs.GunicornLogger"
accesslog = None
errorlog = "-"
proc_name = "faxhook"
control_socket_disable = True


def on_starting(server: Any) -> None:
    """gunicorn would listen before there are workers, and remove a unix socket that the next gunicorn listens on."""
    if not _is_alone:
        server.LISTENERS = [Listener.handed(int(os.environ[_serving.SOCKET]), bind)]
        server.systemd = True  # its word for sockets that belong to somebody else


def post_fork(server: Any, _worker: Any) -> None:
    """A worker left over by a killed master would hold the port."""
    die_with_parent(server.pid)


def post_worker_init(worker: Any) -> None:
    """The worker can answer: now it may be called, and ``faxhook serve`` may stop the workers before."""
    for listener in worker.sockets:
        if isinstance(listener, Listener):
            listener.begin(worker.cfg.backlog)
    if not _is_alone:
        with suppress(OSError):  # the parent has heard enough of them
            os.write(int(os.environ[_serving.READY]), f"{worker.cfg.workers}\n".encode())


def on_reload(_server: Any) -> None:
    """Where this file is a module, it is not executed again."""
    if _is_alone:
        _sealed()


def pre_exec(_server: Any) -> None:
    """In the process that SIGUSR2 has forked, before it becomes a second gunicorn."""
    if not _is_alone:
        _serving.refuse_signal("SIGUSR2")
        os._exit(0)


def child_exit(_server: Any, worker: Any) -> None:
    _metrics.mark_process_dead(worker.pid)
