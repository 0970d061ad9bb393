"""FAXAGE's status and call records: what is asked, and what is made of every answer it documents."""

import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from flask import Flask, Response, request
from providers.samples import FIXTURES, events, manifest
from pulling import SECRET, UNTIL, ask, client, entries, fetched, ids, learned, provider, report, rows, served
from standins import faxage
from standins.world import SentFax, World, standing

from receiver.errors import ReportTrouble, Unprocessable
from receiver.providers import Tally
from schemas.event import Pages
from schemas.repairing import noting_repairs

SENT = datetime(2026, 7, 15, 16, 0, tzinfo=UTC)
DONE = datetime(2026, 7, 15, 16, 1, 30, tzinfo=UTC)
RECORD = (FIXTURES / "faxage/poll_status_all_options.tsv").read_bytes().strip(b"\n")
LOGIN = {"username": "exampleuser", "company": "acme", "password": SECRET}


def fax(job_id="779029", status="success", number="+12085550139", **more):
    return SentFax(job_id, number, status, **({"submitted_at": SENT, "completed_at": DONE} | more))


def world(*faxes):
    return World("faxage", "acme", *faxes, timezone=ask("faxage", "").zone)


NO_JOBS = b"ERR06: No jobs to display or job id specified not found"


def answering(*bodies):
    """A FAXAGE that gives these bodies in turn, the last one again and again; what it was asked."""
    app, asked = Flask("faxage"), []

    @app.post("/<page>")
    def answer(page):
        asked.append({"page": page} | {name: request.form.getlist(name) for name in request.form})
        return Response(bodies[min(len(asked), len(bodies)) - 1], content_type="text/plain")

    return app, asked


def answered(*bodies, called="status", **changes):
    """The pages of answers, and what was asked."""
    app, asked = answering(*bodies)
    with served(app) as url:
        return fetched("faxage", called, f"{url}/httpsfax.php", **changes), asked


def trouble(*bodies, **changes):
    with pytest.raises(ReportTrouble) as caught:
        answered(*bodies, **changes)
    return caught.value


def sample(name):
    return (FIXTURES / "faxage" / name).read_bytes()


# --- records -------------------------------------------------------------------------------------------------------

EXPECTED = {
    "poll_status_all_options.tsv": ["delivered"],
    "poll_status_mixed.tsv": ["failed", "delivered", None],
    "poll_status_without_showtries.tsv": ["delivered", "delivered"],
    "poll_status_ERR02.txt": "check company, user and password",
    "poll_status_ERR06.txt": [],
    "poll_status_ERR08.txt": "did not understand the request",
}
STATUS_SAMPLES = [
    row["file"]
    for row in manifest()
    if (row["provider"], row["kind"]) == ("faxage", "poll") and row["file"].startswith("poll_status")
]


@pytest.mark.parametrize("name", STATUS_SAMPLES)
def test_every_sample_of_a_status_answer_comes_to_what_it_says(name):
    expected = EXPECTED[name]
    if isinstance(expected, str):
        assert expected in trouble(sample(name)).detail
        return
    pages, _ = answered(sample(name))
    found = entries("faxage", "status", pages)
    assert [event.outcome for event in found] == [outcome for outcome in expected if outcome]
    assert len(rows(pages)) == len(expected)


WHOLE = RECORD.decode().split("\t")


@pytest.mark.parametrize("columns", [9, 13, 14])
@pytest.mark.parametrize("text", [2, 5, 10])  # destname, longstatus, csid
@pytest.mark.parametrize("tabs", ["a\tb", "\ta", "a\t\tb\t", "1\tsuccessful\t"])
def test_a_tab_within_a_text_shifts_no_column(columns, text, tabs):
    if text >= columns:
        return
    written = WHOLE[:columns]
    written[text] = tabs
    with noting_repairs() as repaired:
        (plain,) = entries("faxage", "status", answered("\t".join(WHOLE[:columns]).encode())[0])
        assert not repaired
        (found,) = entries("faxage", "status", answered("\t".join(written).encode())[0])
    assert repaired == {"tab"}
    texts = [found.recipient.name, found.status_text, found.recipient.station_id]
    assert texts.pop([2, 5, 10].index(text)) == tabs
    assert set(texts) <= {plain.recipient.name, plain.status_text, plain.recipient.station_id}
    as_before = replace(found, status_text=plain.status_text, recipient=plain.recipient)
    assert (as_before, found.recipient.number) == (plain, plain.recipient.number)


