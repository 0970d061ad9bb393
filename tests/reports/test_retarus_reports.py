"""Retarus's reports by REST and SOAP: the faxes of its callbacks, from every data center, and none deleted unread."""

import json
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
import xmltodict
from flask import Flask, Response, request
from hypothesis import given
from hypothesis import strategies as st
from providers.samples import FIXTURES, events, manifest, sample, source
from pulling import SECRET, ask, client, entries, fetched, ids, learned, provider, report, rows, served
from standins import retarus
from standins.world import SentFax, World, standing

from receiver.errors import Refusal, ReportTrouble
from receiver.providers import Finding, Page
from receiver.providers.shared.client import Reply
from schemas.event import FaxCompleted
from schemas.fields import InvalidRow

SENT = datetime(2026, 7, 15, 16, 0, tzinfo=UTC)
DONE = datetime(2026, 7, 15, 16, 1, 30, tzinfo=UTC)
PATH = "/rest/v1"


def fax(job_id="FJ1", status="OK", number="+498912345678900", **more):
    return SentFax(job_id, number, status, **({"submitted_at": SENT, "completed_at": DONE} | more))


def world(*faxes):
    return World("retarus", "99999TE", *faxes)


def thousand(count=1000, **more):
    return [fax(f"FJ{at:05}", completed_at=DONE + timedelta(seconds=at), **more) for at in range(count)]


def pull(called, *worlds, changes=None, names=("de1", "de2"), **application):
    """The pages of a report of these data centers."""
    with ExitStack() as stack:
        urls = [
            stack.enter_context(standing(retarus.application(one, data_center=name, **application)))
            for one, name in zip(worlds, names, strict=False)
        ]
        bases = " ".join(url + PATH for url in urls)
        return fetched("retarus", called, bases, **(changes or {}))


def pushed(here):
    return [event for one in here.callbacks() for event in events("retarus", one.callback)]


def answering(*answers):
    """A data center that gives these (status, body) in turn, the last one again and again; what it was asked."""
    app, asked = Flask("retarus"), []

    @app.route("/<path:path>", methods=["GET", "POST"])
    def answer(path):
        asked.append((request.method, path, request.get_json(silent=True)))
        status, body = answers[min(len(asked), len(answers)) - 1]
        text = body if isinstance(body, bytes | str) else json.dumps(body)
        return Response(text, status, content_type="application/json")

    return app, asked


def answered(*answers, called="reports", **changes):
    app, asked = answering(*answers)
    with served(app) as url:
        return fetched("retarus", called, url, **changes), asked


def trouble(*answers, **changes):
    with pytest.raises(ReportTrouble) as caught:
        answered(*answers, **changes)
    return caught.value


def one_report(job="FJ1", *recipients):
    found = recipients or ({"number": "+498912345678900", "status": "OK", "sentTs": "2026-07-15T16:01:30Z"},)
    return {"jobId": job, "recipientStatus": list(found), "pages": 1, "reference": {"customerDefinedId": ""}}


# --- samples -------------------------------------------------------------------------------------------------------

EXPECTED = {
    "poll_rest_report_list.json": ["FJJ5Y09UM505ZZBIELCRYC", "FJJ5WA23UO05ZZBIEL0JY5"],
    "poll_rest_report_single.json": ["FJJ66GHGX105ZZBIELVCN1"],
}
REPORT_SAMPLES = [row["file"] for row in manifest() if (row["provider"], row["kind"]) == ("retarus", "poll")]


def test_there_is_an_expectation_for_every_sample():
    others = {"poll_rest_bulk_request.json", "poll_rest_bulk_delete_reply.json"}  # below
    assert set(REPORT_SAMPLES) == set(EXPECTED) | others


def test_the_sample_of_a_list_is_its_jobs():
    pages, asked = answered((200, (FIXTURES / "retarus/poll_rest_report_list.json").read_bytes()))
    found = entries("retarus", "reports", pages)
    assert [event.provider_job_id for event in found] == EXPECTED["poll_rest_report_list.json"]
    assert [(event.outcome, event.provider_fax_id) for event in found] == [("delivered", None)] * 2
    assert asked == [("GET", "99999TE/fax/reports", None)]


