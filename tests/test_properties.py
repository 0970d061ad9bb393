"""What must hold for whole callbacks, over a real socket: identity, order, answers, and what is never told."""

import base64
import gzip
import itertools
import json
import random
from pathlib import Path
from urllib.parse import urlencode

import pytest
from house import CONFIGURATION, EFAX_PASSWORD, EFAX_USER, FORM, TOKEN, house

from receiver import intake, stations
from receiver.store.trouble import StoreUnavailable
from receiver.store.writer import Writer

FIXTURES = Path(__file__).parent / "fixtures"
OTHER_TOKEN = "aX2mFfN0Q2v6c4Yw8bJ1kZ5tR7sD9gH3"

MORE = (
    CONFIGURATION
    + f"""
[endpoints.own]
provider = "openfax"
account = "123456789"
auth = {{{{ mode = "none" }}}}
tokens = ["{TOKEN}"]

[endpoints.quiet]
provider = "retarus"
account = "99999TE"
auth = {{{{ mode = "none" }}}}
tokens = ["{TOKEN}"]
answer = 204

[endpoints.later]
provider = "retarus"
account = "99999TE"
auth = {{{{ mode = "none" }}}}
tokens = ["{TOKEN}"]
answer = 202

[endpoints.guarded]
provider = "retarus"
account = "99999TE"
auth = {{{{ mode = "basic", realm = "fax", credentials = [{{{{ user = "me", password = "größe" }}}}] }}}}

[endpoints.listed]
provider = "retarus"
account = "99999TE"
auth = {{{{ mode = "none" }}}}
tokens = ["{TOKEN}"]
allow = ["203.0.113.0/24"]
"""
)


@pytest.fixture
def server(tmp_path, sqlite_url):
    with house(tmp_path, sqlite_url, MORE) as served:
        yield served


def faxage(status="success", completed="2026-06-14 15:19:13", **changes):
    fields = {"jobid": "115893796", "destnum": "(208)555-0139", "shortstatus": status, "longstatus": "Busy"}
    return urlencode({**fields, "completetime": completed, **changes})


def recipient(number="+498912504001710", **changes):
    return {"number": number, "status": "OK", "sentTS": "2026-06-08T15:38:08Z", "durationInSecs": 26, **changes}


def push(*recipients, **changes):
    return json.dumps({"jobId": "J1", "faxRecipients": list(recipients), "pages": 1, **changes})


def openfax(**changes):
    return urlencode({"OutTransID": "779029", "AccountID": "123456789", "LastStatus": "0", **changes})


def subjects(server):
    return [event["subject"] for event in server.events()]


def said(server):
    """Type, outcome, revision and conflict of each event."""
    return [
        (event["type"], event["data"]["outcome"], event["data"]["revision"], event["data"]["conflict"])
        for event in server.events()
    ]


# --- identity -------------------------------------------------------------------------------------------------------


def test_a_push_is_the_same_in_xml_and_in_json(tmp_path):
    found = []
    for name in ("01_success.xml", "40_success.json"):
        with house(tmp_path / name, f"sqlite:///{tmp_path / name}.db") as server:
            server.post("retarus", (FIXTURES / "retarus" / name).read_bytes())
            (event,) = server.events()
        event["data"].pop("observed_at")
        event.pop("traceparent")
        found.append(event)
    assert found[0] == found[1]


def test_a_push_in_the_other_form_is_a_duplicate(server):
    assert server.post("retarus", (FIXTURES / "retarus/01_success.xml").read_bytes()).json["status"] == "accepted"
    assert server.post("retarus", (FIXTURES / "retarus/40_success.json").read_bytes()).json["status"] == "duplicate"


def test_the_order_of_recipients_and_the_form_of_numbers_do_not_matter(server):
    numbers = [f"+4989125040{index:05d}" for index in range(40)] + ["+498912504000000"] * 3
    rows = [recipient(number, durationInSecs=index) for index, number in enumerate(numbers)]
    first = server.post("retarus", push(*rows))
    ids = set(subjects(server))
    assert first.json["status"] == "accepted"
    assert len(ids) == 43
    shuffled = rows.copy()
    random.Random(1).shuffle(shuffled)
    for form in (str, "00{}".format, "011{}".format, "+{} ".format):
        digits = [{**row, "number": form(row["number"].removeprefix("+"))} for row in shuffled]
        again = server.post("retarus", push(*digits))
        assert again.status == 200
        assert set(subjects(server)) == ids
    written = [{**row, "number": f"+{row['number'][1:3]} (0) {row['number'][3:5]}/{row['number'][5:]}"} for row in rows]
    assert server.post("retarus", push(*written)).json["status"] == "duplicate"
    assert set(subjects(server)) == ids


