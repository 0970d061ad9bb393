from ipaddress import ip_address, ip_network

import pytest

from receiver.auth.addresses import AllowList, parse


def allow_list(*allow: str, trusted: tuple[str, ...] = ("10.0.0.0/8", "fd00::/8")) -> AllowList:
    return AllowList(map(ip_network, allow), map(ip_network, trusted))


PROVIDER = allow_list("203.0.113.0/24", "2001:db8:1::/48")


@pytest.mark.parametrize("peer", ["198.51.100.1", "10.0.0.1", "", "nonsense"])
@pytest.mark.parametrize("forwarded_for", [None, "unknown", "198.51.100.1"])
def test_without_a_list_everyone_may_call(peer, forwarded_for):
    assert allow_list().admits(peer, forwarded_for)


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("203.0.113.0", True),
        ("203.0.113.255", True),
        ("203.0.114.0", False),
        ("2001:db8:1::5", True),
        ("2001:db8:2::5", False),
        ("::ffff:203.0.113.7", True),
        ("::ffff:198.51.100.7", False),
        ("::203.0.113.7", False),
    ],
)
def test_the_peer_is_the_client_where_no_proxy_is_trusted(peer, expected):
    assert PROVIDER.admits(peer, None) is expected


def test_an_untrusted_peer_cannot_name_another_address():
    assert not PROVIDER.admits("198.51.100.1", "203.0.113.7")


def test_what_an_untrusted_peer_forwards_does_not_harm_it():
    assert PROVIDER.admits("203.0.113.7", "unknown, 198.51.100.1")


@pytest.mark.parametrize(
    ("forwarded_for", "expected"),
    [
        ("203.0.113.7", True),
        ("203.0.113.7, 198.51.100.1", False),  # the client wrote the first one itself
        ("198.51.100.1, 203.0.113.7", True),
        ("203.0.113.7, 10.1.1.1", True),
        ("203.0.113.7,10.1.1.1 ,\tfd00::1", True),
        ("203.0.113.7, 198.51.100.1, 10.1.1.1", False),
        ("unknown, 203.0.113.7", True),  # written by the client, never reached
        ("203.0.113.7:5678", True),
        ("198.51.100.1:5678", False),
        ("[2001:db8:1::5]", True),
        ("[2001:db8:1::5]:80", True),
        ("2001:db8:1::5", True),
        ("::ffff:203.0.113.7", True),
        ("[::ffff:203.0.113.7]:80", True),
        ("203.0.113.7, [fd00::1]:443, 10.0.0.1:80", True),
        ("203.0.113.7, ::ffff:10.0.0.1", True),
    ],
)
def test_behind_a_trusted_proxy_the_first_untrusted_address_from_the_right_is_the_client(forwarded_for, expected):
    assert PROVIDER.admits("10.0.0.1", forwarded_for) is expected
    assert PROVIDER.admits("::ffff:10.0.0.1", forwarded_for) is expected


@pytest.mark.parametrize(
    "forwarded_for",
    ["unknown", "203.0.113.7, unknown", "203.0.113.7, ", "203.0.113.7,,10.0.0.1", "_hidden", "203.0.113.7:port"],
)
def test_an_unreadable_entry_before_the_client_refuses(forwarded_for):
    assert not PROVIDER.admits("10.0.0.1", forwarded_for)


@pytest.mark.parametrize("forwarded_for", [None, "", "10.0.0.2", "10.0.0.2, 10.0.0.3"])
def test_a_trusted_proxy_that_names_no_client_is_refused_even_if_it_is_on_the_list(forwarded_for):
    assert not allow_list("10.0.0.0/8").admits("10.0.0.1", forwarded_for)


def test_a_thousand_entries_are_walked():
    assert PROVIDER.admits("10.0.0.1", "203.0.113.7" + ", 10.0.0.2" * 1000)
    assert not PROVIDER.admits("10.0.0.1", "203.0.113.7, " * 1000 + "198.51.100.1")


@pytest.mark.parametrize("peer", ["", "unix:", "unknown"])
@pytest.mark.parametrize("forwarded_for", [None, "203.0.113.7"])
def test_a_unix_socket_has_no_address_and_is_refused(peer, forwarded_for):
    assert not PROVIDER.admits(peer, forwarded_for)
    assert not allow_list("0.0.0.0/0", "::/0").admits(peer, forwarded_for)


def test_networks_written_as_ipv4_in_ipv6_hold_ipv4_addresses():
    mapped = allow_list("::ffff:203.0.113.0/120", trusted=("::ffff:10.0.0.0/104",))

    assert mapped.admits("203.0.113.7", None)
    assert mapped.admits("::ffff:203.0.113.7", None)
    assert mapped.admits("10.0.0.1", "203.0.113.7")
    assert not mapped.admits("203.0.114.7", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" 1.2.3.4\t", "1.2.3.4"),
        ("1.2.3.4:5678", "1.2.3.4"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[::1]:80", "::1"),
        ("::", "::"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("[::ffff:102:304]:80", "1.2.3.4"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0.7]:80", "fe80::1"),
        ("::ffff:1.2.3.4%2", "1.2.3.4"),
    ],
)
def test_addresses_are_read_as_proxies_write_them(text, expected):
    assert parse(text) == ip_address(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unknown",
        "1.2.3",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:123456",
        "1.2.3.4:8a",
        "1.2.3.4/24",
        "[1.2.3.4]",
        "[::1",
        "::1]",
        "[::1]:",
        "[::1]80",
        "[[::1]]",
        '"1.2.3.4',
        '"',
        '""',
        '"[2001:db8::1]:4711"',
        "1.2.3.4%eth0",
        "fe80::1%",
        "fe80::1%Erika Mustermann",
        "fe80::1%\x1b[2J",
        "fe80::1%" + "a" * 33,
        "16909060",
        "0x1020304",
        "١.2.3.4",
        "localhost",
        "for=1.2.3.4",
        '"1.2.3.4"',
        "1.2.3.4\n",
        "1.2.3.4 5.6.7.8",
    ],
)
def test_anything_else_is_no_address(text):
    assert parse(text) is None
