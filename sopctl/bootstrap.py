# SPDX-License-Identifier: Apache-2.0
"""Making a site and its trust."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jinja2
import msgspec
import yaml

from sopctl import clock, content, fsio, loading, signing
from sopctl.errors import ConfigError, SopctlError, UsageError
from sopctl.models import Key, Person, RoleHolding, TrustFile, to_json
from sopctl.profile import load_profile, shipped
from sopctl.site import Site
from sopctl.trust import Trust, check_trust_file

EXAMPLE_INVENTORY = """---
# Inventori Ansible biasa. Example:
# all:
#   hosts:
#     db01:
#       ansible_host: 192.0.2.10
#       ansible_user: sop
#       ansible_become: true
all:
  hosts: {}
"""


def init_site(root: Path, profile: str, agency: str | None, vault: str) -> Site:
    """Make a new site at ``root``. UsageError when there is something already or the profile is unknown."""
    profiles = shipped()
    if profile not in profiles:
        raise UsageError(
            f"profile {profile!r} is unknown", where="--profile", hint=f"Shipped: {', '.join(sorted(profiles))}."
        )
    if root.exists() and any(root.iterdir()):
        raise UsageError("the folder is not empty", where=str(root), hint="Name a new folder.")
    source = profiles[profile]
    loaded = load_profile(source)
    words = {
        "site": str(uuid.uuid4()),
        "profile": loaded.profile.id,
        "agency": agency or loaded.profile.document.instansi,
        "vault": vault,
    }
    template = (content.package() / "skeleton/sop.yml.j2").read_text()
    quoted = {
        name: yaml.safe_dump(value, width=1000, default_style='"').strip() if name in {"agency", "vault"} else value
        for name, value in words.items()
    }
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701  # YAML, values are quoted above
    text = environment.from_string(template).render(quoted)
    for folder in (
        "inventory",
        "trust",
        "register/servers",
        "register/datasets",
        "profiles",
        "cases",
        "archive",
        "secrets",
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "secrets").chmod(0o700)
    fsio.write_atomic(root / "secrets/vault-password", secrets.token_urlsafe(32).encode() + b"\n", 0o600)
    fsio.write_atomic(root / "inventory/hosts.yml", EXAMPLE_INVENTORY.encode())
    fsio.write_atomic(root / ".gitignore", b"/.state/\n/secrets/\n")
    fsio.write_atomic(root / ".gitattributes", b"# git must not touch signed bytes\n* -text\n")
    shutil.copyfile(source, root / "profiles" / f"{loaded.profile.id}.yml")
    now = clock.now()
    file = TrustFile(
        schema="sop-trust/v1",
        site=words["site"],
        serial=0,
        prev=None,
        issued=now,
        valid_until=clock.plus(now, days=366),
        people=[],
        profiles={loaded.profile.id: loaded.digest},
    )
    write_trust(root, file)
    fsio.write_atomic(root / "sop.yml", text.encode() + b"\n")
    site = Site(root)
    if site.config.site != words["site"]:
        raise SopctlError("the new sop.yml does not read back", where=str(root / "sop.yml"))
    return site


def write_trust(root: Path, file: TrustFile) -> Path:
    """Write an unsigned trust file; a signature of other bytes is removed with it."""
    path = root / "trust/trust.yml"
    check_trust_file(file, path)
    text = yaml.safe_dump(to_json(file), sort_keys=False, allow_unicode=True, width=200)
    path.with_name("trust.yml.sig").unlink(missing_ok=True)
    fsio.write_atomic(path, text.encode())
    return path


def read_unsigned(site: Site) -> TrustFile:
    """The trust file as it lies, not believed: only to be edited and signed again."""
    return loading.load_yaml(TrustFile, site.root / "trust/trust.yml")


@dataclass(frozen=True)
class NewPerson:
    """What `trust add` is told."""

    id: str
    roles: list[str]
    jabatan: str
    key: Path | None
    name: str = ""
    unit: str = ""
    nip: str | None = None
    service: bool = False
    days: int = 366


def add_person(site: Site, new: NewPerson) -> Path:
    """Add a person, or roles and key to one that is there; the trust must be signed again afterwards."""
    file = read_unsigned(site)
    loading.check_id(new.id, "person id")
    known = site.profile.profile.roles
    for role in new.roles:
        if role not in known:
            raise UsageError(f"role {role!r} is not in the profile", where="--role", hint=f"Roles: {', '.join(known)}.")
    since, until = clock.now(), clock.plus(clock.now(), days=new.days)
    keys: list[Key] = []
    if new.key:
        if not new.key.is_file():
            raise UsageError("the public key file does not exist", where=f"--key {new.key}")
        line = fsio.read_strict(new.key).decode("utf-8", "replace")
        keys = [Key(signing.public_line(signing.key_blob(line, str(new.key))), since, until)]
    roles = [RoleHolding(role, since, until) for role in new.roles]
    people = {person.id: person for person in file.people}
    old = people.get(new.id)
    if old:
        held = [role for role in roles if role.role not in {entry.role for entry in old.roles}]
        people[new.id] = msgspec.structs.replace(old, roles=[*old.roles, *held], keys=[*old.keys, *keys])
    else:
        kind: Literal["person", "service"] = "service" if new.service else "person"
        people[new.id] = Person(
            id=new.id, jabatan=new.jabatan, roles=roles, keys=keys, name=new.name, unit=new.unit, nip=new.nip, kind=kind
        )
    return write_trust(site.root, msgspec.structs.replace(file, people=list(people.values())))


def make_key(path: Path, comment: str, passphrase: bool) -> Path:
    """Make an Ed25519 key with ssh-keygen (which asks for the pass phrase itself); returns the public half's path."""
    if path.exists():
        raise UsageError("the key file exists already", where=str(path), hint="Name a new file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-C", comment, "-f", str(path), *([] if passphrase else ["-N", ""])]
    if subprocess.run(command, check=False).returncode:
        raise SopctlError("ssh-keygen made no key", where=str(path))
    return path.with_name(path.name + ".pub")