@pytest.mark.parametrize("count", [1, 2000])
def test_any_number_of_recipients(server, count):
    body = push(*[recipient(f"+4989{index:06d}") for index in range(count)])
    first, again = server.post("retarus", body), server.post("retarus", body)
    assert (first.json["status"], again.json["status"]) == ("accepted", "duplicate")
    assert first.json["events"] == again.json["events"] == [event["id"] for event in server.events()]
    assert len(set(subjects(server))) == count


def test_one_bad_recipient_of_500_does_not_stop_the_others(server):
    rows = [recipient(f"+4989{index:06d}") for index in range(500)]
    del rows[321]["status"]
    first, again = server.post("retarus", push(*rows)), server.post("retarus", push(*rows))
    assert (first.status, first.json["status"]) == (200, "partial")
    assert first.json["events"] == again.json["events"]
    assert len(first.json["events"]) == len(server.events()) == 499
    assert server.receipts() == [("partial", None)] * 2


def test_two_endpoints_of_one_account_are_the_same_faxes(server):
    assert server.post("retarus", push(recipient())).json["status"] == "accepted"
    assert server.post("later", push(recipient())).json["status"] == "duplicate"


# --- order ----------------------------------------------------------------------------------------------------------


def test_a_resent_fax_is_amended_and_its_first_result_stays_a_duplicate(server):
    failed = faxage("failure", "2026-06-14 15:19:13")
    delivered = faxage("success", "2026-06-14 15:40:00")
    first, second = server.post("faxage", failed), server.post("faxage", delivered)
    assert (first.json["status"], second.json["status"]) == ("accepted", "accepted")
    completed, amended = server.events()
    assert said(server) == [("fax.completed.v1", "failed", 1, False), ("fax.amended.v1", "delivered", 2, True)]
    assert completed["data"]["failure"]["reason"] == "unknown"  # whatever longstatus says
    assert amended["subject"] == completed["subject"]
    assert amended["data"]["supersedes"] == completed["id"]
    assert "outcome" in amended["data"]["changed"]
    for body in (failed, delivered, failed):
        again = server.post("faxage", body)
        assert (again.json["status"], again.json["events"]) == ("duplicate", [amended["id"]])
    assert len(server.events()) == 2


ANNOUNCED = {
    "pending": faxage("pending", "0000-00-00 00:00:00"),
    "failed": faxage("failure", "2026-06-14 15:19:13"),
    "delivered": faxage("success", "2026-06-14 15:40:00"),
}


@pytest.mark.parametrize("order", list(itertools.permutations(ANNOUNCED)), ids="-".join)
def test_every_order_of_results_has_its_sequence(tmp_path, store_url, order):
    with house(tmp_path, store_url) as server:
        states = {name: server.post("faxage", ANNOUNCED[name]).json["status"] for name in order}
        first = next(name for name in order if name != "pending")
        assert states == {"pending": "ignored", "failed": "accepted", "delivered": "accepted"}
        # The later time holds, whichever came first; that they contradict is told either way.
        assert said(server) == [("fax.completed.v1", first, 1, False), ("fax.amended.v1", "delivered", 2, True)]
        latest = server.events()[-1]["data"]
        assert (latest["failure"], latest["completed_at"]) == (None, "2026-06-14T21:40:00Z")


# --- the URL --------------------------------------------------------------------------------------------------------


def test_the_reference_in_the_url_goes_where_the_payload_has_none(server):
    server.post("faxage", faxage(), reference="order-4711_~.")
    server.post("retarus", push(recipient(), options={"jobReference": "own"}), reference="other")
    server.post("retarus", push(recipient(), jobId="J2"), reference="other")
    assert [event["data"]["reference"]["id"] for event in server.events()] == ["order-4711_~.", "own", "other"]


@pytest.mark.parametrize("reference", ["x" * 129, "a%20b", "a/b", ""])
def test_another_reference_is_another_path(server, reference):
    assert server.ask("POST", f"/callbacks/faxage/{TOKEN}/r/{reference}", b"x").status == 404


def test_another_account_than_the_endpoints_is_refused(server):
    reply = server.post("own", openfax(AccountID="987654321"))
    assert (reply.status, reply.json["code"]) == (422, "account_mismatch")
    assert list(reply.json["fields"]) == ["AccountID"]
    assert server.post("own", openfax()).status == 200


