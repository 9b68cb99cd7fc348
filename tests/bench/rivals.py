# SPDX-License-Identifier: Apache-2.0
"""The same restore as it is usually done: borgmatic's database hook, and the database's own dump loaded again."""

from __future__ import annotations

import json

from tests.bench.measuring import Measured, stopped_meanwhile
from tests.bench.subjects import FOLDER, Subject
from tests.lab.hosts import Lab

INSTALL = """
command -v borgmatic >/dev/null && command -v borg >/dev/null && exit 0
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q install -y --no-install-recommends borgmatic borgbackup
systemctl disable --now borgmatic.timer 2>/dev/null || true
apt-get clean
rm -rf /var/lib/apt/lists/*
"""
CONFIG = f"{FOLDER}/borgmatic.yaml"
BORG = f"HOME={FOLDER} borgmatic --config {CONFIG} --verbosity 0"


def prepare(lab: Lab, subject: Subject) -> None:
    """Install borgmatic where the database is; store one dump in a borg repository there, and one as a plain file.

    The repository is neither encrypted nor compressed nor remote: nothing but loading the data is to count against it.
    """
    configure(lab, subject)
    subject.run(lab, f"{BORG} create")
    subject.run(lab, f"{subject.dump} >{FOLDER}/plain.dump")


def configure(lab: Lab, subject: Subject) -> None:
    """Install borgmatic where the database is, and make an empty repository for it there."""
    clean(lab, subject)
    lab.exec(subject.host, INSTALL, timeout=1800)
    lab.exec(subject.host, f"install -d -m 0700 -o {subject.account} {FOLDER}")
    config = {
        "location": {"source_directories": ["/etc/hostname"], "repositories": [f"{FOLDER}/repository"]},
        "storage": {"compression": "none"},
        "hooks": {subject.borgmatic: [{"name": subject.dataset, **subject.options}]},
    }
    lab.put(subject.host, CONFIG, json.dumps(config).encode(), mode=0o600, owner=f"{subject.account}:root")
    subject.run(lab, f"{BORG} init --encryption none")


def by_borgmatic(lab: Lab, subject: Subject) -> Measured:
    """``borgmatic restore`` of the newest archive."""
    script = f"{subject.before_borgmatic or ':'}\n{BORG} restore --archive latest"
    return stopped_meanwhile(lab, subject, lambda: subject.run(lab, script))


def by_plain_tools(lab: Lab, subject: Subject) -> Measured:
    """``pg_restore --clean``, or the dump read by ``mariadb``."""
    return stopped_meanwhile(lab, subject, lambda: subject.run(lab, subject.load))


def clean(lab: Lab, subject: Subject) -> None:
    """Remove their dumps and repositories; the programs stay until the lab goes."""
    lab.exec(subject.host, ["rm", "-rf", FOLDER])
