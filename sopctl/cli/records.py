# SPDX-License-Identifier: Apache-2.0
"""``sopctl record …``."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from sopctl import archive, audit, countersigning, fsio, pdf_signers
from sopctl.cli.common import Settings, acting, settings, with_json
from sopctl.errors import ExitCode, UsageError
from sopctl.models import Json
from sopctl.output import Output
from sopctl.pdf_signers import CannotSign, Holder


@click.group()
def record() -> None:
    """Look at the archive's records."""


def _records(config: Settings, folder: Path | None) -> list[Path]:
    return archive.list_records(folder or config.session.site.archive)


ARCHIVE = click.option(
    "--archive",
    "folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Another archive than the site's (a copy).",
)


@record.command("list")
@ARCHIVE
@with_json
@settings
def list_(config: Settings, folder: Path | None) -> None:
    """List the records, oldest first."""
    value = []
    for path in _records(config, folder):
        info = archive.record_info(path)
        value.append(
            {
                "record": path.name,
                "kind": _one(info, "Sop-Record-Kind"),
                "what": _one(info, "External-Description"),
                "date": _one(info, "Bagging-Date"),
                "operator": _one(info, "Sop-Operator"),
                "path": str(path),
            }
        )

    def render(output: Output) -> None:
        output.table(
            ["record", "kind", "what", "date", "by"],
            [[row["record"], row["kind"], row["what"], row["date"], row["operator"]] for row in value],
        )

    config.output.result(value, render)


def _one(info: dict[str, list[str]], name: str) -> str:
    return (info.get(name) or [""])[0]


@record.command()
@click.argument("record_id", metavar="RECORD")
@ARCHIVE
@with_json
@settings
def show(config: Settings, record_id: str, folder: Path | None) -> None:
    """Show what a record holds."""
    path = _find(config, record_id, folder)
    result_path = path / "data/run/result.json"
    result: Json | None = json.loads(result_path.read_bytes()) if result_path.is_file() else None
    value = {
        "record": path.name,
        "path": str(path),
        "info": archive.record_info(path),
        "result": result,
        "forms": sorted(str(found) for found in (path / "data").glob("*.html")),
        "files": sorted(str(found.relative_to(path)) for found in path.rglob("*") if found.is_file()),
    }

    def render(output: Output) -> None:
        output.line(path.name, "bold")
        for name, values in archive.record_info(path).items():
            output.line(f"  {name}: {', '.join(values)}")
        if result is not None:
            output.line(
                f"  run {result['started']} to {result['finished']}: exit {result['rc']}, changed={result['changed']}, {result['events']} events"
            )
            for failure in result["failures"]:
                output.line(f"  {failure['host']}: {failure['msg']}", "red")
            for problem in result["problems"]:
                output.line(f"  evidence: {problem}", "red")
        for form in sorted((path / "data").glob("*.html")):
            output.line(f"  form: {form}")
        output.line(f"  {len(list(path.rglob('*')))} files in {path}")

    config.output.result(value, render)


def _find(config: Settings, record_id: str, folder: Path | None) -> Path:
    for path in _records(config, folder):
        if path.name == record_id:
            return path
    raise UsageError(f"record {record_id!r} does not exist", hint="See sopctl record list.")


@record.command()
@click.argument("record_ids", metavar="[RECORD]...", nargs=-1)
@ARCHIVE
@with_json
@settings
def verify(config: Settings, record_ids: tuple[str, ...], folder: Path | None) -> int:
    """Check records: bytes, signatures, documents and the ledger. Exit 30 when anything is broken."""
    config.session.reading = True
    findings, count = audit.verify(config.session, folder or config.session.site.archive, list(record_ids))
    broken = [finding for finding in findings if finding.severity == "broken"]
    value = {
        "records": count,
        "ok": not broken,
        "findings": [
            {
                "severity": found.severity,
                "record": found.record,
                "file": found.file,
                "rule": found.rule,
                "meaning": found.meaning,
            }
            for found in findings
        ],
    }

    def render(output: Output) -> None:
        for found in findings:
            word = "BROKEN" if found.severity == "broken" else "could not check"
            output.line(
                f"{word}: {found.record} {found.file}: {found.meaning} [{found.rule}]",
                "red" if found.severity == "broken" else "yellow",
            )
        if broken:
            output.line(f"{len(broken)} broken in {count} records", "bold red")
        else:
            output.line(
                f"{count} records: bytes, signatures and ledger hold"
                + (f" ({len(findings)} could not be checked)" if findings else ""),
                "bold green",
            )

    config.output.result(value, render)
    return int(ExitCode.EVIDENCE_BROKEN if broken else ExitCode.OK)


@record.command()
@click.argument("record_id", metavar="RECORD")
@click.option("--pkcs12", metavar="FILE", type=click.Path(path_type=Path), help="File with the key and certificate.")
@click.option("--pkcs11", metavar="MODULE", type=click.Path(path_type=Path), help="Library of the token with them.")
@click.option("--token", metavar="LABEL", default="", help="Name of the token (with --pkcs11).")
@click.option("--label", metavar="LABEL", default="", help="Name of key and certificate on it (with --pkcs11).")
@click.option("--form", metavar="NAME", default="form.pdf", show_default=True, help="Which of the record's forms.")
@click.option("--reason", default="", help="Why, as it stands in the signature.")
@acting
@with_json
@settings
def sign(
    config: Settings,
    record_id: str,
    pkcs12: Path | None,
    pkcs11: Path | None,
    token: str,
    label: str,
    form: str,
    reason: str,
    person: str | None,
    key: str | None,
) -> None:
    """Sign a record's form as an official (PAdES), by a PKCS#12 file or a token.

    The passphrase or PIN is asked for and kept nowhere. The signed form becomes a record of its own, sealed by --as.
    """
    try:
        with _holder(pkcs12, pkcs11, token, label) as holder:
            done = countersigning.sign_form(config.session, record_id, form, holder, reason, person, key)
    except CannotSign as error:
        where = str(pkcs12 or pkcs11)
        raise UsageError(str(error), where=where) from error
    said = done.said
    value = {
        "record": done.record.name,
        "of": said.of,
        "form": str(done.pdf),
        "person": said.person,
        "certificate": said.certificate,
        "level": said.level,
    }

    def render(output: Output) -> None:
        output.line(
            f"{said.of}: {said.form} signed by {said.person} ({said.subject}), PAdES {said.level}", "bold green"
        )
        output.line(f"  record {done.record.name}: {done.pdf}")

    config.output.result(value, render)


def _holder(pkcs12: Path | None, pkcs11: Path | None, token: str, label: str) -> AbstractContextManager[Holder]:
    """What holds the key, opened with the secret that is asked for."""
    if (pkcs12 is None) == (pkcs11 is None):
        raise UsageError("what holds the key?", where="--pkcs12/--pkcs11", hint="Give one of them.")
    if pkcs12 is not None:
        data = fsio.read_strict(pkcs12)
        return nullcontext(pdf_signers.from_pkcs12(data, _secret(f"Passphrase of {pkcs12.name}").encode()))
    if not token or not label:
        raise UsageError(
            "which key on the token?", where="--token/--label", hint="Give both: pkcs11-tool --list-objects."
        )
    assert pkcs11 is not None  # noqa: S101  # one of the two is given
    return pdf_signers.from_pkcs11(pkcs11, token, label, _secret(f"PIN of {token}"))


def _secret(what: str) -> str:
    """Asked for on the terminal, without showing it."""
    return str(click.prompt(what, hide_input=True, err=True, default="", show_default=False))
