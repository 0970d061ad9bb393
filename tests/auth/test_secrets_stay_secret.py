"""Row 118 of the list of conformance: no secret in a log line, a metric, an answer, or what a command prints."""

import base64
import hashlib
import hmac
import json
import re
import time
from urllib.parse import quote

from asked import Served, Told, basic, fax, faxage, serving
from click.testing import CliRunner
from werkzeug.security import generate_password_hash

from receiver.cli import main

TOKEN, OTHER = "Token-in-the-path-of-an-endpoint-000", "Token-as-a-digest-only-00000000000001"
WRONG_TOKEN = "Wrong-token-in-a-path-0000000000000002"
PASSWORD, HASHED, SLOW = "plain-pass-word-3", "hashed-pass-word-4", "slow-pass-word-5"
DIGEST, PAYLOAD, WRONG = "digest-pass-word-6", "payload-pass-word-7", "wrong-pass-word-8"
WHSEC = "whsec_" + base64.b64encode(b"webhook-secret-number-9-or-so").decode()
OWN = "own-header-secret-10"
CLIENT, WRONG_CLIENT = "client-secret-number-15", "wrong-client-secret-16"
SECRET_KEY, OPS_TOKEN, SALT = "secret-key-of-nonces-11", "ops-token-number-12", "identity-salt-number-13"
CERTIFICATE = b"client-certificate-14"
SLOW_STORED = generate_password_hash(SLOW, "scrypt:1024:8:1")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def user(password: str) -> str:
    return f'credentials = [{{ user = "fax-user", password = "{password}" }}]'


ENDPOINTS = (
    faxage("token", '{ mode = "none" }', f'tokens = ["{TOKEN}", "sha256:{sha256(OTHER)}"]')
    + faxage("basic", f'{{ mode = "basic", {user(PASSWORD)} }}', f'tokens = ["{TOKEN}"]')
    + faxage("hashed", f'{{ mode = "basic", {user("sha256:" + sha256(HASHED))} }}')
    + faxage("slow", f'{{ mode = "basic", {user(SLOW_STORED)} }}')
    + faxage("digest", f'{{ mode = "digest", {user(DIGEST)} }}')
    + faxage("webhook", f'{{ mode = "hmac", secrets = ["{WHSEC}"] }}')
    + faxage("signed", f'{{ mode = "hmac", secrets = ["{OWN}"], header = "X-Signature" }}')
    + faxage(
        "certified",
        '{ mode = "none" }',
        f'client_certificates = ["sha256:{hashlib.sha256(CERTIFICATE).hexdigest()}"]\nallow = ["203.0.113.7"]',
    )
    + faxage("bearer", '{ mode = "oauth2", issuer = "self", scope = "fax.push" }')
    + f"""
[oauth2.clients.sender]
secret = "{CLIENT}"

[endpoints.payload]
provider = "efax"
account = "me"
timezone = "America/Los_Angeles"
auth = {{ mode = "payload", {user(PAYLOAD)} }}
"""
)
SERVER = f"""
secret_key = "{SECRET_KEY}"
ops_token = "{OPS_TOKEN}"
trusted_proxies = ["127.0.0.1"]
"""


def digest(challenge: str, path: str, password: str) -> tuple[str, str]:
    """The header that answers a challenge, and its response."""
    realm, nonce = (re.search(f'{name}="([^"]+)"', challenge)[1] for name in ("realm", "nonce"))

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    ha1, ha2 = md5(f"fax-user:{realm}:{password}"), md5(f"POST:{path}")
    response = md5(f"{ha1}:{nonce}:00000001:cnonce:auth:{ha2}")
    header = (
        f'Digest username="fax-user", realm="{realm}", nonce="{nonce}", uri="{path}", qop=auth, nc=00000001,'
        f' cnonce="cnonce", response="{response}"'
    )
    return header, response


