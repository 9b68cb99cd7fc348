# SPDX-License-Identifier: Apache-2.0
"""From a run to its record: fill the SOP's forms from plan, documents and evidence, and seal the bag."""

from __future__ import annotations

from typing import Any

from sopctl import clock, forms, indonesian
from sopctl.case import Case, Filed
from sopctl.execution import Run
from sopctl.forms import BackupForm, BackupRow, FormHeader, Letterhead, Official, RestoreForm, RestoreRequestForm
from sopctl.models import Json, Person
from sopctl.outcomes import backup_result, dataset_result, restore_result
from sopctl.profile import Step
from sopctl.session import Session, Signer
from sopctl.site import fill

ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
ENCRYPTION = "AES-256-CTR + Poly1305-AES (restic)"
GUARD_RAIL = "pagar pengaman: kunci SSH dipegang akun pelaksana; kesalahan dicegah, pemilik akun tidak"


def letterhead(session: Session) -> Letterhead:
    """The agency's letterhead."""
    agency = session.site.config.agency
    return Letterhead(agency=agency.nama, government=agency.pemerintah, address=agency.alamat, city=agency.kota)


def official(session: Session, role: str, person: Person | None = None, at: str | None = None) -> Official:
    """A signature block; without a person, the place is left empty for the holder of the role."""
    title = session.site.profile.profile.roles[role].title
    if person is None:
        holders = [entry for entry in session.trust.file.people if session.trust.has_role(entry, role, clock.now())]
        if len(holders) != 1:
            return Official(role_title=title)
        person = holders[0]
    return Official(role_title=title, jabatan=person.jabatan, name=person.name, nip=person.nip, person=person.id, at=at)


def number(session: Session, case_id: str, flow: str, at: str) -> str:
    """The form's number by the agency's rule. ConfigError names an unknown word of the rule."""
    moment = clock.parse(at).astimezone(session.site.tz)
    words = {
        "seq": int(case_id[-4:]),
        "flow": flow.upper(),
        "agency": session.site.config.agency.kode.upper(),
        "month_roman": ROMAN[moment.month - 1],
        "month": moment.month,
        "year": moment.year,
        "case": case_id,
    }
    return fill(session.site.config.numbering, words, f"{session.site.root / 'sop.yml'}:numbering")


def header(
    session: Session,
    title: str,
    case_id: str,
    run_id: str,
    flow: str,
    result: str,
    *,
    check: bool = False,
    notes: tuple[str, ...] = (),
    inferred: bool = False,
) -> FormHeader:
    """What every form carries."""
    profile = session.site.profile
    now = clock.now()
    return FormHeader(
        form_title=title,
        number=number(session, case_id, flow, now),
        date=clock.parse(now).astimezone(session.site.tz).strftime("%Y-%m-%d"),
        sop_name=profile.profile.document.nama_sop,
        sop_number=profile.profile.document.nomor_sop,
        profile_id=profile.profile.id,
        profile_digest=profile.digest,
        run_id=run_id,
        case_id=case_id,
        ledger_head=str(session.ledger.head()),
        result=result,  # type: ignore[arg-type]  # outcomes.py returns the words of forms.Result
        timezone=session.site.config.timezone,
        check_mode=check,
        form_inferred=inferred,
        mode=GUARD_RAIL,
        notes=notes,
    )


def steps(session: Session, case: Case, run: Run | None, operator: str) -> tuple[forms.Step, ...]:
    """The SOP's own table and how each line went."""
    done: dict[str, Filed] = {}
    for filed in case.filed:
        for step in case.flow.group(case.flow.step(filed.document.step)):
            done[step.id] = filed
    rows, previous = [], None
    for step in case.flow.steps:
        filed_here = done.get(step.id)
        at, person = (filed_here.document.at, filed_here.document.actor.person) if filed_here else (None, "")
        if step.act == "execute" and run is not None and (filed_here is None or filed_here is case.filed[-1]):
            at, person = run.finished, operator
        duration = clock.seconds_between(previous, at) if previous and at else None
        if run is not None and step.act == "execute":
            duration = clock.seconds_between(run.started, run.finished)
        elif filed_here and step.act == "execute":
            duration = seconds(filed_here.document.body.get("started"), filed_here.document.body.get("finished"))
        rows.append(_row(session, case, step, at, person, duration))
        previous = at or previous
    return tuple(rows)


