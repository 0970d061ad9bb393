#!/usr/bin/env python3
"""
Verify what `faxhook evidence FAX > fax.json` wrote: python3 verify-evidence.py fax.json faxhook-evidence.pem

The second file is the public key, as `faxhook keys show` prints it: get it from the operator, not from who shows you
the evidence. Needs only the package cryptography. Exit code 0 when it is genuine, 1 when it is not.
"""

import json
import re
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

SIGNED = re.compile(rb'(\{"evidence": \{.*\}),\n"signature": "([0-9a-f]{128})"\}\n', re.DOTALL)


def verified(content: bytes, pem: bytes) -> dict:
    """The evidence. Raises ValueError where it is not, byte for byte, what the owner of this key signed."""
    key = load_pem_public_key(pem)
    parts = SIGNED.fullmatch(content)
    if parts is None or not isinstance(key, Ed25519PublicKey):
        raise ValueError("not a file as faxhook wrote it, byte for byte, or not an Ed25519 public key")
    try:
        key.verify(bytes.fromhex(parts[2].decode()), parts[1])
    except InvalidSignature:
        raise ValueError("the signature does not fit: the file was changed, or another key signed it") from None
    evidence = json.loads(content)["evidence"]
    if evidence["public_key"] != key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex():
        raise ValueError("the file names another key")
    return evidence


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    try:
        found = verified(*(Path(name).read_bytes() for name in sys.argv[1:]))
    except (OSError, ValueError) as error:
        sys.exit(f"NOT genuine: {error}")
    fax = found["fax"]
    print(f"genuine: fax {fax['fax_id']} of {fax['provider']}: {fax['outcome']}, stated {found['made_at']}")
    print(f"it says: {found['says']}")