def test_the_sample_of_one_report_is_its_job():
    single = (FIXTURES / "retarus/poll_rest_report_single.json").read_bytes()
    pages, asked = answered((200, single), called="report-of-jobs", jobs=["FJJ66GHGX105ZZBIELVCN1"])
    (found,) = entries("retarus", "report-of-jobs", pages)
    (row,) = [row for row in manifest() if row["file"] == "poll_rest_report_single.json"]
    assert found.outcome == row["expect_outcome"] == "delivered"
    assert (found.key, found.reference.billing_code) == (
        ("FJJ66GHGX105ZZBIELVCN1", "498912345678900", "0"),
        "2017-08-10T13:05:09Z_billingCode",
    )
    assert asked == [("GET", "99999TE/fax/reports/FJJ66GHGX105ZZBIELVCN1", None)]


def test_several_jobs_are_asked_as_in_the_sample_of_a_request():
    expected = json.loads((FIXTURES / "retarus/poll_rest_bulk_request.json").read_text())
    _, asked = answered((200, {"reports": []}), called="report-of-jobs", jobs=expected["jobIds"], customer="1/2")
    assert asked == [("POST", "1/2/fax/reports", expected)]


# --- push and pull -------------------------------------------------------------------------------------------------

SPELLINGS = [str, retarus.spaced, retarus.with_trunk_zero, retarus.dialed]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("called", ["reports", "report-of-jobs"])
def test_callback_and_report_of_a_job_are_the_same_faxes_and_the_report_is_no_news(spelling, seed, called):
    here = world(
        fax(status="BUSY", fax_id="FN1", duration_seconds=0),
        fax(status="OK", fax_id="FN2"),  # the same number again
        fax(status="BUSY", fax_id="FN3"),
        fax(status="EOD_FAILED", number="+498912345678901", fax_id="FN4"),
        fax(status="OK", number="+12085550139", fax_id="FN5"),
    )
    pages = pull(called, here, changes={"jobs": ["FJ1"]}, spelling=spelling, shuffle=seed)
    by_push = dict(zip(ids("retarus", pushed(here)), pushed(here), strict=True))
    found = entries("retarus", called, pages)
    by_pull = dict(zip(ids("retarus", found), found, strict=True))
    assert by_push.keys() == by_pull.keys()
    assert len(by_push) == 5
    assert {learned(by_push[key], by_pull[key]) for key in by_push} == {()}
    # The other way round only the callback's numId is learned, which nobody is told of.
    assert {learned(by_pull[key], by_push[key]) for key in by_push} == {("provider_fax_id",)}


@given(st.permutations(range(6)))
def test_the_order_of_recipients_is_no_part_of_their_identity(order):
    recipients = [
        {"number": number, "status": status, "sentTs": sent, "durationInSecs": 1}
        for number in ("+49 89 1234567-8900", "00498912345678900")
        for status, sent in (("OK", "2026-07-15T16:01:30Z"), ("BUSY", "2026-07-15T16:01:30Z"))
    ]
    recipients += [{"number": f"+49891234567890{at}", "status": "PENDING", "sentTs": None} for at in (1, 2)]

    def outcomes(rows):
        row = {"reports": [one_report("FJ1", *rows)]}
        found = report("retarus", "reports")
        normalised = found.normalise(found.schema.load(found.shape(row)), source(provider("retarus")))
        return Counter((event.key, event.outcome) for event in normalised)

    assert outcomes([recipients[at] for at in order]) == outcomes(recipients)


