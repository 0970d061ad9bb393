"""Retarus: one push, all recipients of a job, in every layout that is known."""

import json
import random
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError
from samples import event, events, sample

from receiver import providers
from receiver.errors import Undecodable
from receiver.providers.retarus.callback import redact
from schemas.event import FaxCompleted, Pages, Reference, TimeQuality
from schemas.fields import InvalidRow, flatten
from schemas.identity import fax_id

OK = "<faxRecipient><number>+49891</number><status>OK</status></faxRecipient>"
JOB = f'<faxJobReport xmlns="http://retarus.com/fax4ba/faxws/3/0"><jobId>J1</jobId>{OK}</faxJobReport>'


def job(*recipients, **fields):
    return json.dumps({"jobId": "J1", "faxRecipients": list(recipients), **fields}).encode()


def recipient(number="+4989123456", status="OK", **fields):
    return {"number": number, "status": status, **fields}


def keys(found):
    return [event.key for event in found]


# --- what a push says ----------------------------------------------------------------------------------------------


def test_a_push_says_all_it_says():
    found = event("retarus", sample("retarus/01_success.xml"))
    assert (found.account, found.key) == ("99999TE", ("FJIJPNJYN906EDIJNFGI5S", "498912504001710", "0"))
    assert str(fax_id("retarus", found.account, found.key)) == "70330dd6-f035-5d0a-be7f-b87a3545630b"
    assert (found.provider_job_id, found.provider_fax_id) == ("FJIJPNJYN906EDIJNFGI5S", "FNIJPNJYNA06EDIJNFUO1Q")
    assert (found.status_code, found.status_text) == ("OK", "OK")
    assert (found.recipient.number, found.recipient.number_raw) == ("+498912504001710", "+498912504001710")
    assert found.recipient.station_id == "+49/89/1250400-1710"
    assert found.pages == Pages(total=1, sent=1)
    assert (found.duration_seconds, found.attempts) == (26, None)
    assert (found.completed_at, found.time_quality) == (
        datetime(2018, 11, 8, 15, 38, 8, tzinfo=UTC),
        TimeQuality.PROVIDER,
    )
    assert found.reference == Reference(id="order-4711")
    assert found.test is False


def test_xml_and_json_of_one_job_are_the_same_event():
    assert event("retarus", sample("retarus/40_success.json")) == event("retarus", sample("retarus/01_success.xml"))


def test_pages_are_the_jobs_and_sent_only_where_delivered():
    found = events("retarus", sample("retarus/04_multi_recipient_mixed.xml"))
    assert [event.outcome for event in found] == ["delivered", "failed", "unconfirmed", "failed"]
    assert [event.pages for event in found] == [Pages(1, 1), Pages(1), Pages(1), Pages(1)]
    assert [event.failure and event.failure.reason for event in found] == [None, "busy", None, "bad_number"]


def test_every_code_in_one_push_has_its_outcome():
    found = events("retarus", sample("retarus/05_every_known_status.xml"))
    assert {event.outcome for event in found} == {"delivered", "failed", "unconfirmed", "canceled"}


def test_a_reference_is_the_customers_id_else_the_jobs_else_the_urls():
    parts = {"options": {"jobReference": "job"}, "reference": {"customerDefinedId": "mine", "billingCode": "b"}}
    assert event("retarus", job(recipient(), **parts)).reference == Reference("mine", "b", None)
    parts["reference"]["customerDefinedId"] = ""
    assert event("retarus", job(recipient(), **parts), reference="url").reference.id == "job"
    assert event("retarus", job(recipient(), reference=None, options=[]), reference="url").reference.id == "url"


def test_a_simulated_result_is_marked_as_test():
    assert event("retarus", job(recipient(status="BUSY", reason="Simulated"))).test is True


def test_a_missing_number_is_that_of_the_call_and_never_a_reason_to_refuse():
    found = event("retarus", job({"status": "OK", "sentToNumber": "004989123456"}))
    assert (found.key, found.recipient.number) == (("J1", "4989123456", "0"), "+4989123456")
    found = event("retarus", job({"status": "OK"}))
    assert (found.key, found.recipient.number) == (("J1", "", "0"), None)


# --- layouts -------------------------------------------------------------------------------------------------------


