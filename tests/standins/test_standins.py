"""The stand-ins answer as the samples and the documents do: shapes, errors and limits."""

import json
import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import httpx
import pytest
from providers.samples import FIXTURES, events

from receiver.providers import RawCallback
from standins import efax, faxage, openfax, openfax_broadcast, retarus
from standins.world import SentFax, World, standing, tls

SENT = datetime(2026, 7, 15, 16, 0, tzinfo=UTC)
DONE = datetime(2026, 7, 15, 16, 1, 30, tzinfo=UTC)
DENVER, PACIFIC = ZoneInfo("America/Denver"), ZoneInfo("America/Los_Angeles")
CREDENTIALS = {"username": "exampleuser", "company": "acme", "password": "example-password"}
ALL_COLUMNS = dict.fromkeys(("pagecount", "csid", "showlogin", "xmitpages", "showtries"), "1")
RETARUS = "/rest/v1/99999TE/fax/reports"
BASIC = ("exampleuser", "example-password")
EFAX = {"x-api-key": "example-api-key", "efax-username": "exampleuser", "efax-password": "example-password"}


def fax(job_id="779029", status="0", number="+12085550139", **more):
    return SentFax(job_id, number, status, **({"submitted_at": SENT, "completed_at": DONE} | more))


def pending(job_id="779029", **more):
    return fax(job_id, "", completed_at=None, **more)


def sample(path):
    return (FIXTURES / path).read_text()


@pytest.fixture
def client():
    with httpx.Client(timeout=60, trust_env=False, verify=tls()) as made:
        yield made


# --- Openfax -------------------------------------------------------------------------------------------------------


@pytest.fixture
def openfax_rows(client):
    """Rows of a world for a request with these changes."""

    def rows(world, **changes):
        with standing(openfax.application(world)) as url:
            return openfax_ask(client, url, **changes).json()

    return rows


def openfax_ask(client, url, path="outboundDetailsbyDate.php", **changes):
    known = {"AccountID": "123456789", "APIKey": "IEYRtw2cd8aGa54", "FromDate": "2026-07-15", "ToDate": "2026-07-15"}
    return client.post(f"{url}/{path}", data=known | changes)


def test_openfax_rows_have_the_documented_columns_and_types(openfax_rows):
    (row,) = openfax_rows(World("openfax", "123456789", fax()))
    expected = json.loads(sample("openfax/poll_outbound_details_summary.json"))[0]
    assert [(name, type(value)) for name, value in row.items()] == [
        (name, type(value)) for name, value in expected.items()
    ]


def test_openfax_gives_final_faxes_in_the_summary_and_every_try_in_the_detail(openfax_rows):
    world = World(
        "openfax",
        "123456789",
        fax("1"),
        fax("2", "2", attempts=3),
        fax("3", "8"),
        fax("4", stage="13"),
        pending("5"),
        pending("6", stage="11", attempts=0),
    )
    summary = openfax_rows(world, DetailType="0")
    assert [(row["OutTransID"], row["CurrentState"]) for row in summary] == [(1, 8), (2, 9), (3, 10), (4, 13)]
    assert (summary[2]["RenderStatus"], summary[2]["PageCount"]) == (2, 0)
    detail = openfax_rows(world, DetailType="1")
    assert [row["CurrentState"] for row in detail] == [8, 7, 7, 9, 10, 13, 5, 11]
    assert [row["RetryCount"] for row in detail[1:4]] == [1, 2, 3]


def test_openfax_pages_by_the_last_history_id(client):
    world = World("openfax", "123456789", *(fax(str(number)) for number in range(1, 8)))
    with standing(openfax.application(world)) as url:
        first = openfax_ask(client, url, Limit="3").json()
        second = openfax_ask(client, url, Limit="3", LastHistoryID=str(first[-1]["HistoryOutboundFaxID"])).json()
    assert [row["OutTransID"] for row in first + second] == [1, 2, 3, 4, 5, 6]


