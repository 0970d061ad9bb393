"""[console]: what is refused with which words, and what is doubtful."""

from pathlib import Path

import pytest
from desk import BASIC
from house import CONFIGURATION

from receiver import settings
from receiver.errors import ConfigurationError

USER = 'users = [{ user = "vera", password = "0123456789", role = "viewer" }]'


def loaded(folder: Path, console: str, server: str = "") -> settings.Settings:
    path = folder / "faxhook.toml"
    document = CONFIGURATION.format(port=8000, store="sqlite:///x.db").replace("[server]", f"[server]\n{server}", 1)
    path.write_text(f"{document}\n[console]\n{console}\n")
    return settings.load(path, {})


def test_it_is_off_by_default_and_checked_all_the_same(tmp_path: Path) -> None:
    assert loaded(tmp_path, "").console is None
    assert loaded(tmp_path, f'enabled = false\nauth = "proxy"\n{USER}').console is None
    with pytest.raises(
        ConfigurationError, match=r"console\.users\[0\]\.role: expected one of viewer, operator, privacy"
    ):
        loaded(tmp_path, f"enabled = false\n{USER.replace('viewer', 'admin')}")


def test_users_have_one_role_or_several(tmp_path: Path) -> None:
    roles = USER.replace('"viewer"', '["operator", "privacy"]')
    found = loaded(tmp_path, f'enabled = true\nauth = "basic"\n{roles}').console
    assert found is not None
    assert found.users[0].roles == {"operator", "privacy"}
    assert "0123456789" not in repr(found)


@pytest.mark.parametrize(
    ("console", "words"),
    [
        ("enabled = true", "console.auth: missing; expected auth"),
        ('enabled = true\nauth = "oidc"', '"oidc" is not yet available in this version; expected auth = "basic"'),
        ('auth = "none"', "console.auth: expected auth"),
        ('enabled = true\nauth = "basic"', "console.users: missing"),
        (f'enabled = true\nauth = "proxy"\n{USER}', "console.users: expected without this key"),
        ('enabled = true\nauth = "proxy"', "console.groups: missing"),
        ('enabled = true\nauth = "proxy"\ngroups = { viewer = [] }', "console.groups: missing"),
        ('enabled = true\nauth = "proxy"\ngroups = { viewer = ["x"] }', "expects server.trusted_proxies"),
        ('enabled = true\nauth = "basic"\ngroups = { viewer = ["x"] }', "console.groups: expected without this key"),
        ('auth = "basic"\nusers = [{ user = "x", role = "viewer" }]', "console.users[0].password: missing"),
        ('users = [{ password = "x123", role = "viewer" }]', "console.users[0].user: missing"),
        ('users = [{ user = "x", password = "x123" }]', "console.users[0].role: missing"),
        ('users = [{ user = " x", password = "x123", role = "viewer" }]', "console.users[0].user: expected 1 to 100"),
        ('users = [{ user = "x", password = "scrypt:1", role = "viewer" }]', "console.users[0].password: expected"),
        (f"{USER[:-1]}, {USER[9:]}", "console.users[1].user: expected each user once"),
        ('groups = { admin = ["x"] }', "console.groups.admin: unknown key"),
        ('user_header = "X User"', "console.user_header: expected the name of a header"),
        ("enabled = 1", "console.enabled: expected true or false"),
        ("color = 1", "console.color: unknown key"),
    ],
)
def test_what_cannot_be_used_is_refused_with_key_and_expectation(tmp_path: Path, console: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        loaded(tmp_path, console)
    assert words in str(refused.value)
    assert "x123" not in str(refused.value)


def test_a_proxy_needs_peers_that_are_trusted(tmp_path: Path) -> None:
    console = 'enabled = true\nauth = "proxy"\ngroups = { viewer = ["x"] }'
    found = loaded(tmp_path, console, 'trusted_proxies = ["10.0.0.0/8"]').console
    assert found is not None
    assert (found.user_header, found.groups_header) == ("X-Forwarded-User", "X-Forwarded-Groups")


def test_a_password_that_is_quick_to_guess_is_doubtful(tmp_path: Path) -> None:
    path = tmp_path / "faxhook.toml"
    path.write_text((CONFIGURATION + BASIC).format(port=8000, store="sqlite:///x.db"))
    found = [one for one in settings.doubts(settings.load(path, {})) if one.startswith("console")]
    assert len(found) == 4
    assert "quick to guess" in found[0]
    quick = f'enabled = true\nauth = "basic"\n{USER.replace("0123456789", "change-me")}'
    assert any("placeholder" in one for one in settings.doubts(loaded(tmp_path, quick)))
