# SPDX-License-Identifier: Apache-2.0
"""A site: the user's own tree. Discovery, configuration, register, secrets."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

import msgspec

from sopctl import clock, content, fsio, loading, naming, parallel, periods, tokens
from sopctl.errors import ConfigError, UsageError
from sopctl.models import Connection, Dataset, Schedule, SecretRef, Server
from sopctl.profile import LoadedProfile, Trigger, load_profile
from sopctl.settings import SiteConfig

R = TypeVar("R", Server, Dataset)
SITE_ENV = "SOPCTL_SITE"
SYSTEM_SITE = Path("/etc/sopctl")


def find_site(option: str | None = None) -> Path:
    """The site's folder: ``-C``, ``$SOPCTL_SITE``, walking up for ``sop.yml``, then /etc/sopctl. UsageError else."""
    for given, source in ((option, "-C"), (os.environ.get(SITE_ENV), f"${SITE_ENV}")):
        if given:
            path = Path(given).absolute()
            if not (path / "sop.yml").is_file():
                raise UsageError(
                    "not a site: it has no sop.yml",
                    where=f"{source} {path}",
                    hint="Make one: sopctl init FOLDER --profile trenggalek.",
                )
            return path
    here = Path.cwd()
    for folder in (here, *here.parents, SYSTEM_SITE):
        if (folder / "sop.yml").is_file():
            return folder
    raise UsageError(
        "no site found",
        where=str(here),
        hint="Go into a site, give -C FOLDER, or make one: sopctl init FOLDER --profile trenggalek.",
    )


#: so many register entries are read by one process, where there are more than MANY
PORTION, MANY = 500, 2000


def _read_entries(kind: type[R], place: Path, names: Sequence[str]) -> list[tuple[str, bytes, R]]:
    """Each entry's file name, bytes, and what they say. ConfigError names the first that says nothing."""
    found = []
    for name in names:
        path = place / name
        if path.suffix != ".yml":
            raise ConfigError("register entries end in .yml", where=str(path), hint="Rename the file.")
        data = fsio.read_strict(path)
        found.append((name, data, loading.from_yaml(kind, data, path)))
    return found