def test_openfax_gives_a_thousand_rows_unless_told_and_never_more_than_ten_thousand(openfax_rows):
    world = World("openfax", "123456789", *(fax(str(number)) for number in range(1, 10_003)))
    assert len(openfax_rows(world)) == 1_000
    assert len(openfax_rows(world, Limit="20000")) == 10_000


def test_openfax_counts_first_and_last_day_in(openfax_rows):
    days = [DONE + timedelta(days=number) for number in range(4)]
    world = World("openfax", "123456789", *(fax(str(day.day), completed_at=day) for day in days))
    rows = openfax_rows(world, FromDate="2026-07-16", ToDate="2026-07-17")
    assert [row["OutTransID"] for row in rows] == [16, 17]
    assert openfax_rows(world, FromDate="2026-08-01", ToDate="2026-08-02") == json.loads(
        sample("openfax/poll_outbound_details_empty.json")
    )


def test_a_fax_that_ends_late_keeps_the_history_id_of_its_call(client):
    world = World("openfax", "123456789", waits := pending("1"), fax("2"))
    with standing(openfax.application(world)) as url:
        assert [row["HistoryOutboundFaxID"] for row in openfax_ask(client, url).json()] == [921364]
        world.change(waits, status="0", completed_at=DONE)
        assert [row["HistoryOutboundFaxID"] for row in openfax_ask(client, url).json()] == [921363, 921364]


def test_openfax_credit_is_as_in_the_sample(client):
    with standing(openfax.application(World("openfax", "123456789"))) as url:
        answer = openfax_ask(client, url, "getAvailableCredit.php")
        multipart = client.post(
            f"{url}/getAvailableCredit.php", files={"AccountID": (None, "123456789"), "APIKey": (None, "wrong")}
        )
    assert answer.text == sample("openfax/poll_available_credit.json").strip()
    assert multipart.text == sample("openfax/submit_error_InvalidAuthentication.json").strip()


@pytest.mark.parametrize("path", ["outboundDetailsbyDate.php", "getAvailableCredit.php"])
def test_openfax_refuses_a_wrong_key_with_200(client, path):
    with standing(openfax.application(World("openfax", "123456789"))) as url:
        answer = openfax_ask(client, url, path, APIKey="wrong")
    assert (answer.status_code, answer.json()) == (200, {"Response": "InvalidAuthentication"})


def test_openfax_may_have_what_its_documents_say_in_other_places(client):
    world = World("openfax", "123456789", fax("1", "2", attempts=2))
    with standing(openfax.application(world, credit_name="AccountBalance", has_last_status=True)) as url:
        rows = openfax_ask(client, url, DetailType="1").json()
        assert openfax_ask(client, url, "getAvailableCredit.php").text == '[{"AccountBalance":8956.6637749994}]'
        assert client.get(f"{url}/outboundDetailsbyDate.php").status_code == 405
        assert openfax_ask(client, url, FromDate="15.07.2026").json() == {"Response": "Failed"}
    assert [row.get("LastStatus") for row in rows] == [None, 2]


# --- Openfax Broadcast ---------------------------------------------------------------------------------------------


def soap(client, url, operation, **parameters):
    fields = "".join(f"<{name}>{value}</{name}>" for name, value in parameters.items())
    body = (
        '<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body>'
        f'<{operation} xmlns="http://tempuri.org/">{fields}</{operation}></soap:Body></soap:Envelope>'
    )
    headers = {"SOAPAction": f'"http://tempuri.org/{operation}"', "Content-Type": "text/xml; charset=utf-8"}
    return client.post(url + openfax_broadcast.PATH, content=body, headers=headers)


def outline(element):
    """Names of an element and of all in it, equal neighbours once."""
    inner = []
    for child in map(outline, element):
        if inner[-1:] != [child]:
            inner.append(child)
    return element.tag, inner


