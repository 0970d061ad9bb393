"""What a configuration may say, and how one is refused."""

import hashlib
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from werkzeug.security import generate_password_hash

from receiver import settings as configuration
from receiver.errors import ConfigurationError
from receiver.settings import NoConfiguration, Settings

TOKEN = "uX2mFfN0Q2v6c4Yw8bJ1kZ5tR7sD9gH3"
WHSEC = "whsec_" + 32 * "A"
ENDPOINT = f"""
[endpoints.openfax]
provider = "openfax"
auth = {{ mode = "none" }}
tokens = ["{TOKEN}"]
"""


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    path = folder / "faxhook.toml"
    path.write_text(text)
    return configuration.load(path, environ or {})


def refusal(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text, environ)
    message = str(caught.value)
    assert str(folder / "faxhook.toml") in message
    return message


def with_auth(auth: str, more: str = "") -> str:
    return f'[endpoints.faxage]\nprovider = "faxage"\naccount = "acme"\nauth = {auth}\n{more}\n'


def basic(password: str) -> str:
    return with_auth(f'{{ mode = "basic", credentials = [ {{ user = "u", password = "{password}" }} ] }}')


def digest(password: str, more: str = "") -> str:
    auth = f'mode = "digest", credentials = [ {{ user = "u", password = "{password}" }} ]'
    return with_auth(f"{{ {', '.join(filter(None, [auth, more]))} }}")


def oauth2(more: str) -> str:
    return with_auth(f'{{ mode = "oauth2", {more} }}')


def hmac(secrets: str, more: str = "") -> str:
    """A secret in quotes, or none."""
    parts = ['mode = "hmac"', f"secrets = [{secrets}]" if secrets else "", more]
    return with_auth(f"{{ {', '.join(filter(None, parts))} }}")


OWN_ISSUER = with_auth('{ mode = "oauth2", issuer = "self" }')
OAUTH2_CLIENT = '[oauth2.clients.x]\nsecret = "a-secret-of-a-client"\n'
REMOTE = 'mode = "oauth2", issuer = "https://login.example.com/", audience = "faxhook"'
ASKED = 'introspection = { url = "https://login.example.com/introspect", client_id = "x", client_secret = "y" }'


# --- where it comes from --------------------------------------------------------------------------------------------


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder; tell where a configuration came from by its public_url."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said_by(name: str) -> str:
    return f'[server]\npublic_url = "https://{name}"\n{ENDPOINT}'


def test_the_argument_wins_over_the_path_variable_over_the_text_variable_over_the_working_folder(named: Path) -> None:
    for name in ("argument", "variable", "faxhook"):
        (named / f"{name}.toml").write_text(said_by(name))
    environ = {"FAXHOOK_CONFIG": "variable.toml", "FAXHOOK_CONFIG_TOML": said_by("text")}
    found = configuration.load(named / "argument.toml", environ)
    assert (found.server.public_url, found.path, found.document.folder) == (
        "https://argument",
        named / "argument.toml",
        named,
    )
    assert configuration.load(None, environ).server.public_url == "https://variable"
    del environ["FAXHOOK_CONFIG"]
    found = configuration.load(None, environ)
    assert (found.server.public_url, found.path, found.document.folder) == ("https://text", None, named)
    assert configuration.load(None, {}).server.public_url == "https://faxhook"
    assert configuration.load(None, {"FAXHOOK_CONFIG": ""}).path == named / "faxhook.toml"


def test_no_configuration_at_all_is_told_from_a_missing_file(named: Path) -> None:
    with pytest.raises(NoConfiguration):
        configuration.load(None, {})
    with pytest.raises(ConfigurationError, match=r"absent\.toml: no such file") as caught:
        configuration.load(None, {"FAXHOOK_CONFIG": "absent.toml"})
    assert not isinstance(caught.value, NoConfiguration)


@pytest.mark.parametrize("content", [b"[server", b"\xff", b"a = 1\na = 2"])
def test_what_is_not_toml_is_refused_with_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"x\.toml: expected"):
        configuration.load(path, {})


def test_a_byte_order_mark_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbf" + ENDPOINT.encode())
    assert "openfax" in configuration.load(tmp_path / "x.toml", {}).endpoints


# --- defaults and the example of the design -------------------------------------------------------------------------


def test_one_endpoint_is_enough(tmp_path: Path) -> None:
    found = load(tmp_path, ENDPOINT)
    assert found.server.bind == "127.0.0.1:8000"
    assert found.server.max_body == 8 * 1024 * 1024
    assert found.server.state_dir == tmp_path / "var"
    assert found.server.secret_keys == ()
    assert found.server.ops_token is None
    assert 2 <= found.server.workers <= 4
    assert found.store.url == f"sqlite:///{tmp_path}/var/faxhook.db"
    assert found.queue.url == "embedded:"
    assert found.retention.ids == timedelta(days=90)
    endpoint = found.endpoints["openfax"]
    assert (endpoint.answer, endpoint.auth.realm, endpoint.account) == (200, "faxhook", None)
    assert endpoint.tokens[0].digest == hashlib.sha256(TOKEN.encode()).digest()


