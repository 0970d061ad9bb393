"""What has to be mended before it can be read, over real HTTP: nothing is lost, nothing invented, and it is told."""

import base64
import json
import quopri
from dataclasses import replace
from urllib.parse import quote_plus, urlencode

import pytest
from house import CONFIGURATION, EFAX_PASSWORD, FORM, TOKEN, house
from prometheus_client import REGISTRY
from pulled import PROVIDERS, faxes_of, pulled
from test_field import FOLDER, ROWS

from receiver.replay import replay
from receiver.store import counters, kept_receipts

PASSWORD = "größe-9"
OTHER_PASSWORD = CONFIGURATION.replace(EFAX_PASSWORD, PASSWORD)
RETARUS = (
    '<?xml version="1.0" encoding="{}"?><faxJobReport><jobId>FJ0001</jobId><faxRecipient><number>+498912504001710'
    "</number><status>OK</status><reason>{}</reason><remoteCsid>{}</remoteCsid></faxRecipient></faxJobReport>"
)


@pytest.fixture
def server(tmp_path, sqlite_url):
    with house(tmp_path, sqlite_url, OTHER_PASSWORD) as served:
        yield served


def post(server, path, body, content_type=FORM):
    return server.ask("POST", f"/callbacks/{path}/{TOKEN}", body, Content_Type=content_type)


def detail(server):
    """Of the newest receipt."""
    tables = server.runtime.store.tables
    with server.runtime.store.reading() as connection:
        newest = kept_receipts.listing(connection, tables, limit=1)[0]["id"]
        return kept_receipts.one(connection, tables, newest)


def counted(provider, repair):
    return REGISTRY.get_sample_value("faxhook_repairs_total", {"provider": provider, "repair": repair}) or 0


def disposition(csid, password=PASSWORD):
    return (
        f'<?xml version="1.0" encoding="UTF-16"?><OutboundDisposition UserName="exampleuser" Password="{password}" '
        f'DOCID="62560658" FaxNumber="12085550139" FaxStatus="0" RecipientCSID="{csid}"/>'
    )


SAMPLES = {
    "95_efax_xml_control_character_in_csid.form": (["control_characters"], "recipient", "station_id", "FAX 01"),
    "58_retarus_xml_utf8_declared_latin1_bytes.xml": (["charset"], "provider_status", "text", "besetzt (München)"),
    "65_retarus_xml_trailing_nul.xml": (["trailing_nul"], "provider_status", "text", "OK"),
    "33_faxage_raw_percent_in_text.form": (
        ["percent"],
        "provider_status",
        "text",
        "Transmission stopped at 50% of page 2",
    ),
    "08_openfax_multipart_with_image_utf8_name.multipart": (None, "recipient", "name", "Müller GmbH"),
    "09_openfax_latin1_field_beside_utf8_field.form": (None, "recipient", "name", "José"),
}


@pytest.mark.parametrize("file", SAMPLES)
def test_a_result_that_needs_a_repair_is_told_and_so_is_the_repair(tmp_path, sqlite_url, file):
    repairs, part, name, value = SAMPLES[file]
    provider = ROWS[file]["provider"]
    before = {repair: counted(provider, repair) for repair in repairs or ()}
    with house(tmp_path, sqlite_url) as server:
        assert server.post(provider, (FOLDER / file).read_bytes(), ROWS[file]["content_type"]).status == 200
        (event,) = server.events()
        receipt = detail(server)
        again = replay(server.runtime, receipt.id)
        assert server.events() == [event]
    assert event["data"][part][name] == value
    assert receipt.detail.get("repaired") == repairs
    assert again.events == [event["id"]]
    assert {repair: counted(provider, repair) - 2 for repair in before} == before


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize(
    "csid", ["\x01\x0bFAX 01", "FAX&#1; 01&#x0;", "FA\ufffeX&#xFFFF; 01", "&#xd800;FAX 01&#0;&#0;"]
)
def test_what_xml_forbids_costs_no_result(server, encoding, csid):
    if encoding == "cp1252":
        csid = csid.replace("\ufffe", "\x02")
    body = RETARUS.format(encoding.partition("-le")[0].partition("-be")[0], "OK", csid).encode(encoding) + b"\0\0\0"
    assert post(server, "retarus", body, "text/xml").status == 200
    (event,) = server.events()
    assert event["data"]["recipient"]["station_id"] == "FAX 01"
    assert "control_characters" in detail(server).detail["repaired"]


