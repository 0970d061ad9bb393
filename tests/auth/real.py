"""Real HTTP clients that post a Retarus callback twice under Digest, and what they were seen to say."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recorder import recording
from wire import FIXTURES

PROGRAMS = FIXTURES.parent / "clients"
BODY = FIXTURES / "retarus" / "06_minimal.xml"
USER, PASSWORD = "retarus", "example-password"
CONFIGURATION = f"""
[server]
secret_key = "first-secret-key-0001"

[endpoints.retarus]
provider = "retarus"
account = "99999TE"
auth = {{ mode = "digest", realm = "retarus", credentials = [ {{ user = "{USER}", password = "{PASSWORD}" }} ] }}
"""


@dataclass(frozen=True)
class Client:
    """
    command: URL, USER, PASSWORD and FILE in it are filled in, or added at its end where there is no URL.

    version: the command that prints it, else the first line of what the client prints.
    """

    name: str
    command: Sequence[str]
    version: Sequence[str] = ()
    folder: Path | None = None


@dataclass(frozen=True)
class Run:
    """exchanges: as the recorder has them."""

    code: int
    output: str
    exchanges: list[str] = field(default_factory=list)

    @property
    def got_in_twice(self) -> bool:
        statuses = [one.rpartition(" ")[2] for one in self.exchanges]
        return self.code == 0 and statuses.count("200") == 2 and set(statuses) <= {"200", "401"}

    @property
    def second(self) -> str:
        """How the second post got in."""
        first = next(index for index, one in enumerate(self.exchanges) if one.endswith(" 200"))
        return "challenged" if any(one.endswith(" 401") for one in self.exchanges[first:]) else "pre-emptive"

    @property
    def algorithm(self) -> str:
        return ", ".join(sorted({one.split(" ")[0] for one in self.exchanges if one.endswith(" 200")}))


def commands(python: str) -> list[Client]:
    """The clients that need no more than Python packages, curl and wget."""
    curl = [
        *("curl", "-sf", "-o", "/dev/null", "--digest", "-u", "USER:PASSWORD", "--data-binary", "@FILE"),
        *("-H", "Content-Type: text/xml", "URL"),
    ]
    return [
        Client("curl --digest", [*curl, "--next", *curl[1:]], ["curl", "--version"]),
        Client("curl --anyauth", [*curl, "--anyauth", "--next", *curl[1:], "--anyauth"], ["curl", "--version"]),
        Client("wget", wget("wget", "--header=Content-Type: text/xml", "URL"), ["wget", "--version"]),
        Client("requests", [python, str(PROGRAMS / "python_requests.py"), "requests"]),
        Client("httpx", [python, str(PROGRAMS / "python_httpx.py")]),
        Client("aiohttp", [python, str(PROGRAMS / "python_aiohttp.py")]),
        Client("urllib", [python, str(PROGRAMS / "python_urllib.py")]),
    ]


def wget(program: str, *rest: str) -> list[str]:
    login = ("--user=USER", "--password=PASSWORD", "--post-file=FILE", "URL")
    return [program, "--no-config" if program == "wget" else "--max-threads=1", "-q", "-O", "/dev/null", *login, *rest]


def run(client: Client, port: int, *, body: Path = BODY) -> Run:
    """The client at that port of faxhook's."""
    with recording(port) as recorder:
        url = f"http://127.0.0.1:{recorder.port}/callbacks/retarus"
        words = {"URL": url, "USER": USER, "PASSWORD": PASSWORD, "FILE": str(body)}
        command = [_filled(word, words) for word in client.command]
        if not any("URL" in word for word in client.command):
            command += words.values()
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, cwd=client.folder, env=environment, check=False
        )
    return Run(done.returncode, done.stdout + done.stderr, recorder.exchanges())


def _filled(word: str, words: dict[str, str]) -> str:
    for name, value in words.items():
        word = word.replace(name, value)
    return word
