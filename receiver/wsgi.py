"""The WSGI application, for gunicorn or any other server: ``receiver.wsgi:app``. Built on import, after the fork."""

import os

from receiver import bootstrap, settings
from receiver.app import create_app

app = create_app(bootstrap.build(settings.load(None, os.environ)))