@pytest.fixture
def broadcast():
    world = World(
        "openfax",
        "123456789",
        fax("500101", fax_id="90000001", bill_code="order-70", duration_seconds=66, pages=2),
        fax("500101", "2", fax_id="90000002", recipient_name=""),
        fax("500101", "5", fax_id="90000003", recipient_name="Café Zürich", attempts=0),
        fax("500123", fax_id="90000004"),
        pending("500123", fax_id="90000005"),
        fax("400000", submitted_at=SENT - timedelta(days=40), completed_at=SENT - timedelta(days=31)),
        now=lambda: DONE,
    )
    with standing(openfax_broadcast.application(world)) as url:
        yield url


@pytest.mark.parametrize("operation", ["getCDRByJobID", "getRealtime", "getRecentHistory"])
def test_broadcast_answers_have_the_shape_of_the_samples(client, broadcast, operation):
    job = {"JobID": "500101"} if operation == "getCDRByJobID" else {}
    answer = soap(client, broadcast, operation, APIKey="broadcast-key", **job)
    expected = ElementTree.fromstring(sample(f"openfax/soap_{operation}_response.xml"))
    assert outline(ElementTree.fromstring(answer.content)) == outline(expected)


def test_broadcast_rows_say_what_became_of_each_fax(client, broadcast):
    answer = soap(client, broadcast, "getCDRByJobID", APIKey="broadcast-key", JobID="500101").text
    assert re.findall("<ErrorCode>(.*?)</ErrorCode>", answer) == ["0", "2", "5"]
    assert re.findall("<Duration.*?(?:>(.*?)</Duration>|/>)", answer) == ["1.1", "0", ""]
    assert re.findall("<Pages>(.*?)</Pages>", answer) == ["2", "0", "0"]
    assert re.findall("<Reference>(.*?)</Reference>", answer) == ["Example", "", "Café Zürich"]
    assert "<CompletedDate>2026-07-15T16:01:30</CompletedDate>" in answer
    assert '<CompletedDate xsi:nil="true" />' in answer


def test_broadcast_tells_running_jobs_from_those_of_the_last_thirty_days(client, broadcast):
    running = soap(client, broadcast, "getRealtime", APIKey="broadcast-key").text
    over = soap(client, broadcast, "getRecentHistory", APIKey="broadcast-key").text
    jobs = r"<JobID>(\d+)</JobID>.*?<TotalDestinations>(\d+)<.*?<TotalSuccessful>(\d+)<.*?<TotalFailed>(\d+)<"
    assert re.findall(jobs, running) == [("500123", "1", "1", "0")]
    assert re.findall(jobs, over) == [("500101", "3", "1", "2")]


def test_broadcast_refuses_a_wrong_key_with_a_fault(client, broadcast):
    answer = soap(client, broadcast, "getRealtime", APIKey="wrong")
    fault = ElementTree.fromstring(answer.content).find(".//{http://schemas.xmlsoap.org/soap/envelope/}Fault")
    assert answer.status_code == 500
    assert (fault.findtext("faultcode"), fault.findtext("faultstring")) == ("soap:Server", "Invalid API key")


def test_the_wsdl_names_the_operations_and_where_they_are(client, broadcast):
    document = ElementTree.fromstring(client.get(f"{broadcast}{openfax_broadcast.PATH}?WSDL").content)
    wsdl, bound = "{http://schemas.xmlsoap.org/wsdl/}", "{http://schemas.xmlsoap.org/wsdl/soap/}"
    named = [element.get("name") for element in document.iterfind(f"{wsdl}portType/{wsdl}operation")]
    assert named == ["getCDRByJobID", "getRealtime", "getRecentHistory"]
    assert document.find(f".//{bound}address").get("location") == broadcast + openfax_broadcast.PATH


# --- FAXAGE --------------------------------------------------------------------------------------------------------


def status(client, url, **changes):
    return client.post(f"{url}/httpsfax.php", data=CREDENTIALS | {"operation": "status"} | changes)


