# SPDX-License-Identifier: Apache-2.0
"""``sopctl trust …``."""

from __future__ import annotations

from pathlib import Path

import click

from sopctl import bootstrap, certificates, history, people, signing
from sopctl.cli.common import Settings, settings, with_json
from sopctl.errors import ExitCode
from sopctl.models import Person, to_json
from sopctl.output import Output
from sopctl.trust import DELEGATE_MARKS

DAYS = click.IntRange(1, 3660)
FILE = click.Path(path_type=Path)
SIGN_IT = "now have it signed: sopctl trust sign --key ROOT_KEY"


@click.group()
def trust() -> None:
    """The site's people, roles and keys, signed by the root key."""


@trust.command()
@click.option(
    "--root-key",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where the new root key goes; keep it off this machine.",
)
@click.option("--no-passphrase", is_flag=True, help="Make it without a pass phrase (tests, demo).")
@with_json
@settings
def init(config: Settings, root_key: Path, no_passphrase: bool) -> None:
    """Make a root key and print the line to pin."""
    public = bootstrap.make_key(root_key, "sop-root", not no_passphrase)
    pin = root_key.with_name(root_key.name + ".allowed")
    line = bootstrap.root_line(public)
    pin.write_text(line)

    def render(output: Output) -> None:
        output.line(f"root key: {root_key}")
        output.line(f"pin it:   sudo install -D -m 0644 {pin} /etc/sopctl/root    (or set SOPCTL_ROOT={pin})")

    config.output.result({"key": str(root_key), "pin": str(pin), "line": line.strip()}, render)


@trust.command()
@click.argument("person_id", metavar="PERSON")
@click.option(
    "--role", "roles", multiple=True, required=True, help="Role of the profile, or a reserved one (repeatable)."
)
@click.option("--jabatan", default="", help="Position, as forms print it (needed for a new person).")
@click.option("--key", metavar="FILE", type=FILE, help="The person's public key.")
@click.option("--name", default="", help="Name, as forms print it.")
@click.option("--unit", default="", help="Unit.")
@click.option("--nip", help="NIP, if forms shall print it.")
@click.option(
    "--service", is_flag=True, help="A service identity (CI): executes what the schedule allows, nothing else."
)
@click.option("--days", type=DAYS, default=366, show_default=True, help="How long role and key hold.")
@click.option(
    "--kind",
    type=click.Choice(["definitif", "plt", "plh"]),
    default="definitif",
    show_default=True,
    help="Holder of the role, or a delegate: Plt. (at most 366 days) or Plh. (at most 90).",
)
@click.option("--acting-for", metavar="PERSON", help="Whom a delegate stands in for; separation of duties counts both.")
@click.option("--from", "since", metavar="TIME", help="When the role begins, as 2026-12-01T00:00:00Z (default: now).")
@click.option("--until", metavar="TIME", help="When the role ends (default: after --days; a delegate's must be said).")
@with_json
@settings
def add(
    config: Settings,
    person_id: str,
    roles: tuple[str, ...],
    jabatan: str,
    key: Path | None,
    name: str,
    unit: str,
    nip: str | None,
    service: bool,
    days: int,
    kind: people.Kind,
    acting_for: str | None,
    since: str | None,
    until: str | None,
) -> None:
    """Add a person with roles and key, or prolong them. The root holder signs afterwards."""
    new = people.NewPerson(
        person_id, list(roles), jabatan, key, name, unit, nip, service, days, kind, acting_for, since, until
    )
    path = people.add_person(config.session.site, new)
    config.output.result(
        {"file": str(path), "person": person_id}, lambda output: output.line(f"{person_id} added; {SIGN_IT}")
    )


def _edited(config: Settings, done: people.Edited) -> None:
    def render(output: Output) -> None:
        for line in done.lines:
            output.line(line)
        output.line(SIGN_IT)

    config.output.result({"file": str(done.path), "changes": done.lines}, render)


@trust.command()
@click.argument("person_id", metavar="PERSON")
@click.argument("file", metavar="CERTIFICATE", type=FILE)
@click.option("--days", type=DAYS, default=366, show_default=True, help="How long it holds here.")
@with_json
@settings
def certificate(config: Settings, person_id: str, file: Path, days: int) -> None:
    """Let a person sign papers with this certificate (PEM or DER)."""
    _edited(config, certificates.pin(config.session.site, person_id, file, days))


@trust.command()
@click.argument("file", metavar="FILE", type=FILE)
@with_json
@settings
def anchor(config: Settings, file: Path) -> None:
    """Name the CA (PEM) that certificates of officials must lead to."""
    _edited(config, certificates.add_anchors(config.session.site, file))