@pytest.mark.parametrize("text", [2, 5])
@pytest.mark.parametrize("tabs", ["1\tsuccess\t2", "success\t", "\tFailure", "1\tpending"])
def test_where_two_columns_may_be_the_status_there_is_none(text, tabs):
    written = [*WHOLE[:4], "failure", *WHOLE[5:]]
    written[text] = tabs
    with pytest.raises(Unprocessable):
        entries("faxage", "status", answered("\n".join(["\t".join(written), RECORD.decode()]).encode())[0])


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("count", [1, 2, 1500])
def test_lines_may_end_in_any_way(end, count):
    pages, _ = answered((RECORD + end) * count)
    assert len(rows(pages)) == count
    assert {row["record"] for row in rows(pages)} == {RECORD.decode()}


def test_a_carriage_return_within_a_text_ends_no_line():
    (found,) = entries("faxage", "status", answered(RECORD.replace(b"Example", b"Ex\rample") + b"\n")[0])
    assert found.recipient.name == "Ex\rample Office"


def test_a_record_says_all_it_says():
    (found,) = entries("faxage", "status", answered(RECORD)[0])
    assert (found.key, found.outcome, found.status_text) == (("12345",), "delivered", "Sent OK")
    assert (found.recipient.number, found.recipient.name) == ("+18005550142", "Example Office")
    assert (found.recipient.station_id, found.attempts) == ("FAX01", 1)
    assert (found.pages, found.duration_seconds) == (Pages(3, 3), 72)
    assert found.submitted_at == datetime(2026, 6, 15, 16, 0, tzinfo=UTC)
    assert found.completed_at == datetime(2026, 6, 15, 16, 1, 30, tzinfo=UTC)


def test_empty_columns_keep_their_places_and_say_nothing():
    busy, ok = entries("faxage", "status", answered(sample("poll_status_mixed.tsv"))[0])
    assert (busy.attempts, busy.recipient.station_id, busy.pages) == (3, None, Pages(3, 0))
    assert (ok.recipient.name, ok.recipient.number) == (None, "+12085550139")
    bare = b"12345" + b"\t" * 4 + b"success" + b"\t" * 9
    (found,) = entries("faxage", "status", answered(bare)[0])
    assert (found.completed_at, found.attempts, found.pages) == (None, None, Pages())


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_names_come_in_utf_8_or_in_windows_1252(encoding):
    record = RECORD.replace(b"Example Office", "Café Zoë".encode(encoding))
    (found,) = entries("faxage", "status", answered(record + b"\r\n\r\n")[0])
    assert found.recipient.name == "Café Zoë"


def test_an_account_that_does_not_know_the_newer_option_answers_without_its_column():
    (found,) = entries("faxage", "status", answered(RECORD.rpartition(b"\t")[0])[0])
    assert (found.pages, found.recipient.station_id, found.attempts) == (Pages(3, 3), "FAX01", None)


@pytest.mark.parametrize("options", [1, 2, 3, 4])
def test_of_a_record_with_other_options_than_asked_for_the_columns_that_need_none_are_read(options):
    """Which of the options they are is not said."""
    (found,) = entries("faxage", "status", answered(b"\t".join(RECORD.split(b"\t")[: 8 + options]))[0])
    assert (found.key, found.outcome, found.duration_seconds) == (("12345",), "delivered", 72)
    assert found.completed_at == datetime(2026, 6, 15, 16, 1, 30, tzinfo=UTC)
    assert (found.pages, found.recipient.station_id, found.attempts) == (Pages(), None, None)


@pytest.mark.parametrize("options", [faxage.NEWER_OPTIONS, faxage.DOCUMENTED_OPTIONS, ()])
def test_whatever_options_an_account_knows_its_faxes_are_told(options):
    here = world(fax("1"), fax("2", "failure", attempts=3), fax("3", completed_at=None))
    with standing(faxage.application(here, options=options)) as url:
        found = entries("faxage", "status", fetched("faxage", "status", f"{url}/httpsfax.php"))
    assert [(event.key, event.outcome) for event in found] == [(("1",), "delivered"), (("2",), "failed")]
    assert [event.attempts for event in found] == ([1, 3] if "showtries" in options else [None, None])