def test_the_xml_of_a_callback_and_a_report_about_it_are_the_same_fax():
    (by_push,) = events("retarus", sample("retarus/01_success.xml"))
    recipient = {
        "number": "+49 89 1250400-1710",
        "properties": None,
        "status": "OK",
        "reason": "OK",
        "sentTs": "2018-11-08T15:38:08Z",
        "durationInSecs": 26,
        "sentToNumber": "00498912504001710",
        "remoteCsid": "+49/89/1250400-1710",
    }
    reference = {"customerDefinedId": "order-4711", "billingCode": "", "billingInfo": ""}
    document = one_report("FJIJPNJYN906EDIJNFGI5S", recipient) | {"reference": reference}
    (by_pull,) = entries("retarus", "reports", answered((200, {"reports": [document]}))[0])
    assert ids("retarus", [by_pull]) == ids("retarus", [by_push]) == ["70330dd6-f035-5d0a-be7f-b87a3545630b"]
    assert learned(by_push, by_pull) == ()


def test_a_recipient_that_waits_is_no_event_and_the_others_are():
    here = world(fax(), fax(status="", number="+498912345678901", completed_at=None))
    pages = pull("report-of-jobs", here, changes={"jobs": ["FJ1"]})
    assert [event.recipient.number for event in entries("retarus", "report-of-jobs", pages)] == ["+498912345678900"]


BLOCKED = {"number": "+49 89 1234567-8900", "status": "BLACKLIST", "sentTs": None}
WAITING = {"number": "00498912345678900", "status": "PENDING", "sentTs": None}
ARRIVED = WAITING | {"status": "OK", "sentTs": "2026-07-15T16:01:30Z"}


def by_both_ways(*recipients):
    """What a job is told as, which must not depend on the way; invalid recipients apart."""
    document = one_report("FJ1", *recipients)
    ways = [
        events("retarus", json.dumps(document).encode()),
        entries("retarus", "reports", answered((200, {"reports": [document]}))[0]),
        entries("retarus", "report-of-jobs", answered((200, document), called="report-of-jobs", jobs=["FJ1"])[0]),
    ]
    told, *others = [[(*one.key[1:], one.outcome) for one in way if isinstance(one, FaxCompleted)] for way in ways]
    assert others == [told, told]
    return told


def test_recipients_of_the_same_number_are_told_when_all_of_them_are_final():
    other, told = BLOCKED | {"number": "+498912345678901"}, ("498912345678901", "0", "failed")
    for waiting in ([BLOCKED, WAITING], [WAITING, BLOCKED], [ARRIVED, WAITING, BLOCKED], [WAITING, WAITING]):
        assert by_both_ways(*waiting, other) == [told]
    number = "498912345678900"
    assert by_both_ways(BLOCKED, ARRIVED, other) == [(number, "1", "failed"), (number, "0", "delivered"), told]


def test_a_recipient_waits_neither_for_invalid_ones_nor_for_other_numbers():
    invalid, other = {"number": BLOCKED["number"]}, WAITING | {"number": "+498912345678901"}
    assert by_both_ways(BLOCKED, invalid, other) == [("498912345678900", "0", "failed")]


# --- jobs ----------------------------------------------------------------------------------------------------------


def jobs_of(called, pages):
    return sorted({event.provider_job_id for event in entries("retarus", called, pages)})


def test_jobs_are_found_in_whichever_data_center_they_are():
    here = world(fax("FJ1"), fax("FJ2", data_center="de2"), fax("FJ3"))
    pages = pull("report-of-jobs", here, here, changes={"jobs": ["FJ1", "FJ2", "gone", "FJ3"]})
    assert jobs_of("report-of-jobs", pages) == ["FJ1", "FJ2", "FJ3"]
    assert here.asked == {"bulk GET": 2}


def test_a_job_that_was_found_is_not_asked_for_at_the_next_data_center():
    here = world(fax("FJ1"), fax("FJ2"))
    pull("report-of-jobs", here, here, changes={"jobs": ["FJ1", "FJ2"]})
    assert here.asked == {"bulk GET": 1}


def test_no_jobs_are_not_asked():
    for called in ("report-of-jobs", "soap-reports-of-jobs"):
        assert answered((500, b""), called=called, soap_url="http://127.0.0.1:1/") == ([], [])


