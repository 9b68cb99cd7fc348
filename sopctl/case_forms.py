# SPDX-License-Identifier: Apache-2.0
"""A case's own forms: the request as far as the case has come, and the plan."""

from __future__ import annotations

from sopctl import approval, clock, effects
from sopctl.blanks import PlanForm, PlanRow, RestoreRequestForm, Specified
from sopctl.case import Case
from sopctl.filing import header, letterhead, official, requester, signed, steps
from sopctl.models import Dataset, Json
from sopctl.plan import dataset_record, safety_period
from sopctl.session import Session


def request_forms(session: Session, case: Case) -> list[RestoreRequestForm]:
    """Formulir Permintaan Restore Data, one a dataset, as far as the case has come."""
    request, decision = case.request, case.body("decide")
    asked, decided, disposed = case.last("request"), case.last("decide"), case.last("dispose")
    if asked is None:
        return []
    flow = case.flow
    verdict = {"approve": "disetujui", "reject": "ditolak", None: "menunggu"}[decision.get("decision")]
    decider_role = next((step.actors[0] for step in flow.steps if step.act == "decide"), flow.steps[-1].by[0])
    granted = approval.approval_of(case)
    listed = granted[0].get("targets", []) if granted and isinstance(granted[0], dict) else []
    backups = {target.get("dataset"): target for target in listed}
    consents = {filed.document.body.get("dataset"): filed for filed in case.all("consent")}
    paper = session.site.profile.profile.records[flow.steps[0].out[-1]]
    found = []
    for dataset_id in request["datasets"]:
        dataset = session.site.dataset(dataset_id)
        target: Json = backups.get(dataset_id, {})
        since = target.get("backup_time")
        wanted = (request.get("to") or {}).get(dataset_id)
        in_place = bool(request.get("in_place") or target.get("in_place") or case.body("plan").get("in_place"))
        found.append(
            RestoreRequestForm(
                letterhead=letterhead(session),
                header=header(session, paper.title, case.id, "", case.flow_name, verdict, case=case),
                steps=steps(session, case, None, ""),
                unit=request["unit"],
                letter_number=request["letter"]["number"],
                letter_date=request["letter"].get("date"),
                asset_ids=tuple(
                    dict.fromkeys(
                        [
                            dataset.server,
                            *([wanted["server"]] if wanted else []),
                            *(one.server for one in dataset.services if case.operation == "restore" and not wanted),
                        ]
                    )
                ),
                dataset=dataset_id,
                dataset_name=dataset.name,
                database=dataset.database or dataset.path or "",
                point=request["point"],
                point_time=since,
                reason=request["reason"],
                classification=dataset.classification,
                data_owner=dataset.owner_unit,
                overwrite=case.operation == "restore" and not wanted,
                other_place=f"{wanted['place']} di server {wanted['server']}" if wanted else "",
                in_place=in_place,
                requester=requester(session, case),
                operation=case.operation,  # type: ignore[arg-type]  # the profile knows these two
                specification=tuple(Specified(**line) for line in request.get("specification") or []),
                consent=signed(session, consents[dataset_id]) if dataset_id in consents else None,
                decider=signed(session, decided) if decided else official(session, decider_role),
                deadline=request.get("deadline"),
                letter_sha256=request["letter"]["sha256"],
                contact=request.get("contact") or "",
                data_set_aside_since=None if wanted else since,
                backup_age_s=max(0, clock.seconds_between(since, granted[1])) if since and granted else None,
                kept_as=_kept_as(dataset, case.id, in_place=in_place) if since and not wanted else "",
                kept_days=session.policy.keep_days if since and not (wanted or in_place) else None,
                decision_reason=decision.get("reason") or "",
                disposer=signed(session, disposed) if disposed else None,
            )
        )
    return found


def _kept_as(dataset: Dataset, case_id: str, *, in_place: bool) -> str:
    if in_place:
        return f"back up pengaman di vault, periode {safety_period(case_id)}"
    return f"{effects.kept_name(dataset_record(dataset), case_id)} di server {dataset.server}"


def _how(target: Json) -> str:
    """What a plan's row says of a restore that is not the usual one."""
    if target.get("to"):
        return "ke lokasi lain: data yang berjalan dan layanannya tidak disentuh"
    if target.get("in_place"):
        return "DI TEMPAT: back up pengaman ke vault, lalu data diganti; layanan mati sampai selesai dimuat"
    return ""


def plan_form(session: Session, case: Case) -> PlanForm | None:
    """Perencanaan, as the case's plan document says it; None where nothing was planned."""
    filed = case.last("plan")
    if filed is None:
        return None
    body = filed.document.body
    paper = case.flow.paper("plan")
    title = session.site.profile.profile.records[paper].title if paper else "Perencanaan"
    targets = {target["dataset"]: target for target in body["targets"]}
    granted = approval.approval_of(case)
    listed = granted[0].get("targets", []) if granted and isinstance(granted[0], dict) else []
    backups = {target.get("dataset"): target for target in listed}
    rows = []
    for row in body["capacity"]:
        dataset = session.site.dataset(row["dataset"])
        chosen: Json = backups.get(dataset.id, {})
        rows.append(
            PlanRow(
                dataset=dataset.id,
                dataset_name=dataset.name,
                operation=case.operation,  # type: ignore[arg-type]  # the profile knows these two
                server=targets[dataset.id]["server"],
                database=str(targets[dataset.id]["place"]),
                bytes=row["bytes"],
                place=row["stage_path"] or "",
                free=row["stage_free"],
                needs=row["needs"],
                reserve=row.get("reserve") or 0,
                vault_free=row["vault_free"],
                predicted_s=row["predicted_s"],
                predicted_downtime_s=row["predicted_downtime_s"],
                basis=row["basis"],
                backup_name=chosen.get("backup_name") or "",
                backup_time=chosen.get("backup_time"),
                services=tuple(targets[dataset.id]["services"]),
                max_downtime_s=clock.duration_seconds(dataset.max_downtime) if body.get("in_place") else None,
                remark=_how(targets[dataset.id]),
            )
        )
    people = {person.id: person for person in session.trust.file.people}
    decided = case.last("decide")
    return PlanForm(
        letterhead=letterhead(session),
        header=header(session, title, case.id, "", case.flow_name, "layak", case=case),
        steps=steps(session, case, None, ""),
        rows=tuple(rows),
        window_start=body["window"]["since"],
        window_end=body["window"]["until"],
        personnel=tuple(
            official(session, one["roles"][0], people[one["person"]])
            for one in body["on_duty"]
            if one["person"] in people
        ),
        risks=tuple(part for part in body["risk"].split("; ") if part),
        planner=signed(session, filed),
        approver=signed(session, decided) if decided else None,
        vault=session.site.config.vault.media,
        request_number=str((case.request.get("letter") or {}).get("number", "")),
        requester_unit=str(case.request.get("unit", "")),
    )
