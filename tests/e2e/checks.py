# SPDX-License-Identifier: Apache-2.0
"""What several end-to-end tests look at: error lines, snapshots in the vault, the state of hosts."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard

from tests.lab.hosts import Lab
from tests.support.site_builder import SiteBuilder

Done = subprocess.CompletedProcess[str]


def wait_until(true: Callable[[], bool], seconds: float) -> bool:
    """Poll until ``true()``; False when it is not in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def one_line_error(done: Done, code: int, *words: str) -> str:
    """Assert that a command failed with ``code`` and one line on stderr that holds ``words``; returns the line."""
    shown = f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == code, shown
    assert "Traceback" not in done.stdout + done.stderr, shown
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, shown
    assert lines[0].startswith("sopctl: "), shown
    for word in words:
        assert word in lines[0], f"{word!r} is not in: {lines[0]}"
    return lines[0]


def run_error(done: Done, code: int, *words: str) -> str:
    """Assert that a run failed with ``code`` and that one line of its report holds all of ``words``; returns it."""
    shown = f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == code, shown
    assert "Traceback" not in done.stdout + done.stderr, shown
    for line in done.stdout.splitlines():
        if all(word in line for word in words):
            return line.strip()
    raise AssertionError(f"no line holds {words}:\n{shown}")


def snapshots(lab: Lab, site: SiteBuilder, *, small: bool = False) -> list[str]:
    """Names of the snapshot files that this site's repositories hold, seen on the vault host itself."""
    root = lab.facts["vault"]["small_root" if small else "root"]
    found = lab.exec("vault01", f"find {root}/*/{site.folder.name}/snapshots -type f 2>/dev/null || true")
    return sorted(found.splitlines())


def vault_files(lab: Lab, site: SiteBuilder) -> list[str]:
    """Every file of this site's repositories but locks, with its size."""
    command = f"find /srv/vault/*/{site.folder.name} -type f ! -path '*/locks/*' -printf '%p %s\\n' 2>/dev/null || true"
    return sorted(lab.exec("vault01", command).splitlines())


def record_json(record: Path, name: str) -> Any:
    """A JSON file of a record's payload."""
    return json.loads((record / "data" / name).read_text(encoding="utf-8"))


def events(record: Path) -> list[dict[str, Any]]:
    """The events of a run, from its one compressed stream."""
    with (record / "data/run/events.jsonl.zst").open("rb") as stream:
        text = zstandard.ZstdDecompressor().stream_reader(stream).read().decode()
    return [json.loads(line) for line in text.splitlines()]


def evidence(record: Path, kind: str) -> list[dict[str, Any]]:
    """The evidence of one kind in a run's record."""
    found = record_json(record, "evidence.json")
    return [entry for entry in found if entry["kind"] == kind]


def all_verified(site: SiteBuilder) -> None:
    """Assert that every sealed record of the site holds."""
    done = site.run("record", "verify", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