@pytest.mark.parametrize(
    "document",
    [
        RETARUS.format("utf-8", "<![CDATA[a]]\x01></reason><faxRecipient><status>OK</status>", ""),
        RETARUS.format("utf-8", "", "").replace("<status>OK", "<sta\x01tus>OK"),
        RETARUS.format("utf-8", "", "").replace("<status>", "<status\0>"),
        RETARUS.format("utf-8", "", "").replace("<jobId>", "<!\0DOCTYPE a><jobId>"),
        RETARUS.format("utf-8", "\x01" * 200_000, ""),
        "<!DOCTYPE a [<!ENTITY b 'c'>]>" + RETARUS.format("utf-8", "\x01", "").partition("?>")[2],
    ],
)
def test_a_repair_makes_no_element_and_lifts_no_ban(server, document):
    assert post(server, "retarus", document.encode(), "text/xml").status == 400
    assert server.events() == []


@pytest.mark.parametrize("status", ["O\x01K", "O&#0;K", "\x02OK"])
def test_nor_a_status(server, status):
    body = RETARUS.format("utf-8", "", "").replace(">OK<", f">{status}<")
    reply = post(server, "retarus", body.encode(), "text/xml")
    assert (reply.status, list(reply.json["fields"])) == (422, ["faxJobReport.faxRecipient.status"])


# --- an ampersand that nobody has escaped ----------------------------------------------------------------------------


@pytest.mark.parametrize("station", ["A & B", "A&B", "A&B=1&amp;C", "&", "<![CDATA[A & B &#1;]]>&", "A &&#38; B&#1;"])
def test_a_bare_ampersand_in_xml_costs_no_result(server, station):
    body = RETARUS.format("utf-8", "OK", station)
    assert post(server, "retarus", body.encode(), "text/xml").status == 200
    (event,) = server.events()
    meant = station.replace("&amp;", "&").replace("<![CDATA[", "").replace("]]>", "").replace("&#38;", "&")
    assert event["data"]["recipient"]["station_id"] == (meant if "CDATA" in station else meant.replace("&#1;", ""))
    assert "ampersand" in detail(server).detail["repaired"]


@pytest.mark.parametrize("field", ["jobId", "status"])
def test_but_it_makes_no_identity_and_no_status(server, field):
    body = RETARUS.format("utf-8", "OK", "").replace(f"</{field}>", f"&</{field}>")
    reply = post(server, "retarus", body.encode(), "text/xml")
    assert (reply.status, server.events()) == (422, [])
    (name,) = reply.json["fields"]
    assert name.endswith(field)


def test_an_entity_that_is_not_defined_is_no_ampersand(server):
    body = RETARUS.format("utf-8", "a&nbsp;b", "")
    assert post(server, "retarus", body.encode(), "text/xml").status == 400


def test_an_ampersand_hides_no_password_from_the_store(server):
    body = b"xml=" + quote_plus(disposition('A&B&" x="&').encode()).encode()
    assert post(server, "efax", body).status == 200
    assert server.events()[0]["data"]["recipient"]["station_id"] == "A&B&"
    receipt = detail(server)
    assert receipt.detail["repaired"] == ["ampersand"]
    assert quote_plus(PASSWORD).encode() not in receipt.body.body


def test_the_end_of_a_c_string_is_no_part_of_any_value(server):
    body = b"jobid=115893796%00&shortstatus=success%00%00&destname=Alice%00&pagecount=2%00\0\0\r\n"
    assert post(server, "faxage", body).status == 200
    nul = "\\u0000"
    push = f'{{"jobId": "FJ0001{nul}", "faxRecipients": [{{"number": "+491", "status": "OK{nul}"}}], "pages": 1}}\0 \0'
    assert post(server, "retarus", push.encode(), "application/json").status == 200
    first, second = (event["data"] for event in server.events())
    assert (first["provider_job_id"], first["recipient"]["name"], first["pages"]["total"]) == ("115893796", "Alice", 2)
    assert (second["provider_job_id"], second["provider_status"]["code"]) == ("FJ0001", "OK")


def test_raw_control_characters_in_json_cost_no_result(server):
    body = '{"jobId": "FJ1", "faxRecipients": [{"number": "+491", "status": "OK", "reason": "one\n\x01two\ttabs"}]}'
    assert post(server, "retarus", body.encode(), "application/json").status == 200
    (event,) = server.events()
    assert event["data"]["provider_status"]["text"] == "one\ntwo\ttabs"
    assert detail(server).detail["repaired"] == ["control_characters"]