def test_a_record_with_other_columns_is_refused_alone():
    pages, _ = answered(b"\n".join([RECORD, b"12346\tsuccess", RECORD + b"\tmore"]))
    good, *odd = rows(pages)
    shape = report("faxage", "status").shape
    assert shape(good)["jobid"] == "12345"
    for row in odd:
        with pytest.raises(Unprocessable) as caught:
            shape(row)
        assert caught.value.fields == {"columns": "expected 14 columns, 13 or 9"}


@pytest.mark.parametrize("body", [b"<html>\n<h1>Down</h1>\n</html>", b"12345\n12346", b"OK", RECORD + b"\tmore"])
def test_an_answer_without_one_good_record_is_trouble_and_not_many_bad_ones(body):
    found = trouble(body)
    assert (found.kind, "14 columns" in found.detail) == ("unreadable", True)


@pytest.mark.parametrize("end", [b"\x00", b"\n\x00", b"\r\n\x00\x00", b"\n\x00\n"])
def test_nuls_behind_an_answer_are_no_record(end):
    (found,) = entries("faxage", "status", answered(RECORD + end)[0])
    assert found.attempts == 1


def test_an_odd_record_alone_on_its_page_is_no_trouble_after_good_ones():
    pages, _ = answered((RECORD + b"\n") * 500 + b"12346\tsuccess\n")
    assert [len(page.rows) for page in pages] == [500, 1]


@pytest.mark.parametrize("body", [b"", b"\r\n"])
def test_an_empty_answer_is_none_as_faxage_says_when_there_is_no_job(body):
    with pytest.raises(ReportTrouble, match="nothing at all"):
        answered(body)


# --- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"ERR01: Database connection failed", "failed", "its own database (ERR01)"),
        (b"ERR02: Login incorrect", "refused", "check company, user and password"),
        (b"err02: login incorrect", "refused", "check company, user and password"),
        (b" ERR02 Login incorrect", "refused", "check company, user and password"),
        (b"\n\xef\xbb\xbfERR08: Unknown operation specified or bad POST", "unreadable", "(ERR08); check the url"),
        (b"ERR42: jobs of exampleuser", "unreadable", "FAXAGE answered ERR42"),
        (RECORD + b"\nERR01: Database connection failed", "failed", "(ERR01)"),
    ],
)
def test_each_error_is_told_by_its_number_at_the_start_of_a_200(body, kind, words):
    found = trouble(body)
    assert (found.kind, words in found.detail) == (kind, True)
    assert "exampleuser" not in found.detail


def test_an_answer_that_echoes_the_password_is_not_repeated(caplog, capsys):
    with (
        standing(faxage.application(world(fax()), username="exampleuser")) as url,
        pytest.raises(ReportTrouble) as caught,
    ):
        # A time it cannot read is a bad POST to the stand-in, which echoes it as FAXAGE does.
        fetched("faxage", "status", f"{url}/httpsfax.php", begin=datetime(999, 7, 1, tzinfo=UTC))
    assert "(ERR08)" in caught.value.detail
    output = capsys.readouterr()
    assert SECRET not in repr(caught.value) + caplog.text + output.out + output.err + repr(ask("faxage", "x"))


def test_a_wrong_password_is_refused_and_in_no_message():
    with standing(faxage.application(world(fax()))) as url, pytest.raises(ReportTrouble) as caught:
        fetched("faxage", "status", f"{url}/httpsfax.php", password="wrong-password")
    assert caught.value.kind == "refused"
    assert "wrong-password" not in repr(caught.value)


@pytest.mark.parametrize("option", ["url", "cdr_url"])
def test_the_debugging_page_is_never_asked(option):
    app, asked = answering(RECORD)
    with served(app) as url:
        asking = ask("faxage", **{"url": f"{url}/httpsfax.php", option: f"{url}/httpsfax-debug.php"})
        reports = provider("faxage").reports
        fetch = reports.records[1].fetch if option == "url" else reports.aggregates[0].fetch
        with pytest.raises(ReportTrouble, match="debugging page"):
            list(fetch(asking, client("faxage")))
    assert asked == []


