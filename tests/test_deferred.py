"""The answer to a callback as WSGI sees it: settled when its commit has happened, by the server or by waiting."""

import io
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from house import FORM, TOKEN
from stock import Stock

from receiver.web.app import create_app
from receiver.web.deferring import DEFER


def environ(body: bytes, method: str = "POST") -> dict[str, Any]:
    made: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "QUERY_STRING": "",
        "SCRIPT_NAME": "",
        "PATH_INFO": f"/callbacks/openfax/{TOKEN}",
        "CONTENT_TYPE": FORM,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    setup_testing_defaults(made)
    return made


class Answered:
    def __init__(self) -> None:
        self.status = ""

    def __call__(self, status: str, _headers: Any, _exc_info: Any = None) -> Any:
        self.status = status
        return lambda _: None


@pytest.mark.parametrize(
    ("body", "method", "status"),
    [
        (b"OutTransID=1&AccountID=1&LastStatus=0", "POST", "200"),
        (b"AccountID=1", "POST", "422"),
        (b"", "POST", "400"),
        (b"", "HEAD", "200"),
        (b"", "PUT", "405"),
    ],
)
def test_to_any_other_server_it_is_an_ordinary_response(filled: Stock, body: bytes, method: str, status: str) -> None:
    answered = Answered()
    answer = validator(create_app(filled.runtime))(environ(body, method), answered)
    try:
        list(answer)
    finally:
        answer.close()  # type: ignore[attr-defined]
    assert answered.status.startswith(status)
    kept = method == "POST"  # also what is refused once its sender is known
    assert len(filled.receipts()) == kept


def test_to_a_server_that_defers_nothing_is_answered_before_the_commit(filled: Stock) -> None:
    deferred, answered, app = [], Answered(), create_app(filled.runtime)
    for number in range(3):
        asked = environ(b"OutTransID=%d&AccountID=1&LastStatus=0" % number)
        asked[DEFER] = lambda _writer, ticket, settled: deferred.append((ticket, settled)) or ()
        assert list(app(asked, answered)) == []
    assert answered.status == ""
    assert filled.events() == []
    assert not any(ticket.is_done for ticket, _ in deferred)
    assert filled.runtime.writer.commit_at_once()
    assert len(filled.events()) == 3
    assert [settled().status_code for _, settled in deferred] == [200, 200, 200]


def test_who_has_waited_long_enough_is_answered_503_whatever_becomes_of_it(filled: Stock) -> None:
    deferred: list[Any] = []
    asked = environ(b"OutTransID=1&AccountID=1&LastStatus=0")
    asked[DEFER] = lambda _writer, ticket, settled: deferred.append((ticket, settled)) or ()
    list(create_app(filled.runtime)(asked, Answered()))
    ((ticket, settled),) = deferred
    filled.runtime.writer.give_up(ticket)
    answer = settled()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
