"""W3C Trace Context: the trace of a callback is in its log line, its event and what goes out."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from house import FORM, TOKEN
from hypothesis import given
from hypothesis import strategies as st
from stock import Stock, stock

from receiver import tracing
from receiver.outgoing.contract import Message
from receiver.outgoing.formats import packed
from receiver.tracing import Trace
from receiver.web.app import create_app
from schemas.envelope import traceparent_of

ID = "0af7651916cd43dd8448eb211c80319c"
GIVEN = f"00-{ID}-b7ad6b7169203331-01"
ANY = st.text() | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (GIVEN, Trace(ID, True)),
        (GIVEN[:-1] + "0", Trace(ID, False)),
        (GIVEN[:-2] + "03", Trace(ID, True)),
        (f" {GIVEN} ", Trace(ID, True)),
        ("cc" + GIVEN[2:] + "-what-the-future-brings", Trace(ID, True)),
        (None, None),
        ("", None),
        (GIVEN + "-00", None),
        (GIVEN + ".", None),
        ("cc" + GIVEN[2:] + ".", None),
        ("ff" + GIVEN[2:], None),
        (GIVEN.upper(), None),
        (GIVEN.replace(ID, "0" * 32), None),
        (GIVEN.replace("b7ad6b7169203331", "0" * 16), None),
        (GIVEN[:-1], None),
        (GIVEN.replace("-", ""), None),
        ("cc" + GIVEN[2:] + "-" + "x" * 1000, None),
        ("+12085550139", None),
        ("٠٠" + GIVEN[2:], None),
    ],
)
def test_a_header_names_a_trace_or_is_as_good_as_absent(header: str | None, trace: Trace | None) -> None:
    assert tracing.read(header) == trace


@given(ANY)
def test_nothing_but_hexadecimal_digits_comes_of_a_header(header: str) -> None:
    trace = tracing.read(header)
    assert trace is None or re.fullmatch("[0-9a-f]{32}", trace.id)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Stock]:
    with stock(tmp_path, f"sqlite:///{tmp_path / 'faxhook.db'}") as made:
        yield made


def call(one: Stock, body: bytes, **headers: str) -> dict[str, Any]:
    """The answer to a callback with these headers."""
    client = create_app(one.runtime).test_client()
    answer = client.post(f"/callbacks/openfax/{TOKEN}", data=body, content_type=FORM, headers=headers)
    found: dict[str, Any] = answer.get_json()
    return found


@pytest.mark.parametrize("header", [GIVEN, None, "00-12085550139"])
def test_event_log_line_and_headers_are_of_one_trace(
    one: Stock, header: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    headers = {"traceparent": header} if header else {}
    receipt = call(one, b"OutTransID=1&AccountID=123456789&LastStatus=0", **headers)["receipt"]
    bare = receipt.replace("-", "")
    trace = ID if header == GIVEN else bare
    (body,) = one.payloads().values()
    event = json.loads(body)
    assert event["traceparent"] == f"00-{trace}-{bare[16:]}-0{int(header == GIVEN)}"
    assert f'"trace":"{trace}"' in capsys.readouterr().err
    assert traceparent_of(body) == event["traceparent"]
    for form in ("structured", "binary", "thin"):
        assert packed(Message(event["id"], event["subject"], "", body), form).headers == {
            "traceparent": event["traceparent"]
        }

    call(one, b"OutTransID=1&AccountID=123456789&LastStatus=0", traceparent=GIVEN.replace("0af7", "1af7"))
    assert one.payloads() == {event["id"]: body}, "who says it again in another trace says nothing new"


def test_a_refused_callback_is_found_by_its_trace_too(one: Stock, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(one, b"AccountID=123456789", traceparent=GIVEN)["code"] == "unprocessable"
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "callback_refused" in line]
    assert json.loads(line)["trace"] == ID


def test_what_a_provider_writes_is_not_taken_for_a_trace(one: Stock) -> None:
    quoted = json.dumps({"traceparent": GIVEN})
    one.fax(1, From=quoted)
    (body,) = one.payloads().values()
    assert traceparent_of(body) == json.loads(body)["traceparent"] != GIVEN
    assert traceparent_of(b'{"data":{"x":"\\"traceparent\\":"}}') is None