# --- what is asked -------------------------------------------------------------------------------------------------


def test_a_window_is_asked_in_the_endpoints_zone_with_an_hour_more_on_both_sides_and_always_the_same_columns():
    _, asked = answered(NO_JOBS)
    assert asked == [
        {
            "page": "httpsfax.php",
            **{name: [value] for name, value in LOGIN.items()},
            "operation": ["status"],
            "begin": ["2026-07-14 11:00:00"],
            "end": ["2026-07-15 13:00:00"],
            **{option: ["1"] for option in ("pagecount", "csid", "showlogin", "xmitpages", "showtries")},
        }
    ]


def test_a_fax_that_ends_within_a_day_is_in_a_window_after_its_end():
    overlap = report("faxage", "status").overlap
    late = fax(submitted_at=UNTIL - timedelta(hours=1), completed_at=UNTIL + timedelta(hours=22))
    with standing(faxage.application(world(late))) as url:
        pages = fetched(
            "faxage", "status", f"{url}/httpsfax.php", begin=UNTIL - overlap, end=UNTIL + timedelta(hours=23)
        )
    assert ids("faxage", entries("faxage", "status", pages)) == ids(
        "faxage", [event for one in world(late).callbacks() for event in events("faxage", one.callback)]
    )


def test_jobs_are_asked_by_the_hundred_and_no_jobs_are_not_asked():
    pages, asked = answered(NO_JOBS, called="status-of-jobs", jobs=[str(job) for job in range(101)])
    assert [len(one["jobids[]"]) for one in asked[:2]] == [100, 1]
    assert "begin" not in asked[0]
    assert answered(NO_JOBS, called="status-of-jobs") == ([], [])
    assert pages == []


def test_an_unknown_job_does_not_hide_the_others_even_if_it_makes_the_whole_answer_an_error():
    app, asked = Flask("faxage"), []

    @app.post("/httpsfax.php")
    def strict():
        jobs = request.form.getlist("jobids[]")
        asked.append(jobs)
        if "unknown" in jobs:
            return sample("poll_status_ERR06.txt")
        return b"".join(RECORD.replace(b"12345", job.encode()) + b"\n" for job in jobs)

    with served(app) as url:
        jobs = ["1", "2", "unknown", "4", "5"]
        pages = fetched("faxage", "status-of-jobs", f"{url}/httpsfax.php", jobs=jobs)
        found = {event.provider_job_id for event in entries("faxage", "status-of-jobs", pages)}
        assert found == {"1", "2", "4", "5"}
        asked.clear()
        fetched("faxage", "status-of-jobs", f"{url}/httpsfax.php", jobs=["unknown"] * 1000)
    assert len(asked) <= 10 + 2 * 16


# --- push and pull -------------------------------------------------------------------------------------------------


def test_callback_and_record_of_a_fax_are_the_same_fax_and_the_record_is_no_news():
    faxes = [fax("1"), fax("2", "failure", number="+18005550142"), fax("3", completed_at=None)]
    here = world(*faxes)
    with standing(faxage.application(here, options=faxage.NEWER_OPTIONS)) as url:
        pages = fetched("faxage", "status", f"{url}/httpsfax.php")
        of_jobs = fetched("faxage", "status-of-jobs", f"{url}/httpsfax.php", jobs=["3", "2", "1"])
    pushed = [event for one in here.callbacks() for event in events("faxage", one.callback)]
    pulled = entries("faxage", "status", pages)
    assert ids("faxage", pulled) == ids("faxage", pushed)
    assert sorted(ids("faxage", entries("faxage", "status-of-jobs", of_jobs))) == sorted(ids("faxage", pushed))
    assert [learned(*pair) for pair in zip(pushed, pulled, strict=True)] == [
        ("recipient.station_id", "attempts"),
        ("attempts",),
    ]
    assert [learned(*pair) for pair in zip(pulled, pushed, strict=True)] == [(), ()]


# --- size ----------------------------------------------------------------------------------------------------------


