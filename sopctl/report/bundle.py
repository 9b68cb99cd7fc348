# SPDX-License-Identifier: Apache-2.0
"""The evidence of a period in one bag: it verifies with `sha256sum` and `bagit.py`, and by hand as its own page says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sopctl import archive, clock, content, fsio, pem, signing, stamps
from sopctl import case as cases
from sopctl.coverage import known_trusts
from sopctl.errors import ConfigError, SopctlError
from sopctl.findings import Finding
from sopctl.report.facts import Facts
from sopctl.trust import roots

#: pages that lie in the bundle: how to check it without our software
PAGES = ("verify-by-hand.md", "documents.md")
LEFT_OUT = "archive/left-out.txt"
README = """\
Berkas bukti / evidence bundle
==============================

{agency}
Periode / period: {period}
Dibuat / made: {at} (UTC)

report/index.html       laporan untuk dibaca / the report, to be read
archive/records/        rekaman bertanda tangan dari periode ini / the signed records of the period
archive/ledger.jsonl    buku besar seutuhnya / the whole ledger
archive/checkpoints/    titik periksa dan kesaksian / checkpoints and witnesses' words
archive/timestamps/     penanda waktu pihak ketiga, bila ada / time stamps by an authority, where there is one
archive/trusts/         kepercayaan yang pernah berlaku / every trust that is known
archive/left-out.txt    rekaman di luar periode / records of other periods, not in here
cases/                  dokumen kasus bertanda tangan / the cases' signed documents{attachments}
verify-by-hand.md       cara memeriksa tanpa perangkat lunak kami / how to check it without our software

Kunci publik akar (root) tidak ada di sini: mintalah melalui jalan lain.
The root's public key is not in here: get it by another way. Its fingerprint as the site has it:
{roots}
"""


@dataclass(frozen=True)
class Bundle:
    """What was packed: the digest of its tag manifest, to be handed over by another way; counts."""

    tagmanifest: str
    files: int
    records: int
    cases: int
    left_out: int


def gather(facts: Facts, report: Mapping[str, bytes], *, attachments: bool) -> dict[str, bytes | Path]:
    """Names below ``data/`` → what goes there. ConfigError for what cannot be read, or is no regular file."""
    site = facts.session.site
    files: dict[str, bytes | Path] = {f"report/{name}": data for name, data in report.items()}
    for page in PAGES:
        files[page] = content.page(page)
    for record in facts.records:
        for path in _files(record.path):
            files[f"archive/{path.relative_to(site.archive)}"] = path
    for path in sorted(site.archive.glob("ledger.jsonl*")):
        files[f"archive/{path.name}"] = path
    packed = {record.id for record in facts.records}
    beside = [path for name in ("checkpoints", stamps.FOLDER) for path in _files(site.archive / name)]
    for path in beside:
        if path.parent.name != "records" or path.name.split(".")[0] in packed:
            files[f"archive/{path.relative_to(site.archive)}"] = path
    for trust in known_trusts(facts.session, site.archive, facts.lines).values():
        folder = f"archive/trusts/{trust.file.serial}"
        files[f"{folder}/trust.yml"], files[f"{folder}/trust.yml.sig"] = trust.data, trust.signature
        files[f"{folder}/allowed_signers"] = trust.allowed_signers().encode()
        if trust.anchors:
            files[f"{folder}/anchors.pem"] = pem.pem_of(trust.anchors)
    left = sorted({line.ref for line in facts.lines if line.kind == "record"} - packed - _missing(facts))
    files[LEFT_OUT] = "".join(f"{name}\n" for name in left).encode()
    for folder_of in _cases(facts):
        for path in _files(folder_of):
            if attachments or "attachments" not in path.relative_to(folder_of).parts:
                files[f"cases/{path.relative_to(site.cases)}"] = path
    files["findings.json"] = _findings(facts)
    files["README.txt"] = README.format(
        agency=site.config.agency.nama,
        period=facts.period,
        at=facts.at,
        attachments="" if attachments else "\n                        (tanpa lampiran / without attachments)",
        roots="\n".join(f"  {signing.fingerprint(key)}" for key in roots(site.root).keys()),  # noqa: SIM118  # no mapping's
    ).encode()
    return files


def _missing(facts: Facts) -> set[str]:
    """Records that are gone from the archive itself: the bundle must not excuse that."""
    there = {path.name for path in archive.list_records(facts.session.site.archive)}
    return {line.ref for line in facts.lines if line.kind == "record"} - there


def _files(folder: Path) -> Iterator[Path]:
    """Every file below ``folder``; ConfigError for a link, or anything that a bag cannot hold as it is."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ConfigError(
                "is no regular file, and cannot be packed", where=str(path), hint="Run: sopctl audit verify."
            )
        if path.is_file():
            yield path


def _cases(facts: Facts) -> Iterator[Path]:
    """Folders of the cases in which something was received, or sealed, in the period."""
    of_period = {"-".join(record.id.split("-")[:3]) for record in facts.records}
    for line in facts.lines:
        if line.kind == "document" and facts.within(facts.month_of(line.at)):
            of_period.add(line.ref.partition("/")[0])
    for folder in cases.case_folders(facts.session.site.cases):
        if folder.name in of_period:
            yield folder


def _findings(facts: Facts) -> bytes:
    """What was found, for programs; ``verified`` false where nothing was looked at."""
    found: list[Finding] = facts.findings
    value = {"verified": facts.audit is not None, "at": facts.at, "findings": [one.as_json() for one in found]}
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def pack(facts: Facts, files: Mapping[str, bytes | Path], folder: Path) -> Bundle:
    """Make the empty ``folder`` the bag. ConfigError for a name that no bag can hold, OSError when it cannot be written."""
    config = facts.session.site.config
    info = {
        "Source-Organization": config.agency.nama,
        "External-Description": f"backup and restore evidence of {facts.period}",
        "Sop-Site": config.site,
        "Sop-Period": facts.period,
    }
    own = {"External-Identifier": f"{config.agency.kode}-{facts.period}"}
    (folder / "data").mkdir()
    try:
        tags = archive.write_bag(folder, files, info, own, clock.parse(facts.at))
    except SopctlError as error:
        raise ConfigError(
            f"cannot be packed: {error.message}", where=error.where, hint="Run: sopctl audit verify."
        ) from error
    left = files[LEFT_OUT]
    return Bundle(
        tagmanifest=fsio.sha256_bytes(tags),
        files=len(files),
        records=len(facts.records),
        cases=len({"/".join(name.split("/")[:3]) for name in files if name.startswith("cases/")}),
        left_out=left.count(b"\n") if isinstance(left, bytes) else 0,
    )