class Ledger:
    """Whatever came back, and whatever must not."""

    def __init__(self, server: Served) -> None:
        self.server = server
        self.told: list[str] = []
        self.secrets = {TOKEN, OTHER, WRONG_TOKEN, PASSWORD, HASHED, SLOW, DIGEST, PAYLOAD, WRONG, WHSEC, OWN}
        self.secrets |= {CLIENT, WRONG_CLIENT}
        self.secrets |= {
            SECRET_KEY,
            OPS_TOKEN,
            SLOW_STORED,
            SLOW_STORED.rpartition("$")[2],
            WHSEC.removeprefix("whsec_"),
        }
        self.secrets |= {sha256(one) for one in self.secrets}

    def post(self, path: str, *headers: tuple[str, str], body: bytes | None = None, status: int) -> Told:
        told = self.server.post(path, *headers, body=body)
        assert told.status == status, told.body
        self.told += [told.body.decode(), json.dumps(list(told.headers))]
        return told

    def basic(self, path: str, password: str, status: int) -> None:
        header = basic(f"fax-user:{password}")
        self.secrets.add(header[1].removeprefix("Basic "))
        self.post(path, header, status=status)

    def run(self, *arguments: str) -> str:
        done = CliRunner().invoke(main, [*arguments, "--config", str(self.server.config)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        self.told.append(done.output)
        return done.stdout


def disposition(password: str) -> bytes:
    text = (
        f'<OutboundDisposition UserName="fax-user" Password="{password}" DOCID="1" FaxStatus="0" NumberOfPages="1"'
        ' FaxNumber="12085550139" CompletionDate="2026-06-01 12:00:00" Duration="0.5" TransmissionID=""'
        ' NumberOfRetries="0" RecipientCSID=""/>'
    )
    return f"xml={quote(text)}".encode()


def call_every_endpoint(ledger: Ledger) -> None:
    """Each in the right way and in wrong ones."""
    ledger.post(f"/callbacks/token/{TOKEN}", status=200)
    ledger.post(f"/callbacks/token/{OTHER}/r/order-1", status=200)
    ledger.post(f"/callbacks/token/{TOKEN}", body=b"jobid=&shortstatus=what", status=422)
    ledger.post(f"/callbacks/token/{TOKEN}", body=b"{", status=415)
    ledger.post(f"/callbacks/token/{WRONG_TOKEN}", status=404)
    ledger.post(f"/callbacks/token?token={WRONG_TOKEN}&password={WRONG}", status=404)
    for path, password in ((f"basic/{TOKEN}", PASSWORD), ("hashed", HASHED), ("slow", SLOW)):
        path = f"/callbacks/{path}"
        ledger.basic(path, password, 200)
        ledger.basic(path, WRONG, 401)
        ledger.basic(path, f"{password}\n", 400)
        ledger.post(path, ("Authorization", f"Basic {password}"), status=400)
        ledger.post(path, ("Authorization", f"Bearer {WRONG}"), status=401)
    call_with_digest(ledger)
    call_with_signatures(ledger)
    call_with_tokens(ledger)
    certificate = base64.b64encode(CERTIFICATE).decode()
    ledger.secrets.add(certificate)
    shown = ("Client-Cert", f":{certificate}:")
    ledger.post("/callbacks/certified", shown, ("X-Forwarded-For", "203.0.113.7"), status=200)
    ledger.post("/callbacks/certified", shown, status=403)
    ledger.post("/callbacks/certified", ("X-Forwarded-For", "203.0.113.7"), status=403)
    ledger.post("/callbacks/payload", body=disposition(PAYLOAD), status=200)
    ledger.post("/callbacks/payload", body=disposition(WRONG), status=401)
    ledger.post("/callbacks/payload", body=disposition(PAYLOAD).replace(b"FaxStatus", b"Other"), status=422)


def call_with_digest(ledger: Ledger) -> None:
    path = "/callbacks/digest"
    for password, status in ((DIGEST, 200), (WRONG, 401)):
        challenge = ledger.post(path, status=401).challenges[0]
        header, response = digest(challenge, path, password)
        ledger.secrets.add(response)
        ledger.post(path, ("Authorization", header), status=status)
        ledger.post(path, ("Authorization", header), status=401)  # a replay
        ledger.post(f"{path}?x={WRONG}", ("Authorization", header), status=400)
        ledger.post(path, ("Authorization", f"{header}, x={WRONG}, x={WRONG}"), status=400)


def call_with_tokens(ledger: Ledger) -> None:
    wanted = b"grant_type=client_credentials"
    wrong = basic(f"sender:{WRONG_CLIENT}")
    right = basic(f"sender:{CLIENT}")
    ledger.secrets |= {one[1].removeprefix("Basic ") for one in (right, wrong)}
    ledger.post("/oauth2/token", wrong, body=wanted, status=401)
    ledger.post("/oauth2/token", right, body=wanted + f"&scope={WRONG}".encode(), status=400)
    told = ledger.server.post("/oauth2/token", right, body=wanted)
    token = json.loads(told.body)["access_token"]  # the only answer that may hold it
    ledger.secrets |= {token, *token.split(".")[1:]}
    ledger.post("/callbacks/bearer", ("Authorization", f"Bearer {token}"), status=200)
    ledger.post("/callbacks/bearer", ("Authorization", f"Bearer {token[:-1]}"), status=401)
    ledger.post(f"/callbacks/bearer?access_token={token}", ("Authorization", f"Bearer {token}"), status=400)
    ledger.post("/callbacks/bearer", ("Authorization", f"Bearer {token} {WRONG}"), status=400)


def call_with_signatures(ledger: Ledger) -> None:
    body, at = fax(), str(int(time.time()))
    for key, status in ((base64.b64decode(WHSEC.removeprefix("whsec_")), 200), (b"another", 401)):
        mac = base64.b64encode(hmac.digest(key, f"msg_1.{at}.".encode() + body, "sha256")).decode()
        ledger.secrets.add(mac)
        given = [("webhook-id", "msg_1"), ("webhook-timestamp", at), ("webhook-signature", f"v1,{mac}")]
        ledger.post("/callbacks/webhook", *given, body=body, status=status)
    for key, status in ((OWN.encode(), 200), (b"another", 401)):
        mac = hmac.digest(key, body, "sha256").hex()
        ledger.secrets.add(mac)
        ledger.post("/callbacks/signed", ("X-Signature", mac), body=body, status=status)


def ask_everything(ledger: Ledger) -> None:
    for command in ("endpoints", "receipts list", "events list"):
        assert json.loads(ledger.run(*command.split(), "--json"))
        ledger.run(*command.split())
    for endpoint, provider in (("token", "faxage"), ("basic", "faxage"), ("digest", "faxage"), ("payload", "efax")):
        ledger.run("providers", "show", provider, "--endpoint", endpoint, "--json")
        ledger.run("providers", "show", provider, "--endpoint", endpoint)
    assert "warning" in ledger.run("check")
    for form in ([], ["--json"]):
        assert "relay" in ledger.run("doctor", *form)
    for endpoint in ("digest", "bearer", "webhook"):
        assert "2xx 1" in ledger.run("simulate", "--endpoint", endpoint)
        assert "401" in ledger.run("simulate", "--endpoint", endpoint, "--fault", "wrong-password")
    for state in ("accepted", "rejected"):
        for row in json.loads(ledger.run("receipts", "list", "--json", "--state", state)):
            ledger.run("receipts", "show", row["id"])
    for bearer, status in ((OPS_TOKEN, 200), (WRONG, 404)):
        connection = ("Authorization", f"Bearer {bearer}"), ("X-Forwarded-For", "203.0.113.7")
        told = ledger.server.post("/metrics", *connection, body=b"", method="GET")
        assert told.status == status
        ledger.told.append(told.body.decode())


def test_row_118_nothing_that_comes_out_holds_a_secret(tmp_path):
    store = f'{tmp_path}/faxhook.db"\nidentity_salt = "{SALT}'
    with serving(tmp_path, f"sqlite:///{store}", ENDPOINTS, SERVER) as server:
        ledger = Ledger(server)
        call_every_endpoint(ledger)
        ask_everything(ledger)
    ledger.told.append(server.log.read_text())
    assert '"callback_refused"' in ledger.told[-1]
    out = "\n".join(ledger.told)
    assert "faxhook_requests_total" in out
    found = {one for one in ledger.secrets if one in out}
    assert not found
    for one in ("fax-user", "webhook-id", "msg_1"):
        assert one not in ledger.told[-1]
