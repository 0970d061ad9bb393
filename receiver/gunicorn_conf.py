"""
gunicorn's settings for ``faxhook serve``, read from the configuration file; ``deploy/gunicorn.conf.py`` repeats them.

gunicorn reads this file again at SIGHUP, so ``bind`` and ``workers`` can be changed without a restart.
"""

import os
from typing import Any

from receiver import settings as _settings
from receiver.serving import die_with_parent, fresh_metrics_directory
from receiver.worker import Worker, request_begins

_server = _settings.load(None, os.environ).server

# Several workers count in files of one directory. `faxhook serve` has made it; gunicorn started by hand has not, and
# a reload must not empty it.
if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(fresh_metrics_directory(_server.state_dir))

bind = _server.bind
workers = _server.workers
worker_class = Worker  # gthread with a deadline for heads
threads = 16
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

pre_request = request_begins


def post_fork(server: Any, _worker: Any) -> None:
    """A worker left over by a killed master would hold the port."""
    die_with_parent(server.pid)


def child_exit(_server: Any, worker: Any) -> None:
    from receiver import metrics  # not before the fork: each worker opens files of its own

    metrics.mark_process_dead(worker.pid)