@pytest.fixture
def faxage_faxes():
    return World(
        "faxage",
        "acme",
        fax("12345", "success"),
        fax("12346", "failure", attempts=3, login="other", submitted_at=SENT + timedelta(minutes=1)),
        pending("12347", stage="Waiting for conversion", attempts=0, recipient_name="Café"),
        timezone=DENVER,
    )


def test_faxage_columns_are_those_of_the_samples(client, faxage_faxes):
    with standing(faxage.application(faxage_faxes, options=faxage.NEWER_OPTIONS)) as url:
        all_columns = status(client, url, **ALL_COLUMNS)
        few = status(client, url, pagecount="1", xmitpages="1", jobid="12345")
    lines = [line.split("\t") for line in all_columns.text.splitlines()]
    seen = sample("faxage/poll_status_mixed.tsv").splitlines() + sample("faxage/poll_status_all_options.tsv").split(
        "\n"
    )
    assert {len(line) for line in lines} == {len(line.split("\t")) for line in seen if line} == {14}
    assert lines[0] == [
        *("12345", "54321", "Example", "2085550139", "success", "Success"),
        *("2026-07-15 10:00:00", "2026-07-15 10:01:30", "00:00:31", "1", "2085550139", "exampleuser", "1", "1"),
    ]
    assert lines[1][4:] == [
        *("failure", "Simulated failure", "2026-07-15 10:01:00", "2026-07-15 10:01:30", "00:00:00"),
        *("1", "", "other", "0", "3"),
    ]
    assert lines[2] == [
        *("12347", "74321", "Café", "2085550139", "pending", "Waiting for conversion"),
        *("2026-07-15 10:00:00", "0000-00-00 00:00:00", "00:00:00", "0", "", "exampleuser", "0", "0"),
    ]
    assert few.text.rstrip("\n").split("\t")[9:] == ["1", "1"]


def test_faxage_answers_the_columns_of_its_document_and_no_newer_one_unless_told(client, faxage_faxes):
    with standing(faxage.application(faxage_faxes)) as url:
        documented = status(client, url, **ALL_COLUMNS, jobid="12346").text.rstrip("\n").split("\t")
    with standing(faxage.application(faxage_faxes, options=())) as url:
        few = status(client, url, **ALL_COLUMNS, jobid="12346").text.rstrip("\n").split("\t")
    assert documented[9:] == ["1", "", "other", "0"]
    assert (few, len(few)) == (documented[:9], 9)


def test_faxage_finds_jobs_by_id_time_and_user(client, faxage_faxes):
    with standing(faxage.application(faxage_faxes)) as url:

        def jobs(**fields):
            return re.findall(r"^\d+", status(client, url, **fields).text, re.MULTILINE)

        assert jobs() == ["12345", "12346", "12347"]
        assert jobs(jobid="12346") == ["12346"]
        assert jobs(**{"jobids[]": ["12345", "12347"]}) == ["12345", "12347"]
        assert jobs(begin="2026-07-15 10:01:00", end="2026-07-15 10:01:00") == ["12346"]
        assert jobs(useronly="1") == ["12345", "12347"]
        assert "Tries: 0 Status:" in status(client, url, jobid="12347", extqueue="1").text


def test_faxage_errors_are_200_with_the_texts_of_the_samples(client):
    with standing(faxage.application(World("faxage", "acme"))) as url:
        none = status(client, url)
        login = status(client, url, password="wrong")
        unknown = status(client, url, operation="unheard of")
        time = status(client, url, begin="yesterday")
        cdr = client.post(f"{url}/getcdr.php", data=CREDENTIALS | {"password": "wrong"})
    assert {answer.status_code for answer in (none, login, unknown, time, cdr)} == {200}
    assert none.text == sample("faxage/poll_status_ERR06.txt")
    assert login.text == sample("faxage/poll_status_ERR02.txt")
    assert cdr.text == sample("faxage/poll_getcdr_ERR02.txt")
    for answer in (unknown, time):  # the trap: what was posted is echoed
        assert answer.text.startswith(sample("faxage/poll_status_ERR08.txt"))
        assert "example-password" in answer.text


