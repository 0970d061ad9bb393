"""
FAXAGE: ``httpsfax.php`` with operation=status, and ``getcdr.php``.

Sources: FAXAGE Internet Fax API documentation, "Status Operation" and "The getcdr.php URL"; order of the optional
columns and error bodies as public clients have seen them (sections 3.2 to 3.6 of the collected facts on the
providers). Errors are HTTP 200 with a text.
"""

import re
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from flask import Response, request

from standins.world import SentFax, Service, World, text

DATABASE_DOWN = b"ERR01: Database connection failed"  # for ``world.garble``
CDR_DATABASE_DOWN = b"ERR01: database connection failed"
LOGIN_INCORRECT = "ERR02: Login incorrect"
NO_JOBS = "ERR06: No jobs to display or job id specified not found"
BAD_POST = "ERR08: Unknown operation specified or bad POST"
ALL_ZEROS = "0000-00-00 00:00:00"
FIRST_NUID = 900100
DOCUMENTED_OPTIONS = ("pagecount", "csid", "showlogin", "xmitpages")  # each asks for a column more
NEWER_OPTIONS = (*DOCUMENTED_OPTIONS, "showtries")  # as public clients ask
REDIAL = timedelta(minutes=5)  # between two tries; not documented
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class IncomingCall:
    """A call to a number of the account: getcdr has them too."""

    at: datetime  # aware
    caller: str  # as it is shown: 10 digits or ``Unavailable``
    number: str  # ours, 10 digits
    seconds: int


def application(
    world: World,
    *,
    username: str = "exampleuser",
    password: str = "example-password",
    incoming: Sequence[IncomingCall] = (),
    encoding: str = "utf-8",
    options: Collection[str] = DOCUMENTED_OPTIONS,
) -> Service:
    """
    The company is the world's account. encoding: of the names; FAXAGE documents none. options: of operation=status,
    those that this account knows; others are ignored.
    """
    app = Service(world)
    calls = _Calls(world, incoming)

    def is_known() -> bool:
        return (text("username"), text("company"), text("password")) == (username, world.account, password)

    def reply(body: str) -> Response:
        return Response(body.encode(encoding, "replace"), content_type="text/plain")

    @app.operation("/httpsfax.php", lambda: text("operation") or "none", "GET", "POST")
    def httpsfax() -> Response:
        if not is_known():
            # Whether a POST without an operation is first of all a bad one is not documented.
            return reply(LOGIN_INCORRECT) if text("operation") else reply(_bad_post())
        times = [text(name) for name in ("begin", "end") if text(name)]
        if text("operation") != "status" or not all(_TIME.fullmatch(time) for time in times):
            return reply(_bad_post())
        asked_for = [name for name in options if text(name) == "1"]
        faxes = [fax for fax in world.faxes() if _is_asked_for(world, fax, username)]
        lines = [_line(world, fax, username, asked_for) for fax in faxes]
        return reply("".join(f"{line}\n" for line in lines)) if lines else reply(NO_JOBS)

    @app.operation("/getcdr.php", "getcdr", "GET", "POST")
    def getcdr() -> Response:
        if not is_known():
            return reply(LOGIN_INCORRECT.replace("Login", "login"))
        begin, end, after = text("begin"), text("end"), text("nuidgt")
        if not (begin and end) and not after:
            return reply("")
        lines = []
        for nuid, call in calls.records():
            calldate = call[0]
            if begin and end and not begin <= calldate <= end:
                continue
            if after and nuid <= (int(after) if after.isdecimal() else 0):
                continue
            if text("didnumber") and (call[1], call[3]) != ("IN", text("didnumber")):
                continue
            lines.append(",".join(([str(nuid)] if text("nuidshow") == "1" else []) + list(call)))
        return reply("".join(f"{line}\n" for line in lines))

    return app


