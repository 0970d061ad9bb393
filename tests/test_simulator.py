"""`faxhook simulate`: real callbacks, the endpoint's own credentials, and an honest exit code."""

import hashlib
import http.client
import re
import signal
import socket
import ssl
import subprocess
import sys

import pytest
from house import CONFIGURATION, TOKEN, house, serving
from ports import listener
from providers.samples import callers

from receiver import providers, settings, simulator
from receiver.cli import main
from receiver.errors import ConfigurationError
from receiver.simulator import Plan
from receiver.simulator.unanswered import why

HASH = hashlib.sha256(b"x").hexdigest()
ENDPOINT = '[endpoints.one]\nprovider = "{provider}"\naccount = "1"\ntimezone = "UTC"\n'


def run(capsys, *arguments):
    """Exit code and lines of standard output."""
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *map(str, arguments)])
    return ended.value.code or 0, capsys.readouterr().out.splitlines()


def chosen(tmp_path, text, **choice):
    path = tmp_path / "faxhook.toml"
    path.write_text(text)
    return simulator.targets(settings.load(path, {}), providers.load(), **choice)


@pytest.fixture
def server(tmp_path, sqlite_url):
    with house(tmp_path, sqlite_url) as served:
        yield served


@pytest.fixture
def four(tmp_path):
    return chosen(tmp_path, CONFIGURATION.format(port=20000, store="sqlite:///x.db"))


def bodies(targets, **plan):
    return [(one.target.endpoint, one.raw) for one in Plan(targets, **plan).deliveries()]


def test_one_success_for_each_endpoint(server, capsys):
    code, lines = run(capsys, "--config", server.config)
    assert code == 0
    assert {event["data"]["provider"] for event in server.events()} == {"openfax", "faxage", "retarus", "efax"}
    assert {event["data"]["outcome"] for event in server.events()} == {"delivered"}
    assert len(lines) == 6
    assert re.match(r"sent 4, 2xx 4, others 0 in .* p50 [0-9.]+ ms, p99 [0-9.]+ ms", lines[4])
    assert TOKEN not in "".join(lines)


@pytest.mark.parametrize("provider", callers().values(), ids=lambda provider: provider.name)
def test_all_of_a_provider(server, capsys, provider):
    code, _ = run(capsys, provider.name, "--all", "--config", server.config)
    assert code == 0
    found = {(event["data"]["outcome"], (event["data"]["failure"] or {}).get("reason")) for event in server.events()}
    verdicts = [verdict for verdict in provider.codes.verdicts.values() if verdict]
    assert found == {(one.outcome.value, one.failure.reason.value if one.failure else None) for one in verdicts}


def test_every_code_is_a_case(four):
    for target in four:
        known = simulator.cases(target.provider.codes)
        assert all(known[code] == (code,) for code in target.provider.codes.verdicts)
        assert {"success", "failed", "mixed"} <= known.keys()


def test_recipients_of_one_job(server, capsys):
    assert run(capsys, "retarus", "--recipients", 500, "--config", server.config)[0] == 0
    assert run(capsys, "efax", "--recipients", 3, "--config", server.config)[0] == 0
    events = server.events()
    assert len({event["subject"] for event in events}) == 503
    assert len({event["data"]["provider_job_id"] for event in events}) == 2


def test_a_repetition_must_be_taken_for_one(server, capsys):
    code, lines = run(
        capsys, "faxage", "--count", 20, "--duplicate", "0.25", "--parallel", 3, "--config", server.config
    )
    assert code == 0
    assert "20 x 200 accepted, 5 x 200 duplicate" in lines[-1]
    assert len(server.events()) == 20


def test_a_number_of_repetitions(server, capsys):
    _, lines = run(capsys, "retarus", "--count", 5, "--duplicate", 2, "--config", server.config)
    assert "5 x 200 accepted, 2 x 200 duplicate" in lines[-1]


