# SPDX-License-Identifier: Apache-2.0
"""``sopctl vault …``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from fnmatch import fnmatchcase

import click

from sopctl import copying, forgetting, upkeep
from sopctl import vault as vaults
from sopctl.cli.common import Settings, acting, local, settings, with_json
from sopctl.errors import UsageError
from sopctl.models import Json
from sopctl.output import Output
from sopctl.output import size as formatted
from sopctl.retention import Verdict
from sopctl.vault import Backup, Copied

REPAIR = "{} (or by hand: move the packs away, restic rebuild-index); until then a new {} relies on what is damaged"


@click.group()
def vault() -> None:
    """The vault: what the records say lies in it, and its maintenance from this machine."""


@vault.command()
@click.option("--server", "servers", multiple=True, metavar="ID", help="The repositories of these servers only.")
@click.option(
    "--read-share",
    default="1/12",
    show_default=True,
    metavar="SHARE",
    help="How much restic reads: all, a percentage, or 1/12, the next twelfth each time.",
)
@click.option("--quarantine", is_flag=True, help="Move what does not belong aside, and damaged packs; delete nothing.")
@click.option("--copy", metavar="NAME", help="Check what was copied to this other vault.")
@acting
@with_json
@settings
def check(
    config: Settings,
    servers: tuple[str, ...],
    read_share: str,
    quarantine: bool,
    copy: str | None,
    person: str | None,
    key: str | None,
) -> int:
    """Check the vault: its files, restic's own check, and whether what the records speak of is there."""
    done = upkeep.check(
        config.session,
        person,
        key,
        servers=servers,
        share=read_share,
        quarantine=quarantine,
        copy=copy,
        say=config.output.remark,
    )

    def render(output: Output) -> None:
        for row in done.rows:
            _checked(output, row)
        output.line(f"record: {done.record}")

    config.output.result({"servers": done.rows, "record": str(done.record), "exit": int(done.code)}, render)
    return int(done.code)


@vault.command()
@click.option("--dataset", "datasets", multiple=True, metavar="ID", help="Backups of these datasets only.")
@click.option("--yes", is_flag=True, help="Forget them without asking.")
@click.option("--check", "only_look", is_flag=True, help="Show what would go; change nothing.")
@click.option("--copy", metavar="NAME", help="Forget copies in this other vault, by the same retention.")
@acting
@with_json
@settings
def forget(
    config: Settings,
    datasets: tuple[str, ...],
    yes: bool,
    only_look: bool,
    copy: str | None,
    person: str | None,
    key: str | None,
) -> int:
    """Forget the backups that retention and open cases do not need, and free their room in the vault."""
    output = config.output
    verdicts = forgetting.look(config.session, list(datasets), copy)
    going = [each for each in verdicts if each.goes]
    rows = [{**_row(each.backup), "received": each.received, "goes": each.goes, "why": each.why} for each in verdicts]
    asks = bool(going) and not (only_look or yes or output.as_json) and sys.stdin.isatty()
    if only_look or not going or not (yes or asks):
        output.result({"backups": rows, "forgotten": [], "exit": 0}, lambda out: _going(out, verdicts, copy))
        return 0
    if asks:
        _going(output, verdicts, copy)
        if not click.confirm("Forget them?"):
            return 0
    done = forgetting.forget(config.session, person, key, list(datasets), copy=copy, say=output.remark)
    gone = done.plan["forgets"] if done else []

    def render(out: Output) -> None:
        for each in gone:
            out.line(f"forgotten: {each['dataset']} {each['name']}")
        out.line(f"record: {done.record}" if done else "Nothing may be forgotten.")

    output.result({"backups": rows, "forgotten": gone, "record": str(done.record) if done else None, "exit": 0}, render)
    return 0


