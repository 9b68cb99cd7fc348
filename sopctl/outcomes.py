# SPDX-License-Identifier: Apache-2.0
"""What a run came to: one word for the form, one sentence for the person, one exit code for the caller."""

from __future__ import annotations

from sopctl.errors import ExitCode
from sopctl.execution import Run
from sopctl.models import Json


def dataset_result(run: Run, item: Json) -> tuple[str, str]:
    """Result and remark of one dataset's backup: ``berhasil`` only when stored *and* proven."""
    dataset, host = item["dataset"]["id"], item["host"]
    own = [entry for entry in run.outcome.evidence if entry.get("dataset") == dataset and not entry.get("failed")]
    stored = [entry for entry in own if entry["kind"] == "backup"]
    proven = [entry for entry in own if entry["kind"] == "verify" and entry.get("ok")]
    if run.check:
        return "menunggu", "pemeriksaan saja; tidak ada yang diubah"
    if stored and proven:
        return "berhasil", "sudah ada untuk periode ini; dibuktikan kembali" if stored[0].get("reused") else ""
    for failure in run.outcome.failures:
        if failure["host"] == host and failure["dataset"] in {dataset, None}:
            return "gagal", failure["msg"]
    if host in run.outcome.unreachable:
        return "gagal", f"{host} tidak menjawab: {run.outcome.unreachable[host]}"
    return "gagal", "tidak ada bukti dari server"


def backup_result(run: Run) -> str:
    """``berhasil``, ``sebagian`` or ``gagal`` over all datasets."""
    results = [dataset_result(run, item)[0] for item in run.plan["items"]]
    if run.check:
        return "menunggu"
    if all(result == "berhasil" for result in results) and not run.outcome.problems:
        return "berhasil"
    return "sebagian" if any(result == "berhasil" for result in results) else "gagal"


def services_up(run: Run) -> bool:
    """Whether the last thing each planned service did was to start (or its stop was never granted).

    A stop that was granted but left no evidence (a host lost in that moment) counts as down: could not tell is not yes.
    """
    last: dict[tuple[str, str], bool] = dict.fromkeys(run.stops, False)
    for entry in run.outcome.evidence:
        if entry["kind"] == "service":
            name = entry["service"] if isinstance(entry["service"], str) else entry["service"].get("name")
            last[(str(entry.get("host")), str(name))] = entry.get("state") == "started" and not entry.get("failed")
    return all(last.values())


def restore_result(run: Run) -> str:
    """``berhasil``, ``gagal``, ``gagal_dikembalikan`` or ``gagal_layanan_mati``."""
    kinds: dict[str, set[str]] = {}
    for entry in run.outcome.evidence:
        if not entry.get("failed") and entry.get("dataset"):
            kinds.setdefault(entry["dataset"], set()).add(entry["kind"])
    wanted = {item["dataset"]["id"] for item in run.plan["items"]}
    if run.check:
        return "menunggu"
    finalised = all("finalise" in kinds.get(dataset, set()) for dataset in wanted)
    if run.outcome.rc == 0 and services_up(run) and finalised and not run.outcome.problems:
        return "berhasil"
    if not services_up(run):
        return "gagal_layanan_mati"
    if any("revert" in kinds.get(dataset, set()) for dataset in wanted):
        return "gagal_dikembalikan"
    return "gagal"


def exit_code(run: Run) -> ExitCode:
    """The documented exit code of this run."""
    restore = run.plan["operation"] == "restore"
    result = restore_result(run) if restore else backup_result(run)
    if result == "gagal_layanan_mati":
        return ExitCode.FAILED_DOWN
    if run.outcome.problems:
        return ExitCode.EVIDENCE_BROKEN
    if run.check:
        return ExitCode.OK if run.outcome.rc == 0 else ExitCode.FAILED_RESTORED
    if result == "berhasil":
        return ExitCode.OK
    if run.outcome.interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.PARTIAL if result == "sebagian" else ExitCode.FAILED_RESTORED
