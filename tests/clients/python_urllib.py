"""urllib of the standard library: python_urllib.py URL USER PASSWORD FILE."""

import platform
import sys
import urllib.request
from pathlib import Path

url, user, password, file = sys.argv[1:]
print(platform.python_version())
known = urllib.request.HTTPPasswordMgrWithDefaultRealm()
known.add_password(None, url, user, password)
opener = urllib.request.build_opener(urllib.request.HTTPDigestAuthHandler(known))
for _ in range(2):
    request = urllib.request.Request(url, Path(file).read_bytes(), {"Content-Type": "text/xml"})
    opener.open(request).close()  # raises for anything but a 2xx