def test_everything_that_can_be_said_arrives(tmp_path: Path) -> None:
    text = """
[server]
bind = "[::1]:9000"
public_url = "https://hooks.example.com/"
trusted_proxies = ["10.0.0.0/8", "fd00::/8"]
max_body = "1MB"
secret_key = ["first-first-first", "second-second-second"]
state_dir = "/srv/state"
ops_token = "${OPS:-}"

[store]
url = "postgres://u:p@db/fax"
identity_salt = "salt"
ephemeral_ok = true

[queue]
url = "embedded:"

[retention]
bodies = "12h"
rejected = "90m"
ids = "45d"

[endpoints.efax]
provider = "efax"
account = "me"
timezone = "America/Los_Angeles"
region = "US"
answer = 202
allow = ["203.0.113.0/24"]
auth = { mode = "payload", credentials = [ { id = "a", user = "me", password = "pw", not_after = 2027-01-01 } ] }
"""
    found = load(tmp_path, text)
    assert found.server.bind == "[::1]:9000"
    assert found.server.public_url == "https://hooks.example.com"
    assert found.server.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert found.server.max_body == 1_000_000
    assert configuration.secret_keys(found) == (b"first-first-first", b"second-second-second")
    assert found.server.state_dir == Path("/srv/state")
    assert found.server.ops_token is None
    assert found.store.url == "postgresql+psycopg://u:p@db/fax"
    assert found.store.identity_salt == "salt"
    assert found.store.ephemeral_ok
    assert found.retention.bodies == timedelta(hours=12)
    endpoint = found.endpoints["efax"]
    assert endpoint.timezone == ZoneInfo("America/Los_Angeles")
    assert (endpoint.region, endpoint.answer, endpoint.allow) == ("US", 202, (ip_network("203.0.113.0/24"),))
    (credential,) = endpoint.auth.credentials
    assert (credential.id, credential.user, credential.password) == ("a", "me", "pw")
    assert credential.not_before is None
    assert credential.not_after == datetime(2027, 1, 1, tzinfo=UTC)


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    found = load(tmp_path, ENDPOINT)
    with pytest.raises(FrozenInstanceError):
        found.server.bind = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        found.endpoints["x"] = found.endpoints["openfax"]  # type: ignore[index]


def test_a_repr_shows_no_secret(tmp_path: Path) -> None:
    text = """
[server]
secret_key = "hidden-hidden-hidden"
ops_token = "hidden"
[store]
url = "postgresql://u:hidden@db/fax"
identity_salt = "hidden"
[endpoints.x]
provider = "efax"
tokens = ["hidden-hidden-hidden"]
auth = { mode = "payload", credentials = [ { user = "me", password = "hidden" } ] }
"""
    assert "hidden" not in repr(load(tmp_path, text))


# --- variables and files --------------------------------------------------------------------------------------------


def test_strings_may_refer_to_variables(tmp_path: Path) -> None:
    text = ENDPOINT.replace(f'"{TOKEN}"', '"${A}-${B:-bbbbbbbb}-${C:-cccccccc}"')
    (token,) = load(tmp_path, text, {"A": "aaaa", "C": ""}).endpoints["openfax"].tokens
    assert token.plain == "aaaa-bbbbbbbb-cccccccc"


def test_a_variable_that_is_not_set_is_named_with_key_and_file(tmp_path: Path) -> None:
    message = refusal(tmp_path, ENDPOINT.replace(TOKEN, "${OPENFAX_TOKEN}"))
    assert "endpoints.openfax.tokens[0]" in message
    assert "OPENFAX_TOKEN is not set" in message


def test_half_a_reference_is_refused_and_other_dollars_are_kept(tmp_path: Path) -> None:
    assert "${NAME}" in refusal(tmp_path, basic("pa${ss"))
    assert load(tmp_path, basic("pa$$w{}rd")).endpoints["faxage"].auth.credentials[0].password == "pa$$w{}rd"


@pytest.mark.parametrize(("content", "password"), [("pw", "pw"), ("pw\n", "pw"), ("pw \n", "pw "), ("${X}", "${X}")])
def test_a_string_may_be_in_a_file_beside_the_configuration(tmp_path: Path, content: str, password: str) -> None:
    (tmp_path / "secret").write_text(content)
    text = basic("").replace('password = ""', 'password = { file = "${NAME}" }')
    found = load(tmp_path, text, {"NAME": "secret"})
    assert found.endpoints["faxage"].auth.credentials[0].password == password


@pytest.mark.parametrize("name", ["absent", "empty", "."])
def test_a_secret_file_that_is_missing_or_empty_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").touch()
    text = basic("").replace('password = ""', f'password = {{ file = "{name}" }}')
    assert "endpoints.faxage.auth.credentials[0].password" in refusal(tmp_path, text)


