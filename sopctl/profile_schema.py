# SPDX-License-Identifier: Apache-2.0
"""The published schema of profiles: JSON Schema made from the records, and what every key means, in one place."""

from __future__ import annotations

import inspect
import re
from typing import Any

import msgspec

from sopctl.profile import CLASSIFICATIONS, ENDS, FIELDS, RUN_KEYS, RUN_WORDS, Profile

#: record → key → meaning; docs/reference/profile.md and the schema's descriptions are made from this
MEANING: dict[str, dict[str, str]] = {
    "Profile": {
        "schema": "Always `sop-profile/v1`.",
        "id": "The profile's name; the file is called `<id>.yml`. Letters a-z, digits, `-` and `.`.",
        "document": "The SOP's identity block.",
        "roles": "Role id → a column of the SOP's table.",
        "records": "Paper id → a paper that the SOP names.",
        "flows": "Flow id → a procedure table.",
        "preflight": "What must hold before anything is changed: `asset_registered`, `asset_review_current`, `capacity_checked`.",
        "sod": "Separation of duties: lists of roles that must be different persons in one case.",
        "authority": "Classification (`terbuka`, `terbatas`, `rahasia`) → roles that may approve requests for such data; a classification that is not named is the gate's own decider's.",
        "break_glass": "Emergencies; without it there are none.",
    },
    "Heading": {
        "nama_sop": "Name, as printed.",
        "nomor_sop": "Number, as printed.",
        "instansi": "The agency.",
        "unit": "The unit within it.",
        "disahkan_oleh": "Who approved the SOP.",
        "tanggal_pembuatan": "Date made, `2026-11-22`.",
        "tanggal_revisi": "Date revised; null when the SOP leaves it blank.",
        "tanggal_efektif": "Date it holds from; null when the SOP leaves it blank.",
        "dasar_hukum": "Legal basis, line by line, as printed.",
        "kualifikasi": "Qualification of those who carry it out.",
        "keterkaitan": "Related SOPs.",
        "peralatan": "Equipment.",
        "peringatan": "Warnings; printed on the forms as well.",
        "pencatatan": "Records and data to be kept.",
        "catatan": "Notes below the SOP.",
    },
    "Approver": {
        "jabatan": "Position.",
        "nama": "Name, as the SOP prints it.",
        "pangkat": "Rank, where the SOP prints one.",
    },
    "Role": {
        "title": "What the SOP calls the actor.",
        "column": "Heading of the column, where several roles share one; else the title.",
    },
    "Paper": {
        "title": "What the SOP calls the paper.",
        "must_have": f"What a request must say before it can go on: {', '.join(f'`{word}`' for word in FIELDS)}.",
        "alias": "Another name that the SOP uses for it.",
        "source": "`inferred` when the SOP does not name it.",
    },
    "Separation": {
        "differ": "Roles that no one person may hold in one case.",
        "source": "`inferred` when the SOP does not say so.",
    },
    "BreakGlass": {
        "by": "Roles of the two different persons who must sign.",
        "hours": "How long the emergency lasts at the most, 1 to 72.",
        "ratify": "Role that looks at it afterwards: ratifies or censures.",
        "source": "`inferred` when the SOP does not say so.",
    },
    "Flow": {
        "trigger": "`request`, or `{schedule, at_least_every}`.",
        "steps": "The rows of the table, in its order.",
        "variants": "`backup` and `restore`, where one table serves both and the request says which.",
        "actors_source": "`inferred` when the SOP's marks in the actors' columns are missing or lost.",
    },
    "Trigger": {
        "schedule": "Paper id of the schedule (Jadwal Back Up).",
        "at_least_every": "`P1M`, `P1W` or `P1D`.",
    },
    "Step": {
        "id": "Name of the step, unique in its flow; stands in every document.",
        "act": "`request`, `dispose`, `decide`, `plan`, `execute`, `confirm`, `inform` or `receive`.",
        "nomor": "The number the SOP prints, quoted; two rows may have the same. null for a row that the SOP does not have.",
        "text": "The SOP's own words, letter for letter.",
        "by": "Roles that carry it out.",
        "needs": "Papers that must be there (kelengkapan); each is left by an earlier step or is the schedule.",
        "needs_inferred": "The same, where the SOP does not say so.",
        "out": "Papers that it leaves (output).",
        "out_source": "`inferred` when the SOP does not say so.",
        "sla": "Time limit (waktu): `PT15M`, `PT1H`, `P1D`; null when the SOP gives none.",
        "gate": "The decision, only where `act` is decide or confirm; decide always has one.",
        "informs": "Roles that are told.",
        "params": "Parameters of the technical work, such as `restore_point: latest_verified`.",
        "run": f"Operation ({', '.join(f'`{key}`' for key in RUN_KEYS)}) → what is done: {', '.join(f'`{word}`' for word in RUN_WORDS)}.",
        "run_source": "`inferred` when the SOP names no technical steps.",
        "on_failure": "Operation → what is done when the step fails: the words of `run`, and `rollback`.",
        "source": "`inferred` when the SOP does not have this row; it is printed with the mark [tafsiran].",
        "next": "Step that follows, where it is not the next row.",
        "end": f"The case ends here: {' or '.join(f'`{word}`' for word in ENDS)}.",
    },
    "Gate": {
        "decide": "Role that decides.",
        "approve": "Step that follows approval, or `closed`.",
        "reject": "Step that follows rejection, or `closed`.",
        "checks": "What the decider looks at, in words of the agency.",
        "forward": "Roles that pass an approved request on; their document belongs to the same step.",
        "source": "`inferred` when the SOP does not have this decision.",
    },
}


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a profile; keys that it does not name are refused, as `load_profile` refuses them."""
    schema: dict[str, Any] = msgspec.json.schema(Profile)
    definitions: dict[str, Any] = schema["$defs"]
    for name, definition in definitions.items():
        # msgspec before 0.23 leaves a docstring's indentation in it
        definition["description"] = re.sub(r"``", "`", inspect.cleandoc(definition.get("description", name)))
        for key, property_ in definition["properties"].items():
            property_["description"] = MEANING[name][key]
    properties = {name: definition["properties"] for name, definition in definitions.items()}
    properties["Profile"]["schema"]["const"] = "sop-profile/v1"
    properties["Profile"]["authority"]["propertyNames"] = {"enum": list(CLASSIFICATIONS)}
    properties["Paper"]["must_have"]["items"]["enum"] = list(FIELDS)
    for key, words in (("run", RUN_WORDS), ("on_failure", (*RUN_WORDS, "rollback"))):
        properties["Step"][key]["propertyNames"] = {"enum": list(RUN_KEYS)}
        properties["Step"][key]["additionalProperties"]["items"]["enum"] = list(words)
    top = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "SOP profile of sopctl"}
    return top | {"$ref": schema["$ref"], "$defs": definitions}