class Site:
    """One site, read lazily; every error names file and key."""

    def __init__(self, root: Path) -> None:
        self.root = root
        #: register file (``servers/db01.yml``) → its bytes as they were parsed, for the keeper's signature
        self.register_bytes: dict[str, bytes] = {}

    @cached_property
    def config(self) -> SiteConfig:
        """``sop.yml``."""
        config = loading.load_yaml(SiteConfig, self.root / "sop.yml")
        naming.check(config.naming, config.agency.kode, f"{self.root / 'sop.yml'}:naming")
        if not config.timestamps:
            return config
        where = f"{self.root / 'sop.yml'}:timestamps"
        return msgspec.structs.replace(config, timestamps=tokens.resolved(config.timestamps, self.root, where))

    @cached_property
    def tz(self) -> ZoneInfo:
        """The site's time zone."""
        return clock.zone(self.config.timezone, f"{self.root / 'sop.yml'}:timezone")

    @cached_property
    def profile(self) -> LoadedProfile:
        """The profile in force: ``profiles/<id>.yml`` of the site."""
        path = self.root / "profiles" / f"{loading.check_profile_id(self.config.profile, 'sop.yml:profile')}.yml"
        if not path.exists():
            raise ConfigError(
                f"profile {self.config.profile!r} is not there",
                where=f"{self.root / 'sop.yml'}:profile",
                hint=f"Put it at {path}.",
            )
        return load_profile(path)

    # places ---------------------------------------------------------------------------------------------------

    @property
    def cases(self) -> Path:
        """Folder of the cases."""
        return self.root / "cases"

    @property
    def archive(self) -> Path:
        """Folder of the archive."""
        return self.root / self.config.archive

    @property
    def templates(self) -> Path | None:
        """The agency's own form templates, if it has any."""
        return self.root / self.config.templates if self.config.templates else None

    @property
    def state(self) -> Path:
        """Running things only; safe to lose."""
        return self.root / ".state"

    @property
    def inventory(self) -> Path:
        """The user's own inventory."""
        path = self.root / self.config.inventory
        if not path.exists():
            raise ConfigError(
                "the inventory is missing",
                where=str(path),
                hint="Write an Ansible inventory there, or set 'inventory' in sop.yml.",
            )
        return path

    # register -------------------------------------------------------------------------------------------------

    def _entries(self, kind: type[R], folder: str) -> dict[str, R]:
        found: dict[str, R] = {}
        place = self.root / "register" / folder
        names = sorted(path.name for path in place.glob("*.y*ml"))  # paths compare slowly, and there are thousands
        portions = [names[first : first + PORTION] for first in range(0, len(names), PORTION)]
        jobs = [partial(_read_entries, kind, place, portion) for portion in portions]
        for name, data, entry in chain.from_iterable(parallel.results(jobs, apart=len(names) > MANY)):
            self.register_bytes[f"{folder}/{name}"] = data
            entry_id = loading.check_id(entry.id, f"{place / name}:id")
            if name != f"{entry_id}.yml":
                raise ConfigError(f"id {entry_id!r} differs from the file's name", where=f"{place / name}:id")
            if entry_id in found:
                raise ConfigError(
                    f"{entry_id!r} stands in two files", where=str(place / name), hint="Keep one of them."
                )
            found[entry_id] = entry
        return found

    @cached_property
    def servers(self) -> dict[str, Server]:
        """The asset register's servers by asset id."""
        servers = self._entries(Server, "servers")
        hosts: dict[str, str] = {}
        for server in servers.values():
            if server.reviewed and not clock.is_time(f"{server.reviewed.at[:10]}T00:00:00Z"):
                raise ConfigError(
                    f"{server.reviewed.at!r} is not a date",
                    where=f"{self.root / 'register/servers' / server.id}.yml:reviewed.at",
                    hint="Write it as 2026-11-22.",
                )
            if hosts.setdefault(server.inventory_hostname, server.id) != server.id:
                raise ConfigError(
                    f"inventory_hostname {server.inventory_hostname!r} stands in two entries ({hosts[server.inventory_hostname]}, {server.id})",
                    where=str(self.root / "register/servers"),
                )
        if (drill := self.config.policy.drill) and drill not in servers:
            raise _unregistered(drill, f"{self.root / 'sop.yml'}:policy.drill")
        return servers

    @cached_property
    def datasets(self) -> dict[str, Dataset]:
        """The register's datasets by id, each with server, engine and place checked."""
        datasets = self._entries(Dataset, "datasets")
        for dataset in datasets.values():
            path = self.root / "register/datasets" / f"{dataset.id}.yml"
            _check_dataset(dataset, path)
            named = [("server", dataset.server), *((f"services.{one.name}", one.server) for one in dataset.services)]
            if dataset.drill:
                named.append(("drill", dataset.drill))
            for key, server in named:
                if server not in self.servers:
                    raise _unregistered(server, f"{path}:{key}")
        return datasets

    def drill(self, dataset: Dataset) -> str | None:
        """Server on which backups of ``dataset`` are proven; None where that is its own."""
        drill = dataset.drill or self.config.policy.drill
        return None if drill == dataset.server else drill

    def dataset(self, dataset_id: str) -> Dataset:
        """The dataset of that id; UsageError names those that exist."""
        if dataset_id not in self.datasets:
            known = ", ".join(self.datasets) or "none"
            raise UsageError(
                f"dataset {dataset_id!r} is not in the register",
                where=str(self.root / "register/datasets"),
                hint=f"Registered: {known}.",
            )
        return self.datasets[dataset_id]

    @property
    def schedule_path(self) -> Path:
        """The standing order."""
        return self.root / "schedule.yml"

    def schedule(self) -> Schedule:
        """``schedule.yml`` read and checked against the register (its signature is the gate's business)."""
        return self.standing_order()[0]

    def standing_order(self) -> tuple[Schedule, bytes, bytes | None]:
        """The schedule, the bytes it was read from, and its signature (None when it is not signed)."""
        if not self.schedule_path.exists():
            raise ConfigError(
                "there is no schedule",
                where=str(self.schedule_path),
                hint="Write it (docs/reference/site-files.md#schedule) and have it signed: sopctl schedule sign.",
            )
        data = fsio.read_strict(self.schedule_path)
        schedule = loading.from_yaml(Schedule, data, self.schedule_path)
        for key in ("since", "until"):
            clock.parse(getattr(schedule.valid, key), f"{self.schedule_path}:valid.{key}")
        self._check_entries(schedule)
        signature = self.schedule_path.with_name("schedule.yml.sig")
        return schedule, data, fsio.read_strict(signature) if signature.exists() else None

    def _check_entries(self, schedule: Schedule) -> None:
        """ConfigError unless each entry is of a registered dataset and often enough for the SOP."""
        where = f"{self.schedule_path}:entries"
        if schedule.window:
            periods.check_window(schedule.window, f"{self.schedule_path}:window")
        flow_name = self.profile.profile.schedule_flow()
        trigger = self.profile.profile.flow(flow_name).trigger if flow_name else "request"
        seen: set[str] = set()
        for number, entry in enumerate(schedule.entries, 1):
            if entry.dataset in seen:
                raise ConfigError(
                    f"dataset {entry.dataset!r} stands there twice",
                    where=where,
                    hint="Keep the shorter period: it serves the longer one too.",
                )
            seen.add(entry.dataset)
            if entry.dataset not in self.datasets:
                raise ConfigError(
                    f"dataset {entry.dataset!r} is not in the register",
                    where=where,
                    hint=f"Registered: {', '.join(self.datasets)}.",
                )
            periods.check_every(entry.every, f"{where}[{number}].every")
            words = {**naming.WORDS, "agency": self.config.agency.kode, "jenis": entry.jenis}
            naming.name(self.config.naming, words, f"{where}[{number}].jenis")
            window = schedule.window_of(entry)
            if entry.window:
                periods.check_window(entry.window, f"{where}[{number}].window")
            if window and not periods.fits(entry.every, window.hours, tuple(window.days), self.tz):
                raise ConfigError(
                    f"the window of {entry.dataset} is closed in some of its periods ({entry.every}; {window.hours} on "
                    f"{', '.join(window.days)})",
                    where=f"{where}[{number}]",
                    hint="Lengthen the window or the period.",
                )
            if isinstance(trigger, Trigger) and not periods.as_often(entry.every, trigger.at_least_every, self.tz):
                raise ConfigError(
                    f"{entry.dataset} is backed up less often than the SOP asks ({entry.every}; {trigger.at_least_every})",
                    where=f"{where}[{number}].every",
                    hint="Shorten its period.",
                )

    # secrets --------------------------------------------------------------------------------------------------

    def secret(self, ref: SecretRef | None, where: str, values: Mapping[str, str] | None = None) -> str | None:
        """The secret that ``ref`` points to. ConfigError says what is wrong without showing anything of it."""
        if ref is None:
            return None
        if ref.file:
            path = self.root / naming.fill(ref.file, values or {}, f"{where}.file")
            data = fsio.read_strict(path)
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise ConfigError("secret file is open to others", where=str(path), hint=f"chmod 600 {path}")
            text = data.decode("utf-8", "replace")
        elif ref.command:
            command = [naming.fill(part, values or {}, f"{where}.command") for part in ref.command]
            try:
                done = subprocess.run(command, cwd=self.root, env=_beside_us(), capture_output=True, check=False)
            except OSError as error:
                raise ConfigError(f"secret command cannot start ({error.strerror})", where=where) from None
            if done.returncode:
                raise ConfigError(
                    f"secret command exited {done.returncode}", where=where, hint="Run it by hand to see why."
                )
            text = done.stdout.decode("utf-8", "replace")
        else:
            raise ConfigError("a secret needs 'file' or 'command'", where=where)
        value = text.rstrip("\r\n")
        if not value:
            raise ConfigError("the secret is empty", where=where)
        return value


