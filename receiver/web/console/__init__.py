"""
The console under ``/console/``: what the command line answers, as pages for a browser.

It asks the same functions, through a store of its own whose statements end after two seconds. Nothing of it needs
JavaScript, and none is let run. Roles are held here, for each page and action, whatever a page shows.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from flask import Blueprint, Response

from receiver.errors import NotFound, Refusal
from receiver.runtime import Runtime
from receiver.settings import Console
from receiver.web.console import rendering
from receiver.web.console.dispatching import Dispatcher
from receiver.web.console.guarding import protect
from receiver.web.console.pages import ACTIONS, PAGES

_STATIC = Path(__file__).parent / "static"
_STYLE = "console.css"


def blueprint(runtime: Runtime, console: Console) -> Blueprint:
    """Everything under /console/."""
    made = Blueprint("console", __name__)
    rendering.prepare()
    dispatcher = Dispatcher(runtime, console)
    made.after_request(protect)
    made.register_error_handler(Exception, dispatcher.failed)
    made.register_error_handler(Refusal, dispatcher.refused)
    rules: list[tuple[str, str, Callable[..., Response], tuple[str, ...]]] = [
        *((page.rule, page.name, partial(dispatcher.show, page), ("GET",)) for page in PAGES),
        *((action.rule, action.name, partial(dispatcher.act, action), ("GET", "POST")) for action in ACTIONS),
        ("/console/sign-in", "sign_in", dispatcher.sign_in, ("GET", "POST")),
        ("/console/sign-out", "sign_out", dispatcher.sign_out, ("POST",)),
        ("/console", "begin", dispatcher.begin, ("GET",)),
        (f"/console/static/{_STYLE}", "style", partial(_style, (_STATIC / _STYLE).read_bytes()), ("GET",)),
        ("/console/<path:_path>", "nothing", _nothing, ("GET",)),
    ]
    for rule, name, view, methods in rules:
        made.add_url_rule(rule, name, view, methods=methods, provide_automatic_options=False)
    return made


def _style(content: bytes) -> Response:
    headers = [("Cache-Control", "private, max-age=300")]
    return Response(content, 200, headers, content_type="text/css; charset=utf-8")


def _nothing(_path: str) -> Response:
    raise NotFound("there is nothing here")