# --- charsets ------------------------------------------------------------------------------------------------------

NAMES = {
    "UTF8": "utf-8",
    "utf_8": "utf-8",
    "latin1": "latin-1",
    "latin-1": "latin-1",
    "ISO8859-1": "latin-1",
    "cp1252": "cp1252",
    "ascii": "utf-8",
    "US-ASCII": "cp1252",
    "utf-16": "utf-8",
    "utf-16le": "utf-8",
    "UTF-16LE": "utf-16-le",
    "utf-16be": "utf-16-be",
    "utf-8": "utf-16",
    "UTF-8": "latin-1",
    "iso-8859-1": "utf-8",
    "iso-8859-15": "iso-8859-15",
    "windows-1250": "utf-8",
    "Windows-1254": "cp1254",
}


@pytest.mark.parametrize("declared", NAMES)
def test_xml_is_read_whatever_it_says_of_its_charset(server, declared):
    body = RETARUS.format(declared, "besetzt (Büro Süd)", "x").encode(NAMES[declared])
    assert post(server, "retarus", body, "text/xml; charset=us-ascii").status == 200
    assert server.events()[0]["data"]["provider_status"]["text"] == "besetzt (Büro Süd)"


@pytest.mark.parametrize("declared", ["windows-1250", "CP1250", "iso-8859-2", "ISO_8859-2", "latin2"])
def test_another_alphabet_that_is_declared_is_read(server, declared):
    encoding = "iso-8859-2" if "2" in declared[-2:] else "cp1250"
    body = RETARUS.format(declared, "zajęty (Łódź)", "x").encode(encoding)
    assert post(server, "retarus", body, "text/xml").status == 200
    assert server.events()[0]["data"]["provider_status"]["text"] == "zajęty (Łódź)"
    assert "repaired" not in detail(server).detail


@pytest.mark.parametrize("charset", ["utf-16", "iso-8859-1", "utf-8", "utf-7", "x-nonsense", ""])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
def test_and_whatever_the_header_says(server, charset, encoding):
    document = RETARUS.format("", "besetzt (Büro)", "x").partition("?>")[2]
    push = {"jobId": "J2", "faxRecipients": [{"number": "+491", "status": "OK", "reason": "besetzt (Büro)"}]}
    for body, kind in ((document, "text/xml"), (json.dumps(push, ensure_ascii=False), "application/json")):
        assert post(server, "retarus", body.encode(encoding), f"{kind}; charset={charset}").status == 200
    assert [event["data"]["provider_status"]["text"] for event in server.events()] == ["besetzt (Büro)"] * 2


def test_one_value_of_another_charset_garbles_no_other(server):
    body = RETARUS.format("UTF-8", "Büro Süd", "@").encode().replace(b"@", b"M\xfcnchen")
    assert post(server, "retarus", body, "text/xml").status == 200
    data = server.events()[0]["data"]
    assert (data["provider_status"]["text"], data["recipient"]["station_id"]) == ("Büro Süd", "München")


@pytest.mark.parametrize("form", ["xml={}&note=%E9", "note=%E9%80&xml={}"])
@pytest.mark.parametrize("csid", [b"FAX", b"M\xfcnchen", b"\x01\x02"])
def test_a_password_is_right_whatever_stands_beside_it(server, form, csid):
    document = disposition("@").encode().replace(b"@", csid)
    reply = post(server, "efax", form.format(quote_plus(document)).encode())
    assert (reply.status, reply.body) == (200, b"Post Successful")


@pytest.mark.parametrize("header", ['filename="fax.tif"\r\nContent-Type: image/tiff', 'filename="B\xfcro.bin"'])
def test_nor_does_a_file_change_it(server, header):
    parts = (
        f'--BB\r\nContent-Disposition: form-data; name="image"; {header}\r\n\r\n'.encode("latin-1")
        + b"II*\0\x08\0\0\xff\xe9\x80\r\n"
        + b'--BB\r\nContent-Disposition: form-data; name="xml"\r\n\r\n'
        + disposition("Büro").encode()
        + b"\r\n--BB--\r\n"
    )
    assert post(server, "efax", parts, "multipart/form-data; boundary=BB").status == 200
    assert server.events()[0]["data"]["recipient"]["station_id"] == "Büro"


def part(value, headers="", name="From"):
    return f'--BB\r\nContent-Disposition: form-data; name="{name}"{headers}\r\n\r\n'.encode() + value + b"\r\n"


