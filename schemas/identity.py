"""
The identity of a fax and of each thing said about it: deterministic, so that every receiver of the same callback,
on any machine, after any restart, gives the same ids.
"""

import hashlib
import hmac
import json
import uuid
from collections.abc import Sequence
from json.encoder import encode_basestring

NAMESPACE = uuid.UUID("b7f2c0de-5a1e-4f0a-9c3d-2e8f6a417d90")


def fax_id(provider: str, account: str, key: Sequence[str], salt: bytes | None = None) -> uuid.UUID:
    """
    The id of one fax: the subject of all its events.

    The name is a JSON array, so that no two different keys can run together. With a salt (``[store] identity_salt``)
    an HMAC stands in for the name, so that ids cannot be guessed from a fax number.
    """
    name = "[" + ",".join(map(encode_basestring, ("v1", provider, account, *key))) + "]"
    if salt is not None:
        name = hmac.new(salt, name.encode(), hashlib.sha256).hexdigest()
    return _uuid5(NAMESPACE, name)


def completed_id(fax: uuid.UUID, outcome: str) -> uuid.UUID:
    """The id of the first announcement of a fax's end."""
    return _uuid5(fax, f'["completed","{outcome}"]')


def amended_id(fax: uuid.UUID, facts_digest: str, revision: int | None = None) -> uuid.UUID:
    """
    The id of an amendment that leaves the merged facts with this digest.

    revision: only where the facts return to what an earlier amendment said, so that the later one is not taken for it.
    """
    name = ["amended", facts_digest] if revision is None else ["amended", facts_digest, str(revision)]
    return _uuid5(fax, json.dumps(name, separators=(",", ":")))


def _uuid5(namespace: uuid.UUID, name: str) -> uuid.UUID:
    """``uuid.uuid5`` in half of its time, which counts where one push makes a thousand ids."""
    digest = hashlib.sha1(namespace.bytes + name.encode(), usedforsecurity=False).digest()
    return uuid.UUID(bytes=digest[:16], version=5)
