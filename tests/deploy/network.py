"""A network of hosts inside a machine, each with a loopback of its own, and servers as their images start them."""

import shlex
import subprocess
from collections.abc import Mapping

from machine import Machine

# As the entry point of the image postgres: a first server at the socket alone, until the database is there.
_POSTGRESQL = """
PATH="$PROGRAMS:$PATH"
mkdir -p "$PGDATA" /run/postgresql && chown postgres "$PGDATA" /run/postgresql && cd "$PGDATA"
as="setpriv --reuid postgres --regid postgres --clear-groups"
printf %s "$POSTGRES_PASSWORD" | install --mode 0600 --owner postgres /dev/stdin /run/postgresql/password
$as initdb --no-sync --username "$POSTGRES_USER" --pwfile /run/postgresql/password \
    --auth-local trust --auth-host scram-sha-256 --encoding UTF8 --locale C -D "$PGDATA"
echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
$as pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
$as createdb --username "$POSTGRES_USER" --maintenance-db postgres "$POSTGRES_DB"
$as pg_ctl -D "$PGDATA" -w stop
exec $as postgres -D "$PGDATA" -c "listen_addresses=*"
"""
_RABBITMQ = """
mkdir -p /etc/rabbitmq-image && cd /etc/rabbitmq-image
printf 'default_user = %s\\ndefault_pass = %s\\ndefault_vhost = %s\\nlog.console = true\\nlog.file = false\\n' \
    "$RABBITMQ_DEFAULT_USER" "$RABBITMQ_DEFAULT_PASS" "$RABBITMQ_DEFAULT_VHOST" > rabbitmq.conf
echo '[].' > plugins
export RABBITMQ_CONFIG_FILE=$PWD/rabbitmq.conf RABBITMQ_ENABLED_PLUGINS_FILE=$PWD/plugins
exec rabbitmq-server
"""


class Network:
    """10.89.0.0/24; each host is found by its name, and reaches the others and the machine."""

    def __init__(self, made: Machine) -> None:
        self.made = made
        self._hosts: list[str] = []
        made.sh("ip link add hosts type bridge; ip addr add 10.89.0.1/24 dev hosts; ip link set hosts up")
        made.sh("echo '127.0.0.1 localhost' > /etc/hosts")

    def join(self, name: str) -> str:
        """A host of this name, and of what that begins with; its address."""
        self._hosts.append(name)
        number = len(self._hosts) + 1
        address, link = f"10.89.0.{number}", f"host{number}"
        inside, names = f"ip netns exec {name} ip", f"{name} {name.partition('.')[0]}"
        self.made.sh(
            f"ip netns add {name}; ip link add {link} type veth peer name eth0 netns {name};"
            f"ip link set {link} master hosts up; {inside} addr add {address}/24 dev eth0;"
            f"{inside} link set eth0 up; {inside} link set lo up; echo {address} {names} >> /etc/hosts"
        )
        return address

    def start(self, host: str, *command: str, **environment: str) -> "subprocess.Popen[bytes]":
        """A process of a host; its output is in ``made.log(host)``."""
        return self.made.start(host, *self._in(host, command, environment))

    def run(self, host: str, *command: str, **environment: str) -> int:
        """The exit code of a command there."""
        return self.made.run(*self._in(host, command, environment)).returncode

    def postgresql(self, host: str, environment: Mapping[str, str], data: str) -> "subprocess.Popen[bytes]":
        """environment: as the image of that name takes it. data: its folder."""
        programs = self.made.sh("ls -d /usr/lib/postgresql/*/bin").split()[-1]
        return self.start(host, "sh", "-ec", _POSTGRESQL, PGDATA=data, PROGRAMS=programs, **environment)

    def rabbitmq(self, host: str, environment: Mapping[str, str], data: str) -> "subprocess.Popen[bytes]":
        return self.start(host, "sh", "-ec", _RABBITMQ, **environment, **self.of_rabbitmq(host, data))

    def of_rabbitmq(self, host: str, data: str) -> dict[str, str]:
        """The variables with which its programs find the server of a host."""
        return {
            "PATH": "/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin",  # Debian's in /usr/sbin change the user
            "HOME": data,
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"rabbit@{host.partition('.')[0]}",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",  # what the system's own server is told
            "RABBITMQ_MNESIA_BASE": f"{data}/mnesia",
            "RABBITMQ_LOG_BASE": f"{data}/log",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }

    def _in(self, host: str, command: tuple[str, ...], environment: Mapping[str, str]) -> list[str]:
        own = shlex.join(f"{name}={value}" for name, value in environment.items())
        return ["ip", "netns", "exec", host, "sh", "-c", f'exec env {own} "$@"', "sh", *command]