def _beside_us() -> dict[str, str]:
    """The environment of a secret's command: programs of our own installation (ansible-vault) are found where it is not
    activated, and a locale that is not generated stops none of them."""
    own = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{own}{os.pathsep}{os.environ.get('PATH', os.defpath)}", "LC_ALL": "C.UTF-8"}


#: engines whose data is a database of a server, which needs a connection
_SERVER_ENGINES = ("mariadb", "postgresql")


def _unregistered(server: str, where: str) -> ConfigError:
    return ConfigError(
        f"server {server!r} is not in the asset register",
        where=where,
        hint=f"Register it: register/servers/{server}.yml.",
    )


def _check_dataset(dataset: Dataset, path: Path) -> None:
    known = content.engines()
    if dataset.engine not in known:
        raise ConfigError(
            f"engine {dataset.engine!r} is unknown", where=f"{path}:engine", hint=f"One of {', '.join(known)}."
        )
    server = dataset.engine in _SERVER_ENGINES
    needed = "database" if dataset.database is not None or server else "path"
    value = getattr(dataset, needed)
    if not value:
        raise ConfigError(f"engine {dataset.engine} needs {needed!r}", where=f"{path}:{needed}")
    if needed == "path" and (not value.startswith("/") or os.path.normpath(value) != value or value.count("/") < 2):
        raise ConfigError(f"path {value!r} is not a plain absolute path below a folder", where=f"{path}:path")
    if not server and dataset.connection != Connection():
        raise ConfigError(f"engine {dataset.engine} takes no connection", where=f"{path}:connection")
    clock.duration_seconds(dataset.max_downtime, f"{path}:max_downtime")
    seen: set[tuple[str, str]] = set()
    for service in dataset.services:
        key = f"{path}:services.{service.name}"
        if (service.server, service.name) in seen:
            raise ConfigError(f"service {service.name!r} stands there twice", where=key)
        seen.add((service.server, service.name))
        if service.manager == "systemd" and not service.unit:
            raise ConfigError("a systemd service needs 'unit'", where=key)
        if service.manager == "command" and not (service.start and service.stop and service.status):
            raise ConfigError("a command service needs 'start', 'stop' and 'status'", where=key)
    _check_checks(dataset, path)


def _check_checks(dataset: Dataset, path: Path) -> None:
    """The dataset's own checks: for a database, each once, and nothing that psql or mariadb take as their own command."""
    if dataset.checks and dataset.engine == "files":
        raise ConfigError("engine files takes no checks", where=f"{path}:checks", hint="There is nothing to query.")
    names = [one.name for one in dataset.checks]
    for number, one in enumerate(dataset.checks, 1):
        where = f"{path}:checks[{number}]"
        if names.count(one.name) > 1:
            raise ConfigError(f"check {one.name!r} stands there twice", where=where)
        if not one.query.isprintable() or set(one.query) & set("\\;"):
            raise ConfigError(
                f"the query of check {one.name!r} must be one line without backslash and semicolon",
                where=f"{where}.query",
                hint="One SELECT of one value, such as: SELECT count(*) FROM pegawai WHERE unit IS NULL",
            )