def test_what_is_taken_for_something_new_is_trouble(capsys):
    def forgetful(_environ, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"status":"accepted"}']

    with listener() as sock, serving(forgetful, sock) as port:
        code, lines = run(capsys, "openfax", "--duplicate", 1, "--to", f"http://127.0.0.1:{port}/callbacks/x")
    assert code == 1
    assert "sent 2, 2xx 2, others 0" in lines[-3]
    assert lines[-1] == "repetitions not recognised: 1"


def test_runs_are_fresh_unless_they_have_a_seed(four):
    assert bodies(four, cases=None, seed=1) == bodies(four, cases=None, seed=1)
    assert bodies(four, cases=None, seed=1) != bodies(four, cases=None, seed=2)
    fresh = [
        raw.body for _, raw in bodies(four, cases=["success"], count=50) + bodies(four, cases=["success"], count=50)
    ]
    assert len(set(fresh)) == len(fresh) == 400


def test_a_seed_again_is_a_duplicate(server, capsys):
    run(capsys, "openfax", "--count", 3, "--seed", 7, "--config", server.config)
    code, lines = run(capsys, "openfax", "--count", 3, "--seed", 7, "--config", server.config)
    assert (code, lines[-1]) == (0, "answers: 3 x 200 duplicate")


def test_a_rate(server, capsys):
    _, lines = run(capsys, "openfax", "--count", 11, "--rate", 20, "--parallel", 4, "--config", server.config)
    assert 0.5 <= float(re.search(r" in ([0-9.]+) s", lines[-2])[1]) < 2


def test_anything_but_a_2xx_is_exit_code_1(server, capsys):
    wrong = f"http://127.0.0.1:{server.port}/callbacks/openfax/{TOKEN}x"
    code, lines = run(capsys, "openfax", "--to", wrong, "--config", server.config)
    assert (code, lines[-1]) == (1, "answers: 1 x 404 not_found")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionRefusedError(), "nothing listens at h:80"),
        (socket.gaierror(-2, "x"), "there is no host h; check its name"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"), "h:80 does not speak TLS as it should; is it http:// there?"),
        (TimeoutError(), "h:80 did not answer in time"),
        (ConnectionResetError(), "h:80 closed the connection before it had answered"),
        (http.client.RemoteDisconnected(), "h:80 closed the connection before it had answered"),
        (http.client.BadStatusLine("x"), "h:80 answered something that is not HTTP; is it https:// there?"),
        (OSError(113, "No route to host"), "h:80 cannot be reached (No route to host)"),
    ],
)
def test_why_no_answer_came_is_a_sentence(error, said):
    assert why(error, "h", 80) == said


def test_where_nothing_serves_that_is_said_with_what_to_do(server, capsys):
    code, lines = run(capsys, "openfax", "--to", "http://127.0.0.1:1/callbacks/openfax", "--config", server.config)
    assert (code, lines[-1]) == (1, "answers: 1 x no answer: nothing listens at 127.0.0.1:1; start `faxhook serve`")
    to = f"https://127.0.0.1:{server.port}/callbacks/openfax"
    code, lines = run(capsys, "openfax", "--to", to, "--config", server.config)
    assert "does not speak TLS" in lines[-1] or "closed the connection" in lines[-1]


def test_an_address_needs_no_configuration(server, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "state")
    address = f"http://127.0.0.1:{server.port}/callbacks/openfax/{TOKEN}/r/order-1"
    assert run(capsys, "openfax", "--to", address)[0] == 0
    assert [event["data"]["reference"]["id"] for event in server.events()] == ["order-1"]
    assert run(capsys)[0] == 2


def test_ctrl_c_stops_it_with_a_summary(server):
    command = [sys.executable, "-m", "receiver", "simulate", "--count", "9999", "--rate", "100", "--config"]
    # Where the tests themselves run in the background, a shell has told them to ignore Ctrl-C.
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = subprocess.Popen([*command, str(server.config)], stdout=subprocess.PIPE, text=True, **listening)
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    lines = process.communicate(timeout=120)[0].splitlines()
    assert (process.returncode, lines[-1]) == (1, "stopped before the end")
    assert lines[-3].startswith("sent ")