def test_get_with_its_fields_in_the_query(server):
    path = f"/callbacks/openfax/{TOKEN}"
    assert server.ask("GET", f"{path}?{openfax()}").json["status"] == "accepted"
    assert server.post("openfax", openfax()).json["status"] == "duplicate"
    empty = server.ask("GET", path)
    assert (empty.status, empty.json["code"]) == (400, "undecodable")
    assert server.receipts() == [("accepted", None), ("duplicate", None)]


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_another_method_is_told_which_it_may_be(server, method):
    reply = server.ask(method, f"/callbacks/faxage/{TOKEN}", b"")
    assert (reply.status, reply.headers["Allow"]) == (405, "HEAD, POST")
    expected = 400 if method == "GET" else 405
    reply = server.ask(method, f"/callbacks/openfax/{TOKEN}", b"")
    assert reply.status == expected
    assert reply.headers.get("Allow") == (None if method == "GET" else "GET, HEAD, POST")
    assert server.ask(method, f"/callbacks/faxage/{OTHER_TOKEN}").status == 404


def test_head_looks_whether_the_url_is_there(server):
    assert server.ask("HEAD", f"/callbacks/faxage/{TOKEN}").status == 200
    assert server.ask("HEAD", "/callbacks/guarded").status == 200  # without the credentials
    assert server.ask("HEAD", f"/callbacks/faxage/{OTHER_TOKEN}").status == 404
    assert server.ask("HEAD", "/callbacks/nobody").status == 404
    assert server.receipts() == []


def test_an_unknown_endpoint_and_a_wrong_token_get_the_same_answer(server):
    replies = [
        server.ask(method, path, b"x" * 100)
        for method in ("POST", "PUT", "DELETE")
        for path in (
            f"/callbacks/nobody/{TOKEN}",
            f"/callbacks/faxage/{OTHER_TOKEN}",
            "/callbacks/faxage",
            f"/callbacks/faxage/{TOKEN}x",
            f"/callbacks/guarded/{TOKEN}",
        )
    ]
    assert {reply.status for reply in replies} == {404}
    assert len({reply.body for reply in replies}) == 1
    names = {"Date", "Server"}
    assert len({frozenset((k, v) for k, v in reply.headers.items() if k not in names) for reply in replies}) == 1
    assert server.receipts() == []


# --- answers --------------------------------------------------------------------------------------------------------


def test_the_configured_answer(server):
    quiet = server.post("quiet", push(recipient()))
    assert (quiet.status, quiet.body) == (204, b"")
    assert "Content-Type" not in quiet.headers  # of nothing
    later = server.post("later", push(recipient()))
    assert (later.status, later.json["status"]) == (202, "duplicate")
    assert server.post("quiet", "{").status == 400  # only success has another code


def test_what_efax_looks_for_in_the_answer(server):
    for _ in range(2):
        reply = server.post("efax", (FIXTURES / "efax/01_success.form").read_bytes())
        assert (reply.status, reply.body) == (200, b"Post Successful")
        assert reply.headers["Content-Type"].startswith("text/plain")
    assert b"Post Successful" not in server.post("efax", "xml=x").body


def test_basic_credentials(server):
    def ask(header=None):
        return server.ask(
            "POST", "/callbacks/guarded", push(recipient()).encode(), **({"Authorization": header} if header else {})
        )

    def basic(user, password):
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    for header in (None, basic("me", "wrong"), "Bearer x"):
        reply = ask(header)
        assert reply.status == 401
        assert reply.headers["WWW-Authenticate"] == 'Basic realm="fax", charset="UTF-8"'
    assert server.receipts() == []
    assert ask(basic("me", "größe")).status == 200


def test_a_401_can_be_read_after_150_kb(server):
    filler = b"<x>" + b"y" * 150_000 + b"</x>"
    assert server.ask("POST", "/callbacks/guarded", filler).status == 401
    form = efax_form("nobody", "wrong", filler="z" * 150_000)
    assert server.ask("POST", f"/callbacks/efax/{TOKEN}", form.encode(), Content_Type=FORM).status == 401


@pytest.mark.parametrize("wrong", [{"Content_Encoding": "gzip"}, {"Content_Length": "-1"}])
def test_what_nobody_reads_may_be_wrong_in_any_way(server, wrong):
    """The refusal of a body is an answer only where somebody would have read it."""
    assert server.ask("POST", "/nowhere", b"x", **wrong).status == 404
    assert server.ask("POST", "/healthz", b"x", **wrong).status == 405


