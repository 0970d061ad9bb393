"""The callbacks the benchmarks send: one of each form, every one about another fax."""

import itertools
import json
from collections.abc import Iterator
from urllib.parse import urlencode

TOKEN = "benchmark-token-0123456789"
FORMS = ("form", "json", "xml", "xml-500")

_TYPES = {"form": "application/x-www-form-urlencoded", "json": "application/json"}


def configuration(folder: str, port: int) -> str:
    """A configuration with one endpoint for each form, protected by a path token."""
    return f"""
[server]
bind = "127.0.0.1:{port}"
state_dir = "{folder}/state"
[store]
url = "sqlite:///{folder}/faxhook.db"
[endpoints.form]
provider = "faxage"
account = "bench"
timezone = "America/Denver"
auth = {{ mode = "none" }}
tokens = ["{TOKEN}"]
[endpoints.retarus]
provider = "retarus"
account = "bench"
auth = {{ mode = "none" }}
tokens = ["{TOKEN}"]
"""


def path(form: str) -> str:
    return f"/callbacks/{'form' if form == 'form' else 'retarus'}/{TOKEN}"


def content_type(form: str) -> str:
    return _TYPES.get(form, "text/xml; charset=utf-8")


def bodies(form: str, start: int = 0) -> Iterator[bytes]:
    """Bodies without end, each about faxes never seen before. start: so that two senders do not meet."""
    for number in itertools.count(start):
        if form == "form":
            yield _faxage(number)
        elif form == "json":
            yield json.dumps(_retarus(number, 1)).encode()
        else:
            yield push(number, 500 if form == "xml-500" else 1)


def push(number: int, recipients: int) -> bytes:
    """A push of Retarus in its default layout."""
    return _xml(_retarus(number, recipients))


def _faxage(number: int) -> bytes:
    fields = {
        "jobid": str(100_000_000 + number),
        "commid": "788038",
        "destname": "Alice Example",
        "destnum": "(208)555-0139",
        "shortstatus": "success",
        "longstatus": "Success",
        "sendtime": "2026-06-14 15:18:20",
        "completetime": "2026-06-14 15:19:13",
        "xmittime": "00:00:31",
        "pagecount": "1",
        "xmitpages": "1",
    }
    return urlencode(fields).encode()


def _retarus(number: int, recipients: int) -> dict[str, object]:
    job = f"FJBENCH{number:015d}"
    return {
        "jobId": job,
        "faxRecipients": [
            {
                "number": f"+4989{number % 10_000:04d}{one:05d}",
                "numId": f"FN{number:010d}{one:05d}",
                "status": "OK" if one % 5 else "BUSY",
                "reason": "OK" if one % 5 else "Destination number busy",
                "sentTS": "2026-06-08T15:38:08Z",
                "durationInSecs": 26,
                "sentToNumber": f"004989{number % 10_000:04d}{one:05d}",
                "remoteCsid": "Retarus Faxolution",
            }
            for one in range(1, recipients + 1)
        ],
        "documents": [{"name": "document.pdf", "isText": False}],
        "options": {"resolution": "HIGH", "jobReference": "order-4711"},
        "pages": 1,
    }


def _xml(job: dict[str, object]) -> bytes:
    rows = job["faxRecipients"]
    assert isinstance(rows, list)
    recipients = "".join(
        "<faxRecipient>" + "".join(f"<{name}>{value}</{name}>" for name, value in row.items()) + "</faxRecipient>"
        for row in rows
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<faxJobReport xmlns="http://retarus.com/fax4ba/faxws/3/0">'
        f"<jobId>{job['jobId']}</jobId>{recipients}"
        "<document><name>document.pdf</name><isText>false</isText></document>"
        "<options><resolution>HIGH</resolution><jobReference>order-4711</jobReference></options>"
        "<pages>1</pages></faxJobReport>"
    ).encode()