@vault.command("copy")
@click.option("--server", "servers", multiple=True, metavar="ID", help="The repositories of these servers only.")
@click.option("--to", "to", multiple=True, metavar="NAME", help="To these other vaults only (vault.copies in sop.yml).")
@click.option("--back", metavar="NAME", help="Bring back from this one what the vault has lost.")
@click.option("--read-back/--no-read-back", default=True, show_default=True, help="Read each new copy whole.")
@acting
@with_json
@settings
def copy_(
    config: Settings,
    servers: tuple[str, ...],
    to: tuple[str, ...],
    back: str | None,
    read_back: bool,
    person: str | None,
    key: str | None,
) -> int:
    """Copy what the vault holds to other vaults, and read it back from there."""
    if back and to:
        raise UsageError("either to another vault or back from one", where="--back", hint="Give --to or --back.")
    done = copying.copy(
        config.session,
        person,
        key,
        servers=servers,
        names=[back] if back else to,
        back=back is not None,
        read_back=read_back,
        say=config.output.remark,
    )

    def render(output: Output) -> None:
        for row in done.rows:
            _copied(output, row)
        if done.record:
            output.line(f"record: {done.record}")

    record = str(done.record) if done.record else None
    config.output.result({"copies": done.rows, "record": record, "exit": int(done.code)}, render)
    return int(done.code)


def _copied(output: Output, row: Json) -> None:
    verified = sum(one["verified"] is True for one in row["copied"])
    bad = [one for one in row["copied"] if one["verified"] is False]
    words = f"{len(row['copied'])} {'brought back' if row['back'] else 'copied'}, {verified} of them read back whole"
    if not row["copied"] and not row["failed"] and not row["error"]:
        words = "nothing to bring back" if row["back"] else "nothing to copy"
    ill = bool(bad or row["failed"] or row["error"])
    output.line(f"{row['server']}@{row['copy']}: {words}", "bold red" if ill else "bold green")
    for one in bad:
        output.line(f"  damaged: {one['dataset']} {one['name']}", "red")
    if bad:
        at = None if row["back"] else row["copy"]
        output.line(f"  next: {_quarantine(at)} --read-share all, then copy again")
    for one in row["failed"]:
        output.line(f"  not copied: {one['dataset']} {one['name']}: {one['error']}", "red")
    if row["error"]:
        output.line(f"  broken off: {row['error']}", "red")


def _quarantine(copy: str | None) -> str:
    return f"sopctl vault check{f' --copy {copy}' if copy else ''} --quarantine --as PERSON"


def _going(output: Output, verdicts: list[Verdict], copy: str | None) -> None:
    """What would go and what stays, with the reason."""
    for each in verdicts:
        head = f"stays ({each.why})" if each.why else "goes"
        output.line(f"{head}: {each.backup.dataset} {each.backup.name}, {formatted(each.backup.bytes)}")
    total = sum(each.backup.bytes for each in verdicts if each.goes)
    count = sum(each.goes for each in verdicts)
    where = f" --copy {copy}" if copy else ""
    output.line(
        f"{count} would go ({formatted(total)} of dumps); to forget them: sopctl vault forget{where} --yes --as PERSON"
    )


def _checked(output: Output, row: Json) -> None:
    copy = row.get("copy")
    name = upkeep.place(row["server"], copy)
    if "error" in row:
        output.line(f"{name}: could not be checked", "bold red")
        output.line(f"  {row['error']}")
        return
    words = "clean" if row["clean"] else "NOT CLEAN"
    output.line(f"{name}: {words} ({row['scrubbed']})", "bold green" if row["clean"] else "bold red")
    for each in row["misfits"]:
        output.line(f"  misfit: {each['path']}: {each['why']}")
    for word in ("damaged", "missing"):
        for each in row[word]:
            output.line(f"  {word}: {each['dataset']} {each['name']}", "red")
    for each in row["unknown"]:
        output.line(f"  unknown: snapshot {each[:12]}: no record speaks of it (planted, or of a run without a record)")
    if row["problems"]:
        output.line(f"  restic: {row['problems'][0]}")
    if row["quarantine"]:
        output.line(f"  moved to {row['quarantine']}; the index is as the packs are")
    elif row["packs"]:
        output.line(f"  next: {REPAIR.format(_quarantine(copy), 'copy' if copy else 'backup')}")
    elif row["misfits"]:
        output.line(f"  next: {_quarantine(copy)} moves them aside")
    if row["damaged"] or row["missing"]:
        again = "sopctl vault copy" if copy else "sopctl schedule run --due"
        output.line(f"  they count no more: {again} --as PERSON makes good ones")


