"""
The address list of an endpoint: who the client is, and whether it may call.

Werkzeug's ProxyFix counts hops without looking at the peer, so anyone who reaches gunicorn past the proxy could name
any address. Here X-Forwarded-For counts only when a trusted proxy says it, and only as far as trusted proxies wrote it.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from receiver.settings import Network

Address = IPv4Address | IPv6Address

_BRACKETED = re.compile(r"\[(?P<host>[^\[\]]*:[^\[\]]*)\](?::[0-9]{1,5})?")
_WITH_PORT = re.compile(r"(?P<host>[0-9.]+):[0-9]{1,5}")
_ZONE = re.compile(r"(?<=[0-9a-fA-F:])%(?:25)?[A-Za-z0-9._~-]{1,32}\Z", re.ASCII)

_MAPPED = IPv6Network("::ffff:0:0/96")


class Proxies:
    """Those that may speak for others."""

    def __init__(self, trusted: Iterable[Network]) -> None:
        self._trusted = tuple(map(_unmapped_network, trusted))

    def trusts(self, peer: str) -> bool:
        """Whether this peer is one of them. Who calls over a unix socket is not."""
        address = parse(peer)
        return address is not None and _is_in(address, self._trusted)

    def client(self, peer: str, forwarded_for: str | None) -> Address | None:
        """
        The nearest address that is no trusted proxy; None where it cannot be known.

        Not known: an unreadable entry before it, a trusted proxy that names nobody, and an empty peer (a unix socket).
        The last could be any local process, since gunicorn's sockets are open to all users by default; with an allow
        list, the proxy has to come over TCP from an address in trusted_proxies.
        """
        address = parse(peer)
        hops = (forwarded_for or "").split(",")
        while address is not None and _is_in(address, self._trusted):
            address = parse(hops.pop()) if hops else None
        return address


class AllowList:
    """The networks that may call, behind the proxies that may speak for others."""

    def __init__(self, allow: Iterable[Network], trusted_proxies: Iterable[Network]) -> None:
        self._allow = tuple(map(_unmapped_network, allow))
        self._proxies = Proxies(trusted_proxies)

    def admits(self, peer: str, forwarded_for: str | None) -> bool:
        """Whether the client may call. Without networks everyone may; else an unknown client may not."""
        if not self._allow:
            return True
        client = self._proxies.client(peer, forwarded_for)
        return client is not None and _is_in(client, self._allow)


def parse(text: str) -> Address | None:
    """
    An address as proxies write it: bare, ``1.2.3.4:5678``, ``[::1]``, ``[::1]:80``; None for anything else.

    Without the zone of ``fe80::1%eth0``: it names a network card of the proxy, and Python takes any text for one.
    """
    text = text.strip(" \t")
    decorated = _BRACKETED.fullmatch(text) or _WITH_PORT.fullmatch(text)
    host = decorated["host"] if decorated else text
    try:
        address = ip_address(_ZONE.sub("", host) if ":" in host else host)
    except ValueError:
        return None
    if address.version == 6 and address.scope_id is not None:  # a zone that is none
        return None
    return (address.version == 6 and address.ipv4_mapped) or address


def _unmapped_network(network: Network) -> Network:
    """An IPv4 network written in IPv6, as IPv4: the addresses compared with it are unwrapped too."""
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)