@pytest.mark.parametrize("status", [400, 404])
def test_jobs_are_asked_one_by_one_where_an_unknown_one_makes_the_request_fail(status):
    app, asked = Flask("retarus"), []

    @app.route("/99999TE/fax/reports", methods=["POST"])
    def bulk():
        return Response(b"", status)

    @app.get("/99999TE/fax/reports/<job>")
    def single(job):
        asked.append(job)
        return Response(json.dumps(one_report(job)), 404 if job == "gone" else 200)

    with served(app) as url:
        pages = fetched("retarus", "report-of-jobs", url, jobs=["FJ1", "gone", "FJ2"])
        assert jobs_of("report-of-jobs", pages) == ["FJ1", "FJ2"]
        assert sorted(asked) == ["FJ1", "FJ2", "gone"]
        asked.clear()
        fetched("retarus", "report-of-jobs", url, jobs=[f"FJ{at}" for at in range(1000)])
    assert len(asked) == 50  # and others in the next run


def test_a_reason_instead_of_a_report_leaves_that_job_for_later():
    answer = {"reports": [{"jobId": "gone", "reason": "NOT_FOUND"}, one_report("FJ1")]}
    pages, _ = answered((200, answer), called="report-of-jobs", jobs=["gone", "FJ1"])
    assert jobs_of("report-of-jobs", pages) == ["FJ1"]


# --- the list ------------------------------------------------------------------------------------------------------


def test_a_full_list_hides_newer_reports_which_is_found_for_its_data_center():
    pages = pull("reports", world(*thousand(1001)), world(fax("FJ9", data_center="de2")))
    assert len(rows(pages)) == 1001
    assert max(len(page.rows) for page in pages) == 100
    (found,) = [finding for page in pages for finding in page.findings]
    assert (found.kind, dict(found.detail)) == ("full_list", {"reports": 1000})
    assert "FJ9" in jobs_of("reports", pages)
    assert [finding for page in pull("reports", world(*thousand(999))) for finding in page.findings] == []


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://faxws.de1.retarus.com/rest/v1", "de1"),
        ("https://faxws.sg1.retarus.com/rest/v1/", "sg1"),
        ("https://proxy.example.com:8443/retarus", "proxy.example.com:8443"),
    ],
)
def test_a_finding_names_the_data_center_by_its_label(url, name):
    class Full:
        def send(self, *_asked, **_sent):
            return Reply(200, json.dumps({"reports": [one_report(f"FJ{at}") for at in range(1000)]}).encode())

    pages = list(report("retarus", "reports").fetch(ask("retarus", url), Full()))
    assert pages[-1].findings == [Finding("full_list", name, {"reports": 1000})]


def test_a_job_with_many_recipients_ends_its_page_and_is_not_divided():
    big = one_report("FJ0", *({"number": f"+49891234{at:05}", "status": "OK"} for at in range(1200)))
    pages, _ = answered((200, {"reports": [one_report("FJ1"), big, one_report("FJ2")]}))
    assert [len(page.rows) for page in pages] == [2, 1]
    assert len(entries("retarus", "reports", pages)) == 1202


def test_rows_that_are_no_reports_are_refused_and_the_others_read():
    odd = [None, 7, {"jobId": "FJ2"}, {"x": 1}, one_report("FJ3", {"number": "+491"}), one_report("FJ1")]
    pages, _ = answered((200, {"reports": odd}))
    for row in rows(pages)[:-1]:
        with pytest.raises(Refusal):
            entries("retarus", "reports", [Page([row])])
    assert jobs_of("reports", [Page(rows(pages)[-1:])]) == ["FJ1"]


def test_an_invalid_recipient_is_named_and_the_others_of_its_job_count():
    document = one_report("FJ1", {"number": "+498912345678900", "status": "OK"}, {"number": "+498912345678901"})
    good, bad = entries("retarus", "reports", answered((200, {"reports": [document]}))[0])
    assert isinstance(good, FaxCompleted) and isinstance(bad, InvalidRow)


# --- deleting ------------------------------------------------------------------------------------------------------