def test_faxage_may_write_names_in_an_old_encoding(client, faxage_faxes):
    with standing(faxage.application(faxage_faxes, encoding="cp1252")) as url:
        assert "\tCafé\t".encode("cp1252") in status(client, url).content


def test_faxage_database_errors_can_be_had(client, faxage_faxes):
    faxage_faxes.garble(body=faxage.DATABASE_DOWN)
    with standing(faxage.application(faxage_faxes)) as url:
        assert status(client, url).text == "ERR01: Database connection failed"
        assert status(client, url).text.startswith("12345")


def test_faxage_call_records_are_asked_by_time_or_by_number(client, faxage_faxes):
    incoming = [faxage.IncomingCall(SENT, "Unavailable", "3035550110", 75)]
    with standing(faxage.application(faxage_faxes, incoming=incoming)) as url:

        def lines(**fields):
            return client.post(f"{url}/getcdr.php", data=CREDENTIALS | fields).text.splitlines()

        day = {"begin": "2026-07-15 00:00:00", "end": "2026-07-15 23:59:59"}
        assert lines() == lines(begin=day["begin"]) == []
        assert lines(**day) == [
            "2026-07-15 09:51:30,OUT,3035550110,2085550139,0",
            "2026-07-15 09:56:30,OUT,3035550110,2085550139,0",
            "2026-07-15 10:00:00,IN,Unavailable,3035550110,75",
            "2026-07-15 10:00:59,OUT,3035550110,2085550139,31",
            "2026-07-15 10:01:30,OUT,3035550110,2085550139,0",
        ]
        assert lines(nuidgt="900102", nuidshow="1")[0] == "900103,2026-07-15 10:00:59,OUT,3035550110,2085550139,31"
        assert lines(nuidgt="900103") == ["2026-07-15 10:01:30,OUT,3035550110,2085550139,0"]
        assert lines(**day, didnumber="3035550110") == ["2026-07-15 10:00:00,IN,Unavailable,3035550110,75"]
    for name, count in (("begin_end", 5), ("nuid", 6)):
        assert {line.count(",") + 1 for line in sample(f"faxage/poll_getcdr_{name}.csv").splitlines()} == {count}


# --- Retarus -------------------------------------------------------------------------------------------------------


@pytest.fixture
def retarus_faxes():
    return World(
        "retarus",
        "99999TE",
        fax("FJ1", "OK", "+498912345678900", fax_id="FN1", customer_id="order-4711", bill_code="b", bill_info="i"),
        fax("FJ2", "OK", "+498912345678901", fax_id="FN2", completed_at=DONE - timedelta(hours=1)),
        fax("FJ2", "BUSY", "+498912345678902", fax_id="FN3", completed_at=DONE - timedelta(hours=1)),
        fax("FJ3", "OK", "+498912345678903", fax_id="FN4", data_center="de2"),
        pending("FJ4", number="+498912345678904", fax_id="FN5"),
    )


def fields(document):
    """Names and types of a JSON value, at all levels."""
    if isinstance(document, dict):
        return {name: fields(value) for name, value in document.items()}
    return [fields(document[0])] if isinstance(document, list) else type(document)


def test_retarus_reports_have_the_shape_of_the_samples(client, retarus_faxes):
    with standing(retarus.application(retarus_faxes, spelling=retarus.spaced)) as url:
        single = client.get(f"{url}{RETARUS}/FJ1", auth=BASIC).json()
        every = client.get(url + RETARUS, auth=BASIC).json()
    assert fields(single) == fields(json.loads(sample("retarus/poll_rest_report_single.json")))
    assert fields(every) == fields(json.loads(sample("retarus/poll_rest_report_list.json")))
    assert single["recipientStatus"][0]["number"] == "+49 89 1234567-8900"
    assert single["recipientStatus"][0]["sentToNumber"] == "00498912345678900"
    assert single["reference"] == {"customerDefinedId": "order-4711", "billingCode": "b", "billingInfo": "i"}


