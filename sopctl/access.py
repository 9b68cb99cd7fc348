# SPDX-License-Identifier: Apache-2.0
"""How a repository is reached: its URL with credentials, its password, the authority of its certificate. All of it is secret."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote, unquote

from sopctl import fsio
from sopctl.errors import ConfigError
from sopctl.models import Json
from sopctl.naming import fill
from sopctl.settings import CopyConfig, VaultConfig
from sopctl.site import Site

_SCHEMES = ("rest:", "s3:", "sftp:", "rclone:", "b2:", "azure:", "gs:", "swift:", "/")


def to_vault(site: Site, server: str, *, admin: bool = False, door: Callable[[str], str] | None = None) -> Json:
    """What a module needs to reach that server's repository; ``admin``: what maintenance from this machine needs.

    ``door`` lets the server in and tells its password, in the place of one that lasts. ConfigError names what is missing.
    """
    vault = site.config.vault
    name = "admin_url" if admin and vault.admin_url else "url"
    return _access(site, vault, getattr(vault, name), server, f"{site.root / 'sop.yml'}:vault", name, door)


def to_copy(site: Site, name: str, server: str) -> Json:
    """What this machine needs to reach that server's repository in another vault. ConfigError names what is missing."""
    at, copy = next((at, one) for at, one in enumerate(site.config.vault.copies) if one.name == name)
    return _access(site, copy, copy.url, server, f"{site.root / 'sop.yml'}:vault.copies[{at}]", "url")


def secrets(access: Json) -> set[str]:
    """What of it must never be shown."""
    found = {access["password"]}
    user, at, _ = access["repository"].partition("//")[2].rpartition("@")
    if at and ":" in user:
        found.add(unquote(user.partition(":")[2]))
    if access.get("s3_key"):
        found.add(access["s3_key"].rstrip().rpartition(" = ")[2])
    return found


def _access(
    site: Site,
    config: VaultConfig | CopyConfig,
    rule: str,
    server: str,
    where: str,
    name: str,
    door: Callable[[str], str] | None = None,
) -> Json:
    words = {"server": server}
    url = fill(rule, words, f"{where}.{name}")
    if not url.startswith(_SCHEMES):
        url = str((site.root / url).resolve())
    key = None
    if config.user and url.startswith(("rest:http://", "rest:https://", "s3:")):
        user = fill(config.user, words, f"{where}.user")
        if door and not url.startswith("s3:"):
            password: str | None = door(server)
        else:
            password = site.secret(config.user_password, f"{where}.user_password", words)
        if password is None:
            raise ConfigError("a vault with 'user' needs 'user_password' or 'door'", where=f"{where}.user")
        if url.startswith("s3:"):
            key = f"[default]\naws_access_key_id = {user}\naws_secret_access_key = {password}\n"
        else:
            scheme, slashes, rest = url.partition("://")
            url = f"{scheme}{slashes}{quote(user, safe='')}:{quote(password, safe='')}@{rest}"
    own = site.secret(config.password, f"{where}.password", words)
    return {
        "repository": url,
        "password": own or site.secret(site.config.vault.password, f"{site.root / 'sop.yml'}:vault.password", words),
        "ca_pem": fsio.read_strict(site.root / config.ca_file).decode() if config.ca_file else None,
        "s3_key": key,
    }