BUERO = "Büro “5 €” Süd"
PARTS = {
    "charset": part(BUERO.encode("cp1252"), "\r\nContent-Type: text/plain; charset=windows-1252"),
    "utf-16": part(BUERO.encode("utf-16-le"), "\r\nContent-Type: text/plain; charset=utf-16"),
    "mark": part(BUERO.encode("utf-16")),
    "base64": part(base64.encodebytes(BUERO.encode()), "\r\nContent-Transfer-Encoding: base64"),
    "quoted": part(quopri.encodestring(BUERO.encode()), "\r\nContent-Transfer-Encoding: quoted-printable"),
    "file": part(BUERO.encode(), '; filename="a.txt"\r\nContent-Type: application/octet-stream'),
    "field": part(b"windows-1252", name="_charset_") + part(BUERO.encode("cp1252")),
    "no base64": part(BUERO.encode(), "\r\nContent-Transfer-Encoding: base64"),
}
POSTBACK = {"OutTransID": "1", "AccountID": "123456789", "LastStatus": "0"}


@pytest.mark.parametrize("kind", PARTS)
def test_each_part_of_a_form_is_read_as_it_says(server, kind):
    binary = part(b"%PDF-1.4 \xe2\xe3\xcf\x01\x02", '; filename="a"\r\nContent-Type: application/octet-stream', "To")
    known = b"".join(part(value.encode(), name=name) for name, value in POSTBACK.items())
    body = binary + PARTS[kind] + known + b"--BB--\r\n"
    assert post(server, "openfax", body, "multipart/form-data; boundary=BB").status == 200
    data = server.events()[0]["data"]
    assert (data["sender"]["name"], data["recipient"]["name"]) == (BUERO, None)


def test_a_value_of_a_form_may_be_in_utf_16(server):
    assert post(server, "openfax", urlencode(POSTBACK | {"From": BUERO.encode("utf-16")}).encode()).status == 200
    documents = [disposition(BUERO).encode(encoding) for encoding in ("utf-16", "utf-16-le", "utf-16-be")]
    for document in documents:
        assert post(server, "efax", b"xml=" + quote_plus(document.replace(b"62560658", b"1")).encode()).status == 200
        assert PASSWORD.encode() not in detail(server).body.body
    first, second = (event["data"] for event in server.events())
    assert (first["sender"]["name"], second["recipient"]["station_id"]) == (BUERO, BUERO)


@pytest.mark.parametrize(
    ("name", "meant"), [("Smith & Co", "Smith & Co"), ("AT&T", "AT&T"), ("A && B&", "A & B"), ("&", None)]
)
def test_an_ampersand_in_a_form_that_escapes_nothing_is_text(server, name, meant):
    body = f"jobid=1&shortstatus=success&destname={name}&destnum=2085550139&commid=7"
    assert post(server, "faxage", body.encode()).status == 200
    data = server.events()[0]["data"]
    assert data["recipient"]["name"] == meant
    assert (data["recipient"]["number"], data["provider_call_id"]) == ("+12085550139", "7")
    assert detail(server).detail.get("repaired") == (["ampersand"] if meant else None)


@pytest.mark.parametrize(
    "body", ["jobid=1&x&shortstatus=success&pagecount=2&y", "x&jobid=1&shortstatus=success&pagecount=2"]
)
def test_but_no_part_of_an_identity_a_status_or_a_count(server, body):
    assert post(server, "faxage", body.encode()).status == 200
    data = server.events()[0]["data"]
    assert (data["provider_job_id"], data["provider_status"]["code"], data["pages"]["total"]) == ("1", "success", 2)
    assert "repaired" not in detail(server).detail


# --- refusals ------------------------------------------------------------------------------------------------------


def test_a_missing_field_is_called_missing_and_the_names_that_came_are_told(server):
    reply = post(server, "faxage", b"job_id=115893796&shortStatus=success&destnum=2085550139&a%401=x&4989125=x")
    assert reply.status == 422
    assert reply.json["fields"] == {
        "jobid": "missing; expected non-empty text of at most 255 characters",
        "shortstatus": "missing; expected one of pending, success, failure",
    }
    assert reply.json["received"] == ["job_id", "shortStatus", "destnum"]
    assert detail(server).detail["received"] == reply.json["received"]
    assert b"115893796" not in reply.body


