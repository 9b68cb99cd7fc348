# SPDX-License-Identifier: Apache-2.0
"""What a run came to: one word for the form, one sentence for the person, one exit code for the caller."""

from __future__ import annotations

from sopctl import plan as plans
from sopctl.errors import ExitCode
from sopctl.execution import Run
from sopctl.models import Json


def dataset_result(run: Run, item: Json) -> tuple[str, str]:
    """Result and remark of one dataset's backup: ``berhasil`` only when stored *and* proven."""
    dataset, host = item["dataset"]["id"], item["host"]
    own = [entry for entry in run.outcome.evidence if entry.get("dataset") == dataset and not entry.get("failed")]
    stored = [entry for entry in own if entry["kind"] == "backup"]
    place = plans.proven_on(item)
    proven = [entry for entry in own if entry["kind"] == "verify" and entry.get("ok") and entry.get("host") == place]
    if run.check:
        return "menunggu", "pemeriksaan saja; tidak ada yang diubah"
    if stored and proven:
        return "berhasil", "sudah ada untuk periode ini; dibuktikan kembali" if stored[0].get("reused") else ""
    for failure in run.outcome.failures:
        if failure["host"] == host and failure["dataset"] in {dataset, None}:
            return "gagal", failure["msg"]
        if (failure["host"], failure["dataset"]) == (place, dataset):
            return "gagal", f"tersimpan, tidak terbukti di {place}: {failure['msg']}"
    if host in run.outcome.unreachable:
        return "gagal", f"{host} tidak menjawab: {run.outcome.unreachable[host]}"
    return "gagal", "tidak ada bukti dari server"


def backup_result(run: Run) -> str:
    """``berhasil``, ``sebagian`` or ``gagal`` over all datasets."""
    return _over_all(run, [dataset_result(run, item)[0] for item in run.plan["items"]])


def _over_all(run: Run, results: list[str]) -> str:
    if run.check:
        return "menunggu"
    if all(result == "berhasil" for result in results) and not run.outcome.problems:
        return "berhasil"
    return "sebagian" if any(result == "berhasil" for result in results) else "gagal"


def placed_result(run: Run, item: Json) -> str:
    """Result of one dataset that is restored to another place: it is there whole and compared, or not at all."""
    if run.check:
        return "menunggu"
    dataset = item["dataset"]["id"]
    own = [entry for entry in run.outcome.evidence if entry.get("dataset") == dataset and not entry.get("failed")]
    return "berhasil" if any(entry["kind"] == "place" for entry in own) else "gagal"


def run_result(run: Run) -> str:
    """The word for the whole run, whatever it did."""
    whole = {"backup": backup_result, "restore": restore_result, "clean": clean_result}.get(run.plan["operation"])
    return whole(run) if whole else _over_all(run, [placed_result(run, item) for item in run.plan["items"]])


def item_result(run: Run, item: Json) -> str:
    """The word for one dataset: those that are swapped stand and fall together."""
    if run.plan["operation"] == "backup":
        return dataset_result(run, item)[0]
    return restore_result(run) if run.plan["operation"] == "restore" else placed_result(run, item)


#: phases in which a host's dead man's switch still has something to settle
UNSETTLED = {"armed", "ready", "committed", "aborted", "in_place"}


def unsettled(run: Run) -> bool:
    """Whether a host's dead man's switch was last heard of with something still to settle, from this run or an earlier one."""
    last: dict[str, str] = {}
    for entry in run.outcome.evidence:
        if entry.get("phase") and not entry.get("failed"):
            last[str(entry.get("host"))] = str(entry["phase"])
    return not UNSETTLED.isdisjoint(last.values())


def _first_to_arm(run: Run) -> bool:
    """Whether nobody has stopped anything for this case: no stop was granted, and when the run began no host that it staged
    on knew of a switch of this case, which an earlier run would have armed before it stopped a service."""
    staged = [entry for entry in run.outcome.evidence if entry["kind"] == "stage" and not entry.get("failed")]
    hosts = {item["host"] for item in run.plan["items"]}
    return not run.stops and {entry["host"] for entry in staged if not entry.get("phase")} == hosts


def untouched(run: Run) -> bool:
    """Whether a restore came to nothing before it, or an earlier run of its case, had stopped or exchanged anything."""
    kinds = {"service", "quiesce", "swap", "revert", "finalise"}
    known = [entry for entry in run.outcome.evidence if entry["kind"] in kinds or entry.get("phase")]
    return not run.stops and not known and not run.outcome.problems


def services_up(run: Run) -> bool:
    """Whether the last thing each planned service did was to start (or its stop was never granted).

    Where a switch is still to settle something an earlier run may have stopped them: up is only what this run saw start.

    A stop that was granted but left no evidence (a host lost in that moment) counts as down: could not tell is not yes.
    """
    last: dict[tuple[str, str], bool] = dict.fromkeys(run.stops, False)
    if unsettled(run) and not _first_to_arm(run):
        planned = [service for item in run.plan["items"] for service in item["services"]]
        last |= dict.fromkeys(((str(each["host"]), str(each["service"]["name"])) for each in planned), False)
    for entry in run.outcome.evidence:
        if entry["kind"] == "service":
            name = entry["service"] if isinstance(entry["service"], str) else entry["service"].get("name")
            last[(str(entry.get("host")), str(name))] = entry.get("state") == "started" and not entry.get("failed")
    return all(last.values())


def _restored_is_live(run: Run) -> bool:
    """Whether the last word of each planned dataset's host is that the restored data is live."""
    live: dict[str, bool] = {}
    for entry in run.outcome.evidence:
        if entry.get("dataset") and not entry.get("failed"):
            if entry["kind"] == "stage":
                live[entry["dataset"]] = entry.get("state") == "swapped"
            elif entry["kind"] in {"swap", "finalise", "revert"}:
                live[entry["dataset"]] = entry["kind"] != "revert"
    return all(live.get(item["dataset"]["id"], False) for item in run.plan["items"])


def restore_result(run: Run) -> str:
    """``berhasil``, ``sebagian`` (the restored data is live, and the run did not come to its end), ``gagal``,
    ``gagal_dikembalikan`` or ``gagal_layanan_mati``."""
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
    if _restored_is_live(run):
        return "sebagian"
    if any("revert" in kinds.get(dataset, set()) for dataset in wanted):
        return "gagal_dikembalikan"
    return "gagal"


def clean_result(run: Run) -> str:
    """``berhasil``, ``sebagian`` or ``gagal``: whether every planned copy is gone, by its host's own word."""
    if run.check:
        return "menunggu"
    gone = {entry["dataset"] for entry in run.outcome.evidence if entry["kind"] == "clean" and not entry.get("failed")}
    wanted = {item["dataset"]["id"] for item in run.plan["items"]}
    if wanted <= gone and run.outcome.rc == 0 and not run.outcome.problems:
        return "berhasil"
    return "sebagian" if wanted & gone else "gagal"


def exit_code(run: Run) -> ExitCode:
    """The documented exit code of this run."""
    result = run_result(run)
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