class Deleting:
    """A data center whose reports can be deleted, but for some; which it was told to delete, in order."""

    def __init__(self, reports, *, stays=None, refuses=False):
        self.reports = {one["jobId"]: one for one in reports}
        self.stays = stays or {}  # job -> reason
        self.refuses = refuses
        self.deleted, self.lists = [], 0
        self.app = Flask("retarus")
        self.app.add_url_rule("/99999TE/fax/reports", "list", self.list, methods=["GET"])
        self.app.add_url_rule("/99999TE/fax/reports", "bulk", self.bulk, methods=["POST"])

    def list(self):
        self.lists += 1
        return {"reports": list(self.reports.values())[:1000]}

    def bulk(self):
        document = request.get_json()
        assert document["action"] == "DELETE"
        self.deleted += document["jobIds"]
        if self.refuses:
            return Response(b"", 404)
        answer = []
        for job in document["jobIds"]:
            if job in self.stays:
                answer.append({"jobId": job, "deleted": False, "reason": self.stays[job]})
            else:
                del self.reports[job]
                answer.append({"jobId": job, "deleted": True})
        return {"reports": answer}

    def pages(self, **changes):
        with served(self.app) as url:
            options = {"delete": "true", "is_stored": True} | changes
            return fetched("retarus", "reports", url, **options)


def test_reports_are_deleted_until_the_list_is_short():
    center = Deleting([one_report(f"FJ{at:05}") for at in range(2500)])
    pages = center.pages()
    assert (len(rows(pages)), center.lists, center.reports) == (2500, 3, {})
    assert [finding for page in pages for finding in page.findings] == []
    assert len(jobs_of("reports", pages)) == 2500


def test_nothing_is_deleted_before_it_is_stored():
    center = Deleting([one_report(f"FJ{at:05}") for at in range(250)])
    with served(center.app) as url:
        pages = report("retarus", "reports").fetch(
            ask("retarus", url, delete="true", is_stored=True), client("retarus")
        )
        first = next(pages)
        assert center.deleted == []
        second = next(pages)
        assert center.deleted == [one["reports"][0]["jobId"] for one in first.rows]
        pages.close()  # and so the second one was never stored
    assert len(center.reports) == 150
    assert second.rows[0]["reports"][0]["jobId"] in center.reports


@pytest.mark.parametrize("changes", [{"delete": "false"}, {"is_stored": False}])
def test_nothing_is_deleted_unless_it_is_wanted_and_stored(changes):
    center = Deleting([one_report("FJ1")])
    assert len(rows(center.pages(**changes))) == 1
    assert center.deleted == []


def test_a_report_that_was_not_read_to_its_last_recipient_stays():
    ok = {"number": "+498912345678900", "status": "OK"}
    center = Deleting(
        [
            one_report("good"),
            one_report("waits", ok, {"number": "+492", "status": "PENDING"}),
            one_report("partly", ok, {"number": "+492"}),
            {"jobId": "nobody", "recipientStatus": []},
            {"jobId": "twice", "recipientStatus": [ok], "faxRecipient": [ok]},
        ]
    )
    assert len(rows(center.pages())) == 5
    assert center.deleted == ["good"]


OTHERS = {
    "pending": {"number": "+492", "status": "PENDING"},
    "unusable": {"number": "+492"},
    "too old": {"number": "+492", "status": "OK", "sentTs": "2020-01-01T00:00:00Z"},
}


def deletions(*reports, **changes):
    """What is asked to be deleted of a list, request by request."""
    options = {"delete": "true", "is_stored": True, "oldest": datetime(2026, 1, 1, tzinfo=UTC)} | changes
    pages, asked = answered((200, {"reports": list(reports)}), (200, {"reports": []}), **options)
    assert len(rows(pages)) == len(reports)
    return [document["jobIds"] for method, _, document in asked if method == "POST"]


@pytest.mark.parametrize("between", [0, 150])
@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("other", OTHERS)
def test_a_job_that_is_twice_in_a_list_stays_if_one_of_its_reports_has_to(other, is_first, between):
    whole = [one_report("A"), one_report("A", one_report()["recipientStatus"][0], OTHERS[other])]
    first, last = reversed(whole) if is_first else whole
    more = [one_report(f"FJ{at}") for at in range(between)]
    deleted = [job for jobs in deletions(first, *more, last) for job in jobs]
    assert deleted == [one["jobId"] for one in more]


