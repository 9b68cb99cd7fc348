# SPDX-License-Identifier: Apache-2.0
"""Making a site and its trust."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import uuid
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec
import yaml

from sopctl import clock, content, fsio, history, loading, pem, register, signing, tokens
from sopctl import roots as root_chain
from sopctl import trust as trusts
from sopctl.errors import ConfigError, GateRefused, SopctlError, UsageError
from sopctl.models import Key, Person, TrustFile, to_json
from sopctl.play_gate import RUN_KEY
from sopctl.profile import load_profile, shipped
from sopctl.roots import RootChain
from sopctl.signing import BadSignature
from sopctl.site import Site
from sopctl.trust import Trust, check_trust_file

RUN_PUBLIC = "trust/run.pub"

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
    if profile not in profiles and not Path(profile).is_file():
        raise UsageError(
            f"profile {profile!r} is unknown",
            where="--profile",
            hint=f"Shipped: {', '.join(sorted(profiles))}. Or give the file of your own SOP.",
        )
    if root.exists() and any(root.iterdir()):
        raise UsageError("the folder is not empty", where=str(root), hint="Name a new folder.")
    source = profiles.get(profile) or Path(profile)
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
    import jinja2

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
    make_run_key(root)
    fsio.write_atomic(root / "inventory/hosts.yml", EXAMPLE_INVENTORY.encode())
    fsio.write_atomic(root / ".gitignore", b"/.state\n/secrets\n")  # as links too: docs/how-to/recover-from-nothing.md
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
    if file.serial:
        _adopt(root, file.serial)  # a version whose keeping was broken off is lost for ever otherwise
    path.with_name("trust.yml.sig").unlink(missing_ok=True)
    fsio.write_atomic(path, _bytes(file))
    return path


def _bytes(file: TrustFile) -> bytes:
    return yaml.safe_dump(to_json(file), sort_keys=False, allow_unicode=True, width=200).encode()


def read_unsigned(site: Site) -> TrustFile:
    """The trust file as it lies, not believed: only to be edited and signed again."""
    return loading.load_yaml(TrustFile, site.root / "trust/trust.yml")


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
    return root_chain.line_of(signing.public_line(signing.key_blob(line, str(public))))


def make_run_key(root: Path, *, replace: bool = False) -> Path:
    """Make the site's run key (it signs grants; no pass phrase, runs are unattended); returns the public half's path.

    UsageError when there is one and ``replace`` is not said: enrolled hosts know the old one.
    """
    key, public = root / RUN_KEY, root / RUN_PUBLIC
    if not replace and (key.exists() or public.exists()):
        raise UsageError("the site has a run key", where=str(key), hint="Say --replace, then enrol the hosts again.")
    fresh = key.with_name("run-key.new")
    for left in (fresh, fresh.with_name("run-key.new.pub")):
        left.unlink(missing_ok=True)  # of a making that was broken off
    made = make_key(fresh, "sop-run", False)
    line = fsio.read_strict(made)
    made.unlink()  # its one place is in the tree
    fresh.replace(key)
    key.chmod(0o600)
    fsio.write_atomic(public, line)
    return public


def _run_keys(root: Path, say: Callable[[str], None]) -> list[str]:
    public = root / RUN_PUBLIC
    if not public.exists():
        say(f"no {RUN_PUBLIC}: enrolled hosts will believe no grant (make one: sopctl trust run-key)")
        return []
    line = fsio.read_strict(public).decode("utf-8", "replace")
    return [signing.public_line(signing.key_blob(line, str(public)))]


def sign_trust(
    site: Site,
    key: Path,
    days: int,
    *,
    forget: Collection[str] = (),
    seen: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Sign the trust with the root key: serial + 1, profiles, settings and run key as they are now, valid for ``days``.

    Nobody of the version before may be missing but those whom ``forget`` names. ``seen`` is the highest serial that the
    ledger knows. Every version is kept in trust/history. UsageError, ConfigError or GateRefused say why it is not signed.
    """
    if not key.exists():
        raise UsageError("the root key does not exist", where=f"--key {key}")
    file = read_unsigned(site)
    path = site.root / "trust/trust.yml"
    signature_path = path.with_name("trust.yml.sig")
    chain, source = trusts.roots(site.root), trusts.root_pin().source
    before = _version_before(site.root, file, chain)
    if (before.file.serial if before else 0) < seen:
        raise GateRefused(
            f"trust serial {file.serial} is older than {seen}, which was in force before",
            where=f"{path}:serial",
            hint="Put the newest trust and its history back.",
        )
    if before:
        _require_people(before.file, file, forget, path)
    digests = {}
    for profile_id in file.profiles:
        found = site.root / "profiles" / f"{profile_id}.yml"
        if not found.exists():
            raise ConfigError(f"profile {profile_id} is not there", where=str(found))
        digests[profile_id] = load_profile(found).digest
    now = clock.now()
    signed = msgspec.structs.replace(
        file,
        serial=file.serial + 1,
        prev=before.digest if before else None,
        issued=now,
        valid_until=clock.plus(now, days=days),
        profiles=digests,
        settings=register.settings_digests(site.config),
        run_keys=_run_keys(site.root, say),
    )
    check_trust_file(signed, path)
    for change in history.differences(before.file if before else None, signed):
        say(f"signed now: {change}")
    for one in site.config.timestamps:  # what is no CA's certificate is never signed over
        prints = tokens.fingerprints(one, f"{site.root / 'sop.yml'}:timestamps.{one.name}.anchors")
        say(f"signed now: time stamps of {one.name} lead to {', '.join(prints)}")
    data = _bytes(signed)
    signature, signer = _root_signature(data, key, "--key")
    trusts.require_root_in_force(chain, signer, source, f"--key {key}")
    # signature first: broken off here, the edited file still lies there and can be signed again
    fsio.write_atomic(signature_path, signature)
    fsio.write_atomic(path, data)
    _keep(site.root, signed.serial, data, signature)
    trust = Trust(signed, fsio.sha256_bytes(data), data, signature, "")
    fsio.write_atomic(site.root / "trust/allowed_signers", trust.allowed_signers().encode())
    if trust.anchors:
        fsio.write_atomic(site.root / "trust/anchors.pem", pem.pem_of(trust.anchors))
    return signature_path