def test_variables_of_the_platform_win(tmp_path: Path) -> None:
    text = f'[server]\nbind = "127.0.0.1:1"\n[store]\nurl = "${{NOT_NEEDED:-sqlite:///a.db}}"\n{ENDPOINT}'
    environ = {"PORT": "5000", "WEB_CONCURRENCY": "7", "DATABASE_URL": "postgres://u:p@h/d"}
    found = load(tmp_path, text, environ)
    assert (found.server.bind, found.server.workers) == ("0.0.0.0:5000", 7)
    assert found.store.url == "postgresql+psycopg://u:p@h/d"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("WEB_CONCURRENCY", "0"),
        ("DATABASE_URL", "mysql://u:hidden@h/d"),
        ("FAXHOOK_BROKER_URL", "mqtt://u:hidden@h"),
        ("CLOUDAMQP_URL", "mqtt://u:hidden@h"),
    ],
)
def test_a_variable_of_the_platform_that_cannot_be_used_is_named(tmp_path: Path, name: str, value: str) -> None:
    message = refusal(tmp_path, ENDPOINT, {name: value})
    assert name in message
    assert "hidden" not in message


def test_our_own_broker_variable_wins_over_cloudamqp(tmp_path: Path) -> None:
    environ = {"FAXHOOK_BROKER_URL": "embedded:", "CLOUDAMQP_URL": "amqp://h"}
    assert load(tmp_path, ENDPOINT, environ).queue.url == "embedded:"


# --- what is refused ------------------------------------------------------------------------------------------------

SERVER = ENDPOINT + "[server]\n"
OPENFAX = ENDPOINT