LAYOUTS = {
    "push": JOB,
    "getFaxReports": f"<ReportResponse>{JOB}</ReportResponse>",
    "SOAP": f"""<s:Envelope xmlns:s="x"><s:Header/><s:Body><n:getFaxReportsResponse xmlns:n="y">{JOB}
        </n:getFaxReportsResponse></s:Body></s:Envelope>""",
    "declaration after blanks": f"\r\n <?xml version='1.0'?>{JOB}",
    "prefixes": """<r:faxJobReport xmlns:r="x"><r:jobId>J1</r:jobId>
        <r:faxRecipient><r:number>+49891</r:number><r:status>OK</r:status></r:faxRecipient></r:faxJobReport>""",
    "template with a list element": f"""<report><jobId>J1</jobId><faxRecipients>{OK}</faxRecipients></report>""",
    "REST names": f"<faxJobReport><jobId>J1</jobId>{OK.replace('faxRecipient', 'recipientStatus')}</faxJobReport>",
    "attributes": """<faxJobReport xmlns:xsi="x"><jobId xsi:type="s">J1</jobId><faxRecipient>
        <number xsi:type="s">+49891</number><status a="b">OK</status><sentTS xsi:nil="true"/>
        </faxRecipient></faxJobReport>""",
    "CDATA": f"<faxJobReport><jobId><![CDATA[J1]]></jobId>{OK}</faxJobReport>",
}


@pytest.mark.parametrize("xml", LAYOUTS.values(), ids=LAYOUTS)
def test_a_job_is_found_by_local_name_whatever_wraps_it(xml):
    assert keys(events("retarus", xml.encode())) == [("J1", "49891", "0")]
    assert keys(events("retarus", xml.replace("<?xml version='1.0'?>", "").strip().encode("utf-16"))) == [
        ("J1", "49891", "0")
    ]


@pytest.mark.parametrize("name", ["faxRecipient", "faxRecipients", "recipientStatus", "faxNumbers"])
def test_recipients_may_be_a_list_or_a_single_one_under_every_name(name):
    for recipients in (recipient(), [recipient()]):
        body = json.dumps({"jobId": "J1", name: recipients}).encode()
        assert keys(events("retarus", body)) == [("J1", "4989123456", "0")]


def test_the_rest_layout_is_read_with_its_own_spelling_of_the_time():
    found = event("retarus", sample("retarus/poll_rest_report_single.json"))
    assert found.completed_at == datetime(2017, 8, 10, 13, 5, 9, tzinfo=UTC)
    assert found.reference.billing_info == "2017-08-10T13:05:09Z_billingInfo"
    assert found.key == ("FJJ66GHGX105ZZBIELVCN1", "498912345678900", "0")


def test_a_list_of_jobs_is_all_of_them():
    found = events("retarus", sample("retarus/poll_rest_report_list.json"))
    assert [event.key[0] for event in found] == ["FJJ5Y09UM505ZZBIELCRYC", "FJJ5WA23UO05ZZBIEL0JY5"]


@pytest.mark.parametrize(
    "body", [b"<ReportResponse/>", b'<a:ReportResponse xmlns:a="x"> </a:ReportResponse>', b'{"reports": []}']
)
def test_a_reply_with_no_job_is_ignored(body):
    assert events("retarus", body) == []


@pytest.mark.parametrize("body", [b"<html><body>Hi</body></html>", b"{}", b"<ReportResponse><new/></ReportResponse>"])
def test_a_document_about_something_else_is_not(body):
    with pytest.raises(ValidationError):
        events("retarus", body)


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "xml",
    [
        f"<jobId>1</jobId><jobId>2</jobId>{OK}",
        f'<jobId>1</jobId><a:jobId xmlns:a="x">2</a:jobId>{OK}',
        "<jobId>1</jobId><faxRecipient><status>OK</status><status>BUSY</status></faxRecipient>",
        "<jobId>1</jobId><faxRecipient><number>1</number><number>2</number><status>OK</status></faxRecipient>",
        f"<jobId>1</jobId>{OK}<recipientStatus><status>OK</status></recipientStatus>",
    ],
)
def test_a_value_given_twice_is_undecodable(xml):
    with pytest.raises(Undecodable):
        events("retarus", f"<faxJobReport>{xml}</faxJobReport>".encode())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (job(), "faxRecipient"),
        (b'{"jobId": "J1", "faxRecipients": null}', "faxRecipient"),
        (b'{"jobId": "J1"}', "faxRecipient"),
        (b"<faxJobReport><jobId>J1</jobId><faxRecipient/></faxJobReport>", "faxRecipient"),
        (b'{"faxRecipients": [{"status": "OK"}]}', "jobId"),
        (b'{"jobId": "", "faxRecipients": [{"status": "OK"}]}', "jobId"),
    ],
)
def test_a_job_without_id_or_recipients_is_refused_by_name(body, field):
    with pytest.raises(ValidationError) as caught:
        events("retarus", body)
    assert f"faxJobReport.0.{field}" in flat(caught.value)


