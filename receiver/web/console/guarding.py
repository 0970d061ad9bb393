"""What keeps other sites out: headers of each answer, and what a form must prove."""

import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from flask import Response

from receiver import body
from receiver.errors import Forbidden, Undecodable

_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Not no-referrer: browsers would send "Origin: null" with our own forms.
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_LONGEST_FORM = 16 * 1024  # bytes
_MOST_FIELDS = 50
_PORTS = {"http": 80, "https": 443}


def protect(response: Response) -> Response:
    """With what every answer under /console/ says to browsers."""
    response.headers.update(_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def refuse_other_sites(environ: Mapping[str, Any], public_url: str | None) -> None:
    """
    Raise Forbidden unless the browser says that the form was sent from a page of ours.

    All current browsers send Origin with a POST; one without it is refused as well.
    """
    origin = environ.get("HTTP_ORIGIN", "")
    if environ.get("HTTP_SEC_FETCH_SITE", "same-origin") != "same-origin" or not _is_ours(origin, environ, public_url):
        raise Forbidden("this form was sent from another site, or by a program without Origin; open the page anew")


def _is_ours(origin: str, environ: Mapping[str, Any], public_url: str | None) -> bool:
    """
    Whether it is the public URL's, or the host that was asked for.

    The scheme of the latter is not known: TLS ends in front of us.
    """
    given = _parts(origin)
    if given is None:
        return False
    if public_url is not None and given == _parts(public_url):
        return True
    asked = environ.get("HTTP_HOST", "")
    public = None if public_url is None else urlsplit(public_url).netloc
    return asked.lower() != (public or "").lower() and given in (_parts(f"https://{asked}"), _parts(f"http://{asked}"))


def _parts(url: str) -> tuple[str, str, int] | None:
    try:
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            return None
        return parts.scheme, parts.hostname.lower(), parts.port or _PORTS[parts.scheme]
    except ValueError:
        return None


def form(environ: Mapping[str, Any]) -> dict[str, str]:
    """What was posted. Raises Undecodable for what no form of ours sends."""
    content = body.read(environ, _LONGEST_FORM)
    kind = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    expected = Undecodable("expected a form as this console sends it")
    if kind != "application/x-www-form-urlencoded":
        raise expected
    try:
        text = content.decode("ascii")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"))
    except ValueError:
        raise expected from None


def refuse_wrong_token(posted: Mapping[str, str], token: str) -> None:
    """Raise Forbidden unless the form was made for this session."""
    if not hmac.compare_digest(posted.get("token", "").encode(), token.encode()):
        raise Forbidden("this form is of an earlier session; open the page anew")