REFUSED = [
    # unknown, later, or of another type
    ("[servr]\n" + ENDPOINT, "servr", "did you mean server?"),
    (SERVER + 'bnd = "x"', "server.bnd", "did you mean bind?"),
    (SERVER + "workers = 3", "server.workers", "WEB_CONCURRENCY"),
    (OPENFAX + 'acount = "x"', "endpoints.openfax.acount", "did you mean account?"),
    ("server = 1\n" + ENDPOINT, "server", "a table"),
    (SERVER + "bind = 8000", "server.bind", "a string"),
    (SERVER + 'trusted_proxies = "10.0.0.0/8"', "server.trusted_proxies", "a list"),
    (ENDPOINT + "[oauth2.clients.x]\n", "oauth2.clients.x.secret", "missing"),
    (ENDPOINT + '[oauth2.clients."x y"]\nsecret = "hidden"', "oauth2.clients.x y", "client_id"),
    (ENDPOINT + '[oauth2.clients.x]\nsecret = "hidden"', "oauth2.clients.x.secret", "at least 16"),
    (OWN_ISSUER, "oauth2.clients", 'endpoints.faxage.auth.issuer is "self"'),
    (
        with_auth('{ mode = "oauth2", issuer = "self", allowed_clients = ["y"] }') + OAUTH2_CLIENT,
        "endpoints.faxage.auth.allowed_clients[0]",
        "oauth2.clients",
    ),
    (ENDPOINT + '[store]\nencryption_key = "hidden"', "store.encryption_key", "not yet available"),
    (ENDPOINT + '[queue]\nurl = "hidden://x"', "queue.url", "amqps://"),
    (ENDPOINT + '[queue]\nurl = "amqp:hidden"', "queue.url", "amqps://"),
    (ENDPOINT + '[queue]\nurl = "amqp://user:hid/den@127.0.0.1:5672//"', "queue.url", "percent-encoded"),
    (ENDPOINT + '[queue]\nurl = "redis://:hid/den@127.0.0.1"', "queue.url", "percent-encoded"),
    (ENDPOINT + '[queue]\nurl = "amqp://hidden;redis://hidden"', "queue.url", "amqps://"),
    (
        ENDPOINT + '[queue]\nurl = "amqps://hidden/?ssl=1"',
        "queue.url",
        "unknown parameter ssl; amqps:// takes ssl_ca_certs,",
    ),
    (
        ENDPOINT + '[queue]\nurl = "amqp://h/?heartbeat=5"',
        "queue.url",
        "unknown parameter heartbeat; amqp:// takes none",
    ),
    (ENDPOINT + '[queue]\nurl = "amqp://h/;amqp://i/?ssl=1"', "queue.url", "unknown parameter ssl; amqp:// takes none"),
    (ENDPOINT + '[queue]\nurl = "redis://h/0?db=1"', "queue.url", "unknown parameter db; redis:// takes none"),
    (ENDPOINT + '[queue]\nurl = "sqs://k:hidden@h:1/?x=1"', "queue.url", "unknown parameter x; sqs:// takes none"),
    (ENDPOINT + '[queue]\nurl = "sqla+sqlite:///x?y=1"', "queue.url", "unknown parameter y; sqla:// takes none"),
    (ENDPOINT + '[queue]\nurl = "memory://?x=1"', "queue.url", "unknown parameter x; memory:// takes none"),
    (ENDPOINT + '[queue]\nurl = "redis://h/hidden"', "queue.url", "the number of a database"),
    (
        ENDPOINT + '[queue]\nurl = "rediss://h/0?ssl_cert_reqs=hidden"',
        "queue.url",
        "ssl_cert_reqs: expected required or none",
    ),
    (
        ENDPOINT + '[queue]\nurl = "amqps://h/?ssl_check_hostname=no"',
        "queue.url",
        "ssl_check_hostname: expected true or false",
    ),
    (
        ENDPOINT + '[queue]\nurl = "amqps://h/?ssl_ca_certs=hidden.pem"',
        "queue.url",
        "ssl_ca_certs: expected the absolute path",
    ),
    (
        ENDPOINT + '[queue]\nurl = "amqps://h/?ssl_keyfile=/dev/null"',
        "queue.url",
        "ssl_keyfile: expected the absolute path",
    ),
    (ENDPOINT + '[queue]\nurl = "rediss://u:12?hidden=3@h/0"', "queue.url", "percent-encoded"),
    (ENDPOINT + '[queue]\nurl = "amqp://u:12#hidden@h/"', "queue.url", "percent-encoded"),
    (ENDPOINT + '[queue]\nurl = "amqps+x://hidden/"', "queue.url", "amqps://"),
    (ENDPOINT + '[queue]\nurl = "confluentkafka://hidden"', "queue.url", "loses"),
    (ENDPOINT + '[queue]\nurl = "gcpubsub://hidden"', "queue.url", "before the server has it"),
    (ENDPOINT + '[queue]\nurl = "azureservicebus://hidden"', "queue.url", "faxhook[azure]"),
    (ENDPOINT + '[queue]\nexchange = "amq.hidden"', "queue.exchange", "not beginning with amq."),
    (ENDPOINT + '[queue]\nqueue = "hidden/"', "queue.queue", "A-Za-z0-9"),
    (ENDPOINT + '[queue]\ndeclare = "hidden"', "queue.declare", "true or false"),
    # the server
    (SERVER + 'bind = "8000"', "server.bind", "<host>:<port>"),
    (SERVER + 'bind = "x:70000"', "server.bind", "<host>:<port>"),
    (SERVER + 'public_url = "hooks.example.com"', "server.public_url", "https://"),
    (SERVER + 'trusted_proxies = ["10.0.0.1/8"]', "server.trusted_proxies[0]", "network"),
    (SERVER + 'max_body = "8 megs"', "server.max_body", "8MiB"),
    (SERVER + "max_body = 0", "server.max_body", "8MiB"),
    (SERVER + "max_body = true", "server.max_body", "8MiB"),
    (SERVER + "max_body = 1.5", "server.max_body", "8MiB"),
    (SERVER + 'secret_key = "hidden"', "server.secret_key", "16"),
    (SERVER + 'secret_key = ["hidden"]', "server.secret_key[0]", "16"),
    (SERVER + "secret_key = []", "server.secret_key", "at least one"),
    (SERVER + 'state_dir = ""', "server.state_dir", "not empty"),
    # store and retention
    (ENDPOINT + '[store]\nurl = "mysql://u:hidden@h/d"', "store.url", "sqlite:///"),
    (ENDPOINT + '[store]\nurl = "sqlite:///:memory:"', "store.url", "sqlite:///"),
    (ENDPOINT + '[store]\nurl = "sqlite://"', "store.url", "sqlite:///"),
    (ENDPOINT + '[store]\nephemeral_ok = "true"', "store.ephemeral_ok", "true or false"),
    (ENDPOINT + '[retention]\nbodies = "7"', "retention.bodies", "7d"),
    (ENDPOINT + '[retention]\nbodies = "0d"', "retention.bodies", "7d"),
    (ENDPOINT + '[retention]\nids = "9999999999d"', "retention.ids", "7d"),
    (ENDPOINT + '[retention]\nrejected = "91d"', "retention.ids", "no shorter"),
    # endpoints
    ("", "endpoints", "at least one"),
    ("[endpoints.Open_Fax]\n", "endpoints.Open_Fax", "[a-z0-9-]"),
    ("[endpoints.x]\nauth = { mode = 'none' }", "endpoints.x.provider", "missing"),
    ("[endpoints.x]\nprovider = 'efax'", "endpoints.x.auth", "written out"),
    (OPENFAX + "account = 7", "endpoints.openfax.account", "a string"),
    (OPENFAX + 'account = " x"', "endpoints.openfax.account", "account's name"),
    (OPENFAX + 'timezone = "Denver"', "endpoints.openfax.timezone", "IANA"),
    (OPENFAX + 'timezone = "America"', "endpoints.openfax.timezone", "IANA"),
    (OPENFAX + 'timezone = "../../etc/passwd"', "endpoints.openfax.timezone", "IANA"),
    (OPENFAX + 'region = "us"', "endpoints.openfax.region", "two letters"),
    (OPENFAX + 'region = "XX"', "endpoints.openfax.region", "two letters"),
    (OPENFAX + "answer = 201", "endpoints.openfax.answer", "200, 202, 204"),
    (OPENFAX + 'answer = "200"', "endpoints.openfax.answer", "200, 202, 204"),
    (OPENFAX + 'allow = ["everybody"]', "endpoints.openfax.allow[0]", "network"),
    (OPENFAX + "allow = []", "endpoints.openfax.allow", "at least one"),
    (OPENFAX.replace(TOKEN, ""), "endpoints.openfax.tokens[0]", "not empty"),
    (OPENFAX.replace(TOKEN, "hidden"), "endpoints.openfax.tokens[0]", "16"),
    (OPENFAX.replace(TOKEN, "hidden/hidden/hidden"), "endpoints.openfax.tokens[0]", "16"),
    (OPENFAX.replace(TOKEN, "sha256:hidden"), "endpoints.openfax.tokens[0]", "64"),
    *(
        (with_auth('{ mode = "none" }', f'client_certificates = ["{text}"]'), "client_certificates[0]", "64 hex")
        for text in ("hidden", "sha256:hidden", "ab" * 32, "sha256:" + ":".join(["ab"] * 31), "sha1:" + "ab" * 20)
    ),
    (SERVER + 'client_certificate_header = "X_Cert"', "server.client_certificate_header", "hyphens"),
    # auth
    (with_auth('{ mode = "none" }'), "endpoints.faxage.auth", "insecure = true"),
    (with_auth('"none"', "insecure = true"), "endpoints.faxage.auth", "a table"),
    (with_auth("{}"), "endpoints.faxage.auth.mode", "none, basic, digest, oauth2, hmac, payload"),
    (with_auth('{ mode = "bearer" }'), "endpoints.faxage.auth.mode", "none, basic, digest, oauth2, hmac, payload"),
    (with_auth('{ mode = "oauth2" }'), "endpoints.faxage.auth.issuer", "https://"),
    (with_auth('{ mode = "oauth2", issuer = "http://hidden/" }'), "endpoints.faxage.auth.issuer", "https://"),
    (with_auth('{ mode = "oauth2", issuer = "https://x" }'), "endpoints.faxage.auth.audience", "missing"),
    (with_auth(f'{{ {REMOTE}, algorithms = ["HS256"] }}'), "endpoints.faxage.auth.algorithms[0]", "RS256"),
    (with_auth(f'{{ {REMOTE}, typ = "JWT" }}'), "endpoints.faxage.auth.typ", "at+jwt"),
    (with_auth(f"{{ {REMOTE}, scope = 'a\"b' }}"), "endpoints.faxage.auth.scope", "scopes"),
    (with_auth(f"{{ {REMOTE}, introspection = {{}} }}"), "endpoints.faxage.auth.introspection.url", "missing"),
    (with_auth(f'{{ {REMOTE}, {ASKED}, typ = "at+jwt" }}'), "endpoints.faxage.auth.typ", "not beside introspection"),
    (
        with_auth('{ mode = "oauth2", issuer = "self", algorithms = ["RS256"] }'),
        "endpoints.faxage.auth.algorithms",
        "faxhook makes itself",
    ),
    (with_auth('{ mode = "none", realm = "x" }', "insecure = true"), "endpoints.faxage.auth.realm", "unknown key"),
    (with_auth('{ mode = "basic", issuer = "x" }'), "endpoints.faxage.auth.issuer", "unknown key"),
    (with_auth('{ mode = "basic", realm = "a\\"b" }'), "endpoints.faxage.auth.realm", "[A-Za-z0-9 ._-]"),
    (with_auth('{ mode = "basic" }'), "endpoints.faxage.auth.credentials", "at least one"),
    (with_auth('{ mode = "basic", credentials = [] }'), "endpoints.faxage.auth.credentials", "at least one"),
    (with_auth('{ mode = "payload", credentials = ["x"] }'), "endpoints.faxage.auth.credentials[0]", "a table"),
    (basic("x").replace('"u"', '"a:b"'), "endpoints.faxage.auth.credentials[0].user", "colon"),
    (basic("x").replace("password", "pasword"), "endpoints.faxage.auth.credentials[0].pasword", "mean password"),
    (basic("x").replace(', password = "x"', ""), "endpoints.faxage.auth.credentials[0].password", "missing"),
    (basic(""), "endpoints.faxage.auth.credentials[0].password", "not empty"),
    (basic("sha256:hidden"), "endpoints.faxage.auth.credentials[0].password", "64 hex"),
    (basic("scrypt:hidden"), "endpoints.faxage.auth.credentials[0].password", "scrypt:"),
    (basic("scrypt:3:8:1$a$" + 128 * "0"), "endpoints.faxage.auth.credentials[0].password", "scrypt:"),
    (basic("pbkdf2:md4$hidden$00"), "endpoints.faxage.auth.credentials[0].password", "pbkdf2:"),
    (basic("ha1:hidden"), "endpoints.faxage.auth.credentials[0].password", "plain"),
    # digest
    (digest("sha256:" + 64 * "0"), "endpoints.faxage.auth.credentials[0].password", "no other hash can answer Digest"),
    (digest("scrypt:hidden"), "endpoints.faxage.auth.credentials[0].password", "no other hash can answer Digest"),
    (digest("ha1:" + 31 * "0"), "endpoints.faxage.auth.credentials[0].password", "32 hex digits"),
    (digest("ha1:" + 32 * "0"), "endpoints.faxage.auth.credentials[0].password", "that of SHA-256 is missing"),
    (digest("x", 'nonce_lifetime = "5"'), "endpoints.faxage.auth.nonce_lifetime", "7d"),
    (digest("x", 'algorithms = ["MD4"]'), "endpoints.faxage.auth.algorithms[0]", "MD5 or SHA-256"),
    (digest("x", 'prefix = "fax/"'), "endpoints.faxage.auth.prefix", "/fax"),
    (digest("x", 'ignore_query = "hidden"'), "endpoints.faxage.auth.ignore_query", "true or false"),
    # oauth2
    (oauth2('audience = "a"'), "endpoints.faxage.auth.issuer", "https://"),
    (oauth2('issuer = "http://hidden", audience = "a"'), "endpoints.faxage.auth.issuer", "https://"),
    (oauth2('issuer = "https://a"'), "endpoints.faxage.auth.audience", "any of its tokens would be accepted"),
    (oauth2('issuer = "self", jwks_uri = "https://a"'), "endpoints.faxage.auth.jwks_uri", "not for issuer"),
    (oauth2('issuer = "https://a", audience = "a", algorithms = ["HS256"]'), "auth.algorithms[0]", "RS256"),
    (oauth2('audience = "a", introspection = { url = "http://hidden" }'), "auth.introspection.url", "https://"),
    # hmac
    (hmac(""), "endpoints.faxage.auth.secrets", "whsec_"),
    (hmac('"whsec_hidden"'), "endpoints.faxage.auth.secrets[0]", "whsec_"),
    (hmac(f'"{WHSEC}"', 'encoding = "hex"'), "endpoints.faxage.auth.encoding", "header beside it"),
    (hmac('"hidden"', 'header = "X-Signature"'), "endpoints.faxage.auth.secrets[0]", "16"),
    (hmac(f'"{WHSEC}"', 'header = "X_Signature"'), "endpoints.faxage.auth.header", "hyphens"),
    (hmac(f'"{WHSEC}"', 'header = "X-A", encoding = "hidden"'), "endpoints.faxage.auth.encoding", "base64"),
    (hmac(f'"{WHSEC}"', 'tolerance = "0s"'), "endpoints.faxage.auth.tolerance", "7d"),
]


