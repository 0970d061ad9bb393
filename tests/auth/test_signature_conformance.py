"""Signed callbacks over real HTTP, on two workers; row 116 of the list of conformance, case by case."""

import base64
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from asked import Served, Told, fax, faxage, serving

from receiver.auth import Request
from receiver.auth import signature as module
from receiver.auth.signature import Signature
from receiver.settings import Signature as Options

OLD, NEW, FOREIGN = (f"whsec_{base64.b64encode(word * 8).decode()}" for word in (b"old!", b"new+", b"who?"))
KEY, NEXT_KEY = "a-key-of-the-variant", "größe-of-the-next-key"
RETARUS = Path(__file__).parents[1] / "fixtures" / "retarus"

ENDPOINTS = (
    faxage("standard", f'{{ mode = "hmac", secrets = ["{OLD}", "{NEW}"] }}')
    + faxage("narrow", f'{{ mode = "hmac", secrets = ["{NEW}"], tolerance = "30s" }}')
    + faxage("hex", f'{{ mode = "hmac", secrets = ["{KEY}", "{NEXT_KEY}"], header = "X-Fax-Signature" }}')
    + faxage(
        "timed",
        f'{{ mode = "hmac", secrets = ["{KEY}"], header = "X-Fax-Signature", encoding = "base64", prefix = "sha256=",'
        ' timestamp_header = "X-Fax-Time", tolerance = "1m" }',
    )
    + f"""
[endpoints.retarus]
provider = "retarus"
account = "99999TE"
auth = {{ mode = "hmac", secrets = ["{NEW}"] }}

[endpoints.openfax]
provider = "openfax"
auth = {{ mode = "hmac", secrets = ["{NEW}"] }}
"""
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signature")
    with serving(folder, f"sqlite:///{folder}/faxhook.db", ENDPOINTS) as started:
        yield started


def is_refused(told: Told, status: int = 401) -> None:
    assert told.status == status, told.body
    assert told.challenges == []
    assert json.loads(told.body)["status"] == status
    assert told.all("Cache-Control") == ["no-store"]
    assert told.stays


def signature(body: bytes, *secrets: str, identifier: str = "msg_1", timestamp: str | None = None) -> str:
    text = f"{identifier}.{timestamp or int(time.time())}.".encode("latin-1") + body
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets]
    return " ".join("v1," + base64.b64encode(hmac.digest(key, text, "sha256")).decode() for key in keys)


def signed(
    body: bytes, *secrets: str, identifier: str = "msg_1", age: float = 0, **replaced: str | None
) -> list[tuple[str, str]]:
    """The three headers; replaced: others in their place, or none."""
    timestamp = str(int(time.time() - age))
    headers: dict[str, str | None] = {
        "id": identifier,
        "timestamp": timestamp,
        "signature": signature(body, *secrets, identifier=identifier, timestamp=timestamp),
    }
    return [(f"webhook-{name}", value) for name, value in (headers | replaced).items() if value is not None]


# --- Standard Webhooks ----------------------------------------------------------------------------------------------


SIGNERS = {"old": [OLD], "new": [NEW], "second": [FOREIGN, NEW], "both": [OLD, NEW], "third": [FOREIGN, FOREIGN, OLD]}


@pytest.mark.parametrize("secrets", SIGNERS.values(), ids=SIGNERS.keys())
def test_row_116_a_signature_of_one_of_the_secrets_gets_in(server: Served, secrets):
    body = fax()
    assert server.post("/callbacks/standard", *signed(body, *secrets), body=body).status == 200


def test_row_116_other_versions_beside_it_are_passed_over(server: Served):
    body = fax()
    right = signature(body, NEW)
    for text in (f"v1a,{right[3:]} {right}", f"{right} v1a,{'A' * 86}==", f"v2,x  {right} v1"):
        assert server.post("/callbacks/standard", *signed(body, NEW, signature=text), body=body).status == 200


@pytest.mark.parametrize("age", [-290, 290])
def test_row_116_times_within_the_tolerance_are_right(server: Served, age):
    body = fax()
    assert server.post("/callbacks/standard", *signed(body, NEW, age=age), body=body).status == 200


def test_row_116_the_same_message_sent_again_is_a_duplicate_and_no_error(server: Served):
    body = fax()
    headers = signed(body, NEW, identifier="msg_again")
    answers = [json.loads(server.post("/callbacks/standard", *headers, body=body).body) for _ in range(6)]
    assert [one["status"] for one in answers] == ["accepted"] + ["duplicate"] * 5
    assert len({tuple(one["events"]) for one in answers}) == 1
    # As a sender repeats it later: the same id, signed anew.
    later = server.post("/callbacks/standard", *signed(body, NEW, identifier="msg_again", age=-5), body=body)
    assert json.loads(later.body)["status"] == "duplicate"


