# SPDX-License-Identifier: Apache-2.0
"""``sopctl trust …``."""

from __future__ import annotations

from pathlib import Path

import click

from sopctl import bootstrap, signing
from sopctl.cli.common import Settings, settings, with_json
from sopctl.models import to_json
from sopctl.output import Output

DAYS = click.IntRange(1, 3660)


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
@click.option("--role", "roles", multiple=True, required=True, help="Role of the profile (repeat for several).")
@click.option("--jabatan", required=True, help="Position, as forms print it.")
@click.option("--key", metavar="FILE", type=click.Path(path_type=Path), help="The person's public key.")
@click.option("--name", default="", help="Name, as forms print it.")
@click.option("--unit", default="", help="Unit.")
@click.option("--nip", help="NIP, if forms shall print it.")
@click.option(
    "--service", is_flag=True, help="A service identity (CI): executes what the schedule allows, nothing else."
)
@click.option("--days", type=DAYS, default=366, show_default=True, help="How long role and key hold.")
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
) -> None:
    """Add a person with roles and key. The root holder signs afterwards."""
    new = bootstrap.NewPerson(person_id, list(roles), jabatan, key, name, unit, nip, service, days)
    path = bootstrap.add_person(config.session.site, new)
    config.output.result(
        {"file": str(path), "person": person_id},
        lambda output: output.line(f"{person_id} added; now have it signed: sopctl trust sign --key ROOT_KEY"),
    )


@trust.command()
@click.option("--key", required=True, metavar="FILE", type=click.Path(path_type=Path), help="The root key.")
@click.option("--days", type=DAYS, default=366, show_default=True, help="How long the trust holds.")
@with_json
@settings
def sign(config: Settings, key: Path, days: int) -> None:
    """Sign trust.yml with the root key (serial + 1)."""
    path = bootstrap.sign_trust(config.session.site, key, days)
    serial = config.session.trust.file.serial
    config.output.result(
        {"signature": str(path), "serial": serial}, lambda output: output.line(f"trust serial {serial} signed: {path}")
    )


@trust.command()
@with_json
@settings
def verify(config: Settings) -> None:
    """Check the trust against the pinned root, and show who holds what."""
    found = config.session.trust

    def render(output: Output) -> None:
        output.line(
            f"trust serial {found.file.serial} holds until {found.file.valid_until}; root pinned in {found.root_source}",
            "green",
        )
        rows = [
            [
                person.id,
                person.jabatan,
                ", ".join(role.role for role in person.roles),
                ", ".join(signing.fingerprint(key.key) for key in person.keys),
            ]
            for person in found.file.people
        ]
        output.table(["person", "jabatan", "roles", "keys"], rows)

    config.output.result(to_json(found.file), render)