def test_retarus_lists_the_oldest_completed_jobs_of_its_data_center(client, retarus_faxes):
    with (
        standing(retarus.application(retarus_faxes)) as de1,
        standing(retarus.application(retarus_faxes, data_center="de2")) as de2,
    ):
        jobs = [[job["jobId"] for job in client.get(url + RETARUS, auth=BASIC).json()["reports"]] for url in (de1, de2)]
        assert jobs == [["FJ2", "FJ1"], ["FJ3"]]
        assert client.get(f"{de1}{RETARUS}/FJ3", auth=BASIC).status_code == 404
        waits = client.get(f"{de1}{RETARUS}/FJ4", auth=BASIC).json()["recipientStatus"][0]
    assert (waits["status"], waits["sentTs"]) == ("PENDING", None)


def test_retarus_gives_a_thousand_reports_and_the_next_ones_when_these_are_deleted(client):
    faxes = [fax(f"FJ{number}", "OK", completed_at=DONE + timedelta(seconds=number)) for number in range(1_001)]
    with standing(retarus.application(World("retarus", "99999TE", *faxes))) as url:
        first = [job["jobId"] for job in client.get(url + RETARUS, auth=BASIC).json()["reports"]]
        deleted = client.post(url + RETARUS, auth=BASIC, json={"action": "delete", "jobIds": first}).json()["reports"]
        rest = [job["jobId"] for job in client.get(url + RETARUS, auth=BASIC).json()["reports"]]
        too_many = client.post(url + RETARUS, auth=BASIC, json={"action": "GET", "jobIds": [*first, *rest]})
    assert first == [f"FJ{number}" for number in range(1_000)]
    assert all(row == {"jobId": job, "deleted": True} for job, row in zip(first, deleted, strict=True))
    assert rest == ["FJ1000"]
    assert too_many.status_code == 400


def test_retarus_gets_and_deletes_several_jobs_in_any_case(client, retarus_faxes):
    with standing(retarus.application(retarus_faxes)) as url:
        got = client.post(url + RETARUS, auth=BASIC, json={"action": "get", "jobIds": ["FJ1", "gone"]}).json()
        one = client.delete(f"{url}{RETARUS}/FJ2", auth=BASIC).json()
        deleted = client.post(url + RETARUS, auth=BASIC, json={"action": "Delete", "jobIds": ["FJ1", "FJ2"]}).json()
        other = client.post(url + RETARUS, auth=BASIC, json={"action": "LIST", "jobIds": ["FJ1"]})
    assert [job["jobId"] for job in got["reports"]] == ["FJ1"]
    assert one == {"reports": [{"jobId": "FJ2", "deleted": True}]}
    expected = json.loads(sample("retarus/poll_rest_bulk_delete_reply.json"))["reports"]
    assert [fields(row) for row in deleted["reports"]] == [fields(row) for row in expected]
    assert deleted["reports"][1]["reason"] == "NOT_FOUND"
    assert other.status_code == 400


@pytest.mark.parametrize("auth", [None, ("exampleuser", "wrong")])
def test_retarus_refuses_a_wrong_login_with_401(client, retarus_faxes, auth):
    with standing(retarus.application(retarus_faxes)) as url:
        answers = [
            client.get(url + RETARUS, auth=auth),
            client.get(f"{url}{RETARUS}/FJ1", auth=auth),
            client.delete(f"{url}{RETARUS}/FJ1", auth=auth),
            client.post(url + RETARUS, auth=auth, json={"action": "GET", "jobIds": ["FJ1"]}),
        ]
        other = client.get(f"{url}/rest/v1/11111XX/fax/reports", auth=BASIC)
    assert {answer.status_code for answer in [*answers, other]} == {401}


