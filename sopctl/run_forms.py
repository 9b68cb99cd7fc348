# SPDX-License-Identifier: Apache-2.0
"""From a run to its forms: Pelaksanaan Back Up and Pelaksanaan Restore, filled from plan, documents and evidence."""

from __future__ import annotations

from typing import Any

from sopctl import capacity, clock, forms, indonesian, periods
from sopctl.case import Case
from sopctl.execution import Run
from sopctl.filing import header, letterhead, official, seconds, signed, steps
from sopctl.forms import BackupForm, BackupRow, CleanForm, CleanRow, Expectation, RestoreForm
from sopctl.models import Json
from sopctl.outcomes import backup_result, clean_result, dataset_result, item_result
from sopctl.session import Session, Signer

ENCRYPTION = "AES-256-CTR + Poly1305-AES (restic)"


def backup_form(session: Session, case: Case, run: Run, operator: Signer) -> BackupForm:
    """Formulir Pelaksanaan Back Up Data."""
    rows = tuple(_backup_row(session, item, run) for item in run.plan["items"])
    profile = session.site.profile.profile
    title, inferred = _title(session, case, "backup")
    notes = tuple(profile.document.peringatan)
    return BackupForm(
        letterhead=letterhead(session),
        header=header(
            session,
            title,
            case.id,
            run.id,
            case.flow_name,
            backup_result(run),
            check=run.check,
            notes=notes,
            inferred=inferred,
            case=case,
        ),
        rows=rows,
        steps=steps(session, case, run, operator.person.id),
        operator=official(session, operator_role(case), operator.person, run.finished),
        checker=official(session, checker_role(case)),
        period=run.plan["items"][0]["period"] if run.plan["items"] and run.plan["items"][0]["every"] else "",
        expected=tuple(_expected(case, run)),
    )


def _amount(item: Json, tables: Json) -> tuple[int | None, int | None, str]:
    """Tables, rows, and words for what has neither (a folder has files)."""
    if not tables:
        return None, None, ""
    if item["dataset"]["engine"] == "files":
        names = {"files": "berkas", "directories": "folder", "links": "tautan", "special": "berkas khusus"}
        counted = [
            (table.get("rows") or 0, names.get(name, name)) for name, table in sorted(tables.items(), reverse=True)
        ]
        return None, None, "isi: " + ", ".join(f"{amount} {word}" for amount, word in counted if amount)
    return len(tables), sum(table.get("rows") or 0 for table in tables.values()), ""


def _title(session: Session, case: Case, operation: str) -> tuple[str, bool]:
    """Title of the paper that executing leaves, and whether we inferred that."""
    profile = session.site.profile.profile
    for step in reversed(case.flow.steps):
        if step.act == "execute" and step.out:
            return profile.records[step.out[-1]].title, step.out_source == "inferred"
    return f"Laporan {operation}", True


def checker_role(case: Case) -> str:
    """Role of whoever checks an execution in this case's flow: the inspector, else the decider."""
    for act in ("confirm", "decide"):
        if (step := case.flow.first(act)) is not None:
            return step.actors[0]
    return case.flow.steps[-1].actors[0]