def root_line(public: Path) -> str:
    """The line to pin in /etc/sopctl/root."""
    line = fsio.read_strict(public).decode("utf-8", "replace")
    return f'root namespaces="sop-trust" {signing.public_line(signing.key_blob(line, str(public)))}\n'


def sign_trust(site: Site, key: Path, days: int) -> Path:
    """Sign the trust with the root key: serial + 1, profiles by their digests now, valid for ``days``."""
    if not key.exists():
        raise UsageError("the root key does not exist", where=f"--key {key}")
    file = read_unsigned(site)
    path = site.root / "trust/trust.yml"
    signature_path = path.with_name("trust.yml.sig")
    digests = {}
    for profile_id in file.profiles:
        found = site.root / "profiles" / f"{profile_id}.yml"
        if not found.exists():
            raise ConfigError(f"profile {profile_id} is not there", where=str(found))
        digests[profile_id] = load_profile(found).digest
    now = clock.now()
    prev = fsio.sha256_bytes(fsio.read_strict(path)) if signature_path.exists() else file.prev
    signed = msgspec.structs.replace(
        file, serial=file.serial + 1, prev=prev, issued=now, valid_until=clock.plus(now, days=days), profiles=digests
    )
    check_trust_file(signed, path)
    data = yaml.safe_dump(to_json(signed), sort_keys=False, allow_unicode=True, width=200).encode()
    signature = signing.sign(data, "sop-trust", key)
    write_trust(site.root, signed)
    fsio.write_atomic(signature_path, signature)
    trust = Trust(signed, fsio.sha256_bytes(data), data, signature, "")
    fsio.write_atomic(site.root / "trust/allowed_signers", trust.allowed_signers().encode())
    return signature_path