@pytest.mark.parametrize(
    "arguments", [["nobody"], ["--endpoint", "nobody"], ["--case", "nothing"], ["--all", "--case=0"]]
)
def test_bad_usage_is_exit_code_2(server, capsys, arguments):
    assert run(capsys, *arguments, "--config", server.config)[0] == 2
    assert server.receipts() == []


# --- credentials ----------------------------------------------------------------------------------------------------


def test_basic_credentials_are_sent(tmp_path, sqlite_url, capsys):
    text = CONFIGURATION + (
        '\n[endpoints.guarded]\nprovider = "retarus"\naccount = "1"\n'
        'auth = {{ mode = "basic", credentials = [{{ user = "me", password = "größe" }}] }}\n'
    )
    with house(tmp_path, sqlite_url, text) as server:
        assert run(capsys, "--endpoint", "guarded", "--config", server.config)[0] == 0


def test_an_expired_credential_is_not_used(tmp_path):
    old = '{ user = "old", password = "old", not_after = 2020-01-01 }'
    text = (
        ENDPOINT.format(provider="efax")
        + f'auth = {{ mode = "payload", credentials = [{old}, {{ user = "me", password = "p" }}] }}'
    )
    (target,) = chosen(tmp_path, text)
    assert (target.identity.user, target.identity.password) == ("me", "p")


def test_what_is_known_as_a_hash_only_cannot_be_sent(tmp_path):
    token = ENDPOINT.format(provider="faxage") + f'auth = {{ mode = "none" }}\ntokens = ["sha256:{HASH}"]'
    with pytest.raises(ConfigurationError, match=r"endpoints\.one\.tokens: .*--to"):
        chosen(tmp_path, token)
    credentials = f'[{{ user = "me", password = "sha256:{HASH}" }}]'
    password = ENDPOINT.format(provider="efax") + f'auth = {{ mode = "payload", credentials = {credentials} }}'
    with pytest.raises(ConfigurationError, match=r"endpoints\.one\.auth\.credentials: .*--to"):
        chosen(tmp_path, password)
    (target,) = chosen(tmp_path, password, to="https://me:p%40ss@hooks.example.com/callbacks/one/token?x=1")
    assert (target.identity.user, target.identity.password, target.host, target.port) == (
        "me",
        "p@ss",
        "hooks.example.com",
        443,
    )
    assert target.path == "/callbacks/one/token?x=1"
    assert "p@ss" not in repr(target)


def test_an_address_names_its_endpoint(tmp_path):
    text = CONFIGURATION.format(port=20000, store="sqlite:///x.db")
    (target,) = chosen(tmp_path, text, to="http://127.0.0.1:1/callbacks/efax/token")
    assert target.endpoint == "efax"
    for address in ("http://127.0.0.1:1/elsewhere", "ftp://x/callbacks/efax", "callbacks/efax"):
        with pytest.raises(ConfigurationError, match="--to"):
            chosen(tmp_path, text, to=address)


@pytest.mark.parametrize(
    ("bind", "expected"),
    [("127.0.0.1:8000", ("127.0.0.1", 8000)), ("0.0.0.0:81", ("127.0.0.1", 81)), ("[::]:82", ("::1", 82))],
)
def test_the_own_address(tmp_path, bind, expected):
    text = (
        f'[server]\nbind = "{bind}"\n'
        + ENDPOINT.format(provider="faxage")
        + 'auth = { mode = "none" }\ninsecure = true'
    )
    (target,) = chosen(tmp_path, text)
    assert (target.host, target.port) == expected
    for address in ("unix:/run/x", "fd://3", "127.0.0.1:0"):
        with pytest.raises(ConfigurationError, match="--to"):
            chosen(tmp_path, text.replace(bind, address))