def get_fax_reports(client, url, *jobs, password="example-password"):
    ids = "".join(f"<jobId>{job}</jobId>" for job in jobs)
    login = f"<username>exampleuser</username><password>{password}</password>"
    body = (
        f'<s:Envelope xmlns:s="{retarus.ENVELOPE}"><s:Body><r:ReportRequest xmlns:r="{retarus.NAMESPACE}">'
        f"{login}{ids}</r:ReportRequest></s:Body></s:Envelope>"
    )
    return client.post(url + retarus.SOAP_PATH, content=body, headers={"Content-Type": "text/xml"})


def test_retarus_soap_reports_are_those_of_the_callback(client, retarus_faxes):
    with standing(retarus.application(retarus_faxes)) as url:
        answer = get_fax_reports(client, url, "FJ1", "FJ2", "FJ4", "gone")
        wsdl = ElementTree.fromstring(client.get(f"{url}{retarus.SOAP_PATH}?wsdl").content)
        assert wsdl.find(".//{*}address").get("location") == url + retarus.SOAP_PATH
        refused = get_fax_reports(client, url, "FJ1", password="wrong")
        too_many = get_fax_reports(client, url, *map(str, range(1_001)))
    found = events("retarus", RawCallback(answer.content, "text/xml"))
    assert [(event.provider_job_id, event.recipient.number, event.outcome) for event in found] == [
        ("FJ1", "+498912345678900", "delivered"),
        ("FJ2", "+498912345678901", "delivered"),
        ("FJ2", "+498912345678902", "failed"),
    ]
    assert (refused.status_code, too_many.status_code) == (500, 500)


# --- eFax ----------------------------------------------------------------------------------------------------------


def outbound_status(client, url, doc_id="12345678", password="example-password", **changes):
    xml = (
        f"<OutboundStatus><AccessControl><UserName>exampleuser</UserName><Password>{password}</Password>"
        f"</AccessControl><Transmission><TransmissionControl><DOCID>{doc_id}</DOCID></TransmissionControl>"
        "</Transmission></OutboundStatus>"
    )
    return client.post(f"{url}/EFax_WebFax.serv", data={"id": "me", "xml": xml, "respond": "XML"} | changes)


def values(document):
    """Every element without children, with its text."""
    root = ElementTree.fromstring(document)
    return [(element.tag, element.text or "") for element in root.iter() if not len(element)]


@pytest.mark.parametrize(
    ("name", "one"),
    [
        ("success", fax("12345678", "0", duration_seconds=24)),
        ("pending", pending("12345678", duration_seconds=24)),
        ("failed", fax("12345678", "308")),
    ],
)
def test_efax_status_is_as_in_the_sample_but_for_the_fax_itself(client, name, one):
    with standing(efax.application(World("efax", "me", one, timezone=PACIFIC))) as url:
        found = values(outbound_status(client, url).text)
    expected = values(sample(f"efax/poll_outbound_status_{name}.xml"))
    own = {"Name", "Company", "Fax", "LastDate", "LastTime", "RemoteCSID"}
    assert [tag for tag, _ in found] == [tag for tag, _ in expected]
    assert [value for tag, value in found if tag not in own] == [value for tag, value in expected if tag not in own]


def test_efax_status_has_all_recipients_and_pacific_time(client):
    faxes = [fax("12345678"), fax("12345678", "301", "+12085550140"), pending("12345678", stage="Busy"), fax("1")]
    with standing(efax.application(World("efax", "me", *faxes, timezone=PACIFIC), failures_have_times=True)) as url:
        answer = outbound_status(client, url).text
        none = outbound_status(client, url, "999").text
    assert re.findall("<Fax>(.*?)</Fax>", answer) == ["12085550139", "12085550140", "12085550139"]
    assert re.findall("<Classification>(.*?)</Cl", answer) == ['"Success"', "Call placement error", "Busy"]
    assert re.findall("<LastDate>(.*?)</LastDate>", answer) == ["07/15/2026", "07/15/2026", ""]
    assert re.findall("<LastTime>(.*?)</LastTime>", answer) == ["09:01:30", "09:01:30", ""]
    assert [tag for tag, _ in values(none)] == ["TransmissionID", "Recipients"]