def _root_signature(data: bytes, key: Path, option: str) -> tuple[bytes, str]:
    """The signature, and the key that made it (``type base64``)."""
    signature = signing.sign(data, "sop-trust", key)
    try:
        return signature, signing.verify(data, signature, "sop-trust")
    except BadSignature as error:
        raise UsageError(f"its signature is not acceptable: {error}", where=f"{option} {key}") from None


def _keep(root: Path, serial: int, data: bytes, signature: bytes) -> None:
    kept = history.path_of(root, serial)
    kept.parent.mkdir(exist_ok=True)
    fsio.write_atomic(kept.with_name(kept.name + ".sig"), signature)
    fsio.write_atomic(kept, data, exclusive=True)


def _adopt(root: Path, serial: int) -> None:
    """Keep the signed trust as it lies when it is not kept yet; whose signature it is, is asked where it is read."""
    path = root / "trust/trust.yml"
    signature_path = path.with_name("trust.yml.sig")
    if serial in history.serials(root) or not (path.exists() and signature_path.exists()):
        return
    data, signature = fsio.read_strict(path), fsio.read_strict(signature_path)
    try:
        signing.verify(data, signature, "sop-trust")
    except BadSignature:
        return  # edited since
    _keep(root, serial, data, signature)


def _version_before(root: Path, file: TrustFile, chain: RootChain) -> history.Version | None:
    """The signed version that ``file`` was edited from; None before the first signature.

    A version whose keeping was broken off, or of a site from before there was a history, is kept now.
    """
    path = root / "trust/trust.yml"
    if file.serial:
        _adopt(root, file.serial)
    kept = history.serials(root)
    newest = kept[-1] if kept else 0
    if file.serial != newest:
        raise ConfigError(
            f"says serial {file.serial}, but the newest signed version that is kept is {newest or 'none'}",
            where=f"{path}:serial",
            hint=f"Put trust.yml and trust.yml.sig of serial {max(file.serial, newest)} back, then change it again.",
        )
    if not newest:
        return None
    try:
        return history.read_version(root, newest, chain)
    except BadSignature as error:
        raise GateRefused(str(error), where=str(history.path_of(root, newest)), hint="Put the file back.") from None