def _row(session: Session, case: Case, step: Step, at: str | None, person: str, duration: int | None) -> forms.Step:
    roles = session.site.profile.profile.roles
    return forms.Step(
        number=step.nomor or "",
        text=step.text,
        by=", ".join(roles[role].title for role in step.by),
        person=person,
        at=at,
        duration_s=duration if duration is None or duration >= 0 else None,
        limit=step.sla,
        inferred=step.source == "inferred",
        by_inferred=case.flow.actors_source == "inferred",
    )


# --- backup ----------------------------------------------------------------------------------------------------


def backup_form(session: Session, case: Case, run: Run, operator: Signer) -> BackupForm:
    """Formulir Pelaksanaan Back Up Data."""
    rows = tuple(_backup_row(session, item, run) for item in run.plan["items"])
    profile = session.site.profile.profile
    flow = profile.flow(case.flow_name)
    checker = next((step.gate.decide for step in flow.steps if step.gate), flow.steps[-1].by[0])
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
        ),
        rows=rows,
        steps=steps(session, case, run, operator.person.id),
        operator=official(session, flow.steps[0].by[0], operator.person, run.finished),
        checker=official(session, checker),
        period=run.plan["items"][0]["period"] if run.plan["items"] else "",
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


def _backup_row(session: Session, item: Json, run: Run) -> BackupRow:
    dataset_id = item["dataset"]["id"]
    dataset = session.site.dataset(dataset_id)
    own = [entry for entry in run.outcome.evidence if entry.get("dataset") == dataset_id and not entry.get("failed")]
    stored: Json = next((entry for entry in own if entry["kind"] == "backup"), {})
    proof: Json = next((entry for entry in own if entry["kind"] == "verify"), {})
    tables: Any = proof.get("tables") or stored.get("tables") or {}
    count, rows, words = _amount(item, tables)
    result, remark = dataset_result(run, item)
    remark = "; ".join(part for part in (remark, words) if part)
    return BackupRow(
        dataset=dataset_id,
        dataset_name=dataset.name,
        schedule={"P1M": "bulanan", "P1W": "mingguan", "P1D": "harian"}[item["every"]],
        jenis=item["jenis"],
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


# --- restore ---------------------------------------------------------------------------------------------------


def request_forms(session: Session, case: Case) -> list[RestoreRequestForm]:
    """Formulir Permintaan Restore Data, one a dataset, as far as the case has come."""
    request, decision = case.request, case.body("decide")
    asked, decided, disposed = case.last("request"), case.last("decide"), case.last("dispose")
    if asked is None:
        return []
    flow = case.flow
    verdict = {"approve": "disetujui", "reject": "ditolak", None: "menunggu"}[decision.get("decision")]
    decider_role = next(
        (step.gate.decide for step in flow.steps if step.gate and step.act == "decide"), flow.steps[-1].by[0]
    )
    backups = {target.get("dataset"): target for target in (decision.get("approval") or {}).get("targets", [])}
    paper = session.site.profile.profile.records[flow.steps[0].out[-1]]
    found = []
    for dataset_id in request["datasets"]:
        dataset = session.site.dataset(dataset_id)
        target: Json = backups.get(dataset_id, {})
        since = target.get("backup_time")
        found.append(
            RestoreRequestForm(
                letterhead=letterhead(session),
                header=header(session, paper.title, case.id, "", case.flow_name, verdict),
                steps=steps(session, case, None, ""),
                unit=request["unit"],
                letter_number=request["letter"]["number"],
                letter_date=request["letter"].get("date"),
                asset_ids=(
                    dataset.server,
                    *(service.server for service in dataset.services if service.server != dataset.server),
                ),
                dataset=dataset_id,
                dataset_name=dataset.name,
                database=dataset.database or dataset.path or "",
                point=request["point"],
                point_time=since,
                reason=request["reason"],
                classification=dataset.classification,
                data_owner=dataset.owner_unit,
                overwrite=True,
                requester=signed(session, asked),
                decider=signed(session, decided) if decided else official(session, decider_role),
                deadline=request.get("deadline"),
                letter_sha256=request["letter"]["sha256"],
                contact=request.get("contact") or "",
                data_set_aside_since=since,
                decision_reason=decision.get("reason") or "",
                disposer=signed(session, disposed) if disposed else None,
            )
        )
    return found


def signed(session: Session, filed: Filed) -> Official:
    actor = filed.document.actor
    person = next((entry for entry in session.trust.file.people if entry.id == actor.person), None)
    title = session.site.profile.profile.roles[actor.role].title
    if person is None:
        return Official(role_title=title, person=actor.person, at=filed.document.at)
    return Official(
        role_title=title,
        jabatan=person.jabatan,
        name=person.name,
        nip=person.nip,
        person=person.id,
        at=filed.document.at,
    )


def restore_forms(session: Session, case: Case, run: Run, operator: Signer) -> list[RestoreForm]:
    """Formulir Pelaksanaan Restore Data, one a dataset."""
    title, inferred = _title(session, case, "restore")
    result = restore_result(run)
    down, up = downtime(run)
    decided = case.last("decide")
    checker_role = decided.document.actor.role if decided else case.flow.steps[-1].by[0]
    found = []
    for item in run.plan["items"]:
        dataset = session.site.dataset(item["dataset"]["id"])
        own = [
            entry for entry in run.outcome.evidence if entry.get("dataset") == dataset.id and not entry.get("failed")
        ]
        swap: Json = next((entry for entry in own if entry["kind"] == "swap"), {})
        stage: Json = next((entry for entry in own if entry["kind"] == "stage"), {})
        tables: Json = stage.get("tables") or {}
        count, rows, words = _amount(item, tables)
        found.append(
            RestoreForm(
                letterhead=letterhead(session),
                header=header(
                    session, title, case.id, run.id, case.flow_name, result, check=run.check, inferred=inferred
                ),
                steps=steps(session, case, run, operator.person.id),
                dataset=dataset.id,
                dataset_name=dataset.name,
                database=dataset.database or dataset.path or "",
                server=dataset.server,
                backup_id=item["snapshot"],
                backup_name=item["backup_name"],
                backup_sha256=item["sha256"] or "",
                backup_time=item["backup_time"],
                data_set_aside_since=item["backup_time"],
                safety_copy=str(swap.get("before") or stage.get("before") or ""),
                service=", ".join(f"{service['server']}/{service['service']['name']}" for service in item["services"]),
                service_down_at=down,
                service_up_at=up,
                downtime_s=seconds(down, up),
                max_downtime_s=item["max_downtime"],
                safety_copy_until=clock.plus(run.finished, days=session.site.config.policy.keep_days),
                tests=tuple(_tests(session, item, stage, own, run)),
                rollback=_rollback(own),
                verification=_verification(stage, run),
                operator=official(session, operator_role(case), operator.person, run.finished),
                checker=official(session, checker_role),
                decider=signed(session, decided) if decided else None,
                started=run.started,
                finished=run.finished,
                tables=count,
                rows=rows,
                remark=words,
                request_number=str((case.request.get("letter") or {}).get("number", "")),
                requester_unit=str(case.request.get("unit", "")),
                failure=_failure(run),
            )
        )
    return found


def operator_role(case: Case) -> str:
    """Role of whoever executes in this case's flow."""
    return next(step.by[0] for step in case.flow.steps if step.act == "execute")


def _verification(stage: Json, run: Run) -> forms.Verification:
    if run.check or not stage:
        return "belum"
    return "berhasil" if restore_result(run) == "berhasil" else "tidak_berhasil"


def _failure(run: Run) -> str:
    return "; ".join(f"{entry['host']}: {entry['msg']}" for entry in run.outcome.failures[:1]) or "; ".join(
        run.outcome.problems
    )


def seconds(first: str | None, second: str | None) -> int | None:
    """Seconds between two moments, when both are known."""
    return clock.seconds_between(first, second) if first and second else None


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
                name="Perbandingan isi salinan sebelum ditukar", ok=True, expected=compared, actual=actual
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
