# SPDX-License-Identifier: Apache-2.0
"""``sop.yml`` as typed records: the agency, the vault and its copies, the calendar, the policy, the witnesses, the authorities of time stamps, who is
told what."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from sopctl.models import ID_PATTERN, Count, Days, Keep, Port, Record, SecretRef


class Agency(Record, frozen=True):
    """Letterhead: ``kode`` is the short lower-case code used in backup names and form numbers."""

    kode: str
    nama: str
    pemerintah: str = ""
    alamat: str = ""
    kota: str = ""


class CopyConfig(Record, frozen=True):
    """A second vault, which the admin host copies backups to; ``{server}`` is the asset id, as in the vault's own ``url``.

    ``url``: as this machine reaches it. ``password``: of its repositories, the vault's own when there is none.
    ``offsite``: whether it lies elsewhere than the servers and the vault. ``user`` and ``user_password`` as in VaultConfig.
    """

    name: Annotated[str, msgspec.Meta(pattern=ID_PATTERN)]
    url: str
    media: str
    offsite: bool = True
    password: SecretRef | None = None
    user: str | None = None
    user_password: SecretRef | None = None
    ca_file: str | None = None


LeaseSeconds = Annotated[int, msgspec.Meta(ge=60, le=3600)]


class DoorConfig(Record, frozen=True):
    """How servers get into the vault for one run (role ``vault_server``, ``vault_server_door_keys``).

    ``key``: private key of the door's account. ``host_key``: ``TYPE BASE64``. ``secret``: what passwords are derived from, the
    same for all that use the vault. ``lease``: seconds that credentials outlive a controller that was killed.
    """

    host: str
    user: str
    key: SecretRef
    host_key: str
    secret: SecretRef
    port: Port = 22
    lease: LeaseSeconds = 900


class VaultConfig(Record, frozen=True):
    """restic repositories, one a server; ``{server}`` in ``url``, ``user`` and file names is the asset id.

    ``user`` and ``user_password``: of a ``rest:`` server, or the access key and its secret of an ``s3:`` one.
    ``door`` makes credentials for one run, in the place of ``user_password``.

    ``admin_url``: the same repositories as the admin host reaches them, with the right to delete.
    ``keep``: retention of the datasets that have none of their own; nothing is forgotten without one.
    ``copies``: second vaults, which ``sopctl vault copy`` fills.
    """

    url: str
    password: SecretRef
    user: str | None = None
    user_password: SecretRef | None = None
    door: DoorConfig | None = None
    ca_file: str | None = None
    media: str = "vault restic"
    #: where the repositories lie, so that a plan can see how much room is left: registered server and folder on it
    server: str | None = None
    path: str | None = None
    admin_url: str | None = None
    keep: Keep | None = None
    copies: list[CopyConfig] = []


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
    ``drill``: registered server on which backups are proven, where the dataset says nothing else.
    """

    asset_review: Literal["warn", "block"] = "warn"
    verify: Literal["restore", "read"] = "restore"
    drill: str | None = None
    sla: Literal["warn", "block"] = "warn"
    authority: dict[str, list[str]] = {}
    approval_days: Days = 7
    keep_days: Days = 7


class Witness(Record, frozen=True):
    """Who keeps what the ledger was, out of this site's reach.

    ``to``: ``user@host`` (ssh), a repository's address (git), a mail address (mail). ``keys``: the public keys the witness
    signs with, former ones too (ssh). ``host_key``: its machine's public key; ``identity``: our private key to get there,
    below the site (ssh, git). ``server``, ``sender``, ``tls``, ``user``, ``password``: the mail server that sends (mail).
    """

    name: str
    kind: Literal["ssh", "git", "mail"]
    to: str
    keys: list[str] = []
    port: Count | None = None
    host_key: str | None = None
    identity: str | None = None
    server: str = "localhost"
    sender: str | None = None
    tls: Literal["none", "starttls", "tls"] = "starttls"
    user: str | None = None
    password: SecretRef | None = None


class TimestampAuthority(Record, frozen=True):
    """Who says when a signature was there already (RFC 3161).

    ``url``: where it is asked, http or https. ``anchors``: PEM file, below the site, of the CA certificates that its tokens
    must lead to; the loaded configuration holds the file's text in the place of its name, so that what the trust is signed
    over are the certificates themselves. ``policy``: object identifier that its tokens must name; any when there is none.
    ``digest``: by which it is told what to stamp.
    """

    name: Annotated[str, msgspec.Meta(pattern=ID_PATTERN)]
    url: str
    anchors: str
    policy: str | None = None
    digest: Literal["sha256", "sha512"] = "sha256"


class FormsConfig(Record, frozen=True):
    """The papers. ``pdf``: whether each is kept as a PDF too."""

    pdf: bool = True


#: what people are told of; their order is the order of a case
NoticeEvent = Literal[
    "received",
    "turn",
    "approved",
    "rejected",
    "window",
    "started",
    "finished",
    "failed",
    "informed",
    "near",
    "overdue",
    "review",
]
#: what somebody is told who did not say what they want
USUAL: tuple[NoticeEvent, ...] = ("turn", "rejected", "failed", "informed", "overdue")
Language = Literal["id", "en"]


class NoticeChannel(Record, frozen=True):
    """A way to reach people.

    ``url``: where the address lies, as Apprise writes it, with ``{to}`` where a person's own address belongs; it holds
    passwords, so it never stands in sop.yml. ``attach``: whether forms go with the notice, where the channel can carry files.
    """

    url: SecretRef
    attach: bool = True


class NoticePerson(Record, frozen=True):
    """How one person of the trust is told. ``to``: channel → their address there (empty where the channel is theirs alone).

    ``events``: USUAL when there are none. ``all``: of every case, not only of those they have to do with.
    """

    to: dict[str, str]
    events: list[NoticeEvent] | None = None
    language: Language | None = None
    all: bool = False


class NoticesConfig(Record, frozen=True):
    """Who is told what, and how. ``people``: id of the trust → how; ``language``: of those who have none of their own."""

    channels: dict[str, NoticeChannel] = {}
    people: dict[str, NoticePerson] = {}
    language: Language = "id"


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
    forms: FormsConfig = FormsConfig()
    witnesses: list[Witness] = []
    timestamps: list[TimestampAuthority] = []
    notices: NoticesConfig = NoticesConfig()
