"""
For ``gunicorn -c deploy/gunicorn.conf.py receiver.wsgi:app`` where something else supervises the processes.

`faxhook serve` uses the same settings without this file. Run `faxhook relay` beside it, and FAXHOOK_CONFIG must be set.
Change a setting by assigning it below the import. At SIGHUP new workers take the configuration as it is then; the
address, the number of workers and `keep_alive` change at a restart.
"""

from receiver.web.gunicorn_conf import (
    accesslog,
    bind,
    child_exit,
    control_socket_disable,
    errorlog,
    forwarded_allow_ips,
    forwarder_headers,
    graceful_timeout,
    http_parser,
    keepalive,
    limit_request_field_size,
    limit_request_fields,
    limit_request_line,
    logger_class,
    on_reload,
    post_fork,
    post_worker_init,
    preload_app,
    proc_name,
    secure_scheme_headers,
    threads,
    timeout,
    worker_class,
    worker_connections,
    worker_tmp_dir,
    workers,
)

__all__ = [
    "accesslog",
    "bind",
    "child_exit",
    "control_socket_disable",
    "errorlog",
    "forwarded_allow_ips",
    "forwarder_headers",
    "graceful_timeout",
    "http_parser",
    "keepalive",
    "limit_request_field_size",
    "limit_request_fields",
    "limit_request_line",
    "logger_class",
    "on_reload",
    "post_fork",
    "post_worker_init",
    "preload_app",
    "proc_name",
    "secure_scheme_headers",
    "threads",
    "timeout",
    "worker_class",
    "worker_connections",
    "worker_tmp_dir",
    "workers",
]
