"""
What public bug reports say that providers, proxies and people have sent, through real HTTP and real report requests.

Each file stands in ``fixtures/field/manifest.csv`` with where it was seen, the expected status or exit code, and what
must come out: ``events=N`` and fields of each event's data.
"""

import csv
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask, Response, abort
from house import FORM, House, house, serving
from ports import listener
from pulled import PROVIDERS, configuration

from receiver.cli import main

FIXTURES = Path(__file__).parent / "fixtures"
FOLDER = FIXTURES / "field"
with (FOLDER / "manifest.csv").open(newline="", encoding="utf-8") as opened:
    ROWS = {row["file"].split()[0]: row for row in csv.DictReader(opened)}


def files(method: str) -> list[str]:
    """Those that are sent so."""
    return [name for name, row in ROWS.items() if row["method"] == method]


def comes_to(server: House, expected: str) -> None:
    """What the manifest says of the events is true of them."""
    data = [event["data"] for event in server.events()]
    for name, value in re.findall(r'([\w.]+)=("[^"]*"|[^\s;]+)', expected):
        if name == "events":
            assert len(data) == int(value)
        else:
            assert [field(one, name) for one in data] == [json.loads(value)] * len(data), name


def field(data: Any, path: str) -> Any:
    for name in path.split("."):
        data = data[name]
    return data


@pytest.fixture
def server(tmp_path: Path, sqlite_url: str) -> Iterator[House]:
    with house(tmp_path, sqlite_url) as made:
        yield made


@pytest.mark.parametrize("name", files("POST"))
def test_a_callback_as_it_was_seen_comes_to_what_it_says(server: House, name: str) -> None:
    row = ROWS[name]
    answer = server.post(row["provider"], (FOLDER / name).read_bytes(), row["content_type"])
    assert answer.status == int(row["expect_code"]), answer.body
    comes_to(server, row["expect_outcome"])


# --- reports --------------------------------------------------------------------------------------------------------


@contextmanager
def answering(row: dict[str, str]) -> Iterator[str]:
    """A provider that has one answer for each page there is a file for, and for its credit; its URL."""
    bodies = {name.split(".")[-2]: (FOLDER / name).read_bytes() for name in row["file"].split()}
    bodies["getAvailableCredit"] = (FIXTURES / "openfax" / "poll_available_credit.json").read_bytes()
    app = Flask(__name__)

    @app.post("/<page>.php")
    def answer(page: str) -> Response:
        if page not in bodies:
            abort(404)
        return Response(bodies[page], content_type=row["content_type"])

    with listener() as sock, serving(app, sock) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def reconciled(folder: Path, store_url: str, row: dict[str, str]) -> Iterator[tuple[House, Result]]:
    """Where this report was asked for, and what ``faxhook reconcile`` said."""
    at = PROVIDERS[row["provider"]]
    if row["provider"] == "openfax":
        at = replace(at, account="x")  # as the files have it
    if "getcdr" not in row["file"]:
        at = replace(at, options=re.sub(r"cdr_url = .*", 'cdr_url = ""', at.options))
    with answering(row) as url:
        # kept for long: the files have dates, and must not become too old
        text = configuration(at, url) + '\n[retention]\nids = "36500d"\n'
        with house(folder, store_url, text) as server:
            yield server, CliRunner().invoke(main, ["reconcile", "--json", "--config", str(server.config)])


@pytest.mark.parametrize("name", files("PULL"))
def test_a_report_as_it_was_seen_comes_to_what_it_says(tmp_path: Path, sqlite_url: str, name: str) -> None:
    row = ROWS[name]
    with reconciled(tmp_path, sqlite_url, row) as (server, result):
        assert str(result.exit_code) in row["expect_code"], result.output
        comes_to(server, row["expect_outcome"])
        (summary,) = json.loads(result.stdout)
        if "the odd one named" in row["expect_outcome"]:
            assert summary["tallies"] > 0 and (summary["unreadable"] or summary["trouble"])
            assert "check the" not in result.output  # the address is right
        else:
            assert not summary["trouble"]


# --- a job that is registered late -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", files("POST then CLI"))
def test_a_reference_that_is_told_after_the_callback_reaches_consumers(
    tmp_path: Path, server: House, name: str
) -> None:
    """The file: a callback, a command and a callback, each after a blank line."""
    first, command, second = re.split(r"\n\n", (FOLDER / name).read_text().strip())
    endpoint = ROWS[name]["provider"]

    def post(text: str) -> None:
        assert server.post(endpoint, text.partition("\n")[2], FORM).status == 200

    post(first)
    arguments = [endpoint if word == "E" else word for word in command.split()[1:]]
    result = CliRunner().invoke(main, [*arguments, "--config", str(server.config)])
    assert result.exit_code == 0, result.output
    post(second)
    completed, amended = (event["data"] for event in server.events())
    assert (completed["outcome"], amended["revision"]) == ("delivered", 2)
    assert amended["reference"]["id"] == "order-1"