def test_row_116_a_body_that_is_not_utf_8_is_signed_as_it_is(server: Served):
    text = (RETARUS / "01_success.xml").read_text("utf-8")
    raw = b'<?xml version="1.0" encoding="ISO-8859-1"?><!-- gr\xf6\xdfe -->' + text.partition("?>")[2].strip().encode()
    told = server.post("/callbacks/retarus", *signed(raw, NEW), ("Content-Type", "text/xml"), body=raw)
    assert told.status == 200, told.body
    noise = b"%PDF-\xff\xfe\x00\x80"
    assert server.post("/callbacks/retarus", *signed(noise, NEW), body=noise).status == 415  # past the gate


def test_row_116_an_id_of_any_bytes_is_signed_as_it_is(server: Served):
    body = fax()
    headers = signed(body, NEW, identifier="größe.1 x")
    assert server.post("/callbacks/standard", *headers, body=body).status == 200


def at(body: bytes, timestamp: str) -> list[tuple[str, str]]:
    """Rightly signed, whatever the time."""
    return signed(body, NEW, timestamp=timestamp, signature=signature(body, NEW, timestamp=timestamp))


WRONG = {
    "none at all": lambda body: [],
    "no id": lambda body: signed(body, NEW, id=None),
    "no timestamp": lambda body: signed(body, NEW, timestamp=None),
    "no signature": lambda body: signed(body, NEW, signature=None),
    "empty signature": lambda body: signed(body, NEW, signature=""),
    "empty id": lambda body: signed(body, NEW, identifier=""),
    "another secret": lambda body: signed(body, FOREIGN),
    "v1a only": lambda body: signed(body, NEW, signature="v1a" + signature(body, NEW)[2:]),
    "no version": lambda body: signed(body, NEW, signature=signature(body, NEW)[3:]),
    "no comma": lambda body: signed(body, NEW, signature=signature(body, NEW).replace(",", "")),
    "version in capitals": lambda body: signed(body, NEW, signature=signature(body, NEW).replace("v1", "V1")),
    "not ASCII": lambda body: signed(body, NEW, signature="v1,größe"),
    "cut off": lambda body: signed(body, NEW, signature=signature(body, NEW)[:-1]),
    "of nothing": lambda body: signed(body, NEW, signature="v1,"),
    "hexadecimal": lambda body: signed(body, NEW, signature="v1," + base64.b64decode(signature(body, NEW)[3:]).hex()),
    "of the text of the secret": lambda body: signed(body, "whsec_" + base64.b64encode(NEW.encode()).decode()),
    "another id": lambda body: signed(body, NEW, id="msg_2"),
    "another timestamp": lambda body: signed(body, NEW, timestamp=str(int(time.time()) - 9)),
    "joined by a comma": lambda body: signed(body, NEW, signature=f"{signature(body, FOREIGN)},{signature(body, NEW)}"),
    "6 minutes old": lambda body: signed(body, NEW, age=360),
    "6 minutes ahead": lambda body: signed(body, NEW, age=-360),
    "time NaN": lambda body: at(body, "NaN"),
    "time inf": lambda body: at(body, "inf"),
    "time before 1970": lambda body: at(body, "-1"),
    "time in exponents": lambda body: at(body, "1e9"),
    "time in hexadecimal": lambda body: at(body, hex(int(time.time()))),
    "time with a point": lambda body: at(body, f"{time.time():.1f}"),
    "time in milliseconds": lambda body: at(body, str(int(time.time() * 1000))),
    "time of 400 digits": lambda body: at(body, "9" * 400),
}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG.keys())
def test_row_116_anything_else_is_401(server: Served, headers):
    body = fax()
    is_refused(server.post("/callbacks/standard", *headers(body), body=body))


def test_row_116_a_body_changed_by_one_byte_is_401(server: Served):
    body = fax()
    headers = signed(body, NEW)
    for changed in (body + b"\n", body[:-1], body.replace(b"success", b"failure"), b""):
        is_refused(server.post("/callbacks/standard", *headers, body=changed))
    is_refused(server.post("/callbacks/standard", ("webhook-signature", "v1,x"), *headers, body=body))


