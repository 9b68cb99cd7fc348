# SPDX-License-Identifier: Apache-2.0
"""Sites on this machine that tests spoil: copies, people, requests of both SOPs, and the proof that nothing was begun."""

from __future__ import annotations

import copy
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sopctl.fsio import canonical_json
from tests.e2e.checks import Done
from tests.support.site_builder import UNIT, SiteBuilder


def copied(site: SiteBuilder, folder: Path) -> SiteBuilder:
    """The same site at ``folder``, with the same people and vault, to be spoilt and thrown away.

    Data and host state are made as they were at the first copy: the copies' cases have the same numbers, and a host that
    has seen one of them would take the next one's for its repetition.
    """
    other = copy.copy(site)
    other.root = folder / "site"
    shutil.copytree(site.root, other.root, symlinks=True)
    for place in (site.folder / "data", site.state_dir):
        first = site.folder / f"{place.name}-first"
        if not first.exists():
            place.mkdir(exist_ok=True)
            shutil.copytree(place, first)
        shutil.rmtree(place)
        shutil.copytree(first, place)
    return other


def ledger(site: SiteBuilder) -> list[dict[str, Any]]:
    """The ledger's lines."""
    return [json.loads(line) for line in (site.root / "archive/ledger.jsonl").read_text(encoding="utf-8").splitlines()]


def begun(site: SiteBuilder) -> dict[str, Any]:
    """All that a run leaves, however early it ends: ledger lines, artifacts, records, the hosts' state and the data."""
    places = [site.state_dir, site.vault, site.folder / "data"]
    return {
        "runs": [line["ref"] for line in ledger(site) if line["kind"] in {"run-started", "observed"}],
        "artifacts": sorted((site.root / ".state/runs").glob("*")),
        "records": [path.name for path in site.records if not path.name.endswith("-C")],
        "hosts": {str(path): path.lstat().st_mtime_ns for place in places for path in sorted(place.rglob("*"))},
    }


@contextmanager
def untouched(site: SiteBuilder) -> Iterator[None]:
    """Assert that the block starts no run and changes nothing on any host."""
    before = begun(site)
    yield
    assert begun(site) == before


def refused(done: Done, *words: str) -> str:
    """Assert that the gate refused in one line that holds ``words``; returns the line."""
    shown = f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 10, shown
    assert "Traceback" not in shown, shown
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("sopctl: refused"), shown
    for word in words:
        assert word in line, f"{word!r} is not in: {line}"
    return line


def data(site: SiteBuilder) -> Path:
    """The SQLite database of a local site."""
    return site.folder / "data/antrean.db"


def sql(path: Path, statement: str) -> list[Any]:
    """Run one statement on a SQLite file."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


def specification(site: SiteBuilder, *datasets: str, **changed: str) -> Path:
    """A specification list that is complete but for ``changed``."""
    items = []
    for dataset in datasets:
        entry = json.loads((site.root / f"register/datasets/{dataset}.yml").read_text(encoding="utf-8"))
        said = {"server": entry["server"], "application": "Layanan tamu", "data": entry["name"], "size": "12 MB"}
        items.append({"dataset": dataset, **said, **changed})
    path = site.folder / "spesifikasi.yml"
    path.write_text(json.dumps({"schema": "sop-specification/v1", "items": items}), encoding="utf-8")
    return path


def request(
    site: SiteBuilder,
    operation: str,
    *datasets: str,
    as_: str = "pemohon",
    unit: str = UNIT,
    specified: bool = True,
    more: tuple[str, ...] = (),
    check: bool = True,
) -> Done:
    """Ask for ``operation`` under either SOP, as ``--json``; Kaltim's wants the specification list."""
    words = [word for dataset in datasets for word in ("--dataset", dataset)]
    words += ["--unit", unit, "--letter", str(site.letter()), "--letter-number", "800/12/2026"]
    if site.profile == "kaltim" and specified:
        words += ["--specification", str(specification(site, *datasets))]
    reason = ("--reason", "data terhapus")
    return site.run("case", "request", operation, *words, *reason, *more, "--json", as_=as_, check=check)


def requested(site: SiteBuilder, operation: str, *datasets: str, as_: str = "pemohon", unit: str = UNIT) -> str:
    """A request of either SOP; the case's id."""
    return str(json.loads(request(site, operation, *datasets, as_=as_, unit=unit).stdout)["case"])


def decided(site: SiteBuilder, operation: str, *datasets: str) -> str:
    """A Kaltim case, decided and passed on: its plan is due."""
    case = requested(site, operation, *datasets)
    site.run("case", "decide", case, "--approve", "--reason", "sesuai", as_="administrator")
    site.run("case", "dispose", case, as_="pengawas")
    return case


def planned(site: SiteBuilder, operation: str, *datasets: str) -> str:
    """A Kaltim case whose execution is due."""
    case = decided(site, operation, *datasets)
    site.run("case", "plan", case, as_="pengelola")
    return case


def resign(site: SiteBuilder, case: str, name: str, key: str | None = None, **body: Any) -> None:
    """Change the body of a case's last document and sign it anew with the key of ``key`` (default: who signed it).

    The ledger still knows the old bytes.
    """
    [path] = (site.root / "cases").rglob(f"{case}/{name}")
    document = json.loads(path.read_text(encoding="utf-8"))
    document["body"] |= body
    path.write_bytes(canonical_json(document))
    signature = path.with_name(f"{name}.sig")
    signature.unlink()
    private = site.keys / (key or document["actor"]["person"])
    command = ["ssh-keygen", "-Y", "sign", "-q", "-n", "sop-document", "-f", str(private), str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