# --- what is never told ---------------------------------------------------------------------------------------------

MARK = "Zq7marker"


def marked(*names, **values):
    """A value of its own for each name, unless it is given."""
    return {name: f"{MARK}{name}" for name in names} | values


def efax_form(user=EFAX_USER, password=EFAX_PASSWORD, **fields):
    names = ("TransmissionID", "DOCID", "FaxNumber", "CompletionDate", "FaxStatus", "RecipientCSID", "Duration")
    attributes = {"UserName": user, "Password": password, **marked(*names)}
    document = "<OutboundDisposition " + " ".join(f'{name}="{value}"' for name, value in attributes.items()) + "/>"
    return urlencode({"xml": document, **fields})


OPENFAX = ("AccountID", "From", "To", "PagesSent", "CallDuration", "RealCost", "extra")
FAXAGE = ("commid", "destname", "destnum", "longstatus", "sendtime", "completetime", "xmittime", "pagecount")
RECIPIENT = ("number", "numId", "reason", "sentTS", "durationInSecs", "sentToNumber", "remoteCsid")


def retarus_xml(inside, before=""):
    return f"{before}<faxJobReport><jobId>{MARK}job</jobId>{inside}<pages>{MARK}</pages></faxJobReport>"


def refusals():
    """Name -> endpoint, body, headers, expected status. The mark is in every field."""
    one = f"<faxRecipient>{''.join(f'<{name}>{MARK}</{name}>' for name in RECIPIENT)}</faxRecipient>"
    fields = marked(*RECIPIENT)
    return {
        "no identity": ("openfax", urlencode(marked(*OPENFAX, LastStatus="0")), {}, 422),
        "status text": ("openfax", urlencode(marked(*OPENFAX, "OutTransID", "LastStatus")), {}, 422),
        "account": ("own", urlencode(marked(*OPENFAX, "OutTransID", LastStatus="0")), {}, 422),
        "repeated": ("openfax", urlencode(marked(*OPENFAX, "OutTransID")) + f"&OutTransID={MARK}", {}, 400),
        "bad percent": ("openfax", f"OutTransID={MARK}%zz", {}, 400),
        "too many": ("openfax", urlencode(marked(*(f"n{index}" for index in range(201)))), {}, 413),
        "multipart": ("openfax", f'--x\r\nContent-Disposition: form-data; name="{MARK}"\r\n\r\n{MARK}', {}, 400),
        "word": ("faxage", urlencode(marked(*FAXAGE, "jobid", "shortstatus")), {}, 422),
        "no job": ("faxage", urlencode(marked(*FAXAGE, shortstatus="success")), {}, 422),
        "kind": ("faxage", json.dumps(marked(*FAXAGE, "jobid")), {}, 415),
        "doctype": ("retarus", retarus_xml(one, f'<!DOCTYPE {MARK} [<!ENTITY a "{MARK}">]>'), {}, 400),
        "cut xml": ("retarus", retarus_xml(one)[:-9], {}, 400),
        "entity": ("retarus", retarus_xml(f"&{MARK};"), {}, 400),
        "encoding": ("retarus", retarus_xml(one, f'<?xml version="1.0" encoding="{MARK}"?>'), {}, 400),
        "no recipient": ("retarus", retarus_xml(""), {}, 422),
        "no status": ("retarus", retarus_xml(one), {}, 422),
        "cut json": ("retarus", push(fields)[:-3], {}, 400),
        "double key": ("retarus", f'{{"{MARK}":1,"{MARK}":2}}', {}, 400),
        "deep": ("retarus", f'{{"{MARK}":' + "[" * 50 + "]" * 50 + "}", {}, 413),
        "nan": ("retarus", f'{{"{MARK}":NaN,"jobId":"{MARK}"}}', {}, 400),
        "no valid row": ("retarus", push(fields, fields), {}, 422),
        "not a job": ("retarus", json.dumps({f"{MARK}a": f"{MARK}b"}), {}, 422),
        "no xml": ("efax", urlencode(marked("yml", "UserName")), {}, 400),
        "bad xml": ("efax", urlencode({"xml": f"<{MARK}"}), {}, 400),
        "wrong password": ("efax", efax_form(f"{MARK}user", f"{MARK}password"), {}, 401),
        "other document": ("efax", efax_form().replace("OutboundDisposition", MARK), {}, 422),
        "efax status": ("efax", efax_form(), {}, 422),
        "gzip": ("retarus", gzip.compress(push(fields).encode()), {"Content_Encoding": "gzip"}, 415),
        "coding": ("retarus", push(fields), {"Content_Encoding": MARK}, 415),
        "address": ("listed", push(fields), {"X_Forwarded_For": f"{MARK}, 203.0.113.9"}, 403),
        "no credentials": ("guarded", push(fields), {}, 401),
        "broken credentials": ("guarded", push(fields), {"Authorization": f"Basic {MARK}!"}, 400),
        "unknown": ("nobody", push(fields), {}, 404),
        "empty": ("faxage", "", {}, 400),
    }


