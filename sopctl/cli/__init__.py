# SPDX-License-Identifier: Apache-2.0
"""The command line: parse, call, render. Nothing else imports click."""

from __future__ import annotations

import gc
import io
import os
import sys
from pathlib import Path

import click

from sopctl import __version__, control, front, loading, notifying, witnessing
from sopctl.cli import (
    assets,
    audits,
    besides,  # noqa: F401  # adds its commands to the group `case`
    cases,
    cleans,  # noqa: F401  # likewise
    completing,
    demo,
    monitors,
    notices,
    profiles,
    records,
    registers,  # noqa: F401  # adds its commands to the group `asset`
    reports,  # noqa: F401  # likewise, to the group `audit`
    schedules,
    sites,
    trusts,
    vaults,
    views,
)
from sopctl.cli.common import Settings
from sopctl.errors import ConfigError, ExitCode, SopctlError, UsageError
from sopctl.output import Output
from sopctl.site import find_site

TRACEBACK_ENV = "SOPCTL_TRACEBACK"


@click.group(
    invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "-C", "--site", "site", metavar="FOLDER", help="The site (default: $SOPCTL_SITE, this folder or one above)."
)
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
@click.option(control.OPTION, "signer", metavar="SOCKET", hidden=True)
@click.version_option(__version__, prog_name="sopctl")
@click.pass_context
def main_group(context: click.Context, site: str | None, as_json: bool, signer: str | None) -> None:
    """Run an agency's backup/restore SOP: nothing runs without the signatures, every run leaves its form.

    Without a command: what waits for you today.

    Exit codes: 0 ok, 1 unexpected, 2 usage or configuration, 10 refused by the gate, 11 locked, 20 run failed and the
    old state restored, 21 run failed and the service still down, 22 partly done, 30 evidence broken, 31 overdue,
    130 interrupted.
    """
    context.obj = Settings(control.site_option(site), as_json)
    if signer:
        context.obj.remote = control.RemoteSigner(Path(signer))
        context.obj.remote.follow()
    if context.invoked_subcommand is None:
        _alone(context)


def _alone(context: click.Context) -> None:
    """What waits for whoever asks; the help where there is no site to ask."""
    try:
        find_site(context.obj.site_option)
    except UsageError:
        if context.obj.site_option:
            raise
        raise click.exceptions.NoArgsIsHelpError(context) from None
    views.show_today(context.obj, os.environ.get("SOPCTL_AS"))


@main_group.result_callback()
@click.pass_context
def _afterwards(context: click.Context, /, value: object, **_: object) -> object:
    """Whoever acted has stamped what is not, the witnesses told of what they have not seen, and people of what concerns them;
    one that is silent is no failure."""
    session = context.obj.__dict__.get("session")
    if session is not None and not session.reading and session.ledger.path.exists():
        witnessing.stamp(session)
        try:
            witnessing.catch_up(session)
        except (SopctlError, OSError) as error:
            session.say(str(error))
        notifying.after_command(session)
    return value


for command in (
    sites.init,
    demo.demo,
    sites.doctor,
    sites.paths,
    trusts.trust,
    schedules.schedule,
    vaults.vault,
    profiles.profile,
    assets.asset,
    cases.case,
    views.next_turn,
    records.record,
    audits.audit,
    monitors.metrics,
    monitors.check,
    completing.completion,
    completing.man,
    notices.notify,
):
    main_group.add_command(command)
completing.attach(main_group)


def main(arguments: list[str] | None = None) -> None:
    """Entry point; the only place that exits."""
    # a command lives for seconds, and what it reads (thousands of entries) stays until its end: looking for garbage costs a tenth
    gc.set_threshold(200_000, 20, 20)
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code; every error a user can cause is one line."""
    words = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character is no failure
            if "--json" in words:
                stream.reconfigure(encoding="utf-8")  # JSON is UTF-8 wherever it goes
    output = Output("--json" in words)
    try:
        _require_text(words)
        relayed = front.front(words, output.remark)
        if relayed is not None:
            return relayed
        value = main_group.main(args=words, prog_name="sopctl", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt, BrokenPipeError):
        output.remark("Interrupted.")
        return int(ExitCode.INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return int(ExitCode.USAGE)
    except click.ClickException as error:
        output.error(_misused(error))
        return int(ExitCode.USAGE)
    except Exception as error:
        known = _known(error)
        if isinstance(known, ConfigError):
            known.where = loading.located(known.where, _root(words))
        output.error(known)
        return int(known.exit_code)
    return value if isinstance(value, int) else int(ExitCode.OK)


def _root(words: list[str]) -> Path:
    """The site of this call, as far as it can be found: errors name its files from there."""
    option = None
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in {"-C", "--site"}:
            option = following
        elif word.startswith("--site="):
            option = word.partition("=")[2]
    try:
        return find_site(control.site_option(option))
    except SopctlError:
        return Path()


def _require_text(words: list[str]) -> None:
    """UsageError when the locale could not decode a word: it would be signed as something else than was typed."""
    for word in words:
        if not word.isascii() and any("\udc80" <= char <= "\udcff" for char in word):
            shown = word.encode("utf-8", "backslashreplace").decode()
            raise UsageError("is not text in this locale", where=shown, hint="Set LC_ALL=C.UTF-8 and try again.")


def _misused(error: click.ClickException) -> UsageError:
    """click's own complaint as one of ours, in one line."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"See {context.command_path} --help." if context else ""
    return UsageError(error.format_message(), hint=hint)


def _known(error: Exception) -> SopctlError:
    """``error`` as one of ours; what nobody foresaw is told in one line too, and raised again for those who ask."""
    if isinstance(error, SopctlError):
        return error
    if isinstance(error, OSError):
        return SopctlError(error.strerror or str(error), where=str(error.filename or "system"))
    if os.environ.get(TRACEBACK_ENV):
        raise error
    hint = f"This is a fault of sopctl: report it with what {TRACEBACK_ENV}=1 prints."
    return SopctlError(f"unexpected {type(error).__name__}: {error}", where="sopctl", hint=hint)