def test_a_hundred_thousand_records_come_in_pages_of_five_hundred_long_before_the_answer_ends():
    app, has_a_page = Flask("faxage"), threading.Event()

    @app.post("/httpsfax.php")
    def many():
        def blocks():
            yield (RECORD + b"\n") * 1000
            assert has_a_page.wait(60)
            yield from ((RECORD + b"\n") * 1000 for _ in range(99))

        return Response(blocks(), content_type="text/plain")

    with served(app) as url:
        pages = report("faxage", "status").fetch(ask("faxage", f"{url}/httpsfax.php"), client("faxage"))
        sizes = [len(next(pages).rows)]
        has_a_page.set()
        sizes += [len(page.rows) for page in pages]
    assert sizes == [500] * 200


# --- calls ---------------------------------------------------------------------------------------------------------

DAYS = {"begin": datetime(2026, 6, 14, 6, 0, tzinfo=UTC), "end": datetime(2026, 6, 17, 6, 0, tzinfo=UTC)}


def tallies(*bodies, **changes):
    app, asked = answering(*bodies)
    with served(app) as url:
        asking = ask("faxage", url, **({"cdr_url": f"{url}/getcdr.php"} | DAYS | changes))
        return list(provider("faxage").reports.aggregates[0].fetch(asking, client("faxage"))), asked


CDR_SAMPLES = [
    row["file"]
    for row in manifest()
    if row["file"].startswith("poll_getcdr") and row["file"] != "poll_getcdr_empty_duration.csv"
]


def call(calldate, src, dst, duration):
    return {"calldate": calldate, "direction": "OUT", "src": src, "dst": dst, "duration": duration}


@pytest.mark.parametrize("name", CDR_SAMPLES)
def test_every_sample_of_call_records_is_counted_by_day_or_is_its_error(name):
    if "ERR" in name:
        with pytest.raises(ReportTrouble, match=r"ERR02.*check company, user and password"):
            tallies(sample(name))
        return
    found, asked = tallies(sample(name))
    assert found == [
        Tally(date(2026, 6, 14), {"calls": 0, "seconds": 0}),
        Tally(
            date(2026, 6, 15),
            {"calls": 1, "seconds": 32},
            rows=(call("2026-06-15 10:00:41", "3035550110", "8005550142", "32"),),
        ),
        Tally(date(2026, 6, 16), {"calls": 0, "seconds": 0}),
    ]
    times = {"begin": ["2026-06-13 23:00:00"], "end": ["2026-06-16 23:59:59"]}
    assert asked == [{"page": "getcdr.php", **{key: [value] for key, value in LOGIN.items()}, **times}]


ODD_CALLS = [
    b"2026-06-15 10:00:41,OUT,3035550110,8005550142,",
    b"2026-06-15 10:00:41,OUT,3035550110,8005550142",
    b"2026-06-15 10:00:41,OUT,3035550110,8005550142,12.5",
    b"2026-06-15 10:00:41,OUT,3035550110,8005550142,00:00:12",
    b"2026-06-15 10:00:41,OUT,3035550110,8005550142,-1",
    b"2026-06-15 10:00:41,out,3035550110,8005550142,12",
    b"2026-06-15 10:00:41,,3035550110,8005550142,12",
    b"2026-06-15,OUT,3035550110,8005550142,12",
    b"0000-00-00 00:00:00,OUT,3035550110,8005550142,1",
    b"9999-12-31 23:59:59,OUT,3035550110,8005550142,999999999",
    b"900105,2026-06-15 10:00:41,OUT,3035550110,8005550142,",
]
ODD_CALLS += [b"<br>", b"a wrapped line", b",,,,"]
GOOD_CALL = b"2026-06-15 10:07:02,OUT,2085550139,3035550110,75"