@trust.command()
@click.argument("person_id", metavar="PERSON")
@click.option(
    "--key",
    "mark",
    metavar="FINGERPRINT",
    help="SHA256:… as `trust verify` shows it, or sha256:… of a certificate (default: all).",
)
@click.option("--from", "since", metavar="TIME", help="Nothing received from then on counts (default: now).")
@with_json
@settings
def revoke(config: Settings, person_id: str, mark: str | None, since: str | None) -> None:
    """Revoke a person's key: lost, stolen, or its holder gone. What was received before stays valid."""
    _edited(config, people.revoke(config.session.site, person_id, mark, since))


@trust.command()
@click.argument("person_id", metavar="PERSON")
@click.option("--role", help="This role (default: every role).")
@click.option("--from", "since", metavar="TIME", help="The first second without the role (default: now).")
@with_json
@settings
def end(config: Settings, person_id: str, role: str | None, since: str | None) -> None:
    """End a person's roles. The entry stays, so that what they signed can be judged."""
    _edited(config, people.end(config.session.site, person_id, role, since))


@trust.command()
@click.option("--key", required=True, metavar="FILE", type=FILE, help="The root key.")
@click.option("--days", type=DAYS, default=366, show_default=True, help="How long the trust holds.")
@click.option(
    "--forget-person", "forget", multiple=True, metavar="PERSON", help="Sign although this person was taken out."
)
@with_json
@settings
def sign(config: Settings, key: Path, days: int, forget: tuple[str, ...]) -> None:
    """Sign trust.yml with the root key (serial + 1), over sop.yml and the profiles as they are now."""
    session = config.session
    seen = session.ledger.highest_trust_serial()
    path = bootstrap.sign_trust(session.site, key, days, forget=forget, seen=seen, say=session.say)
    serial = session.trust.file.serial
    config.output.result(
        {"signature": str(path), "serial": serial}, lambda output: output.line(f"trust serial {serial} signed: {path}")
    )


@trust.command("roll-over")
@click.option("--old-root-key", "old", required=True, metavar="FILE", type=FILE, help="The root key until now.")
@click.option("--new-root-key", "new", required=True, metavar="FILE", type=FILE, help="The one that follows it.")
@with_json
@settings
def roll_over(config: Settings, old: Path, new: Path) -> None:
    """Let a new root key follow the old one. Nothing runs until the trust is signed with the new one."""
    path = bootstrap.roll_over(config.session.site, old, new)
    config.output.result(
        {"root": path.stem, "file": str(path)},
        lambda output: output.line(f"root {path.stem}: {path}; now sign with it: sopctl trust sign --key {new}"),
    )


@trust.command("run-key")
@click.option("--replace", is_flag=True, help="Make a new one although there is one; enrol the hosts again afterwards.")
@with_json
@settings
def run_key(config: Settings, replace: bool) -> None:
    """Make the site's run key, which signs grants for enrolled hosts (`init` makes the first)."""
    path = bootstrap.make_run_key(config.session.site.root, replace=replace)
    config.output.result({"public": str(path)}, lambda output: output.line(f"{path} made; {SIGN_IT}"))


@trust.command()
@with_json
@settings
def verify(config: Settings) -> int:
    """Check the trust against the pinned root and its own history; show who holds what, and what each serial changed.

    Exit 30 when an earlier version is not as it was signed.
    """
    session = config.session
    found = session.trust
    known = {
        line.serial: line.digests.get("trust", "")
        for line in session.ledger.lines()
        if line.kind == "trust" and line.serial
    }
    steps, findings = history.walk(session.site.root, found, known)

    def render(output: Output) -> None:
        output.line(
            f"trust serial {found.file.serial} holds until {found.file.valid_until}; root pinned in {found.root_source}",
            "green",
        )
        rows = [[person.id, person.jabatan, _roles(person), _keys(person)] for person in found.file.people]
        output.table(["person", "jabatan", "roles", "keys"], rows)
        for step in steps:
            output.line(f"serial {step.serial} of {step.issued}, signed by {step.root}")
            for line in step.changes or ["nothing changed: renewed"]:
                output.line(f"  {line}")
        for finding in findings:
            output.line(str(finding), "bold red" if finding.severity == "broken" else "yellow")

    value = {
        **to_json(found.file),
        "history": [history.step_json(step) for step in steps],
        "findings": [finding.as_json() for finding in findings],
    }
    config.output.result(value, render)
    broken = any(finding.severity == "broken" for finding in findings)
    return int(ExitCode.EVIDENCE_BROKEN if broken else ExitCode.OK)


def _roles(person: Person) -> str:
    return ", ".join(f"{DELEGATE_MARKS[held.kind]} {held.role}".strip() for held in person.roles)


def _keys(person: Person) -> str:
    held = [(signing.fingerprint(key.key), key.revoked) for key in person.keys]
    held += [(one.sha256, one.revoked) for one in person.certificates]
    return ", ".join(mark + (f" (revoked from {revoked} on)" if revoked else "") for mark, revoked in held)