def flat(error):
    return flatten(error.messages)


def test_a_recipient_without_status_is_invalid_in_its_place_and_the_others_count():
    found = events(
        "retarus", job(recipient("+492", status="PENDING"), {"number": "+491"}, recipient(), recipient(status=""))
    )
    assert found == [
        InvalidRow(1, {"status": "missing; expected a status word"}),
        found[1],
        InvalidRow(3, {"status": "expected a status word"}),
    ]
    assert isinstance(found[1], FaxCompleted)


def test_a_job_with_invalid_recipients_only_is_refused():
    with pytest.raises(ValidationError) as caught:
        events("retarus", job({"number": "+491"}, None))
    assert flat(caught.value) == {
        "faxJobReport.0.faxRecipient.0.status": "missing; expected a status word",
        "faxJobReport.0.faxRecipient.1": "expected an object",
    }


def test_an_invalid_job_among_valid_ones_is_one_invalid_row():
    body = json.dumps(
        {
            "reports": [
                {"jobId": "A", "recipientStatus": [recipient(), recipient("+492")]},
                {"x": 1},
                None,
                {"jobId": "B", "recipientStatus": [recipient()]},
            ]
        }
    )
    found = events("retarus", body.encode())
    assert [entry.index if isinstance(entry, InvalidRow) else entry.key[0] for entry in found] == ["A", "A", 2, 3, "B"]
    assert set(found[2].expected) == {"jobId", "faxRecipient"}


@pytest.mark.parametrize(
    "optional",
    [
        {"sentTS": "soon", "durationInSecs": "long", "remoteCsid": ["x"], "reason": {"a": 1}},
        {"sentTS": "0001-01-01T00:00:00Z", "durationInSecs": -1, "remoteCsid": "\ud800", "numId": 4.5},
        {"sentTS": "2018-11-08", "durationInSecs": 10**30, "properties": [{"key": "a", "value": None}]},
    ],
)
def test_unreadable_optional_values_are_none(optional):
    found = event("retarus", job(recipient(**optional), pages="many"))
    assert (found.completed_at, found.duration_seconds, found.recipient.station_id) == (None, None, None)
    assert (found.pages.total, found.status_text, found.time_quality) == (None, None, TimeQuality.NONE)


# --- occurrence ----------------------------------------------------------------------------------------------------

SAME_NUMBER = [
    recipient(sentTS="2026-07-01T10:00:00Z", status="BUSY", durationInSecs=0, numId="b"),
    recipient(sentTS="2026-07-01T10:00:00Z", status="BUSY", durationInSecs=4, numId="a"),
    recipient(sentTS="2026-07-01T10:00:00Z", status="BUSY", numId="0"),
    recipient("004989123456", sentTS="2026-07-01T12:00:00+02:00", status="OK", durationInSecs=1),
    recipient(sentTS="2026-07-01T11:00:00Z", status="BUSY"),
    recipient(sentTS=None, status="BUSY", numId="1"),
    recipient(sentTS=None, status="BUSY", numId="2"),
]


@given(st.permutations(range(len(SAME_NUMBER))))
def test_the_same_number_twice_is_told_apart_by_time_status_and_duration_never_by_position(order):
    found = events("retarus", job(*(SAME_NUMBER[index] for index in order)))
    assert {index: event.key for index, event in zip(order, found, strict=True)} == {
        index: ("J1", "4989123456", str(index)) for index in range(len(SAME_NUMBER))
    }