def test_a_job_that_is_twice_in_a_list_is_deleted_once_when_all_of_it_is_stored():
    more = [one_report(f"FJ{at}") for at in range(99)]
    assert deletions(one_report("A"), one_report("A")) == [["A"]]
    assert deletions(one_report("A"), *more, one_report("A")) == [[one["jobId"] for one in more], ["A"]]


@pytest.mark.parametrize("part", [slice(None), slice(1), slice(1, None)])
def test_both_entries_of_the_sample_of_a_deletion_are_reports_that_are_gone(part):
    reply = json.loads((FIXTURES / "retarus/poll_rest_bulk_delete_reply.json").read_text())
    reports = [one_report(job["jobId"]) for job in reply["reports"]]
    full = [*reports, *(one_report(f"FJ{at}") for at in range(1000 - len(reports)))]
    pages, asked = answered(
        (200, {"reports": full}),
        (200, {"reports": reply["reports"][part]}),
        *[(200, {"reports": []})] * 10,  # nine more deletions, and the list
        delete="true",
        is_stored=True,
    )
    # Something is gone, and so the list is asked for again.
    assert [method for method, _, _ in asked] == ["GET", *["POST"] * 10, "GET"]
    assert asked[1][2]["jobIds"][:2] == ["FJLI3102O5BEPYOTB5LPC9", "FJEXAMPLEGONE000000001"]
    assert [finding for page in pages for finding in page.findings] == []


def test_a_report_that_is_too_old_to_be_told_stays():
    old, young = "2020-01-01T00:00:00Z", "2026-07-15T12:00:00Z"
    recipients = ({"number": "+498912345678900", "status": "OK", "sentTs": time} for time in (old, young))
    center = Deleting([one_report(job, recipient) for job, recipient in zip(("old", "young"), recipients, strict=True)])
    center.pages(oldest=datetime(2026, 1, 1, tzinfo=UTC))
    assert center.deleted == ["young"]


@pytest.mark.parametrize("reason", ["NOT_FOUND", "INTERNAL_ERROR", True, None])
def test_a_report_that_cannot_be_deleted_does_not_go_round_for_ever(reason):
    reports = [one_report(f"FJ{at:05}") for at in range(1500)]
    center = Deleting(reports, stays={one["jobId"]: reason for one in reports[:1200]})
    pages = center.pages()
    assert len(rows(pages)) == 1000  # what is behind the thousand that stay cannot be seen
    assert [finding.kind for page in pages for finding in page.findings] == ["full_list"]
    assert center.lists <= 2
    some = Deleting(reports, stays={one["jobId"]: reason for one in reports[:3]})
    assert sorted(jobs_of("reports", some.pages())) == sorted(one["jobId"] for one in reports)
    assert len(some.reports) == 3


def test_deleting_that_is_refused_as_a_whole_ends_and_is_found():
    center = Deleting([one_report(f"FJ{at:05}") for at in range(1000)], refuses=True)
    pages = center.pages()
    assert (len(rows(pages)), center.lists) == (1000, 1)
    assert [finding.kind for page in pages for finding in page.findings] == ["full_list"]


def test_the_stand_in_is_emptied_too():
    here = world(*thousand(1100), fax("FJ9", status="", completed_at=None))
    pages = pull("reports", here, changes={"delete": "true", "is_stored": True})
    assert len(rows(pages)) == 1100
    assert here.asked == {"list": 2, "bulk DELETE": 11}


def test_delete_is_true_or_false():
    with pytest.raises(ReportTrouble, match='neither "true" nor "false"'):
        fetched("retarus", "reports", "http://127.0.0.1:1", delete="yes")