@pytest.mark.parametrize(
    ("text", "key", "expected"), REFUSED, ids=[f"{key}-{i}" for i, (_, key, _) in enumerate(REFUSED)]
)
def test_what_is_not_understood_is_refused_with_key_and_expectation(
    tmp_path: Path, text: str, key: str, expected: str
) -> None:
    message = refusal(tmp_path, text)
    assert re.search(rf"[ .]{re.escape(key)}: ", message)
    assert expected in message
    assert "hidden" not in message


@pytest.mark.parametrize("when", ['"soon"', "1", '"2027-13-01"', "07:00:00", "0001-01-01T00:00:00+14:00"])
def test_a_validity_that_is_no_time_is_refused(tmp_path: Path, when: str) -> None:
    text = basic("x").replace('"x"', f'"x", not_after = {when}')
    assert "auth.credentials[0].not_after" in refusal(tmp_path, text)


def test_a_validity_that_ends_before_it_begins_is_refused(tmp_path: Path) -> None:
    text = basic("x").replace('"x"', '"x", not_before = 2027-01-02, not_after = 2027-01-02')
    assert "later than not_before" in refusal(tmp_path, text)


# --- what is accepted in several forms ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "hour"),
    [
        ("2027-01-01", 0),
        ('"2027-01-01"', 0),
        ("2027-01-01T12:00:00", 12),
        ("2027-01-01T12:00:00+02:00", 10),
        ('"2027-01-01T12:00:00Z"', 12),
        ('"2027-01-01T12:00:00-05:00"', 17),
    ],
)
def test_a_validity_is_a_date_or_time_in_utc_unless_it_says_its_zone(tmp_path: Path, when: str, hour: int) -> None:
    text = basic("x").replace('"x"', f'"x", not_after = {when}')
    (credential,) = load(tmp_path, text).endpoints["faxage"].auth.credentials
    assert credential.not_after == datetime(2027, 1, 1, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size", "expected"),
    [("100", 100), ('"100"', 100), ('"64KiB"', 65536), ('"2 MB"', 2_000_000), ('"1GiB"', 2**30), ('"5kB"', 5000)],
)
def test_a_size_is_a_number_or_has_a_unit(tmp_path: Path, size: str, expected: int) -> None:
    assert load(tmp_path, SERVER + f"max_body = {size}").server.max_body == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///fax.db", "sqlite:///{folder}/fax.db"),
        ("sqlite:///../fax.db", "sqlite:///{parent}/fax.db"),
        ("sqlite:////data/fax.db", "sqlite:////data/fax.db"),
        ("postgresql://h/d", "postgresql+psycopg://h/d"),
        ("postgresql+psycopg://h/d?sslmode=require", "postgresql+psycopg://h/d?sslmode=require"),
    ],
)
def test_a_store_is_an_absolute_file_or_postgresql(tmp_path: Path, url: str, expected: str) -> None:
    expected = expected.format(folder=tmp_path, parent=tmp_path.parent)
    assert load(tmp_path, ENDPOINT + f'[store]\nurl = "{url}"').store.url == expected


