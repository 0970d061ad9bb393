"""requests, or niquests, which has the same interface: python_requests.py MODULE URL USER PASSWORD FILE."""

import importlib
import sys
from pathlib import Path

module, url, user, password, file = sys.argv[1:]
requests = importlib.import_module(module)
print(requests.__version__)
with requests.Session() as session:
    session.auth = requests.auth.HTTPDigestAuth(user, password)
    for _ in range(2):
        session.post(url, data=Path(file).read_bytes(), headers={"Content-Type": "text/xml"}).raise_for_status()