def test_the_tolerance_can_be_set(server: Served):
    body = fax()
    assert server.post("/callbacks/narrow", *signed(body, NEW, age=20), body=body).status == 200
    for age in (-40, 40):
        is_refused(server.post("/callbacks/narrow", *signed(body, NEW, age=age), body=body))


def test_a_query_is_refused_since_nothing_signs_it(server: Served):
    query = "OutTransID=1&AccountID=1&LastStatus=0"
    is_refused(server.post(f"/callbacks/openfax?{query}", *signed(b"", NEW), body=b""))
    is_refused(server.post(f"/callbacks/openfax?{query}", *signed(b"", NEW), body=b"", method="GET"))
    body = query.encode()
    assert server.post("/callbacks/openfax", *signed(body, NEW), body=body).status == 200


# --- the variant that is described ----------------------------------------------------------------------------------


def mac(body: bytes, key: str = KEY) -> bytes:
    return hmac.digest(key.encode(), body, sha256)


def test_a_hexadecimal_signature_in_a_header_of_the_senders_own(server: Served):
    for key in (KEY, NEXT_KEY):
        for written in (str.lower, str.upper):
            body = fax()
            headers = [("X-Fax-Signature", written(mac(body, key).hex()))]
            assert server.post("/callbacks/hex", *headers, body=body).status == 200
    body = fax()
    for text in ("", "sha256=" + mac(body).hex(), mac(body).hex()[:-1], base64.b64encode(mac(body)).decode(), "größe"):
        is_refused(server.post("/callbacks/hex", ("X-Fax-Signature", text), body=body))
    is_refused(server.post("/callbacks/hex", ("X-Fax-Signature", mac(body, "another-key").hex()), body=body))
    is_refused(server.post("/callbacks/hex", ("X-Fax-Signature", mac(body).hex()), body=body + b"&x=1"))
    is_refused(server.post("/callbacks/hex", *signed(body, NEW), body=body))


def timed(body: bytes, age: float = 0, time_: str | None = None, prefix: str = "sha256=") -> list[tuple[str, str]]:
    at = time_ or str(int(time.time() - age))
    text = base64.b64encode(mac(f"{at}.".encode() + body)).decode()
    return [("X-Fax-Time", at), ("X-Fax-Signature", prefix + text)]


def test_a_time_before_the_body_is_signed_with_it(server: Served):
    body = fax()
    for age in (0, 50, -50):
        assert server.post("/callbacks/timed", *timed(body, age), body=body).status == 200
    for headers in (timed(body, 70), timed(body, -70), timed(body, time_="NaN"), timed(body, prefix="")):
        is_refused(server.post("/callbacks/timed", *headers, body=body))
    is_refused(server.post("/callbacks/timed", *timed(body, prefix="SHA256="), body=body))
    is_refused(server.post("/callbacks/timed", timed(body)[1], body=body))
    without = [("X-Fax-Time", str(int(time.time()))), ("X-Fax-Signature", base64.b64encode(mac(body)).decode())]
    is_refused(server.post("/callbacks/timed", *without, body=body))


def test_what_its_provider_cannot_do_is_said_at_start_and_works(server: Served):
    log = server.log.read_text()
    for warning in ("endpoints.standard.auth.mode: ", "endpoints.hex: auth.timestamp_header: "):
        assert f"faxhook: warning: {warning}" in log


# --- without a server -----------------------------------------------------------------------------------------------


def test_the_example_of_the_standards_own_documents():
    """The vector that the reference libraries of Standard Webhooks test themselves with."""
    options = Options("hmac", "", (), ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",), None, "hex", "", None, timedelta(1))
    verifier = Signature(options, clock=lambda: datetime.fromtimestamp(1614265330, UTC))
    environ = {
        "HTTP_WEBHOOK_ID": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "HTTP_WEBHOOK_TIMESTAMP": "1614265330",
        "HTTP_WEBHOOK_SIGNATURE": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    verifier.verify(Request(environ, b'{"test": 2432232314}'))


def test_every_secret_is_compared_with_every_signature_as_bytes(monkeypatch):
    compared = []
    genuine = hmac.compare_digest
    monkeypatch.setattr(module.hmac, "compare_digest", lambda *both: compared.append(both) or genuine(*both))
    options = Options("hmac", "", (), (OLD, NEW), None, "hex", "", None, timedelta(minutes=5))
    for secrets in ([OLD, FOREIGN], [FOREIGN, NEW]):
        compared.clear()
        headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in signed(b"x", *secrets)}
        Signature(options).verify(Request(headers, b"x"))
        assert len(compared) == 4
        assert all(type(one) is bytes for both in compared for one in both)
