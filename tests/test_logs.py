"""Nothing personal or secret reaches a log, whoever writes it: we, a library or gunicorn."""

import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import live
import pytest

from receiver import logs
from receiver.logs import log

CANARY = "CANARY4930123456789"

APPLICATION = f"""
import logging
import threading
import warnings

def app(environ, start_response):
    canary = environ["PATH_INFO"] + "{CANARY}"
    def fail():
        raise ValueError(canary)
    if environ["PATH_INFO"].startswith("/raise"):
        fail()
    if environ["PATH_INFO"].startswith("/late"):
        start_response("200 OK", [("Content-Length", "100")])
        def body():
            yield b"x"
            fail()
        return body()
    if environ["PATH_INFO"].startswith("/header"):
        start_response("200 OK", [("X-Bad", canary + "\\n")])
        return []
    if environ["PATH_INFO"].startswith("/others"):
        logging.getLogger("some.library").warning("published %s", canary)
        try:
            fail()
        except ValueError:
            logging.getLogger("some.library").exception(canary)
        warnings.warn(canary)
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.Server]:
    with live.gunicorn(tmp_path_factory.mktemp("logs"), APPLICATION) as running:
        yield running


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# --- our own --------------------------------------------------------------------------------------------------------


def test_an_event_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("stored", receipt="r1", size=812, duration_ms=1.5, outcome=None)
    (line,) = lines(capsys.readouterr().err)
    timestamp = line.pop("timestamp")
    assert timestamp.endswith("Z")
    assert len(timestamp) == len("2026-11-21T01:12:00.123Z")
    assert line == {
        "level": "info",
        "event": "stored",
        "receipt": "r1",
        "size": 812,
        "duration_ms": 1.5,
        "outcome": None,
    }


def test_keys_that_are_not_allowed_are_dropped_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    log.warning("stored", endpoint="acme", number=CANARY, body=CANARY, headers={"Authorization": CANARY})
    text = capsys.readouterr().err
    assert CANARY not in text
    (line,) = lines(text)
    assert (line["endpoint"], line["dropped"]) == ("acme", 3)


def test_an_exception_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        json.loads(f'{{"a": {CANARY}')
    except ValueError as error:
        log.error("undecodable", error=logs.error_class(error), where=logs.place(error.__traceback__))
    text = capsys.readouterr().err
    assert CANARY not in text
    (line,) = lines(text)
    assert line["error"] == "json.decoder.JSONDecodeError"
    assert line["where"].startswith("json/decoder.py:")


def test_a_value_of_an_unknown_kind_is_named_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("stored", receipt=UUID(int=1), error=ValueError(CANARY))
    text = capsys.readouterr().err
    assert CANARY not in text
    assert lines(text)[0]["error"] == "ValueError"


def test_a_line_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("stored", endpoint="a\r\nb\u2028\x1b[31m")
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert text.isascii()


def test_debug_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    log.log(logging.DEBUG, "detail", endpoint="acme")
    assert capsys.readouterr().err == ""


def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        log.info("stored", endpoint="acme")
        monkeypatch.undo()
        with pytest.raises(OSError):
            full.close()


@pytest.mark.parametrize(
    ("number", "shown"),
    [("+49 89 12504001710", "10"), ("(0)7", "07"), ("5", "5"), ("", None), (None, None), ("Unknown", None)],
)
def test_only_the_last_two_digits_of_a_number_are_shown(number: str | None, shown: str | None) -> None:
    assert logs.last_two(number) == shown


def test_an_error_is_named_by_its_class() -> None:
    assert logs.error_class(TimeoutError(CANARY)) == "TimeoutError"
    assert logs.error_class(json.JSONDecodeError(CANARY, CANARY, 0)) == "json.decoder.JSONDecodeError"
    assert logs.error_class(None) == "-"


# --- gunicorn and libraries -----------------------------------------------------------------------------------------

REQUESTS = {
    "an exception": (f"GET /raise/{CANARY}?q={CANARY} HTTP/1.1\r\nHost: x\r\nAuthorization: {CANARY}\r\n\r\n", 500),
    "a bad header of ours": (f"GET /header/{CANARY} HTTP/1.1\r\nHost: x\r\n\r\n", 500),
    "a bad request line": (f"{CANARY}\r\n\r\n", 400),
    "a bad method": (f"get{CANARY} / HTTP/1.1\r\n\r\n", 400),
    "a bad version": (f"GET / HTTP/{CANARY}\r\n\r\n", 400),
    "a bad header": (f"GET / HTTP/1.1\r\n{CANARY} : x\r\n\r\n", 400),
    "a bad header value": (f"GET / HTTP/1.1\r\nX: {CANARY}\x01\r\n\r\n", 400),
    "a bad length": (f"POST / HTTP/1.1\r\nContent-Length: {CANARY}\r\n\r\n", 400),
    "a bad coding": (f"POST / HTTP/1.1\r\nTransfer-Encoding: {CANARY}\r\n\r\n", 501),
    "a bad expectation": (f"POST / HTTP/1.1\r\nExpect: {CANARY}\r\n\r\n", 417),
    "a long path": (f"GET /{CANARY}{'x' * 9000} HTTP/1.1\r\n\r\n", 414),
    "a long header": (f"GET / HTTP/1.1\r\nX: {CANARY}{'x' * 9000}\r\n\r\n", 431),
    "other loggers": (f"GET /others/{CANARY} HTTP/1.1\r\nHost: x\r\n\r\n", 200),
}


@pytest.mark.parametrize(("request_", "status"), REQUESTS.values(), ids=REQUESTS)
def test_nothing_of_a_request_is_logged_or_answered(server: live.Server, request_: str, status: int) -> None:
    got, head, text = server.ask(request_.encode())
    assert got == status
    assert CANARY not in head + text.decode()
    if status >= 400:
        assert json.loads(text)["status"] == status
        assert "gunicorn/" not in head
    assert CANARY not in server.log.read_text()


def test_a_broken_answer_or_request_is_not_logged_either(server: live.Server) -> None:
    with server.connect() as sock:
        sock.sendall(f"GET /late/{CANARY} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        while sock.recv(1000):
            pass
    with server.connect() as sock:
        sock.sendall(f"POST /{CANARY} HTTP/1.1\r\nX: {CANARY}".encode())
    assert server.ask(b"GET / HTTP/1.1\r\n\r\n")[0] == 200
    assert CANARY not in server.log.read_text()


def test_gunicorn_logs_json_with_places_and_error_classes(server: live.Server) -> None:
    server.ask(b"GET /raise HTTP/1.1\r\n\r\n")
    server.ask(b"GET / HTTP/x\r\n\r\n")
    server.ask(b"GET /others HTTP/1.1\r\n\r\n")
    written = lines(server.log.read_text())
    events = [line["event"] for line in written]
    assert any(event.startswith("Booting worker") for event in events)
    assert {(line["status"], line["error"]) for line in written if line["event"] == "request_failed"} >= {
        (500, "ValueError")
    }
    assert {(line["status"], line["error"]) for line in written if line["event"] == "request_refused"} >= {
        (400, "gunicorn.http.errors.InvalidHTTPVersion")
    }
    assert {line["logger"] for line in written if line["event"] == "library"} >= {"some.library", "py.warnings"}
    assert "uncaught" in events


def test_every_key_that_is_allowed_is_one_that_somebody_writes() -> None:
    sources = "".join(path.read_text() for path in Path(logs.__file__).parent.rglob("*.py"))
    unused = {name for name in logs.ALLOWED if not re.search(rf'\b{name}=|"{name}": ', sources)}
    assert unused == set()