def _require_people(before: TrustFile, after: TrustFile, forget: Collection[str], path: Path) -> None:
    """UsageError when a person or a key is gone: old documents are judged by both for as long as they are kept."""
    people = {person.id: person for person in after.people}

    def lines(keys: list[Key]) -> set[str]:
        return {signing.public_line(signing.key_blob(key.key, str(path))) for key in keys}

    for one in forget:
        if one not in {person.id for person in before.people}:
            raise UsageError(f"person {one!r} was not in the trust", where="--forget-person")
    for person in before.people:
        left: Person | None = people.get(person.id)
        if person.id in forget:
            continue
        if left is None:
            raise UsageError(
                f"person {person.id!r} of serial {before.serial} is gone",
                where=f"{path}:people",
                hint=f"Put them back and end their roles (sopctl trust end {person.id}), or say --forget-person {person.id}.",
            )
        for line in lines(person.keys) - lines(left.keys):
            mark = signing.fingerprint(line)
            raise UsageError(
                f"key {mark} of {person.id} is gone",
                where=f"{path}:people.{person.id}.keys",
                hint=f"Put it back and revoke it: sopctl trust revoke {person.id} --key {mark}.",
            )
        for gone in {one.sha256 for one in person.certificates} - {one.sha256 for one in left.certificates}:
            raise UsageError(
                f"certificate {gone} of {person.id} is gone",
                where=f"{path}:people.{person.id}.certificates",
                hint=f"Put it back and revoke it: sopctl trust revoke {person.id} --key {gone}.",
            )


def roll_over(site: Site, old: Path, new: Path) -> Path:
    """Have the root key ``old`` sign that ``new`` follows it; returns ``trust/roots/<n>.pub``. The trust is signed anew
    with ``new`` afterwards: until then nothing runs."""
    for option, path in (("--old-root-key", old), ("--new-root-key", new)):
        if not path.exists():
            raise UsageError(
                "the root key does not exist",
                where=f"{option} {path}",
                hint="Make it: sopctl trust init --root-key FILE." if path is new else "",
            )
    chain, source = trusts.roots(site.root), trusts.root_pin().source
    if len(chain.links) >= root_chain.MOST:
        raise UsageError(f"the chain has {root_chain.MOST} roots", where=root_chain.FOLDER, hint="Pin a new root.")
    public = new if new.suffix == ".pub" else new.with_name(new.name + ".pub")
    data = root_line(public).encode()
    key = root_chain.parse_lines(data, str(public))[0]
    if key in chain.keys():  # noqa: SIM118  # a method of the chain, no mapping's
        raise UsageError("is a root of this site already", where=f"--new-root-key {new}", hint="Make a new key.")
    holders = [one.id for one in read_unsigned(site).people for entry in one.keys if _same(entry.key, key)]
    if holders:
        raise UsageError(f"is {holders[0]}'s key", where=f"--new-root-key {new}", hint="The root key is nobody's own.")
    signature, signer = _root_signature(data, old, "--old-root-key")
    trusts.require_root_in_force(chain, signer, source, f"--old-root-key {old}", "the new root")
    path = site.root / root_chain.FOLDER / f"{len(chain.links) + 1}.pub"
    path.parent.mkdir(exist_ok=True)
    fsio.write_atomic(path.with_name(path.name + ".sig"), signature)
    fsio.write_atomic(path, data, exclusive=True)
    trusts.roots(site.root)  # it reads back, or says what is wrong
    return path


def _same(line: str, key: str) -> bool:
    return signing.public_line(signing.key_blob(line, "trust")) == key
