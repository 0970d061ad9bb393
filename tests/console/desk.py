"""The console as people use it: signed in, its forms filled in as they are on the pages, over real HTTP."""

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import sqlalchemy as sa
from house import CONFIGURATION, FORM, House, Reply, house
from stock import Stock

PEOPLE = {"vera": "viewer", "otto": "operator", "paul": "privacy", "chef": ("operator", "privacy")}


def _user(name: str, role: Any) -> str:
    roles = f'"{role}"' if isinstance(role, str) else str(list(role)).replace("'", '"')
    return f'{{{{ user = "{name}", password = "{name}-password", role = {roles} }}}}'


BASIC = '\n[console]\nenabled = true\nauth = "basic"\nusers = ['
BASIC += ", ".join(_user(name, role) for name, role in PEOPLE.items()) + "]\n"
PROXY = """
[console]
enabled = true
auth = "proxy"
groups = {{ viewer = ["fax-readers"], operator = ["fax-operators"], privacy = ["fax-privacy"] }}
"""


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        given = dict(attributes)
        if tag == "form":
            self.forms.append({"action": given.get("action"), "method": given.get("method", "get"), "fields": {}})
        elif tag == "input" and self.forms and given.get("type") == "hidden":
            self.forms[-1]["fields"][given["name"]] = given.get("value") or ""
        elif tag == "a":
            self.links.append(given.get("href") or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@dataclass
class Browser:
    """One person's."""

    at: House
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.at.port}"

    def get(self, path: str, **headers: str) -> Reply:
        """Redirects are followed."""
        for _ in range(3):
            reply = self._ask("GET", path, None, **headers)
            if reply.status != 303:
                break
            path = reply.headers["Location"]
        return reply

    def json(self, path: str) -> Any:
        reply = self.get(path, Accept="application/json")
        assert reply.status == 200, reply.body
        return reply.json

    def words(self, path: str) -> str:
        reply = self.get(path)
        assert reply.status == 200, (path, reply.status, reply.body)
        return text(reply)

    def links(self, path: str) -> list[str]:
        return _Page(self.get(path).body.decode()).links

    def post(self, path: str, fields: dict[str, str], **headers: str) -> Reply:
        """As it is, from a page of ours unless the headers say something else."""
        given = {"Origin": self.origin, "Content_Type": FORM} | headers
        return self._ask("POST", path, urlencode(fields).encode(), **{name: one for name, one in given.items() if one})

    def submit(self, path: str, **fields: str) -> Reply:
        """The form of a page that posts to the page itself, or else to somewhere below it."""
        page = self.get(path)
        assert page.status == 200, page.body
        forms = [form for form in _Page(page.body.decode()).forms if form["method"] == "post"]
        form = next(form for form in forms if form["action"].startswith(path.partition("?")[0]))
        reply = self.post(form["action"], form["fields"] | fields)
        return self.get(reply.headers["Location"]) if reply.status == 303 else reply

    def token(self) -> str:
        page = self.get("/console/faxes").body.decode()
        return next(form["fields"]["token"] for form in _Page(page).forms if "token" in form["fields"])

    def _ask(self, method: str, path: str, body: bytes | None, **headers: str) -> Reply:
        given = self.headers | ({"Cookie": self.cookie} if self.cookie else {}) | headers
        reply = self.at.ask(method, path, body, **given)
        if found := re.match("__Host-faxhook=[^;]*", reply.headers.get("Set-Cookie", "")):
            self.cookie = found[0]
        return reply


def text(reply: Reply) -> str:
    """What somebody reads."""
    return html.unescape(" ".join(" ".join(_Page(reply.body.decode()).words).split()))


def sign_in(at: House, name: str) -> Browser:
    browser = Browser(at)
    reply = browser.post("/console/sign-in", {"user": name, "password": f"{name}-password"})
    assert reply.status == 303, reply.body
    return browser


def audited(at: House) -> list[tuple[str, str, str]]:
    """Who did what to what, but the signing in."""
    table = at.runtime.store.tables.audit
    with at.runtime.store.reading() as connection:
        rows = connection.execute(sa.select(table).order_by(table.c.seq)).all()
    return [(row.actor, row.action, row.subject) for row in rows if row.action != "console.sign-in"]


@contextmanager
def console(folder: Path, store_url: str, section: str = BASIC, *, before: str = "") -> Iterator[House]:
    """before: goes into [server]."""
    with house(folder, store_url, CONFIGURATION.replace("[server]", f"[server]\n{before}", 1) + section) as at:
        yield at


def stocked(at: House) -> Stock:
    """The same store, filled through the intake without HTTP."""
    return Stock(at.config, at.runtime)


def path_of(fax_id: str) -> str:
    return f"/console/faxes/{quote(fax_id)}"