@pytest.mark.parametrize(
    "password",
    [
        "plain: with a colon",
        "sha256:" + 64 * "0",
        generate_password_hash("x", "scrypt:1024:8:1"),
        generate_password_hash("x", "pbkdf2:sha256:1"),
    ],
    ids=["plain", "sha256", "scrypt", "pbkdf2"],  # the salts differ, and pytest-xdist wants equal names
)
def test_a_password_may_be_plain_or_hashed(tmp_path: Path, password: str) -> None:
    assert load(tmp_path, basic(password)).endpoints["faxage"].auth.credentials[0].password == password


@pytest.mark.parametrize("digits", ["ab" * 32, "AB" * 32, ":".join(["AB"] * 32)])
def test_client_certificates_are_known_by_their_fingerprint(tmp_path: Path, digits: str) -> None:
    endpoint = load(tmp_path, with_auth('{ mode = "none" }', f'client_certificates = ["sha256:{digits}"]'))
    assert endpoint.endpoints["faxage"].client_certificates == (b"\xab" * 32,)


def test_a_token_may_be_its_digest(tmp_path: Path) -> None:
    digest = hashlib.sha256(TOKEN.encode()).digest()
    (token,) = load(tmp_path, OPENFAX.replace(TOKEN, f"sha256:{digest.hex()}")).endpoints["openfax"].tokens
    assert (token.digest, token.plain) == (digest, None)


