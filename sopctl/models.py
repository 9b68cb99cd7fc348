# SPDX-License-Identifier: Apache-2.0
"""Typed records of everything a person writes or signs; ``loading`` reads them strictly."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

#: acts that an SOP's steps are
Act = Literal["request", "dispose", "decide", "plan", "execute", "confirm", "inform", "receive"]
#: acts beside the SOP's steps: signed and chained like them, but they complete no step
SideAct = Literal["consent", "attach", "withdraw", "emergency", "ratify", "takeover"]
Json = dict[str, Any]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Days = Annotated[int, msgspec.Meta(ge=1, le=3660)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """Base of all records: immutable, unknown keys refused."""


ID_PATTERN = r"^[a-z0-9-]{2,32}$"
CASE_PATTERN = r"^[A-Z]{3}-[0-9]{4}-[0-9]{4}$"


# --- sop.yml ---------------------------------------------------------------------------------------------------


class Agency(Record, frozen=True):
    """Letterhead: ``kode`` is the short lower-case code used in backup names and form numbers."""

    kode: str
    nama: str
    pemerintah: str = ""
    alamat: str = ""
    kota: str = ""


class SecretRef(Record, frozen=True):
    """Where a secret lies: a file (0600) or a command printing it; never the secret itself."""

    file: str | None = None
    command: list[str] | None = None


class VaultConfig(Record, frozen=True):
    """restic repositories, one a server; ``{server}`` in ``url``, ``user`` and file names is the asset id."""

    url: str
    password: SecretRef
    user: str | None = None
    user_password: SecretRef | None = None
    ca_file: str | None = None
    media: str = "vault restic"
    #: where the repositories lie, so that a plan can see how much room is left: registered server and folder on it
    server: str | None = None
    path: str | None = None


class AnsibleConfig(Record, frozen=True):
    """What an ordinary Ansible inventory needs besides itself."""

    vault_password_file: str | None = None
    forks: Count = 10


OFFICE_HOURS: dict[str, list[str]] = {
    "mon": ["07:30-12:00", "13:00-16:00"],
    "tue": ["07:30-12:00", "13:00-16:00"],
    "wed": ["07:30-12:00", "13:00-16:00"],
    "thu": ["07:30-12:00", "13:00-16:00"],
    "fri": ["07:30-11:30", "13:00-16:30"],
}


class Calendar(Record, frozen=True):
    """When the agency works; the SOP's time limits are counted in this time.

    ``hours``: weekday (mon … sun) → spans ``HH:MM-HH:MM`` in the site's time zone; a day that is not named is free.
    ``holidays``: country code of the ``holidays`` library, empty for none. ``days_off``: date → name (cuti bersama).
    ``work_days``: date → name, days that are worked although a rule above makes them free.
    """

    hours: dict[str, list[str]] = msgspec.field(default_factory=lambda: dict(OFFICE_HOURS))
    holidays: str = "ID"
    days_off: dict[str, str] = {}
    work_days: dict[str, str] = {}


class Policy(Record, frozen=True):
    """Site policy; may only tighten what the trust demands.

    ``sla``: whether an act after its time needs a reason (block) or is only written down as late (warn).
    ``authority``: classification → roles that may approve requests for such data.
    """

    asset_review: Literal["warn", "block"] = "warn"
    verify: Literal["restore", "read"] = "restore"
    sla: Literal["warn", "block"] = "warn"
    authority: dict[str, list[str]] = {}
    approval_days: Days = 7
    keep_days: Days = 7


class SiteConfig(Record, frozen=True):
    """``sop.yml``."""

    schema: Literal["sop-site/v1"]
    site: str
    agency: Agency
    profile: str
    timezone: str
    vault: VaultConfig
    inventory: str = "inventory"
    archive: str = "archive"
    naming: str = "{agency}_{server}_{dataset}_{jenis}_{time}_{run}"
    numbering: str = "{seq:03d}/{flow}/{agency}/{month_roman}/{year}"
    ansible: AnsibleConfig = AnsibleConfig()
    policy: Policy = Policy()
    calendar: Calendar = Calendar()
    templates: str | None = None


# --- register --------------------------------------------------------------------------------------------------


class Review(Record, frozen=True):
    """The yearly look at a register entry."""

    at: str
    by: str
    result: str = "sesuai"


class Server(Record, frozen=True):
    """An installed, operating machine. ``machine_id`` and ``ssh_host_key`` are its identity: a name is not a target."""

    schema: Literal["sop-server/v1"]
    id: str
    inventory_hostname: str
    name: str = ""
    machine_id: str | None = None
    ssh_host_key: str | None = None
    owner_unit: str = ""
    holder: str = ""
    location: str = ""
    kib_b: dict[str, str | int | None] = {}
    reviewed: Review | None = None


class Health(Record, frozen=True):
    """HTTP address that answers 200 when the service is healthy; ``timeout`` in seconds."""

    url: str
    timeout: Count = 60


class Service(Record, frozen=True):
    """A unit that writes to a dataset. ``systemd`` needs ``unit``; ``command`` needs start, stop and status."""

    name: str
    server: str
    manager: Literal["systemd", "command"] = "systemd"
    unit: str | None = None
    start: list[str] | None = None
    stop: list[str] | None = None
    status: list[str] | None = None
    health: Health | None = None


class Connection(Record, frozen=True):
    """How client programs on the server reach the database; everything has the distribution's default."""

    socket: str | None = None
    host: str | None = None
    port: Port | None = None
    user: str | None = None
    os_user: str | None = None
    bin_dir: str | None = None
    maintenance_db: str | None = None
    password: SecretRef | None = None


