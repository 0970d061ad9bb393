"""Real HTTP clients get in under Digest, again and again; tests/clients has those that CI cannot install."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from real import BODY, CONFIGURATION, PROGRAMS, Client, commands, run
from wire import Served, served

CLIENTS = [
    pytest.param(one, id=one.name, marks=[pytest.mark.tool(one.command[0])] if one.version else [])
    for one in commands(sys.executable)
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("clients"), CONFIGURATION) as found:
        yield found


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So long that an answer before its end would break the connection of a client that still writes."""
    path = tmp_path_factory.mktemp("large") / "body.xml"
    path.write_bytes(BODY.read_bytes() + b" " * 3_000_000)
    return path


@pytest.mark.parametrize("client", CLIENTS)
def test_it_gets_in_twice(server: Served, client: Client) -> None:
    done = run(client, server.port)
    assert done.got_in_twice, done
    assert done.exchanges[0] == "- 401"  # what we hear first from all of them


@pytest.mark.parametrize("client", CLIENTS)
def test_it_gets_in_with_a_large_body(server: Served, client: Client, large: Path) -> None:
    done = run(client, server.port, body=large)
    assert done.got_in_twice, done


def test_the_results_name_every_client_and_none_has_failed() -> None:
    rows = re.findall(r"(?m)^\| (.+?) \| .+ \| ([^|]+) \|$", (PROGRAMS / "RESULTS.md").read_text())[1:]
    assert {name for name, _ in rows} >= {one.name for one in commands("")} | {
        *(f"Java {major} HttpURLConnection" for major in (11, 17, 21, 25)),
        *("Apache HttpClient 4", "Apache HttpClient 5", "PHP curl", "Perl LWP", "Ruby httpclient"),
        *("Node undici", "Node digest-fetch"),
    }
    for name, exchanges in rows:
        if name != "---":
            assert exchanges.count(" 200") == 2, name