# --- trouble -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, "refused", "misses the login in the request (400); check user, password and customer"),
        (401, "refused", "refused the credentials (401)"),
        (404, "unreadable", "(404); check customer and url"),
        (409, "unreadable", "had already (409)"),
        (500, "failed", "failed (500); the next run tries again"),
        (503, "failed", "failed (503); the next run tries again"),
        (520, "failed", "failed (520); the next run tries again"),
        (418, "unreadable", "answered 418; check the url"),
    ],
)
def test_each_documented_code_has_its_message_which_holds_no_secret(status, kind, words, caplog):
    found = trouble((status, json.dumps({"error": SECRET})))
    assert (found.kind, words in found.detail) == (kind, True)
    assert SECRET not in repr(found) + caplog.text + repr(ask("retarus", "x"))


@pytest.mark.parametrize("body", [b"<html>", b"7", b'{"report": []}', b'{"reports": "none"}', b"[" * 100_000, b"\xff"])
def test_an_answer_that_is_no_list_of_reports_is_unreadable(body):
    assert trouble((200, body)).kind == "unreadable"


def test_a_data_center_that_is_down_does_not_keep_us_from_the_other():
    here, other = world(fax("FJ1")), world(fax("FJ2", data_center="de2"))
    here.fail(10)
    with standing(retarus.application(here)) as de1, standing(retarus.application(other, data_center="de2")) as de2:
        pages = report("retarus", "reports").fetch(ask("retarus", f"{de1}{PATH} {de2}{PATH}"), client("retarus"))
        found = [next(pages)]
        with pytest.raises(ReportTrouble) as caught:
            next(pages)
    assert jobs_of("reports", found) == ["FJ2"]
    assert caught.value.kind == "failed"
    assert caught.value.detail.startswith(f"{de1.removeprefix('http://')}: Retarus failed (503)")


def test_requests_that_are_used_up_end_it_all():
    here = world(fax())
    with standing(retarus.application(here)) as url, pytest.raises(ReportTrouble) as caught:
        list(report("retarus", "reports").fetch(ask("retarus", f"{url}{PATH} {url}/x"), client("retarus", budget=1)))
    assert (caught.value.kind, here.asked) == ("budget", {"list": 1})
    assert caught.value.detail.startswith("the 1 requests")


@pytest.mark.parametrize("option", ["url", "soap_url"])
def test_a_high_availability_address_is_refused_with_the_reason(option):
    called = "reports" if option == "url" else "soap-reports-of-jobs"
    bases = {option: "https://faxws.de1.retarus.com/x https://faxws-ha.de.retarus.com/rest/v1"}
    asking = ask("retarus", **({"url": ""} | bases), jobs=["FJ1"])
    with pytest.raises(ReportTrouble, match="where a job may be missing; give those of the data centers"):
        list(report("retarus", called).fetch(asking, client("retarus")))


def test_both_german_data_centers_are_asked_unless_others_are_given():
    (url,) = (option.default for option in provider("retarus").reports.options if option.name == "url")
    assert [base.split(".")[1] for base in url.split()] == ["de1", "de2"]


# --- SOAP ----------------------------------------------------------------------------------------------------------


def by_soap(here, *jobs, url="", **changes):
    with standing(retarus.application(here)) as base:
        options = {"soap_url": base + retarus.SOAP_PATH, "jobs": jobs} | changes
        return fetched("retarus", "soap-reports-of-jobs", url, **options)


def test_reports_by_soap_are_those_of_the_callback():
    here = world(
        fax(fax_id="FN1", customer_id="order-4711"),
        fax(fax_id="FN2", status="BUSY"),
        fax("FJ2", fax_id="FN3", number="+498912345678901"),
        fax("FJ3", status="", completed_at=None),
    )
    found = entries("retarus", "soap-reports-of-jobs", by_soap(here, "FJ1", "FJ2", "FJ3", "gone"))
    assert ids("retarus", found) == ids("retarus", pushed(here))
    assert {learned(*pair) for pair in zip(pushed(here), found, strict=True)} == {("reference.id",), ()}
    assert [len(page.rows) for page in by_soap(here, "FJ1")] == [1]
    assert by_soap(here, "gone") == []