class Dataset(Record, frozen=True):
    """What is backed up and restored; ``max_downtime`` is an ISO 8601 duration.

    ``scratch_dir`` (on the server) is where proofs by restore happen, ``reserve_bytes`` what staging leaves free, and
    ``extensions`` the untrusted PostgreSQL extensions that a restore may make.
    """

    schema: Literal["sop-dataset/v1"]
    id: str
    name: str
    engine: str
    server: str
    owner_unit: str
    classification: Literal["terbuka", "terbatas", "rahasia"]
    database: str | None = None
    path: str | None = None
    connection: Connection = Connection()
    services: list[Service] = []
    max_downtime: str = "PT30M"
    state_dir: str | None = None
    scratch_dir: str | None = None
    reserve_bytes: int | None = None
    extensions: list[str] = []


class RegisterIndex(Record, frozen=True):
    """``register/index.yml``: the keeper's one signature for all entries (file below ``register/`` → SHA-256)."""

    schema: Literal["sop-register/v1"]
    site: str
    serial: Count
    issued: str
    entries: dict[str, str]


# --- schedule --------------------------------------------------------------------------------------------------


class Validity(Record, frozen=True):
    """From/until, both inclusive, as ``YYYY-MM-DDTHH:MM:SSZ``."""

    since: str
    until: str


class ScheduleEntry(Record, frozen=True):
    """One line of the Jadwal Back Up."""

    dataset: str
    every: Literal["P1M", "P1W", "P1D"] = "P1M"
    jenis: str = "bulanan"


class Schedule(Record, frozen=True):
    """``schedule.yml``: the standing order."""

    schema: Literal["sop-schedule/v1"]
    site: str
    profile: str
    valid: Validity
    entries: list[ScheduleEntry]


# --- trust -----------------------------------------------------------------------------------------------------


class Key(Record, frozen=True):
    """A public key line (``ssh-ed25519 AAAA…``) and when it holds.

    ``revoked``: nothing received at or after this time counts, whatever time the document itself claims.
    """

    key: str
    since: str
    until: str
    revoked: str | None = None


class RoleHolding(Record, frozen=True):
    """A person holds a role for a time; ``kind`` tells a delegate (plt, plh) from the holder.

    ``acting_for``: id of the person a delegate stands in for; separation of duties counts both.
    """

    role: str
    since: str
    until: str
    kind: Literal["definitif", "plt", "plh"] = "definitif"
    acting_for: str | None = None


class Person(Record, frozen=True):
    """One person (or service identity). Two accounts of one human share the NIP, which is an error."""

    id: str
    jabatan: str
    roles: list[RoleHolding]
    keys: list[Key] = []
    name: str = ""
    unit: str = ""
    nip: str | None = None
    kind: Literal["person", "service"] = "person"


class TrustPolicy(Record, frozen=True):
    """What the root demands; the site can only tighten it. ``break_glass``: whether emergencies may go before approval."""

    asset_registered: Literal["block"] = "block"
    asset_review: Literal["warn", "block"] = "warn"
    verify: Literal["restore", "read"] = "read"
    sla: Literal["warn", "block"] = "warn"
    approval_days_max: Days = 30
    break_glass: bool = False


class TrustFile(Record, frozen=True):
    """``trust/trust.yml``, signed by the root key.

    ``settings``: key of sop.yml that decides → SHA-256 of its value, taken when the trust is signed. ``run_keys``: public
    keys that sign grants for enrolled hosts. ``code``: the only code digests that may run (any, when empty).
    """

    schema: Literal["sop-trust/v1"]
    site: str
    serial: int
    prev: str | None
    issued: str
    valid_until: str
    people: list[Person]
    profiles: dict[str, str]
    policy: TrustPolicy = TrustPolicy()
    settings: dict[str, str] = {}
    run_keys: list[str] = []
    code: list[str] = []


# --- documents -------------------------------------------------------------------------------------------------


class Actor(Record, frozen=True):
    """Who acts, and in which role."""

    person: str
    role: str


class Document(Record, frozen=True):
    """One completed step of a case (DESIGN: the file's bytes are signed as they lie)."""

    schema: Literal["sop/document/v1"]
    site: str
    case: str
    seq: int
    flow: str
    step: str
    act: Act | SideAct
    actor: Actor
    at: str
    profile: str
    prev: str | None
    body: Json


def to_json(record: Record) -> Json:
    """Plain JSON value of a record."""
    result: Json = msgspec.to_builtins(record)
    return result
