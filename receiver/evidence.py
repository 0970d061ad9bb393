"""
Evidence: what is kept of one fax, as a signed JSON document that can be verified without faxhook.

The signature is over the bytes of the file, all but the line that holds it, so that nothing needs to be brought into a
canonical form, and no changed byte passes. ``deploy/verify-evidence.py`` is the other side.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from sqlalchemy.engine import Connection

from receiver import __version__
from receiver.errors import ConfigurationError
from receiver.settings import Settings, kept
from receiver.store import browsing, now_ms, rfc3339
from receiver.store.history import History, Step
from receiver.store.tables import Tables
from receiver.system.batches import batches

FORMAT = "faxhook-evidence-1"
PURGED = "purged"  # in place of a digest
NONE_KEPT = "none kept"  # of a row of a report there is no body
_SAYS = "the transport outcome as the fax provider stated it; not that anybody has read or understood the fax"
_AT_ONCE = 500


class Signer:
    """Signs with the key that is made once and kept in ``state_dir``. Raises ConfigurationError where it cannot be."""

    def __init__(self, its_settings: Settings) -> None:
        path = its_settings.server.state_dir / "evidence_key"
        self._key = _private_key(path, kept(path, _new_key))

    @property
    def public_pem(self) -> str:
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def public_hex(self) -> str:
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def signed(self, evidence: Mapping[str, Any]) -> bytes:
        """The whole file: a JSON object of ``evidence`` and, on its last line, ``signature``."""
        text = json.dumps({**evidence, "public_key": self.public_hex}, indent=1)
        body = b'{"evidence": ' + text.encode("ascii")
        return body + b',\n"signature": "' + self._key.sign(body).hex().encode() + b'"}\n'


def _new_key() -> bytes:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _private_key(path: Path, content: bytes) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path}: expected an Ed25519 private key in PEM; put back the file from your backup")
    return key


def document(
    connection: Connection,
    tables: Tables,
    found: History,
    facts: Mapping[str, Any] | None,
    its_settings: Settings,
) -> dict[str, Any]:
    """What is to be signed. facts: as they may be shown."""
    received = [step for step in found.steps if step.what == "received"]
    told = [step for step in found.steps if step.what in ("completed", "amended")]
    return {
        "format": FORMAT,
        "says": _SAYS,
        "made_at": rfc3339(now_ms()),
        "faxhook": __version__,
        "configuration": configuration_fingerprint(its_settings),
        "fax": dict(found.fax),
        "facts": None if facts is None else dict(facts),
        "receipts": _receipts(connection, tables, received),
        "events": _events(connection, tables, str(found.fax["fax_id"]), told),
        "history": [step.described() for step in found.steps],
        "gaps": list(found.gaps),
    }


def configuration_fingerprint(its_settings: Settings) -> str:
    """Of all that the configuration says but secrets, so that nobody can try them: SHA-256 in hexadecimal."""
    parts = ("server", "store", "queue", "retention", "endpoints", "clients", "advice", "sinks", "console")
    text = "\n".join(f"{name} {getattr(its_settings, name)!r}" for name in parts)
    return sha256(text.encode()).hexdigest()


def _receipts(connection: Connection, tables: Tables, steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Each with the SHA-256 of its body, and query, as they are stored: without the provider's secrets."""
    stored: dict[str, Any] = {}
    for table in (tables.receipts, tables.rejected_receipts):
        for some in batches([step.detail["receipt"] for step in steps], _AT_ONCE):
            columns = (table.c.id, table.c.content_type, table.c.query, table.c.body)
            stored |= {row.id: row for row in connection.execute(sa.select(*columns).where(table.c.id.in_(some)))}
    described = []
    for step in steps:
        row = stored.get(step.detail["receipt"])  # retention may have been quicker
        body = query = NONE_KEPT if step.detail["via"] == "report" else PURGED
        if row is not None and row.content_type is not None:
            body, query = _digest(row.body or b""), _digest(row.query or b"")
        described.append({**step.described(), "body_sha256": body, "query_sha256": query})
    return described


def _events(connection: Connection, tables: Tables, fax_id: str, steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Each with the SHA-256 of its payload, the bytes that were published."""
    events, payloads = tables.events, dict[str, bytes | None]()
    for some in batches(browsing.seqs_of_fax(connection, tables, fax_id), _AT_ONCE):
        payloads |= dict(connection.execute(sa.select(events.c.id, events.c.body).where(events.c.seq.in_(some))).all())
    return [{**step.described(), "payload_sha256": _digest(payloads.get(step.detail["event"]))} for step in steps]


def _digest(content: bytes | None) -> str:
    return PURGED if content is None else sha256(content).hexdigest()
