"""What people do in the console: who may, what they are told before, what it does, and what the audit says."""

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from desk import BASIC, PEOPLE, Browser, audited, console, sign_in, stocked, text
from house import House
from test_console_faxes import take
from test_console_pages import fill, named, printed

from receiver.cli import main
from receiver.store import discrepancies, jobs
from receiver.web.console.pages import ACTIONS, PAGES


def test_each_action_and_page_is_for_its_role_alone(desk: House) -> None:
    """Asked for without the page: as somebody would who knows how."""
    ids = fill(desk)
    for name, roles in PEOPLE.items():
        browser = sign_in(desk, name)
        token = browser.token()
        stocked(desk).park(ids["event_id"])
        for action in ACTIONS:
            path = named(action.rule, ids) + ("?since=1h" if action.name == "republish_some" else "")
            may = action.role in ((roles,) if isinstance(roles, str) else roles)
            before = audited(desk)
            asked = browser._ask("GET", path, None).status
            assert asked == (200 if may else 403), (name, path)
            assert audited(desk) == before, "asking changes nothing"
            done = browser.post(path, {"token": token, "since": "1h", "until": "0s"}).status
            assert (done in (200, 303)) if may else (done == 403), (name, path, done)
            assert (audited(desk) == before) or may
        for page in PAGES:
            status = browser._ask("GET", named(page.rule, ids), None).status
            assert status == (200 if page.role == "viewer" or page.role in roles else 403), (name, page.rule)
    nobody = Browser(desk)
    for action in ACTIONS:
        assert nobody._ask("GET", named(action.rule, ids), None).status == 303
        assert nobody.post(named(action.rule, ids), {"token": "x"}).status == 401


def test_an_action_of_another_site_or_session_does_nothing(desk: House) -> None:
    ids = fill(desk)
    browser, other = sign_in(desk, "chef"), sign_in(desk, "chef")
    token = browser.token()
    for action in ACTIONS:
        path = named(action.rule, ids)
        assert browser.post(path, {"token": token}, Origin="https://evil.example").status == 403
        assert browser.post(path, {"token": token}, Origin="").status == 403
        assert browser.post(path, {"token": token}, Sec_Fetch_Site="cross-site").status == 403
        assert browser.post(path, {"token": other.token()}).status == 403
        assert browser.post(path, {}).status == 403
    assert audited(desk) == []


def test_revealing_shows_it_once_and_is_audited(desk_anywhere: House) -> None:
    at = desk_anywhere
    ids = fill(at)
    browser = sign_in(at, "paul")
    fax = f"/console/faxes/{ids['fax_id']}"
    page = text(browser.submit(f"{fax}/reveal"))
    assert "+12085550139" in page
    assert "Anna Canary" in page
    assert "order-4711" in page
    assert "+12085550139" not in browser.words(fax)
    page = text(browser.submit(f"/console/receipts/{ids['receipt_id']}/reveal"))
    assert "destnum=2085550139" in page
    page = text(browser.submit(f"/console/events/{ids['event_id']}/reveal"))
    assert "Anna Canary" in page
    assert "2085550139" in text(browser.submit("/console/discrepancies/2/reveal"))
    assert audited(at) == [
        ("paul", "fax.reveal", ids["fax_id"]),
        ("paul", "receipts.reveal", ids["receipt_id"]),
        ("paul", "events.reveal", ids["event_id"]),
        ("paul", "discrepancies.reveal", "2"),
    ]
    assert sign_in(at, "vera").json("/console/audit")[1]["actor"] == "paul"


def test_evidence_is_what_the_command_signs(desk: House) -> None:
    fax_id = fill(desk)["fax_id"]
    browser = sign_in(desk, "otto")
    reply = browser.submit(f"/console/faxes/{fax_id}/evidence")
    assert reply.headers["Content-Disposition"] == f'attachment; filename="fax-{fax_id}.json"'
    made = CliRunner().invoke(main, ["evidence", fax_id, "--config", str(desk.config)]).stdout
    ours, theirs = (json.loads(one)["evidence"] for one in (reply.body, made))
    assert {**ours, "made_at": None} == {**theirs, "made_at": None}
    assert "2085550139" not in reply.body.decode()
    assert audited(desk)[0] == ("otto", "evidence", fax_id)


