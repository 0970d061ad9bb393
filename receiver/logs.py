"""
Logs: one JSON line per event on stderr, with an allow list of keys.

Fax numbers, names, references, tokens and whole bodies pass through this program, and exceptions of parsers hold them.
So nothing is logged that is not named here: other keys are dropped (and counted in ``dropped``), exceptions are
reduced to their class and place, and libraries' own messages, which may quote anything, to logger and place.
Event names are literals; never put a value into one.
"""

import json
import logging
import os
import re
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from receiver.system.stderr import Stderr

stderr = Stderr()

ALLOWED = frozenset(
    {
        # what the line is about
        *("receipt", "event_id", "event_type", "endpoint", "provider", "outcome", "state", "reason", "status", "code"),
        *("revision", "type", "field", "via", "audience", "report", "sink"),
        "client",  # its address, of a request that was refused
        # how much and how long
        "trace",  # its id, of 32 hexadecimal digits
        *("size", "count", "attempts", "events", "receipts", "recipients", "dead", "backlog", "filled", "requests"),
        *("duration_ms", "duration_seconds", "delay_seconds", "age_seconds", "ahead_seconds"),
        # what went wrong, and where in the code
        *("error", "where", "logger", "cause"),  # cause: a sentence made of our own words, hosts and names
        # this program and what it runs on
        *("pid", "process", "exit_code", "signal", "version", "workers", "bind", "transport", "guarantee", "schema"),
        *("store", "journal_mode", "synchronous"),
        *("appendonly", "appendfsync", "eviction"),  # of Redis
    }
)


_encode = json.JSONEncoder(separators=(",", ":"), default=lambda value: type(value).__name__).encode


class _Log:
    """
    Writes the lines: the event's name, and what is known of it by keys.

    least: the level below which nothing is written; higher where a command shows people the same in its own way.
    """

    least: int = logging.INFO

    def log(self, level: int, event: str, /, **known: object) -> None:
        if level >= self.least:
            stderr.write(_line(logging.getLevelName(level).lower(), event, known))

    def info(self, event: str, /, **known: object) -> None:
        self.log(logging.INFO, event, **known)

    def warning(self, event: str, /, **known: object) -> None:
        self.log(logging.WARNING, event, **known)

    def error(self, event: str, /, **known: object) -> None:
        self.log(logging.ERROR, event, **known)

    def critical(self, event: str, /, **known: object) -> None:
        self.log(logging.CRITICAL, event, **known)


log = _Log()


def _line(level: str, event: str, known: dict[str, object]) -> str:
    """Timestamp, level, event and the allowed keys as JSON."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line: dict[str, object] = {"timestamp": f"{now[:-6]}Z", "level": level, "event": event}
    for key in known:
        if key in ALLOWED:
            line[key] = known[key]
    if dropped := len(known) + 3 - len(line):
        line["dropped"] = dropped
    return _encode(line)


def last_two(number: str | None) -> str | None:
    """The last two digits of a fax number, all of it that may be logged; None without digits."""
    digits = re.sub(r"[^0-9]", "", number or "")
    return digits[-2:] or None


def error_class(error: BaseException | None) -> str:
    """``TimeoutError``, ``sqlalchemy.exc.OperationalError``: never the message, which may quote the request."""
    if error is None:
        return "-"
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def place(traceback: TracebackType | None) -> str:
    """``store/writer.py:120``, where the exception was raised; "-" when it never was."""
    if traceback is None:
        return "-"
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return _short(traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)


def _short(path: str, line: int) -> str:
    return f"{'/'.join(path.split(os.sep)[-2:])}:{line}"


# --- what others log ------------------------------------------------------------------------------------------------


class _Reduced(logging.Handler):
    """Libraries' warnings and errors by logger and place; their words stay out."""

    def emit(self, record: logging.LogRecord) -> None:
        known: dict[str, str] = {"logger": record.name, "where": _short(record.pathname, record.lineno)}
        if record.exc_info and record.exc_info[1] is not None:
            known["error"] = error_class(record.exc_info[1])
        log.log(record.levelno // 10 * 10, "library", **known)


def install() -> None:
    """Take over this process' other ways to stderr: stdlib logging, warnings and uncaught exceptions."""
    logging.root.handlers[:] = [_Reduced(logging.WARNING)]
    logging.captureWarnings(True)
    sys.excepthook = lambda _kind, error, trace: _uncaught(error, trace)
    threading.excepthook = lambda args: _uncaught(args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _uncaught(args.exc_value, args.exc_traceback)


def _uncaught(error: BaseException | None, trace: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        return
    log.critical("uncaught", error=error_class(error), where=place(trace), process=os.getpid())


class GunicornLogger:
    """
    gunicorn's ``logger_class``. Of its messages only those about processes and listeners are printed as they are.

    All others may hold a path, query, header or piece of a body (``Error handling request %s %s``, ``Invalid request
    from ip=…``, ``Ignored premature client disconnection. …``) and are reduced to place and error class. No access log
    whatever GUNICORN_CMD_ARGS says: the application counts its requests. Debug messages are dropped.
    """

    access_log_enabled = False

    _HARMLESS = frozenset(
        {
            "Starting gunicorn %s",
            "Listening at: %s (%s)",
            "Listening at: %s",
            "Using worker: %s",
            "Booting worker with pid: %s",
            "Worker exiting (pid: %s)",
            "Worker (pid:%s) was sent %s!",
            "Worker (pid:%s) was sent %s! Perhaps out of memory?",
            "Worker (pid:%s) exited with code %s.",
            "WORKER TIMEOUT (pid:%s)",
            "Handling signal: %s",
            "Hang up: %s",
            "Quick shutdown requested",
            "Shutting down: %s",
            "Reason: %s",
            "Parent changed, shutting down: %s",
            "Connection in use: %s",
            "Invalid address: %s",
            "Can't connect to %s",
        }
    )

    def __init__(self, cfg: Any) -> None:
        self.setup(cfg)

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        stderr.never_wait()
        install()

    def critical(self, msg: str, *args: object, **_: object) -> None:
        self._say(logging.CRITICAL, msg, args)

    def error(self, msg: str, *args: object, **_: object) -> None:
        self._say(logging.ERROR, msg, args)

    def exception(self, msg: str, *args: object, **_: object) -> None:
        self._say(logging.ERROR, msg, args)

    def warning(self, msg: str, *args: object, **_: object) -> None:
        self._say(logging.WARNING, msg, args)

    def info(self, msg: str, *args: object, **_: object) -> None:
        self._say(logging.INFO, msg, args)

    def log(self, lvl: int | str, msg: str, *args: object, **_: object) -> None:
        level = lvl if isinstance(lvl, int) else logging.getLevelNamesMapping().get(lvl.upper(), logging.INFO)
        self._say(level, msg, args)

    def debug(self, msg: str, *args: object, **_: object) -> None:
        """Holds each request's path."""

    def access(self, *_: object) -> None:
        """Holds path, query and headers."""

    def reopen_files(self) -> None:
        """stderr is not ours to open."""

    def close_on_exec(self) -> None:
        """stderr stays open."""

    def _say(self, level: int, template: str, args: tuple[object, ...]) -> None:
        if template in self._HARMLESS:
            log.log(level, template % args if args else template)
            return
        caller = sys._getframe(2)
        known = {"logger": "gunicorn", "where": _short(caller.f_code.co_filename, caller.f_lineno)}
        error = sys.exc_info()[1]
        if error is not None:
            known["error"] = f"{error_class(error)} at {place(error.__traceback__)}"
        log.log(level, "library", **known)
