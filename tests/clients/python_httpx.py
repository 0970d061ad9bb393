"""httpx: python_httpx.py URL USER PASSWORD FILE."""

import sys
from pathlib import Path

import httpx

url, user, password, file = sys.argv[1:]
print(httpx.__version__)
with httpx.Client(auth=httpx.DigestAuth(user, password)) as client:
    for _ in range(2):
        client.post(url, content=Path(file).read_bytes(), headers={"Content-Type": "text/xml"}).raise_for_status()
