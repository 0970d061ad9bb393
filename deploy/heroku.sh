#!/bin/sh
# Makes the folder that Heroku deploys, from this checkout: deploy/heroku.sh ../hooks
# Heroku installs what requirements.txt names: here a wheel of faxhook, and the locked versions of all that it needs.
set -eu
checkout=$(cd "$(dirname "$0")/.." && pwd)
mkdir "$1"
cd "$1"
python3 -m pip wheel --no-deps --wheel-dir . "$checkout"
cp "$checkout/Procfile" "$checkout/deploy/app.json" .
cp "$checkout/deploy/hooks.toml" faxhook.toml
cp "$checkout/deploy/requirements.lock" requirements.txt
echo 3.13 > .python-version
for wheel in ./faxhook-*.whl; do
    echo "$wheel --hash=sha256:$(sha256sum "$wheel" | cut -d ' ' -f 1)" >> requirements.txt
done
