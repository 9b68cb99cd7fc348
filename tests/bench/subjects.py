# SPDX-License-Identifier: Apache-2.0
"""The lab's two applications that restores are measured on, and how their database is handled without us."""

from __future__ import annotations

from dataclasses import dataclass

from tests.lab.hosts import Lab
from tests.lab.probe import wait_healthy

#: where the dumps and repositories of the others lie on the database's host; beside the data, never in memory
FOLDER = "/var/tmp/sop-bench"  # in a container of the lab that nobody else uses


@dataclass(frozen=True)
class Subject:
    """One application: its dataset, the host of its database, its unit on web01, and the plain tools of its database."""

    engine: str
    dataset: str
    host: str
    account: str
    unit: str
    #: its dump, to standard output
    dump: str
    load: str
    #: the hook, and its settings besides the database's name
    borgmatic: str
    options: dict[str, str]
    #: what must be done before borgmatic's restore, "" for nothing
    before_borgmatic: str = ""

    def url(self, lab: Lab) -> str:
        """Where its users see whether it is healthy."""
        return f"{lab.web_url if self.dataset == 'simpeg' else lab.licence_url}/health"

    def generate(self, lab: Lab, megabytes: int) -> int:
        """Make its data anew; bytes on disk. The application is up on it afterwards."""
        self.forget(lab)
        made = lab.generate(megabytes, self.dataset)
        self.service(lab, "start")
        return made

    def forget(self, lab: Lab) -> None:
        """Drop what restores kept beside it."""
        lab.forget_kept()

    def service(self, lab: Lab, verb: str) -> None:
        """Start or stop the application; it is healthy, or down, when this returns."""
        lab.exec("web01", ["systemctl", verb, self.unit])
        if verb == "start" and not wait_healthy(self.url(lab), 120):
            raise AssertionError(f"web01: {self.unit} does not become healthy; look with journalctl there")

    def run(self, lab: Lab, script: str, timeout: float = 7200) -> str:
        """Run a script where the database is, as the account that administers it."""
        return lab.exec(self.host, script, user=self.account, timeout=timeout)


SUBJECTS = {
    "postgresql": Subject(
        engine="postgresql",
        dataset="simpeg",
        host="db01",
        account="postgres",
        unit="simpeg-web.service",
        dump="pg_dump -Fc -Z0 simpeg",
        # the same failure is ignored here, told at the end, and harmless
        load=f"pg_restore --clean --if-exists -d simpeg {FOLDER}/plain.dump 2>{FOLDER}/said || grep -q 'errors ignored' {FOLDER}/said",
        borgmatic="postgresql_databases",
        options={},
        # it runs pg_restore --clean --exit-on-error, which fails at the key of a partition (it goes with its parent's)
        before_borgmatic="psql -X -q -d simpeg -c 'SET client_min_messages = error; DROP SCHEMA kepegawaian CASCADE'",
    ),
    "mariadb": Subject(
        engine="mariadb",
        dataset="perizinan",
        host="db02",
        account="root",
        unit="perizinan-web.service",
        dump="mariadb-dump --single-transaction --routines --events --triggers perizinan",
        load=f"mariadb perizinan <{FOLDER}/plain.dump",
        # the word of Debian 12's borgmatic for both
        borgmatic="mysql_databases",
        # without them it drops the database with its functions and fails at the first view that uses one
        options={"options": "--routines --events --triggers"},
    ),
}
