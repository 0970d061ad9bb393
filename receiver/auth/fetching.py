"""
Small documents from an identity provider, in a limited time and size whatever it does.

Every fetch runs in a thread of its own, under a deadline for all of it: name, connection, TLS and each byte. So
a caller never waits longer, and a server that sends one byte a second holds nobody. Nothing outlives the fetch
but the TLS settings, so there is nothing that a fork could break.
"""

import asyncio
import ssl
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from functools import cache
from typing import Any, TypeVar

import httpx

from receiver.auth.strict_json import parse_object

T = TypeVar("T")

_SECONDS = 3.0
_LONGEST = 256 * 1024


class Unfetched(Exception):  # noqa: N818 - the other side's trouble
    """There is no such document now. reason: a word or an error's class, without anything that came."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def begin(work: Coroutine[Any, Any, T]) -> "Future[T]":
    """Begin a fetch, or several after each other, in a thread. Within 3 s there is a result, or Unfetched."""
    future: Future[T] = Future()

    async def bounded() -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                result = await work
        except TimeoutError:
            future.set_exception(Unfetched("timeout"))
        except Unfetched as error:
            future.set_exception(error)
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for; libraries' messages quote what came
            future.set_exception(Unfetched(type(error).__name__))
        else:
            future.set_result(result)

    # Not waited for by a process that ends; a name that takes the resolver minutes holds up this thread only.
    threading.Thread(target=lambda: asyncio.run(bounded()), name="fetching", daemon=True).start()
    return future


async def document(
    url: str, *, form: Mapping[str, str] | None = None, login: tuple[str, str] | None = None
) -> dict[str, Any]:
    """The JSON object at the url: by GET, or by POST of a form. Redirects and any status but 200 are Unfetched."""
    # Compressed, a small answer could be a large document.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    async with httpx.AsyncClient(verify=_tls(), timeout=_SECONDS, follow_redirects=False) as client:
        request = client.build_request("POST" if form else "GET", url, data=form, headers=headers)
        auth = httpx.BasicAuth(*login) if login else None
        answer = await client.send(request, auth=auth, stream=True)
        try:
            if answer.status_code != httpx.codes.OK:
                raise Unfetched(f"status {answer.status_code}")
            text = bytearray()
            async for part in answer.aiter_raw():
                text += part
                if len(text) > _LONGEST:
                    raise Unfetched("too large")
        finally:
            await answer.aclose()
    try:
        return parse_object(bytes(text))
    except ValueError:
        raise Unfetched("no JSON object") from None


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the certificates takes longer than a fetch."""
    return httpx.create_ssl_context()