def test_soap_asks_in_the_documented_namespace_with_the_login_inside():
    app, asked = Flask("soap"), []

    @app.post("/")
    def answer():
        asked.append((request.headers["SOAPAction"], xmltodict.parse(request.get_data(), process_namespaces=True)))
        return Response("<Envelope><Body><ReportResponse/></Body></Envelope>", content_type="text/xml")

    with served(app) as url:
        jobs = ["FJ&1", *(f"FJ{at}" for at in range(2, 102))]
        assert fetched("retarus", "soap-reports-of-jobs", "", soap_url=url, jobs=jobs, password="<&>") == []
    (action, first), (_, second) = asked
    body = first["http://schemas.xmlsoap.org/soap/envelope/:Envelope"]["http://schemas.xmlsoap.org/soap/envelope/:Body"]
    wanted = body["http://retarus.com/fax4ba/faxws/3/0:ReportRequest"]
    assert (action, wanted["username"], wanted["password"]) == ('""', "exampleuser", "<&>")
    assert (wanted["jobId"], len(asked)) == (jobs[:100], 2)
    assert "FJ101" in json.dumps(second)


def test_soap_is_asked_only_where_the_account_says_so():
    app, asked = answering((500, b""))
    with served(app) as url:
        assert fetched("retarus", "soap-reports-of-jobs", url, jobs=["FJ1"]) == []
        assert fetched("retarus", "report-of-jobs", "", jobs=["FJ1"]) == []  # and REST may be left out
    assert asked == []


def test_a_wrong_login_by_soap_is_a_fault_that_says_where_to_look():
    with pytest.raises(ReportTrouble) as caught:
        by_soap(world(fax()), "FJ1", password="wrong-password")
    assert (caught.value.kind, "check user, password and soap_url" in caught.value.detail) == ("failed", True)
    assert "wrong-password" not in repr(caught.value)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<Envelope><Body><Fault><faultstring>example-password</faultstring></Fault></Body></Envelope>", "failed"),
        (b"<Envelope><Body><OtherResponse/></Body></Envelope>", "unreadable"),
        (b"<Envelope/>", "unreadable"),
        (b"<html></html>", "unreadable"),
        (b"{}", "unreadable"),
        (b"", "unreadable"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "unreadable"),
    ],
)
def test_anything_but_reports_by_soap_is_trouble(body, kind):
    app, _ = answering((200, body))
    with served(app) as url, pytest.raises(ReportTrouble) as caught:
        fetched("retarus", "soap-reports-of-jobs", "", soap_url=f"{url}/soap", jobs=["FJ1"])
    assert (caught.value.kind, SECRET in repr(caught.value)) == (kind, False)


# --- nothing, and lists written as PHP writes them --------------------------------------------------------------------


@pytest.mark.parametrize("called", ["reports", "report-of-jobs"])
@pytest.mark.parametrize("status", [200, 204])
@pytest.mark.parametrize(
    "body", ["", "null", "{}", "[]", '{"reports": null}', '{"reports": {}}', '{"reports": [null]}']
)
def test_an_answer_that_is_empty_in_whatever_way_is_an_empty_list(called, status, body):
    if status == 204:
        body = ""
    assert rows(answered((status, body), called=called, jobs=["FJ1", "FJ2"])[0]) == []
    assert rows(answered((status, body), called=called, jobs=["FJ1"])[0]) == []


@pytest.mark.parametrize(
    "document",
    [
        {"reports": {"0": one_report("FJ1"), "2": one_report("FJ3")}},
        {"0": one_report("FJ1"), "2": one_report("FJ3")},
        [one_report("FJ1"), one_report("FJ3")],
        {"reports": [one_report("FJ1"), None, one_report("FJ3")]},
    ],
)
def test_a_list_of_reports_is_read_in_whatever_way_it_is_written(document):
    found = entries("retarus", "reports", answered((200, document))[0])
    assert [event.provider_job_id for event in found] == ["FJ1", "FJ3"]


@pytest.mark.parametrize("document", [{"error": "down"}, {"reports": "down"}, "down", 7])
def test_an_answer_that_says_something_else_is_no_empty_list(document):
    assert trouble((200, json.dumps(document))).kind == "unreadable"
