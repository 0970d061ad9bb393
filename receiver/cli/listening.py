"""listen: the events go to a consumer that is being written, too."""

import base64
import hmac
import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from receiver.cli import Failure, opening
from receiver.cli.events import filtering, only
from receiver.cli.verifying import SECRET_VARIABLE, webhook_secret
from receiver.errors import BadValue
from receiver.logs import log
from receiver.outgoing import lines, listening
from receiver.outgoing.listening import Posted
from receiver.outgoing.sinks.webhook import Webhook
from receiver.settings import Settings, Sink, secret_keys
from receiver.settings.model import FORMATS
from receiver.showing import happenings
from receiver.store import Store, outbox
from receiver.store import listening as kept
from receiver.store.tables import LISTENER
from receiver.system.stopping import Interrupted, on_signals

_STUCK_SECONDS = 1.0  # after a signal, for a reader that does not read
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def _name(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise click.BadParameter("expected 1 to 40 characters of [a-z0-9_-], not beginning with _ or -")
    return value


@click.command()
@click.argument("url", metavar="URL", required=False)
@opening.config_option
@click.option("--name", default="local", show_default=True, callback=_name, help="Each goes on where it was.")
@click.option(
    "--from",
    "begin",
    type=click.Choice(["now", "oldest"]),
    default="now",
    show_default=True,
    help="Where a new name begins; oldest: with all that is still there.",
)
@filtering
@click.option("--format", "form", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True)
@click.option(
    "--secret",
    envvar=SECRET_VARIABLE,
    callback=webhook_secret,
    help=f"Sign with this one (whsec_…, also in {SECRET_VARIABLE}), not with the name's own.",
)
@click.option("--print-secret", is_flag=True, help="Only print what it signs with, for the consumer's configuration.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object a line.")
def listen(
    url: str | None,
    config: Path | None,
    name: str,
    begin: str,
    form: str,
    secret: str | None,
    print_secret: bool,
    is_json: bool,
    **named: str | None,
) -> None:
    """
    Send the events to a consumer that you are writing, such as http://localhost:3000/fax, and show its answers.

    Nothing is taken from any other consumer, whatever the queue is. An event is a POST as a webhook sink makes it,
    signed; it has arrived when the answer is 2xx, and comes again until then, over restarts too. `events republish`
    sends here as well. A name that nobody has used for seven days is forgotten.
    """
    settings = opening.load(config)
    secret = secret or _own_secret(settings, name)
    if print_secret:
        click.echo(secret)
        return
    if url is None:
        raise click.UsageError("expected the URL of a consumer, such as http://localhost:3000/fax")
    sink = Sink(LISTENER + name, url, form, only(named), secrets=(secret,), allow_private=True)
    _check(sink)
    if sys.__stdout__ is None:
        raise Failure("standard output is closed")
    log.least = logging.CRITICAL  # what is the matter is shown for people
    with opening.open_store(config) as store:
        _listen(store, sink, name, from_oldest=begin == "oldest", is_json=is_json)


def _check(sink: Sink) -> None:
    if not sink.url.startswith(("http://", "https://")):
        raise click.UsageError("expected an http:// or https:// URL, such as http://localhost:3000/fax")
    try:
        Webhook(sink)
    except BadValue as error:
        raise click.UsageError(str(error)) from None


def _own_secret(settings: Settings, name: str) -> str:
    """The same each time, without being kept."""
    key = hmac.digest(secret_keys(settings)[0], f"faxhook listen {name}".encode(), "sha256")
    return f"whsec_{base64.b64encode(key).decode()}"


def _listen(store: Store, sink: Sink, name: str, *, from_oldest: bool, is_json: bool) -> None:
    holder = outbox.owner()
    with store.writing() as connection:
        listener, is_new = kept.begin(connection, store.tables, name, holder, sink.filter, from_oldest=from_oldest)
    where = "goes on where it was" if not is_new else "begins with the oldest event" if from_oldest else "begins now"
    shown = sink.secrets[0] if sys.stderr.isatty() else "the secret that --print-secret prints"
    out = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
    with on_signals() as stop:
        click.echo(f"{name} {where}; signed with {shown}; Ctrl-C ends it", err=True)

        def tell(what: Posted | str) -> None:
            if isinstance(what, str):
                click.echo(f"faxhook: {what}", err=True)
                return
            with stop.interrupting(_STUCK_SECONDS):
                lines.write(out, [_line(what, is_json=is_json).encode("utf-8", "backslashreplace")])

        try:
            listening.listen(store, sink, listener, stop, tell)
        except listening.GoneError:
            raise Failure("the consumer has answered 410: it wants no more events") from None
        except (BrokenPipeError, Interrupted):
            return  # nobody looks any more


def _line(posted: Posted, *, is_json: bool) -> str:
    envelope = json.loads(posted.body)
    shown: Mapping[str, Any] = {
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "status": posted.status,
        "seconds": round(posted.seconds, 3),
        "id": envelope["id"],
        "fax_id": envelope["subject"],
        "type": envelope["type"],
        "revision": envelope["data"]["revision"],
        "outcome": envelope["data"]["outcome"],
        **happenings.of_payload(posted.body),
    }
    return json.dumps(shown, ensure_ascii=False) if is_json else happenings.answered(shown)
