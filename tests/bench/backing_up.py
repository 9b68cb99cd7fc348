# SPDX-License-Identifier: Apache-2.0
"""One backup, measured: by the schedule with all that belongs to it, and by bare tools into the same vault."""

from __future__ import annotations

import io
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from tests.bench import rivals
from tests.bench.measuring import peaks
from tests.bench.subjects import FOLDER, Subject
from tests.lab.hosts import Lab
from tests.lab.site import lab_site
from tests.support.site_builder import SiteBuilder

#: restic as it is used by hand; the repository's address with its password is in a file there, as ours is
RESTIC = f"restic --repository-file {FOLDER}/repository.txt --password-file {FOLDER}/password.txt --cacert {FOLDER}/ca.pem --cache-dir {FOLDER}/cache --quiet"


@dataclass
class Scheduled:
    """One ``sopctl schedule run --due``, in seconds and megabytes. ``took`` is all of it; ``proof`` (restoring the backup,
    or reading it) is in it and counted apart, and so is ``stored`` (dump and manifest)."""

    took: float
    stored: float
    proof: float
    proven_by: str
    module_mb: float
    restic_mb: float

    @property
    def cost(self) -> float:
        """All but the proof, which the bare tools do not give."""
        return self.took - self.proof

    @property
    def around(self) -> float:
        """Starting sopctl and Ansible, reaching the host, signing and filing."""
        return self.cost - self.stored


@contextmanager
def new_repository(lab: Lab, subject: Subject, folder: Path) -> Iterator[SiteBuilder]:
    """A new site, and its repository in the vault, made by hand before anything is measured; gone afterwards."""
    rivals.clean(lab, subject)
    name = f"bench-{secrets.token_hex(4)}"
    (folder / name).mkdir()
    site = lab_site(folder / name, lab, (subject.dataset,))
    files = {
        "repository.txt": lab.vault_url(subject.host, f"{name}/").encode(),
        "password.txt": (site.root / "secrets/vault-password").read_bytes(),
        "ca.pem": lab.ca.read_bytes(),
    }
    lab.exec(subject.host, f"install -d -m 0700 -o {subject.account} {FOLDER}")
    try:
        for file, content in files.items():
            lab.put(subject.host, f"{FOLDER}/{file}", content, mode=0o600, owner=f"{subject.account}:root")
        subject.run(lab, f"{RESTIC} init")
        yield site
    finally:
        lab.exec("vault01", f"rm -rf /srv/vault/*/{name}")
        rivals.clean(lab, subject)


def by_schedule(folder: Path, lab: Lab, subject: Subject, proof: str) -> Scheduled:
    """The scheduled run of a new site; ``proof``: restore or read."""
    with new_repository(lab, subject, folder) as site:
        site.edit("sop.yml", "  verify: restore", f"  verify: {proof}")
        with peaks(lab, subject.host) as most:
            begin = time.monotonic()
            site.run("schedule", "run", "--due", as_="pelaksana")
            took = time.monotonic() - begin
        spent = seconds_of_tasks(site.records[-1])
    return Scheduled(
        took=took,
        stored=spent["backup_dataset"],
        proof=spent["verify_dataset"],
        proven_by=proof,
        module_mb=most["python"],
        restic_mb=most["restic"],
    )


def seconds_of_tasks(record: Path) -> dict[str, float]:
    """How long each of our modules took from its start by Ansible to its answer, by the record's own events."""
    spent: dict[str, float] = {}
    for event in events(record):
        data = event.get("event_data") or {}
        if event.get("event") == "runner_on_ok" and "duration" in data:
            name = str(data["task_action"]).rpartition(".")[2]
            spent[name] = spent.get(name, 0.0) + float(data["duration"])
    return spent


def events(record: Path) -> Iterator[dict[str, Any]]:
    """The events of a record's run."""
    with (record / "data/run/events.jsonl.zst").open("rb") as packed:
        for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(packed), encoding="utf-8"):
            yield json.loads(line)


def by_bare_tools(folder: Path, lab: Lab, subject: Subject) -> float:
    """Seconds of the dump piped into restic, into a repository like ours."""
    pipe = f"set -euo pipefail; {subject.dump} | {RESTIC} backup --stdin --stdin-filename dump"
    # looking at the memory costs a little: the same for both
    with new_repository(lab, subject, folder), peaks(lab, subject.host):
        begin = time.monotonic()
        subject.run(lab, f"bash -c '{pipe}'")
        return time.monotonic() - begin


def by_borgmatic(lab: Lab, subject: Subject) -> float:
    """Seconds of ``borgmatic create`` into a new repository on the same host, without a network; making it is not counted."""
    rivals.configure(lab, subject)
    try:
        with peaks(lab, subject.host):
            begin = time.monotonic()
            subject.run(lab, f"{rivals.BORG} create")
            return time.monotonic() - begin
    finally:
        rivals.clean(lab, subject)
