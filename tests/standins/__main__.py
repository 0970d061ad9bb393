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

# Stand-in -> (application, provider, account, zone, [endpoints.<name>.reports] as TOML)
_LOGIN = 'user = "exampleuser"\npassword = "example-password"\n'
STANDINS: dict[str, tuple[Callable[[World], Service], str, str, str, str]] = {
    "openfax": (openfax.application, "openfax", "123456789", "UTC", 'api_key = "IEYRtw2cd8aGa54"\nurl = "{url}"\n'),
    "openfax-broadcast": (
        openfax_broadcast.application,
        "openfax",
        "123456789",
        "UTC",
        'api_key = "broadcast-key"\nurl = "{url}/api/reporting.asmx"\n',
    ),
    "faxage": (
        faxage.application,
        "faxage",
        "acme",
        "America/Denver",
        f'company = "acme"\n{_LOGIN}url = "{{url}}/httpsfax.php"\ncdr_url = "{{url}}/getcdr.php"\n',
    ),
    "retarus": (retarus.application, "retarus", "99999TE", "UTC", f'{_LOGIN}url = "{{url}}/rest/v1"\n'),
    "efax": (
        efax.application,
        "efax",
        "me",
        "America/Los_Angeles",
        (
            f'{_LOGIN}url = "{{url}}/EFax_WebFax.serv"\nreporting_url = "{{url}}/v1"\napi_key = "example-api-key"\n'
            'reporting_user = "exampleuser"\nreporting_password = "example-password"\n'
        ),
    ),
}


# What a person needs to ask it; the provider's own keys follow.
CONFIGURATION = """\
# As faxhook.toml in an empty folder, for: faxhook migrate && faxhook reconcile --endpoint {name}
[server]
state_dir = "var"

[store]
url = "sqlite:///var/faxhook.db"

[endpoints.{name}]
provider = "{name}"
account = "{account}"
timezone = "{zone}"

[endpoints.{name}.reports]
"""


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

    application, provider, account, zone, table = STANDINS[chosen.standin]
    faxes = some_faxes(provider, chosen.faxes, datetime.now(UTC))
    world = World(provider, account, *faxes, timezone=ZoneInfo(zone), user=chosen.user, password=chosen.password)
    if chosen.callbacks:
        lost = world.announce(chosen.callbacks, share=chosen.lose)
        for one in lost:
            print("lost:", ", ".join(f"job {fax.job_id} to {fax.number}" for fax in one.faxes))
    with socket.create_server(("127.0.0.1", chosen.port)) as sock, serving(application(world), sock) as port:
        url = f"http://127.0.0.1:{port}"
        print(f"# {len(faxes)} faxes of the last day are at {url}; end with Ctrl-C.")
        text = CONFIGURATION.format(name=chosen.standin, account=account, zone=zone)
        print(text + table.format(url=url), end="", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