def _backup_row(session: Session, item: Json, run: Run) -> BackupRow:
    dataset_id = item["dataset"]["id"]
    dataset = session.site.dataset(dataset_id)
    own = [entry for entry in run.outcome.evidence if entry.get("dataset") == dataset_id and not entry.get("failed")]
    stored: Json = next((entry for entry in own if entry["kind"] == "backup"), {})
    proof: Json = next((entry for entry in own if entry["kind"] == "verify"), {})
    tables: Any = proof.get("tables") or stored.get("tables") or {}
    count, rows, words = _amount(item, tables)
    result, remark = dataset_result(run, item)
    asked = proof.get("checks") or []
    checks = f"{sum(one['ok'] for one in asked)} dari {len(asked)} pemeriksaan data sesuai" if asked else ""
    remark = "; ".join(part for part in (remark, words, checks, _how_proven(item, proof)) if part)
    return BackupRow(
        dataset=dataset_id,
        dataset_name=dataset.name,
        schedule=_schedule_words(item["every"]),
        jenis=item["jenis"] if item["every"] else "",
        method=str(stored.get("method", "")),
        started=stored.get("started"),
        finished=stored.get("finished"),
        name=str(stored.get("name", item["name"])),
        bytes=stored.get("bytes"),
        sha256=str(stored.get("sha256") or ""),
        location=f"{session.site.config.vault.media}: {item['server']}",
        encryption=ENCRYPTION,
        verification="belum" if not proof else ("berhasil" if proof.get("ok") else "tidak_berhasil"),
        verified_at=proof.get("finished"),
        tables=count,
        rows=rows,
        result=result,  # type: ignore[arg-type]  # outcomes.py returns the words of forms.Result
        remark=remark,
        server=item["server"],
        database=item["dataset"].get("database") or item["dataset"].get("path", ""),
        snapshot=str(stored.get("snapshot") or ""),
    )


def _how_proven(item: Json, proof: Json) -> str:
    """How a proof differs from restoring the backup on the server that it is of."""
    if not proof.get("ok"):
        return ""
    where = f"dibuktikan di {proof['host']}" if proof.get("host") not in {None, item["host"]} else ""
    if proof.get("depth") != "read":
        return where
    short = proof.get("short")
    why = f", karena ruang di {short['path']} kurang: {_room(short)}" if short else ""
    return f"{where or 'dibuktikan'} dengan dibaca sampai akhir, tidak dipulihkan{why}"


def _room(short: Json) -> str:
    needed, free = (indonesian.format_size(size) for size in (short["needs"] + short["reserve"], short["free"]))
    return f"perlu {needed}, tersisa {free}"


def restore_forms(session: Session, case: Case, run: Run, operator: Signer) -> list[RestoreForm]:
    """Formulir Pelaksanaan Restore Data, one a dataset."""
    title, inferred = _title(session, case, "restore")
    down, up = downtime(run)
    decided = case.last("decide")
    found = []
    for item in run.plan["items"]:
        dataset, result, elsewhere = session.site.dataset(item["dataset"]["id"]), item_result(run, item), item.get("to")
        own = [
            entry for entry in run.outcome.evidence if entry.get("dataset") == dataset.id and not entry.get("failed")
        ]
        stage: Json = next((entry for entry in own if entry["kind"] in {"stage", "place"}), {})
        tables: Json = stage.get("tables") or {}
        count, rows, words = _amount(item, tables)
        found.append(
            RestoreForm(
                letterhead=letterhead(session),
                header=header(
                    session,
                    title,
                    case.id,
                    run.id,
                    case.flow_name,
                    result,
                    check=run.check,
                    inferred=inferred,
                    case=case,
                ),
                steps=steps(session, case, run, operator.person.id),
                dataset=dataset.id,
                dataset_name=dataset.name,
                database=dataset.database or dataset.path or "",
                server=item["server"],
                backup_id=item["snapshot"],
                backup_name=item["backup_name"],
                backup_sha256=item["sha256"] or "",
                backup_time=item["backup_time"],
                data_set_aside_since=None if elsewhere else item["backup_time"],
                safety_copy=_safety_copy(item, own),
                service=", ".join(f"{service['server']}/{service['service']['name']}" for service in item["services"]),
                service_down_at=down,
                service_up_at=up,
                downtime_s=seconds(down, up),
                max_downtime_s=None if elsewhere else item["max_downtime"],
                safety_copy_until=None
                if elsewhere or item.get("in_place")
                else clock.plus(run.finished, days=session.policy.keep_days),
                other_place=f"{elsewhere['place']} di server {elsewhere['server']}" if elsewhere else "",
                in_place=item.get("in_place", False),
                tests=tuple(_tests(session, item, stage, own, run)),
                rollback=_rollback(own),
                verification=_verification(stage, run, result),
                operator=official(session, operator_role(case), operator.person, run.finished),
                checker=official(session, checker_role(case)),
                decider=signed(session, decided) if decided else None,
                started=run.started,
                finished=run.finished,
                tables=count,
                rows=rows,
                remark=words,
                request_number=str((case.request.get("letter") or {}).get("number", "")),
                requester_unit=str(case.request.get("unit", "")),
                failure=_failure(run),
                expected=tuple(row for row in _expected(case, run) if row.dataset == dataset.id),
            )
        )
    return found