@pytest.mark.parametrize(
    ("push", "fields", "received"),
    [
        (
            {"jobId": "J", "faxRecipients": [{"number": "+491", "state": "OK"}]},
            ["faxRecipients.0.status"],
            ["jobId", "faxRecipients", "faxRecipients.number", "faxRecipients.state"],
        ),
        (
            {"reports": [{"jobId": None, "recipientStatus": [{"status": "OK"}]}]},
            ["reports.0.jobId"],
            ["reports", "reports.jobId", "reports.recipientStatus", "reports.recipientStatus.status"],
        ),
        ({"job": "J", "+4989125": {"x": 1}}, ["faxJobReport"], ["job"]),
    ],
)
def test_paths_are_those_that_were_sent(server, push, fields, received):
    reply = post(server, "retarus", json.dumps(push).encode(), "application/json")
    assert (reply.status, list(reply.json["fields"]), reply.json["received"]) == (422, fields, received)


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("retarus", b"<faxJobReport>\n <jobId>1</jobID>", "XML is not well-formed at line 2, column 12"),
        ("retarus", b"\n\n <a>&x;</a>", "XML is not well-formed at line 3, column 5"),
        ("retarus", b'{"jobId": "1",\n "pages" 2}', "JSON is not well-formed at line 2, column 10"),
        ("efax", b"xml=" + quote_plus("<?xml version='1.0'?>\n<a b></a>").encode(), "XML is not well-formed at line 2"),
    ],
)
def test_what_is_not_well_formed_is_so_at_a_line_and_a_column(server, path, body, place):
    reply = post(server, path, body)
    assert reply.status == 400
    assert place in reply.json["detail"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("retarus", b'"{}"', "begins with a quotation mark, as JSON that is written into a JSON string does"),
        ("retarus", b"jobId=1", "begins with neither <, { nor ["),
        ("retarus", b"%3CfaxJobReport%3E", "begins with an escaped <"),
        ("retarus", b"\x1f\x8b\x08\0", "begins with the first bytes of gzip"),
        ("faxage", b'{"jobid": 1}', "begins with {, as JSON does; this provider sends a form"),
        ("openfax", b"<a/>", "begins with <, as XML does"),
    ],
)
def test_a_kind_that_a_provider_never_sends_is_told_by_its_first_character(server, path, body, words):
    reply = post(server, path, body, "application/json")
    assert (reply.status, reply.json["code"]) == (415, "unsupported_body")
    assert words in reply.json["detail"]


# --- reports -------------------------------------------------------------------------------------------------------


SPOILED = {
    "openfax": (lambda body: body + b"\n\0", {"trailing_nul"}),
    "faxage": (lambda body: body.rstrip() + b"\0", {"trailing_nul"}),
    "retarus": (
        lambda body: body.replace(b'"reason":', b'"x":"\x01M\xfcnchen","reason":') + b"\0\0",
        {"charset", "control_characters", "trailing_nul"},
    ),
    "efax": (
        lambda body: body.replace(b"<Name>", b"<Name>&#1;\x0bM\xfcnchen & ") + b"\0",
        {"ampersand", "charset", "control_characters", "trailing_nul"},
    ),
    "openfax-broadcast": (
        lambda body: b"\r\n" + body.replace(b"</Reference>", b"\x01 M\xfcnchen &&#2;</Reference>") + b"\0",
        {"ampersand", "charset", "control_characters", "trailing_nul"},
    ),
}


@pytest.mark.parametrize("provider", SPOILED)
def test_the_same_in_the_answers_of_reports(tmp_path, sqlite_url, provider, monkeypatch):
    change, repairs = SPOILED[provider]
    at = PROVIDERS[provider]

    def spoiled(world):
        application = at.application(world)

        @application.after_request
        def spoil(answer):
            if b"<wsdl:" not in answer.get_data():
                answer.set_data(change(answer.get_data()))
            return answer

        return application

    monkeypatch.setitem(PROVIDERS, provider, replace(at, application=spoiled))
    faxes = faxes_of(provider, 3)
    with pulled(tmp_path, sqlite_url, provider, *faxes) as one:
        if at.by_job:
            one.expect(faxes)
        summary = one.reconcile()
        assert (summary.trouble, summary.unreadable, len(one.told())) == ([], 0, 3)
        assert set(detail(one.house).detail["repaired"]) <= repairs
        with one.house.runtime.store.reading() as connection:
            series = counters.all_of(connection, one.house.runtime.store.tables)
    assert {labels[2] for labels in series if labels[:2] == ("repairs", provider)} == repairs
