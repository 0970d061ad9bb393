"""
One stand-in with made-up faxes on a port of this machine, to try the pull by hand without an account.

From the folder tests: ``python -m standins faxage --port 9900``, and ``--callbacks URL --lose 0.3`` to post the
callbacks of these faxes first and to lose a third of them.
"""

import argparse
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from house import serving

from standins import efax, faxage, openfax, openfax_broadcast, retarus
from standins.world import Service, World, some_faxes

# Stand-in -> (application, provider, account, zone, what to ask with)
STANDINS: dict[str, tuple[Callable[[World], Service], str, str, str, str]] = {
    "openfax": (openfax.application, "openfax", "123456789", "UTC", "APIKey IEYRtw2cd8aGa54"),
    "openfax-broadcast": (openfax_broadcast.application, "openfax", "123456789", "UTC", "APIKey broadcast-key"),
    "faxage": (faxage.application, "faxage", "acme", "America/Denver", "exampleuser, example-password"),
    "retarus": (retarus.application, "retarus", "99999TE", "UTC", "Basic exampleuser, example-password"),
    "efax": (
        efax.application,
        "efax",
        "me",
        "America/Los_Angeles",
        "exampleuser, example-password, x-api-key example-api-key",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m standins", description=__doc__)
    parser.add_argument("standin", choices=STANDINS)
    parser.add_argument("--port", type=int, default=9900)
    parser.add_argument("--faxes", type=int, default=20, help="how many were sent in the last 24 hours")
    parser.add_argument("--callbacks", metavar="URL", help="post the callbacks of these faxes to this address")
    parser.add_argument("--lose", type=float, default=0.3, metavar="SHARE", help="of the callbacks; default 0.3")
    parser.add_argument("--user", default="exampleuser", help="in the callbacks of eFax")
    parser.add_argument("--password", default="example-password", help="likewise")
    chosen = parser.parse_args()

    application, provider, account, zone, credentials = STANDINS[chosen.standin]
    faxes = some_faxes(provider, chosen.faxes, datetime.now(UTC))
    world = World(provider, account, *faxes, timezone=ZoneInfo(zone), user=chosen.user, password=chosen.password)
    if chosen.callbacks:
        lost = world.announce(chosen.callbacks, share=chosen.lose)
        print(f"{len(lost)} callbacks are lost, of job {', '.join(one.faxes[0].job_id for one in lost)}")
    with socket.create_server(("127.0.0.1", chosen.port)) as sock, serving(application(world), sock) as port:
        print(f"{chosen.standin}: {len(faxes)} faxes of account {account} on http://127.0.0.1:{port}, times in {zone}")
        print(f"ask with {credentials}; end with Ctrl-C", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