NOWHERE = ["faxes/d0fbe9d4-3aab-5a4e-8862-dee22a10cd24", "receipts/x", "events/x", "discrepancies/9"]


@pytest.mark.parametrize("path", NOWHERE)
def test_what_is_not_there_is_not_revealed_and_leaves_no_audit(desk: House, path: str) -> None:
    browser = sign_in(desk, "paul")
    assert browser.post(f"/console/{path}/reveal", {"token": browser.token()}).status == 404
    assert audited(desk) == []


def test_a_replay_is_shown_as_a_difference_before_it_is_done(desk_anywhere: House) -> None:
    at = desk_anywhere
    receipt = take(at)
    (event,) = printed(at, "events", "list")
    browser = sign_in(at, "otto")
    path = f"/console/receipts/{receipt}/replay"
    assert "It would be duplicate. New events: 0." in browser.words(path)
    with at.runtime.store.writing() as connection:
        tables = at.runtime.store.tables
        connection.execute(tables.faxes.delete())
        connection.execute(tables.events.delete())
        connection.execute(tables.waiting.delete())
    words = browser.words(path)
    assert "It would be accepted. New events: 1." in words
    assert f'+ "id": "{event["id"]}"' in words
    assert "2085550139" not in words
    assert printed(at, "events", "list") == [], "nothing is written"
    dry = CliRunner().invoke(main, ["receipts", "replay", receipt, "--dry-run", "--config", str(at.config)])
    assert (dry.exit_code, dry.stdout) == (0, f"{receipt}: would be accepted: {event['id']}\n")
    assert browser.json(path)["events"][0]["id"] == event["id"]
    assert audited(at) == []
    assert "has made a new event" in text(browser.submit(path))
    assert [one["id"] for one in printed(at, "events", "list")] == [event["id"]]
    assert audited(at) == [("otto", "receipts.replay", receipt)]


def test_an_amendment_that_would_come_is_held_against_what_is_known(desk: House) -> None:
    take(desk)
    later = take(desk, shortstatus="failure", completetime="2026-07-01 10:05:00")
    events = desk.runtime.store.tables
    with desk.runtime.store.writing() as connection:
        connection.execute(events.announcements.delete())
    words = sign_in(desk, "otto").words(f"/console/receipts/{later}/replay")
    assert "It would be duplicate" in words or '+ "revision": 3' in words


def test_what_would_be_refused_again_says_why(desk: House) -> None:
    browser = sign_in(desk, "otto")
    receipt = stocked(desk).take("faxage", b"jobid=7&shortstatus=frob")
    path = f"/console/receipts/{receipt}/replay"
    words = browser.words(path)
    assert "It would be refused again: unprocessable" in words
    assert "shortstatus" in words
    assert "refused again" in text(browser.submit(path))


def test_a_receipt_may_be_processed_as_another_endpoint(tmp_path: Path, sqlite_url: str) -> None:
    other = (
        '\n[endpoints.acme2]\nprovider = "faxage"\naccount = "acme2"\ntimezone = "UTC"\nauth = {{ mode = "none" }}\n'
    )
    with console(tmp_path, sqlite_url, f"{BASIC}{other}insecure = true\n") as at:
        receipt = take(at)
        browser = sign_in(at, "otto")
        path = f"/console/receipts/{receipt}/replay"
        assert "Process it as endpoint" in browser.words(path)
        assert "It would be accepted. New events: 1." in browser.words(f"{path}?as=acme2")
        assert "has made a new event" in text(browser.submit(f"{path}?as=acme2"))
        assert audited(at) == [("otto", "receipts.replay", f"{receipt} as acme2")]
        assert "It cannot be" in browser.words(f"{path}?as=openfax")
        assert "It cannot be" in browser.words(f"{path}?as=nowhere")


def test_an_event_is_put_into_the_queue_again_with_the_count_before(desk_anywhere: House) -> None:
    at = desk_anywhere
    take(at)
    (event,) = printed(at, "events", "list")
    browser = sign_in(at, "otto")
    path = f"/console/events/{event['id']}/republish"
    assert "Nothing" in browser.words(path)
    stocked(at).consumed()
    assert "1 event is put into the queue again" in browser.words(path)
    assert "In the queue again" in text(browser.submit(path))
    assert printed(at, "events", "list")[0]["state"] == "pending"
    assert audited(at) == [("otto", "events.republish", f"id={event['id']}")]