# --- the secret key -------------------------------------------------------------------------------------------------


def test_a_secret_key_is_made_once_and_kept_for_its_owner_only(tmp_path: Path) -> None:
    found = load(tmp_path, ENDPOINT)
    (key,) = configuration.secret_keys(found)
    assert len(key) >= 43
    assert configuration.secret_keys(found) == (key,)
    (kept,) = found.server.state_dir.iterdir()
    assert kept.name == "secret_key"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_all_who_ask_at_once_get_the_same_secret_key(tmp_path: Path) -> None:
    found = load(tmp_path, ENDPOINT)
    keys: set[tuple[bytes, ...]] = set()
    begin = threading.Barrier(8)

    def ask() -> None:
        begin.wait()
        keys.add(configuration.secret_keys(found))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 1
    assert os.listdir(found.server.state_dir) == ["secret_key"]


def test_a_damaged_secret_key_or_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "secret_key").write_text("short")
    with pytest.raises(ConfigurationError, match=r"var/secret_key: expected at least 16"):
        configuration.secret_keys(load(tmp_path, ENDPOINT))
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"file/secret_key: cannot be kept"):
        configuration.secret_keys(load(tmp_path, SERVER + 'state_dir = "file"'))


# --- doubts ---------------------------------------------------------------------------------------------------------

SHARED = basic("x") + '[endpoints.weak]\nprovider = "faxage"\naccount = "acme"\nauth = { mode = "none" }\n'


def test_a_sound_configuration_raises_no_doubt(tmp_path: Path) -> None:
    assert configuration.doubts(load(tmp_path, ENDPOINT)) == []
    assert configuration.doubts(load(tmp_path, SERVER + 'public_url = "http://localhost:8000"')) == []