def operator_role(case: Case) -> str:
    """Role of whoever executes in this case's flow."""
    return next(step.by[0] for step in case.flow.steps if step.act == "execute")


def _expected(case: Case, run: Run) -> list[Expectation]:
    """The plan against what came of it, where there was a plan."""
    found = []
    sizes = {item["snapshot"]: item["bytes"] for item in run.plan["items"] if item.get("snapshot")}
    done = capacity.executions(run.outcome.evidence, sizes, run.started, run.finished)
    for row in case.body("plan").get("capacity") or []:
        dataset = row["dataset"]
        actual = done.get(dataset, {})
        pairs: list[tuple[str, Any, Any]] = [("Lama pelaksanaan", row.get("predicted_s"), actual.get("seconds"))]
        if row.get("predicted_downtime_s") is not None:
            pairs.append(("Layanan mati", row["predicted_downtime_s"], actual.get("downtime_s")))
        found += [
            Expectation(
                label=label,
                unit="detik",
                predicted=predicted,
                actual=came,
                dataset=dataset,
                basis=row["basis"] if label == "Lama pelaksanaan" else "",
            )
            for label, predicted, came in pairs
        ]
    return found


def _safety_copy(item: Json, own: list[Json]) -> str:
    """Where the data lies that was live before: beside it, or (in place) in the vault; empty where none was replaced."""
    if item.get("to"):
        return ""
    kinds = {entry["kind"]: entry for entry in own}
    if item.get("in_place"):
        return f"vault: {kinds['backup']['name']}" if kinds.get("backup", {}).get("snapshot") else ""
    return str(kinds.get("swap", {}).get("before") or kinds.get("stage", {}).get("before") or "")


def _verification(stage: Json, run: Run, result: str) -> forms.Verification:
    if run.check or not stage:
        return "belum"
    return "berhasil" if result == "berhasil" else "tidak_berhasil"


def _failure(run: Run) -> str:
    return "; ".join(f"{entry['host']}: {entry['msg']}" for entry in run.outcome.failures[:1]) or "; ".join(
        run.outcome.problems
    )


def downtime(run: Run) -> tuple[str | None, str | None]:
    """When the first service stopped and when the last was healthy again."""
    stopped = [
        entry["at"]
        for entry in run.outcome.evidence
        if entry["kind"] == "service" and entry.get("state") == "stopped" and entry.get("at")
    ]
    healthy = [
        entry.get("healthy_at") or entry.get("at")
        for entry in run.outcome.evidence
        if entry["kind"] == "service" and entry.get("state") == "started"
    ]
    return (min(stopped) if stopped else None, max(filter(None, healthy), default=None))