@pytest.mark.parametrize("change", [{"password": "wrong"}, {"id": "other"}, {"xml": "<OutboundStatus"}])
def test_efax_refuses_with_200_and_status_code_2(client, change):
    with standing(efax.application(World("efax", "me", fax("12345678")))) as url:
        answer = outbound_status(client, url, **change)
    assert answer.status_code == 200
    assert ("StatusCode", "2") in values(answer.text)
    assert "DOCID>1" not in answer.text


@pytest.fixture
def efax_day():
    """Two numbers: one reached at the second fax, the other never; a third without trouble."""
    return World(
        "efax",
        "me",
        fax("1", "301"),
        fax("2"),
        fax("3", "308", "+12085550140", sender_number="+12085550102", login="user_2"),
        fax("4", "0", "+12085550141", is_fine=True, pages=3),
        pending("5"),
        fax("6", completed_at=datetime(2026, 7, 16, 7, 30, tzinfo=UTC)),  # 00:30 of the next day in Los Angeles
        timezone=PACIFIC,
    )


def daily(client, world, report, day="2026-07-15", coding="plain", headers=EFAX):
    with standing(efax.application(world, coding=coding)) as url:
        return client.get(f"{url}/v1/{report}/{day}", headers=headers)


def test_efax_counts_the_faxes_of_a_day_by_reason(client, efax_day):
    account = daily(client, efax_day, "account-overview").json()
    number = daily(client, efax_day, "number-overview").json()
    failures = daily(client, efax_day, "failures").json()
    one = json.loads(sample("efax/poll_account_overview.json"))["12345678"]["a_user"]
    assert list(account["3035550110"]["user_1"]) == list(one)
    assert account["3035550110"]["user_1"] == dict.fromkeys(one, 0) | {
        "Busy": 1,
        "Success": 2,
        "Total": 3,
        "Failures": 1,
    }
    assert {did: list(users["user_1" if did == "3035550110" else "user_2"]) for did, users in number.items()} == {
        "3035550110": ["2085550139"],
        "2085550102": ["2085550140"],
    }
    expected = json.loads(sample("efax/poll_failures.json"))["2085550101"]["user_1"]["2085550139"]
    assert failures == {"2085550102": {"user_2": {"2085550140": expected}}}
    assert list(failures["2085550102"]["user_2"]["2085550140"]) == list(expected)
    expected = json.loads(sample("efax/poll_number_overview.json"))["2085550101"]["user_1"]["2085550139"]
    assert number["3035550110"]["user_1"]["2085550139"] == expected


def test_efax_counts_billable_pages_by_resolution(client, efax_day):
    assert daily(client, efax_day, "billable-pages").json() == {
        "3035550110": {"outbound": {"STANDARD": 1, "FINE": 3}, "inbound": 0},
        "2085550102": {"outbound": {}, "inbound": 0},
    }


def test_efax_reports_are_double_encoded_unless_told(client, efax_day):
    plain = daily(client, efax_day, "account-overview")
    double = daily(client, efax_day, "account-overview", coding="double")
    malformed = daily(client, efax_day, "account-overview", coding="malformed")
    assert isinstance(json.loads(sample("efax/poll_account_overview_double_encoded.json")), str)
    assert json.loads(double.json()) == plain.json()
    for text in (malformed.text, sample("efax/poll_number_overview_malformed.txt")):
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)


def test_efax_reports_want_their_three_headers_and_a_date(client, efax_day):
    assert daily(client, efax_day, "failures", headers=EFAX | {"x-api-key": "wrong"}).status_code == 403
    assert daily(client, efax_day, "failures", headers=EFAX | {"efax-password": "wrong"}).status_code == 401
    assert daily(client, efax_day, "failures", day="15-07-2026").status_code == 400
    assert daily(client, efax_day, "failures", day="2026-07-15/").status_code == 200
    assert daily(client, efax_day, "failures", day="2026-07-20").json() == {}