def assert_says_nothing(reply, logged):
    told = reply.body.decode() + str(dict(reply.headers)) + logged
    for secret in (MARK, TOKEN, EFAX_USER, EFAX_PASSWORD, "Traceback"):
        assert secret not in told
    assert reply.headers["Cache-Control"] == "no-store"
    problem = reply.json
    assert problem["status"] == reply.status
    assert problem["code"] and problem["detail"]


@pytest.mark.parametrize("name", refusals())
def test_a_refusal_tells_nothing_of_the_request(server, capfd, name):
    endpoint, body, headers, status = refusals()[name]
    token = "" if endpoint == "guarded" else f"/{TOKEN}"
    path = f"/callbacks/{endpoint}{token}/r/{MARK}?{MARK}={MARK}"
    data = body.encode() if isinstance(body, str) else body
    kind = FORM if endpoint in ("openfax", "own", "faxage", "efax") else f"text/xml; x={MARK}"
    extra = {"Content_Type": kind, "User_Agent": MARK, "Cookie": MARK, f"X_{MARK}": MARK} | headers
    if endpoint in ("openfax", "own"):
        path = path.partition("?")[0]  # whose query is part of the data
    reply = server.ask("POST", path, data, **extra)
    assert reply.status == status, reply.body
    assert_says_nothing(reply, "".join(capfd.readouterr()))
    assert server.events() == []


def test_nor_does_one_that_is_too_large(tmp_path, sqlite_url, capfd):
    configuration = MORE.replace('state_dir = "state"', 'state_dir = "state"\nmax_body = "10kB"')
    with house(tmp_path, sqlite_url, configuration) as server:
        reply = server.post("retarus", push(marked(*RECIPIENT, status=MARK * 2000)))
    assert (reply.status, reply.json["code"]) == (413, "too_large")
    assert_says_nothing(reply, "".join(capfd.readouterr()))


def test_nor_does_our_own_bug_whose_body_is_kept(server, capfd, monkeypatch):
    def broken(_message, _callback):
        raise ValueError(MARK)

    monkeypatch.setattr(stations, "check", broken)
    reply = server.post("retarus", push(marked(*RECIPIENT, status="OK")), reference=MARK)
    assert (reply.status, reply.json["code"]) == (500, "internal_error")
    assert_says_nothing(reply, "".join(capfd.readouterr()))
    assert server.receipts() == [("rejected", "internal_error")]
    assert reply.json["receipt"]


def test_nor_does_a_bug_before_that(server, capfd, monkeypatch):
    monkeypatch.setattr(intake, "find", lambda *_: 1 / 0)
    reply = server.post("retarus", push(marked(*RECIPIENT, status="OK")), reference=MARK)
    assert reply.status == 500
    assert_says_nothing(reply, "".join(capfd.readouterr()))


def test_nor_does_a_store_that_is_away(server, capfd, monkeypatch):
    def away(*_):
        raise StoreUnavailable("Locked")

    monkeypatch.setattr(Writer, "_transact", away)
    reply = server.post("retarus", push(marked(*RECIPIENT, status="OK")), reference=MARK)
    assert (reply.status, reply.json["code"]) == (503, "unavailable")
    assert int(reply.headers["Retry-After"]) > 0
    assert_says_nothing(reply, "".join(capfd.readouterr()))
    assert server.events() == []


def test_nor_does_a_success_log_more_than_sizes(server, capfd):
    server.post("retarus", push(marked(*RECIPIENT, status="OK"), jobId=f"{MARK}job"), reference=MARK)
    server.post("efax", efax_form().replace(f"{MARK}FaxStatus", "0"), reference=MARK)
    server.post("faxage", urlencode(marked(*FAXAGE, "jobid", shortstatus="FAILURE")), reference=MARK)
    logged = "".join(capfd.readouterr())
    assert len(server.events()) == 3
    assert logged.count('"event":"callback"') == 3
    for secret in (MARK, TOKEN, EFAX_USER, EFAX_PASSWORD):
        assert secret not in logged