def _tests(session: Session, item: Json, stage: Json, own: list[Json], run: Run) -> list[forms.CheckResult]:
    found = []
    if stage:
        compared = (
            "sama dengan isi backup yang terverifikasi"
            if item["expected"]
            else "jumlah baris sama dengan manifes backup"
        )
        count, _, words = _amount(item, stage.get("tables") or {})
        actual = f"{count} tabel sama" if count else words.removeprefix("isi: ") + " sama"
        found.append(
            forms.CheckResult(
                name="Perbandingan isi salinan" + ("" if item.get("to") else " sebelum ditukar"),
                ok=True,
                expected=compared,
                actual=actual,
            )
        )
    for entry in own:
        if entry["kind"] == "quiesce" and entry.get("proof"):
            left = entry["proof"].get("sessions", 0)
            found.append(
                forms.CheckResult(
                    name="Tidak ada transaksi saat layanan mati",
                    ok=left == 0,
                    expected="tidak ada penulis",
                    actual=f"{left} penulis, {_clock(session, entry['finished'])}",
                )
            )
    for entry in run.outcome.evidence:
        fired = entry.get("outcome") if entry["kind"] == "switch" else None
        if fired and entry.get("phase") == "armed":
            data = {"old": "data lama", "new": "data baru"}.get(str(fired.get("data")), "layanan dijalankan kembali")
            found.append(
                forms.CheckResult(
                    name=f"Sakelar pengaman di {entry['host']} bekerja sebelum pelaksanaan ini",
                    ok=True,
                    expected="data utuh, layanan berjalan",
                    actual=f"{data}, {_clock(session, str(fired['at']))}",
                )
            )
        if entry["kind"] == "service" and entry.get("state") == "started":
            healthy = entry.get("healthy_at")
            actual = f"sehat {_clock(session, healthy)}" if healthy else "tidak diperiksa"
            found.append(
                forms.CheckResult(
                    name=f"Layanan {entry['service']} berjalan",
                    ok=not entry.get("failed"),
                    expected="sehat",
                    actual=actual,
                )
            )
    return found


def _clock(session: Session, at: str) -> str:
    return indonesian.format_time(at, session.site.config.timezone, seconds=True)


def _rollback(own: list[Json]) -> str:
    return "data lama dikembalikan" if any(entry["kind"] == "revert" for entry in own) else ""


COPIES = {
    "before": "data lama yang disisihkan",
    "shadow": "salinan pemulihan yang ditarik kembali",
}


def clean_form(session: Session, case: Case, run: Run, operator: Signer) -> CleanForm:
    """Berita acara penghapusan salinan pengaman; no SOP names it."""
    accepted = case.last("confirm") or case.last("receive") or case.last("decide")
    ordered = case.last("clean")
    return CleanForm(
        letterhead=letterhead(session),
        header=header(
            session,
            "Berita Acara Penghapusan Salinan Pengaman",
            case.id,
            run.id,
            case.flow_name,
            clean_result(run),
            check=run.check,
            inferred=True,
            case=case,
        ),
        rows=tuple(_clean_row(session, item, copy, run) for item in run.plan["items"] for copy in item["kept"]),
        operator=official(session, operator_role(case), operator.person, run.finished),
        checker=signed(session, accepted) if accepted else official(session, checker_role(case)),
        started=run.started,
        finished=run.finished,
        ordered=f"{ordered.path.name} ({ordered.digest})" if ordered and run.plan.get("order") else "",
    )


def _clean_row(session: Session, item: Json, copy: Json, run: Run) -> CleanRow:
    dataset = item["dataset"]["id"]
    own = [entry for entry in run.outcome.evidence if entry["kind"] == "clean" and entry.get("dataset") == dataset]
    done = next((entry for entry in own if not entry.get("failed")), None)
    dropped: Json = next(iter((done or {}).get("dropped") or []), {})
    why = [entry["msg"] for entry in run.outcome.failures if entry["dataset"] == dataset]
    remark = "" if dropped else "sudah tidak ada" if done else "; ".join(why) or _failure(run)
    return CleanRow(
        dataset=dataset,
        dataset_name=session.site.dataset(dataset).name,
        server=item["server"],
        copy=COPIES[copy["copy"]],
        name=copy["name"],
        bytes=dropped.get("bytes", item["bytes"]),
        kept_until=item["until"],
        record=item["restored"]["record"],
        result="menunggu" if run.check else "berhasil" if done else "gagal",
        remark=remark,
    )


def _schedule_words(every: str | None) -> str:
    if every is None:
        return "atas permintaan"
    return periods.CALENDAR.get(every, f"jadwal {every}")