@vault.command("list")
@click.option("--dataset", "datasets", multiple=True, metavar="ID", help="Of these datasets only.")
@click.option("--name", "pattern", metavar="GLOB", help="With such names only, e.g. '*_simpeg_bulanan_2026*'.")
@with_json
@settings
def list_(config: Settings, datasets: tuple[str, ...], pattern: str | None) -> None:
    """List backups, oldest first: *verified* was restored or read back and found equal, *stored* was not (yet)."""
    site = config.session.site
    for dataset in datasets:
        site.dataset(dataset)
    found = [
        backup
        for backup in vaults.catalogue(site)
        if (not datasets or backup.dataset in datasets) and (not pattern or fnmatchcase(backup.name, pattern))
    ]
    if pattern and not found:
        raise UsageError(
            f"no backup is named like {pattern!r}",
            where="vault",
            hint="Quote the pattern, so that the shell leaves it alone. All names: sopctl vault list.",
        )

    checked = upkeep.last_checked(config.session)

    def render(output: Output) -> None:
        if not found:
            output.line("No record speaks of a backup yet. Make one: sopctl schedule run --due.")
            return
        for backup in found:
            output.line(backup.name, "bold")
            words = [
                backup.dataset,
                f"data of {local(backup.started, site.tz)}",
                formatted(backup.bytes),
                _state(backup),
                *(f"{name}: {_copy_state(there)}" for name, there in sorted(backup.copies.items())),
            ]
            output.line(f"  {', '.join(words)} (record {backup.record})")
        for server in sorted({backup.server for backup in found}):
            for name in [server, *(upkeep.place(server, one.name) for one in site.config.vault.copies)]:
                at = local(checked[name], site.tz) if name in checked else "never"
                output.line(f"vault of {name}: last checked: {at}")
        newest = {backup.dataset: backup for backup in found if backup.proven and not backup.safety}
        for dataset, backup in sorted(newest.items()):
            rule = copying.three_two_one(site, backup)
            said = f"{len(rule['places'])} copies ({', '.join(rule['places'])}), {rule['media']} media, {rule['offsite']} off-site"
            output.line(f"3-2-1 of {dataset}: {said}: {'kept' if rule['kept'] else 'NOT kept'}")
        if newest and not site.config.vault.copies:
            output.line("  no other vault is set: vault.copies in sop.yml, then sopctl vault copy --as PERSON")

    rows = [
        {
            **_row(backup),
            "checked": checked.get(backup.server),
            "copies": {name: asdict(there) for name, there in backup.copies.items()},
            "three_two_one": copying.three_two_one(site, backup),
        }
        for backup in found
    ]
    config.output.result(rows, render)


def _copy_state(there: Copied) -> str:
    if there.forgotten:
        return "forgotten"
    return there.flaw or ("verified" if there.verified else "stored")


def _state(backup: Backup) -> str:
    if backup.forgotten:
        return "forgotten, the vault holds it no more"
    if backup.flaw:
        return f"{backup.flaw} by the last look at the vault"
    state = "stored"
    if backup.verified:
        short = f": no room to restore at {backup.short['path']}" if backup.short else ""
        state = f"verified ({backup.depth}{short})" + (f" on {backup.proven_on}" if backup.proven_on else "")
    return f"{state}, replaced by a restore" if backup.safety else state


def _row(backup: Backup) -> dict[str, object]:
    return {
        "dataset": backup.dataset,
        "name": backup.name,
        "period": backup.period,
        "started": backup.started,
        "finished": backup.finished,
        "bytes": backup.bytes,
        "sha256": backup.sha256,
        "snapshot": backup.snapshot,
        "verified": backup.verified,
        "verified_at": backup.verified_at,
        "depth": backup.depth,
        "proven_on": backup.proven_on,
        "short": backup.short,
        "safety": backup.safety,
        "server": backup.server,
        "flaw": backup.flaw,
        "forgotten": backup.forgotten,
        "record": backup.record,
    }