def test_the_events_of_a_time_are_put_into_the_queue_again(
    desk_anywhere: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = desk_anywhere
    stocked(at).fill(7)
    stocked(at).consumed("--max", "5")
    browser = sign_in(at, "otto")
    path = next(link for link in browser.links("/console/events?since=1h") if "republish" in link)
    assert "Events that are put into the queue again: 5." in browser.words(path)
    assert "In the queue again" in text(browser.submit(path))
    assert {one["state"] for one in printed(at, "events", "list")} == {"pending"}
    ((actor, action, subject),) = audited(at)
    assert (actor, action) == ("otto", "events.republish")
    assert re.fullmatch(r"since=\S+Z until=\S+Z", subject)
    assert "again: 0." in browser.words(path)
    assert browser.get("/console/events/republish").status == 422
    assert browser.post("/console/events/republish", {"token": browser.token(), "since": "x"}).status == 422
    monkeypatch.setattr("receiver.web.console.actions._MOST_WINDOWS", 0)
    sent = {"token": browser.token(), "since": "1970-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}
    assert browser.post("/console/events/republish", sent).status == 422
    assert "choose a shorter time" in browser.words(path)


def test_dead_letters_are_sent_again(desk_anywhere: House) -> None:
    at = desk_anywhere
    made = stocked(at)
    made.fill(5)
    ids = [event["id"] for event in made.events()]
    made.park(*ids[:3])
    made.rewrite(ids[0], checksum="00" * 32)
    browser = sign_in(at, "otto")
    one = f"/console/dead-letters/{ids[1]}/replay"
    assert "1 event waits for the queue again" in browser.words(one)
    assert "waits to be sent again" in text(browser.submit(one))
    words = browser.words("/console/dead-letters/replay")
    assert "Dead letters that wait to be sent again: 1." in words
    assert "Damaged ones, which stay: 1." in words
    browser.submit("/console/dead-letters/replay")
    assert [row["id"] for row in printed(at, "dead-letters", "list")] == [ids[0]]
    assert "Nothing: it is damaged" in browser.words(f"/console/dead-letters/{ids[0]}/replay")
    assert [row[1:] for row in audited(at)] == [("dead-letters.replay", ids[1]), ("dead-letters.replay", ids[2])]


def test_a_discrepancy_is_closed_and_a_missing_job_is_no_longer_expected(desk_anywhere: House) -> None:
    at = desk_anywhere
    fill(at)
    browser = sign_in(at, "otto")
    (missing,) = [one for one in browser.json("/console/discrepancies") if one["kind"] == "missing"]
    path = f"/console/discrepancies/{missing['id']}/close"
    assert "no longer expected: 1 at most" in browser.words(path)
    assert "It is closed." in text(browser.submit(path))
    assert "Nothing: it is closed already" in browser.words(path)
    with at.runtime.store.reading() as connection:
        assert jobs.listing(connection, at.runtime.store.tables, limit=9) == []
        assert "missing" not in discrepancies.open_by_kind(connection, at.runtime.store.tables)
    assert audited(at) == [("otto", "discrepancies.close", str(missing["id"]))]


def test_the_document_has_every_action_with_its_role() -> None:
    document = (Path(__file__).parents[2] / "deploy" / "README.md").read_text()
    rows = re.findall(r"^\| .+ \| `(\w+)` \| `(/console/\S+)` \| `[a-z.-]+`", document, re.MULTILINE)
    assert {(path, role) for role, path in rows} == {
        (action.rule.replace("int:", ""), action.role) for action in ACTIONS
    }


# --- what providers may send ----------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    '" autofocus onfocus=alert(1) x="',
    "' onmouseover='alert(1)",
    "<svg><animate onbegin=alert(1)>",
    "<iframe src=javascript:alert(1)>",
    "javascript:alert(1)",
    "<a href=javascript:alert(1)>x</a>",
    "</title><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "<!--><script>alert(1)</script>",
    "--><script>alert(1)</script><!--",
    "<![CDATA[<script>alert(1)</script>]]>",
    "{{ 7 * 7 }}",
    "{{ config }}",
    "{% for x in y %}{% endfor %}",
    "${7*7}",
    "#{7*7}",
    "<%= 7*7 %>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "\u003cscript\u003ealert(1)\u003c/script\u003e",
    "＜script＞alert(1)＜/script＞",
    "<ScRiPt>alert(1)</sCrIpT>",
    "<script\n>alert(1)</script>",
    "<body onload=alert(1)>",
    "<form action=https://evil.example><input type=submit>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content=0;url=https://evil.example>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<details open ontoggle=alert(1)>",
    "<math><mtext></mtext><mglyph><style><img src=x onerror=alert(1)>",
    "\u202egnp.exe\u202c",
    '=HYPERLINK("https://evil.example","x")',
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "'; DROP TABLE faxhook_events; --",
]
TAGS = frozenset(
    re.findall(
        r"\w+",
        "html head meta title link body a header nav ul li form input span small button main h1 h2 h3 p footer table"
        " caption thead tr th tbody td div label select option code time strong section dl dt dd ol pre svg rect"
        " details summary ins del",
    )
)


@pytest.mark.parametrize("in_each", [False, pytest.param(True, marks=pytest.mark.campaign)])
def test_nothing_that_a_provider_sends_becomes_markup(desk: House, in_each: bool) -> None:
    """in_each: each text in every field, and not each in one of them."""
    assert len(HOSTILE) == 40
    rounds = [[one] * 5 for one in HOSTILE] if in_each else [HOSTILE[at : at + 5] for at in range(0, 40, 5)]
    receipts = [receipt for number, texts in enumerate(rounds) for receipt in send(desk, number, texts)]
    browser = sign_in(desk, "chef")
    rows = browser.json("/console/faxes")
    assert len(rows) == min(2 * len(rounds), 50)
    paths = ["/console/", "/console/faxes", "/console/receipts", "/console/events", "/console/discrepancies"]
    pages = [browser.get(path) for path in paths]
    pages += [browser.get(f"/console/faxes?q={quote(one)}&reason={quote(one)}") for one in HOSTILE[:9]]
    token = browser.token()
    for row in rows:
        pages.append(browser.get(f"/console/faxes/{row['fax_id']}"))
        pages += [browser.post(f"/console/faxes/{row['fax_id']}/reveal", {"token": token})]
        pages += [browser.post(f"/console/events/{row['event']}/reveal", {"token": token})]
    for receipt in receipts:
        path = f"/console/receipts/{receipt}"
        pages += [browser.get(f"{path}/replay"), browser.post(f"{path}/reveal", {"token": token})]
    for page in pages:
        assert page.status == 200, page.body
        refuse_markup(page.body.decode())
    revealed = " ".join(text(page) for page in pages)
    for one in ("<script>alert(1)</script>", "{{ 7 * 7 }}", "<img src=x onerror=alert(1)>", "\\u202egnp.exe"):
        assert one in revealed, "as text it is there"
    csv = browser.get("/console/faxes?format=csv").body.decode()
    assert not re.search(r"""(?m)(^|,)"?[=@]""", csv)


def send(at: House, number: int, texts: Sequence[str]) -> list[str]:
    """In every field that is text, of each kind of body; the receipts."""
    a, b, c, d, e = texts
    made = stocked(at)
    xml = "".join(texts).replace("&", "&amp;").replace("<", "&lt;")
    job = {"jobId": a, b: [c, {d: e}]}
    return [
        take(at, jobid=f"{a} {number}", destname=b, destnum=c, longstatus=d, reference=f"r{number}"),
        take(at, jobid=str(number), destname=e, shortstatus=a),
        made.fax(5000 + number, From=a, To=b, LastStatusText=c, UserData=d, RealCost=e),
        made.fax(6000 + number, status=b, From=c),
        made.take("retarus", f"<x><jobId>{xml}</jobId></x>".encode(), "text/xml"),
        made.take("retarus", json.dumps(job).encode(), "application/json"),
    ]


def refuse_markup(page: str) -> None:
    class Looking(HTMLParser):
        def handle_starttag(self, tag: str, attributes: Any) -> None:
            assert tag in TAGS, tag
            for name, value in attributes:
                assert not name.startswith("on") and name not in ("style", "srcdoc", "http-equiv", "autofocus"), name
                if name in ("href", "action", "src"):
                    assert value.startswith(("/console/", "#content")), value

    Looking().feed(page)
