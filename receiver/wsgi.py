"""The WSGI application, for gunicorn or any other server: ``receiver.wsgi:app``. Built on import, after the fork."""

import atexit
import gc
import os
import time

from receiver import bootstrap, logs, metrics, settings
from receiver.errors import Unavailable
from receiver.logs import log
from receiver.runtime import Runtime
from receiver.web.app import create_app

_DELAY_SECONDS = 1.0


def _runtime() -> Runtime:
    """
    Built once the store can be held against the configuration; until then this worker waits.

    One that failed would end gunicorn, and with it the workers that are answering 503 meanwhile.
    """
    loaded = settings.load(None, os.environ)
    while True:
        try:
            return bootstrap.build(loaded)
        except Unavailable as error:
            log.error("store_unavailable", error=error.error, cause=error.trouble)
            time.sleep(_DELAY_SECONDS)


logs.stderr.on_dropped = metrics.dropped_log_lines.inc
logs.stderr.never_wait()
_built = _runtime()
atexit.register(_built.close)
app = create_app(_built)
gc.freeze()  # what is there now stays: no collection needs to look at it again