@pytest.mark.parametrize(
    "second",
    [
        basic("x"),
        basic("y").replace('mode = "basic"', 'mode = "basic", realm = "other"'),
        basic("y").replace('provider = "faxage"', 'provider = "retarus"'),
        hmac(f'"{WHSEC}"'),
        with_auth('{ mode = "none" }', f'client_certificates = ["sha256:{64 * "A"}"]'),
    ],
)
def test_two_endpoints_of_equal_strength_that_no_client_can_mix_up_raise_no_doubt(tmp_path: Path, second: str) -> None:
    text = basic("x") + second.replace("[endpoints.faxage]", "[endpoints.second]")
    assert configuration.doubts(load(tmp_path, text)) == []


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        (with_auth('{ mode = "none" }', "insecure = true"), "endpoints.faxage: insecure = true"),
        (with_auth('{ mode = "none" }', 'allow = ["10.0.0.0/8"]'), "endpoints.faxage: allow is the only"),
        (OPENFAX.replace(TOKEN, "hidden-hidden-hid"), "endpoints.openfax: tokens[0]: shorter than 22"),
        (SERVER + 'public_url = "http://hooks.example.com"', "server.public_url: http://"),
        (SERVER + 'keep_alive = "60s"', "server.keep_alive: proxies keep idle connections for 60s"),
        (SERVER + 'bind = "0.0.0.0:80"', "server.bind: 0.0.0.0:80 without ops_token"),
        (SERVER + 'trusted_proxies = ["0.0.0.0/0"]', "server.trusted_proxies: 0.0.0.0/0 is everybody"),
        (SHARED + f'tokens = ["{TOKEN}"]', "endpoints.weak: weaker protection than endpoints.faxage"),
        (basic("x").replace('"x"', '"x", not_after = 2020-01-01'), "auth.credentials[0]: expired at 2020-01-01"),
        (basic("x").replace('"x"', '"x", not_before = 2999-01-01'), "auth.credentials[0]: not valid before 2999"),
        (ENDPOINT + '[retention]\nids = "20d"\nrejected = "20d"', "retention.ids: below 30d"),
        (OPENFAX.replace(TOKEN, "please-change-me-hidden"), "tokens[0]: looks like a placeholder"),
        *(
            (basic(password), "auth.credentials[0].password: looks like a placeholder")
            for password in ("password", "Secret1", "change-me", "<hidden>", "…", "...", "xxxx", "12345678", "test")
        ),
        (digest("x", 'nonce_lifetime = "10s"'), "auth.nonce_lifetime: below 30s"),
        (digest("x", 'nonce_lifetime = "2h"'), "auth.nonce_lifetime: above 1h"),
        (hmac('"hidden-hidden-hidden"', 'header = "X-A"'), "auth.timestamp_header: without it"),
        (hmac(f'"{WHSEC}"', 'tolerance = "1d"'), "auth.tolerance: above 1h"),
        (
            hmac('"change-me-change-me"', 'header = "X-A", timestamp_header = "X-B"'),
            "auth.secrets[0]: looks like a placeholder",
        ),
        (
            basic("x") + basic("y").replace("[endpoints.faxage]", "[endpoints.second]"),
            "endpoints.second: auth.realm is that of endpoints.faxage",
        ),
        (ENDPOINT + OAUTH2_CLIENT, "oauth2.clients: without an endpoint"),
        (
            OWN_ISSUER.replace('"self"', '"self", allowed_clients = ["x"]')
            + OAUTH2_CLIENT
            + OAUTH2_CLIENT.replace(".x]", ".y]"),
            "oauth2.clients.y: no endpoint allows this client",
        ),
        (
            with_auth(f"{{ {REMOTE} }}")
            + SHARED.partition("[endpoints.weak]")[1]
            + SHARED.partition(".weak]")[2]
            + f'tokens = ["{TOKEN}"]',
            "endpoints.weak: weaker protection than endpoints.faxage",
        ),
    ],
)
def test_what_is_legal_but_doubtful_is_said(tmp_path: Path, text: str, doubt: str) -> None:
    (said,) = configuration.doubts(load(tmp_path, text))
    assert doubt in said
    assert "hidden" not in said


# --- what was found by trying to break it ---------------------------------------------------------------------------


def test_bodies_may_be_forgotten_at_once(tmp_path: Path) -> None:
    assert load(tmp_path, f'[retention]\nbodies = "0"\n{ENDPOINT}').retention.bodies == timedelta()


def test_a_reference_in_a_default_is_refused_rather_than_taken_as_the_secret(tmp_path: Path) -> None:
    assert "expected ${NAME}" in refusal(tmp_path, basic("${A:-${B}}"))


def test_a_variable_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    assert "expected UTF-8" in refusal(tmp_path, basic("${A}"), {"A": "\udcff"})


def test_a_password_no_client_can_send_is_refused(tmp_path: Path) -> None:
    assert "expected a plain password" in refusal(tmp_path, basic("line\\nbreak"))


def test_the_hash_of_nothing_is_no_token(tmp_path: Path) -> None:
    nothing = hashlib.sha256(b"").hexdigest()
    assert "tokens[0]" in refusal(tmp_path, ENDPOINT.replace(TOKEN, f"sha256:{nothing}"))


def test_the_hash_of_nothing_is_no_password(tmp_path: Path) -> None:
    nothing = hashlib.sha256(b"").hexdigest()
    assert "expected a plain password" in refusal(tmp_path, basic(f"sha256:{nothing.upper()}"))


def test_the_hash_of_nothing_is_no_secret_of_a_client(tmp_path: Path) -> None:
    """A form without client_secret would hold it."""
    nothing = hashlib.sha256(b"").hexdigest()
    text = f'{ENDPOINT}\n[oauth2.clients.retarus]\nsecret = "sha256:{nothing}"'
    assert "oauth2.clients.retarus.secret" in refusal(tmp_path, text)


def test_a_percent_sign_in_the_path_of_the_store_is_itself(tmp_path: Path) -> None:
    settings = load(tmp_path, f'[store]\nurl = "sqlite:///a%20b/x.db"\n{ENDPOINT}')
    assert settings.store.url.endswith("/a%2520b/x.db")