def _is_asked_for(world: World, fax: SentFax, username: str) -> bool:
    jobs = [job for job in (text("jobid"), *request.form.getlist("jobids[]")) if job]
    # begin and end are about sendtime here, both included: the document does not say.
    sent = _time(world, fax.submitted_at)
    return (
        (not jobs or fax.job_id in jobs)
        and (not text("begin") or text("begin") <= sent)
        and (not text("end") or sent <= text("end"))
        and (text("useronly") != "1" or fax.login in ("", username))
    )


def _line(world: World, fax: SentFax, username: str, options: Collection[str]) -> str:
    """The columns in the documented order; without a header, and empty where there is nothing to say."""
    delivered = world.is_delivered(fax)
    stage = fax.stage or "In Queue"
    is_converted = not (fax.is_pending and stage == "Waiting for conversion")
    columns = [
        fax.job_id,
        fax.job_id[::-1],
        fax.recipient_name[:32],
        _ten_digits(fax.number),
        "pending" if fax.is_pending else fax.status,
        _longstatus(fax, stage, delivered),
        _time(world, fax.submitted_at),
        _time(world, fax.completed_at) if fax.completed_at else ALL_ZEROS,
        f"{timedelta(seconds=world.seconds(fax))!s:0>8}",
    ]
    optional = {
        "pagecount": str(fax.pages if is_converted else 0),
        "csid": _ten_digits(fax.number) if delivered else "",
        "showlogin": fax.login or username,
        "xmitpages": str(fax.pages if delivered else 0),
        "showtries": str(fax.attempts),
    }
    columns += [value for name, value in optional.items() if name in options]
    return "\t".join(columns)


def _longstatus(fax: SentFax, stage: str, delivered: bool) -> str:
    if not fax.is_pending:
        return "Success" if delivered else "Simulated failure"  # as the callbacks of the simulation
    return f"{stage} Tries: {fax.attempts} Status: {stage}" if text("extqueue") == "1" else stage


class _Calls:
    """Call detail records: each keeps its nuid, and a later one has a higher nuid, whenever its call began."""

    def __init__(self, world: World, incoming: Sequence[IncomingCall]) -> None:
        self._world = world
        self._incoming = incoming
        self._nuids: dict[tuple[str, ...], int] = {}
        self._lock = threading.Lock()

    def records(self) -> list[tuple[int, tuple[str, ...]]]:
        """(nuid, (calldate, direction, src, dst, duration)) ascending by calldate."""
        world = self._world
        calls: dict[tuple[str, ...], tuple[str, ...]] = {
            ("IN", str(index)): (_time(world, call.at), "IN", call.caller, call.number, str(call.seconds))
            for index, call in enumerate(self._incoming)
        }
        for fax in world.faxes():
            for attempt in range(fax.attempts if fax.completed_at else 0):
                assert fax.completed_at is not None
                is_last = attempt == fax.attempts - 1
                seconds = world.seconds(fax) if is_last else 0
                start = fax.completed_at - (fax.attempts - 1 - attempt) * REDIAL - timedelta(seconds=seconds)
                calls["OUT", fax.job_id, str(attempt)] = (
                    _time(world, start),
                    "OUT",
                    _ten_digits(fax.sender_number),
                    _ten_digits(fax.number),
                    str(seconds),
                )
        ordered = sorted(calls.items(), key=lambda item: item[1][0])
        with self._lock:
            return [(self._nuids.setdefault(key, FIRST_NUID + len(self._nuids)), call) for key, call in ordered]


def _bad_post() -> str:
    """The error and, as PHP prints it, everything that was posted: credentials too."""
    echo = "".join(f"    [{name}] => {value}\n" for name, values in request.form.lists() for value in values)
    return f"{BAD_POST}\nArray\n(\n{echo})\n"


def _ten_digits(number: str) -> str:
    digits = number.removeprefix("+")
    return digits[1:] if len(digits) == 11 and digits.startswith("1") else digits


def _time(world: World, time: datetime) -> str:
    return f"{world.local(time):%Y-%m-%d %H:%M:%S}"
