# SPDX-License-Identifier: Apache-2.0
"""Typed records of everything a person writes or signs; ``loading`` reads them strictly."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

#: acts that an SOP's steps are
Act = Literal["request", "dispose", "decide", "plan", "execute", "confirm", "inform", "receive"]
#: acts beside the SOP's steps: signed and chained like them, but they complete no step
SideAct = Literal["consent", "attach", "withdraw", "emergency", "ratify", "takeover", "clean"]
Json = dict[str, Any]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Spans = Annotated[int, msgspec.Meta(ge=0, le=3660)]
Days = Annotated[int, msgspec.Meta(ge=1, le=3660)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """Base of all records: immutable, unknown keys refused."""


ID_PATTERN = r"^[a-z0-9-]{2,32}$"
CASE_PATTERN = r"^[A-Z]{3}-[0-9]{4}-[0-9]{4}$"


class SecretRef(Record, frozen=True):
    """Where a secret lies: a file (0600) or a command printing it; never the secret itself."""

    file: str | None = None
    command: list[str] | None = None


class Keep(Record, frozen=True):
    """Retention: of the last so many days, weeks, months and years that have a verified backup, the newest of each is kept."""

    daily: Spans = 0
    weekly: Spans = 0
    monthly: Spans = 0
    yearly: Spans = 0


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
    address: Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9:][A-Za-z0-9.:-]*)?$")] = ""
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


class Standby(Record, frozen=True):
    """A hot standby of a database's server, as the server reaches it."""

    host: str | None = None
    socket: str | None = None
    port: Port | None = None


class Connection(Record, frozen=True):
    """How client programs on the server reach the database; everything has the distribution's default.

    ``standbys`` are those on which sessions are ended too before the data is exchanged.
    """

    socket: str | None = None
    host: str | None = None
    port: Port | None = None
    user: str | None = None
    os_user: str | None = None
    bin_dir: str | None = None
    maintenance_db: str | None = None
    standbys: list[Standby] = []
    password: SecretRef | None = None


class Check(Record, frozen=True):
    """A question to a restored copy, and the answer by which it makes sense: ``query`` selects one value, ``expect`` is that as
    text."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    query: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
    expect: str


class Dataset(Record, frozen=True):
    """What is backed up and restored; ``max_downtime`` is an ISO 8601 duration.

    ``scratch_dir`` (on the server) is where proofs by restore happen, ``reserve_bytes`` what staging leaves free,
    ``extensions`` the untrusted PostgreSQL extensions that a restore may make, and ``definers`` the MariaDB accounts with
    power over the whole server (``user@host``) that restored objects may run as. ``checks`` are asked of every copy that a
    backup is proven with. ``drill`` is the registered server on which backups are proven, its own ``server`` for there.
    backup is proven with. ``keep`` is its retention in the vault, instead of the site's.
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
    drill: str | None = None
    reserve_bytes: int | None = None
    extensions: list[str] = []
    definers: list[str] = []
    checks: list[Check] = []
    keep: Keep | None = None


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


WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Window(Record, frozen=True):
    """When a scheduled backup may start: ``hours`` (``HH:MM-HH:MM``, site's time, may go past midnight) from each of ``days``
    (mon … sun) on."""

    hours: str
    days: list[str] = msgspec.field(default_factory=lambda: list(WEEK))


class ScheduleEntry(Record, frozen=True):
    """One line of the Jadwal Back Up. ``every``: P1M, P1W, P1D, or a cron expression of five fields (site's time).

    ``window``: when it may start; the schedule's own when it says none.
    """

    dataset: str
    every: str = "P1M"
    jenis: str = "bulanan"
    window: Window | None = None


class Schedule(Record, frozen=True):
    """``schedule.yml``: the standing order. ``window``: of the entries that have none of their own."""

    schema: Literal["sop-schedule/v1"]
    site: str
    profile: str
    valid: Validity
    entries: list[ScheduleEntry]
    window: Window | None = None

    def window_of(self, entry: ScheduleEntry) -> Window | None:
        """When backups of ``entry`` may start; None for any time."""
        return entry.window or self.window


# --- trust -----------------------------------------------------------------------------------------------------


class Key(Record, frozen=True):
    """A public key line (``ssh-ed25519 AAAA…``) and when it holds.

    ``revoked``: nothing received at or after this time counts, whatever time the document itself claims.
    """

    key: str
    since: str
    until: str
    revoked: str | None = None


class Certificate(Record, frozen=True):
    """A person's certificate, by which they sign PDFs: pinned by the SHA-256 of its DER (``sha256:<hex>``), for a CA may give
    the same name twice. ``subject`` and ``serial`` are for people to read. ``revoked``: as for a key.
    """

    sha256: str
    since: str
    until: str
    subject: str = ""
    serial: str = ""
    revoked: str | None = None


class Anchor(Record, frozen=True):
    """A CA certificate that signed PDFs must lead to: DER in base64, as ``trust anchor`` took it from a PEM file."""

    certificate: str
    subject: str = ""


class PaperSigning(Record, frozen=True):
    """How officials' PDFs are judged. ``revocation``: without an answer of the CA refuse (``hard-fail``), or take what is not
    known to be revoked (``soft``). ``days``: for how long a paper may be signed after it was printed.
    """

    anchors: list[Anchor] = []
    revocation: Literal["hard-fail", "soft"] = "hard-fail"
    days: Days = 7


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
    certificates: list[Certificate] = []
    name: str = ""
    unit: str = ""
    nip: str | None = None
    kind: Literal["person", "service"] = "person"


class TrustPolicy(Record, frozen=True):
    """What the root demands; the site can only tighten it. ``break_glass``: whether emergencies may go before approval.
    ``keep_days``: how long data that a restore set aside is kept at least.
    """

    asset_registered: Literal["block"] = "block"
    asset_review: Literal["warn", "block"] = "warn"
    verify: Literal["restore", "read"] = "read"
    sla: Literal["warn", "block"] = "warn"
    approval_days_max: Days = 30
    keep_days: Days = 7
    break_glass: bool = False


class TrustFile(Record, frozen=True):
    """``trust/trust.yml``, signed by the root key.

    ``settings``: key of sop.yml that decides → SHA-256 of its value, taken when the trust is signed. ``run_keys``: public
    keys that sign grants for enrolled hosts. ``code``: the only code digests that may run (any, when empty). ``papers``: by
    which CAs, and how strictly, PDFs that officials signed are judged.
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
    papers: PaperSigning = PaperSigning()


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
