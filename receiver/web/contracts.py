"""/openapi.json, /asyncapi.json and /schemas: the contracts, for anybody."""

from collections.abc import Callable

from flask import Blueprint, Response

from receiver import contracts


def blueprint() -> Blueprint:
    """Each document is made when it is first asked for."""
    made = Blueprint("contracts", __name__)
    for path, (document, content_type) in contracts.SERVED.items():
        made.add_url_rule(path, path.replace(".", "-"), _view(document, content_type))
    return made


def _view(document: Callable[[], str], content_type: str) -> Callable[[], Response]:
    def view() -> Response:
        return Response(document(), 200, [("Cache-Control", "max-age=3600")], content_type=content_type)

    return view