@pytest.mark.parametrize(("line", "others"), [*((line, 1) for line in ODD_CALLS), (ODD_CALLS[0], 0)])
def test_an_odd_line_among_call_records_is_named_and_the_others_count(line, others):
    *days, odd = tallies(b"\n".join([line, *[GOOD_CALL] * others]) + b"\n")[0]
    assert [day.counts["calls"] for day in days] == [0, others, 0]
    assert [day.counts["unreadable"] for day in days] == [1, 1, 1]  # of which day it is may be what is odd
    assert (odd.kind, odd.subject) == ("unreadable", "calls")
    assert odd.detail == {"rows": 1, "lines": "1", "record": "expected calldate, IN or OUT, src, dst and whole seconds"}
    assert odd.rows == ({"line": 1, "record": line.decode()},)
    assert "3035550110" not in repr(odd)  # shown only to who asks for it


def test_the_sample_with_a_call_that_was_not_billed_counts_the_other_one():
    day = {"begin": datetime(2026, 11, 27, 7, 0, tzinfo=UTC), "end": datetime(2026, 11, 28, 7, 0, tzinfo=UTC)}
    found, odd = tallies(sample("poll_getcdr_empty_duration.csv"), **day)[0]
    assert found.counts == {"calls": 1, "seconds": 75, "unreadable": 1}
    assert found.rows == (call("2026-11-27 10:07:02", "2085550139", "3035550110", "75"),)
    assert odd.detail["lines"] == "1"


def test_of_many_calls_all_are_counted_and_the_first_are_kept():
    _, found, _ = tallies((GOOD_CALL + b"\n") * 250)[0]
    assert (found.counts, len(found.rows)) == ({"calls": 250, "seconds": 250 * 75}, 100)


def test_call_records_may_be_left_out():
    assert tallies(b"ERR02: login incorrect", cdr_url="") == ([], [])


def test_a_call_counts_for_the_day_it_ended_on():
    found, _ = tallies(
        b"2026-06-13 23:59:50,OUT,1,2,20\n2026-06-14 23:59:50,OUT,1,2,20\n2026-06-16 23:59:50,OUT,1,2,20\n"
    )
    assert [tally.counts["calls"] for tally in found] == [1, 1, 0]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"ERR01: database connection failed", "failed"),
        (b"ERR06: something", "unreadable"),
        (b"<html>", "unreadable"),
        (b"<html>\n<h1>Down</h1>\n</html>", "unreadable"),
        (b"OK", "unreadable"),
    ],
)
def test_anything_but_call_records_is_trouble(body, kind):
    with pytest.raises(ReportTrouble) as caught:
        tallies(body)
    assert caught.value.kind == kind
    assert "3035550110" not in repr(caught.value)


def test_the_calls_of_our_faxes_agree_with_what_we_know_of_them():
    incoming = [faxage.IncomingCall(SENT, "Unavailable", "3035550110", 75)]
    here = world(fax("1", attempts=3), fax("2", "failure", attempts=2), fax("3"))
    with standing(faxage.application(here, incoming=incoming)) as url:
        asking = ask("faxage", url, cdr_url=f"{url}/getcdr.php", begin=SENT.replace(hour=6), end=UNTIL)
        (found,) = provider("faxage").reports.aggregates[0].fetch(asking, client("faxage"))
    assert (found.day, found.counts) == (date(2026, 7, 15), {"calls": 6, "seconds": 62})


@pytest.mark.parametrize(
    ("calls", "ours", "expected"),
    [
        (0, {}, False),
        (5, {"delivered": 2, "failed": 1, "total": 3}, False),
        (3, {"delivered": 3, "total": 3}, False),
        (2, {"delivered": 3, "total": 3}, True),  # calls, and so faxes, that FAXAGE knows nothing of
        (1, {"failed": 4, "total": 4}, False),  # a fax may fail before it is dialed
        (4, {}, True),  # a day of which we know nothing
        (0, {"delivered": 1, "total": 1}, True),
    ],
)
def test_calls_differ_where_they_cannot_be_those_of_our_faxes(calls, ours, expected):
    assert provider("faxage").reports.aggregates[0].differs({"calls": calls, "seconds": 9}, ours) is expected


def test_a_line_that_cannot_be_read_may_be_the_call_of_a_fax():
    differs = provider("faxage").reports.aggregates[0].differs
    counts = {"calls": 1, "seconds": 9, "unreadable": 1}
    assert not differs(counts, {"delivered": 2, "total": 2})
    assert differs(counts, {"delivered": 3, "total": 3})
    assert differs(counts, {})
