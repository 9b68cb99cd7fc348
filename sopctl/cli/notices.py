# SPDX-License-Identifier: Apache-2.0
"""``sopctl notify``: what a timer calls, so that people hear of what only the clock says."""

from __future__ import annotations

import click

from sopctl import notifying
from sopctl.cli.common import Settings, settings, with_json
from sopctl.errors import ExitCode, UsageError
from sopctl.notifying import Notice, Report
from sopctl.output import Output


@click.command()
@click.option("--check", is_flag=True, help="Send nothing; say what would be sent, and to whom.")
@click.option(
    "--test", "person", metavar="PERSON", help="Send this person a trial message, over each of their channels."
)
@with_json
@settings
def notify(config: Settings, check: bool, person: str | None) -> int:
    """Tell people what waits for them: time limits, what is overdue, reviews, and what could not be delivered before.

    Exit codes: 0, or 22 when a notice could not be delivered; the next call tries again.
    """
    session = config.session
    session.reading = True  # it acts on nothing, and a trust that has ended hinders no reminder
    if check and person:
        raise UsageError("--check sends nothing, --test does", where="--check/--test", hint="Give one of the two.")
    notices, problems = notifying.due(session, clocked=True) if person is None else ([], [])
    shown = [notifying.summary(session, notice) for notice in notices] if check else []
    if person is not None:
        report = notifying.trial(session, person)
    else:
        report = Report() if check else notifying.send(session, notices)
    wrong = [*problems, *report.problems]
    value = {
        "check": check,
        "due": shown,
        "sent": [_line(notice) for notice in report.sent],
        "failed": [{**_line(notice), "cause": cause} for notice, cause in report.failed],
        "left": [_line(notice) for notice in report.left],
        "problems": wrong,
    }

    def render(output: Output) -> None:
        for one in shown:
            output.line(
                f"{one['person']} over {one['channel']}{f' ({to})' if (to := one['to']) else ''}: {one['subject']}"
            )
        for notice in report.sent:
            output.line(f"sent: {_words(notice)}", "green")
        for notice, cause in report.failed:
            output.line(notifying.failure(notice, cause), "yellow")
        for notice in report.left:
            output.line(f"left for the next command: {_words(notice)}", "yellow")
        for problem in wrong:
            output.line(problem, "yellow")
        if not any((shown, report.sent, report.failed, report.left, wrong)):
            output.line("Nobody is to be told anything.")

    config.output.result(value, render)
    return int(ExitCode.PARTIAL if report.failed or report.left else ExitCode.OK)


def _line(notice: Notice) -> dict[str, str]:
    key = notice.key
    return {"event": key.event, "case": notice.happening.case, "person": key.person, "channel": key.channel}


def _words(notice: Notice) -> str:
    of = f" of {notice.happening.case}" if notice.happening.case else ""
    return f"{notice.key.event}{of} to {notice.key.person} over {notice.key.channel}"