def test_recipients_of_the_same_number_have_no_rank_until_all_of_them_are_final():
    final = recipient(sentTS="2026-07-01T10:00:00Z")
    assert events("retarus", job(recipient(status="PENDING"), final)) == []
    later = events("retarus", job(recipient(sentTS="2026-07-01T11:00:00Z"), final))
    assert keys(later) == [("J1", "4989123456", "1"), ("J1", "4989123456", "0")]


def test_two_thousand_recipients_are_read_in_linear_time():
    def seconds(count):
        rows = [
            recipient(f"+49891{number % (count // 2):06}", sentTS="2018-11-08T15:38:08Z") for number in range(count)
        ]
        random.Random(1).shuffle(rows)
        body = job(*rows)
        start = time.thread_time()
        assert len(events("retarus", body)) == count
        return time.thread_time() - start

    seconds(200)
    few, many = min(seconds(500) for _ in range(3)), min(seconds(2000) for _ in range(3))
    assert many < 1
    assert many < 8 * few


# --- redact --------------------------------------------------------------------------------------------------------

SECRET = "https://hooks.example.com/callbacks/retarus/t0ken"
PUSH = f"<httpStatusPush><url>{SECRET}</url><authMethod>NONE</authMethod></httpStatusPush>"


@pytest.mark.parametrize(
    "body",
    [
        f"<a>{PUSH}</a>",
        f'<n:a xmlns:n="x"><n:httpStatusPush >\n<n:url a=">">{SECRET}</n:url\n></n:httpStatusPush></n:a>',
        f"<a><httpStatusPush><x/><url><![CDATA[{SECRET}]]></url></httpStatusPush></a>",
        f"<a><httpStatusPush><!-- <url> --><url>{SECRET}<!-- </url> -->{SECRET}</url></httpStatusPush></a>",
        f"<a><httpStatusPush><url>{SECRET}",
        f"<a><httpStatusPush><url>{SECRET}</httpStatusPush></a>",
        f"<!DOCTYPE a><a>{PUSH}</a>",
        f"{PUSH * 3}",
        f'{{"httpStatusPush": {{"url": "{SECRET}", "authMethod": "NONE"}}, "x": {{"url": "kept"}}}}',
        f'{{"httpStatusPush" : {{"authMethod": {{"a": [1]}}, "url":["{SECRET}", "{SECRET}"]}}}}',
        f'{{"reports": [{{"httpStatusPush": {{"\\u0075rl": "{SECRET}"}}}}, {{"url": "kept"}}]}}',
        f'{{"httpStatusPush": {{"url": "a\\"{SECRET}',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-16-le"])
def test_our_own_url_is_blanked_and_every_other_byte_kept(body, encoding):
    redacted = redact(body.encode(encoding)).decode(encoding)
    assert SECRET not in redacted
    assert ("kept" in redacted) == ("kept" in body)
    if SECRET + "</url><authMethod>" in body:
        assert redacted == body.replace(SECRET, "")


@pytest.mark.parametrize(
    "path", ["retarus/01_success.xml", "retarus/40_success.json", "retarus/31_negative_truncated.xml"]
)
def test_a_redacted_sample_lacks_the_url_only(path):
    raw = sample(path)
    assert redact(raw.body) == raw.body.replace(b"https://statuslistener.example.com:9564/Faxolution-v3.0", b"")


def test_a_redacted_push_is_the_same_events():
    raw = sample("retarus/04_multi_recipient_mixed.xml")
    assert events("retarus", redact(raw.body)) == events("retarus", raw)


@given(st.binary())
def test_redacting_gives_any_other_body_back(body):
    assert redact(body) == body


def test_redacting_takes_linear_time_on_hostile_bodies():
    for piece in (
        b"<httpStatusPush>",
        b"<!--",
        b"<![CDATA[",
        b'\\"',
        b'{"httpStatusPush":',
        b"<httpStatusPush><url>",
        b"<",
    ):
        start = time.thread_time()
        redact(piece * (1_000_000 // len(piece)))
        assert time.thread_time() - start < 5


def test_the_set_up_has_the_block_for_a_send_request():
    setup = providers.load()["retarus"].push.setup
    assert all(placeholder in setup for placeholder in ("{url}", "{user}", "{auth}", "httpStatusPush"))
