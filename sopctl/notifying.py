# SPDX-License-Identifier: Apache-2.0
"""Telling people: who wants to know what, in their language, over their channels, and what could not be delivered.

Nothing here fails the command that it follows, and nothing here holds a lock of the site while a server thinks.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sopctl import archive, case_forms, channels, clock, forms, fsio, happenings, paper, vault, wording
from sopctl.addresses import Addresses, require_signed
from sopctl.blanks import RESULT_TEXT
from sopctl.case import find_case
from sopctl.errors import ConfigError, GateRefused, SopctlError, UsageError, one_line
from sopctl.happenings import NO_FACTS, Happening
from sopctl.models import Json
from sopctl.outbox import Key, Outbox
from sopctl.session import Session
from sopctl.settings import USUAL, NoticePerson

#: seconds that all deliveries of one command may take; what is left over is sent by the next
BUDGET = 30.0
#: bytes of forms that go with one notice
MOST_ATTACHED = 10 * 1024 * 1024
#: of other people's cases nobody is told what asks only those whom it concerns for something
PERSONAL = {"received", "turn", "informed", "near"}
RESULTS_EN = {
    "berhasil": "Done",
    "sebagian": "Partly done",
    "gagal": "Failed",
    "gagal_dikembalikan": "Failed, the old state is back",
    "gagal_layanan_mati": "Failed, the service is still down",
    "ditolak": "Rejected",
    "dibatalkan": "Withdrawn",
}
_COMMANDS = {
    "decide": '--approve --reason "…"',
    "confirm": "--approve",
    "ratify": '--approve --reason "…"',
}


@dataclass(frozen=True)
class Notice:
    """What one person is to be told over one channel; ``to`` is their address there."""

    key: Key
    happening: Happening
    language: str
    to: str


@dataclass
class Report:
    """What came of a round: notices that arrived, those that did not (with the cause), and those left for the next command."""

    sent: list[Notice] = field(default_factory=list)
    failed: list[tuple[Notice, str]] = field(default_factory=list)
    left: list[Notice] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def outbox(session: Session) -> Outbox:
    """The site's outbox."""
    return Outbox(session.site.state)


def due(session: Session, *, clocked: bool) -> tuple[list[Notice], list[str]]:
    """Notices that may be sent now, and what could not be looked at. ``clocked``: also what only the clock says."""
    if not session.site.config.notices.people:
        return [], []
    found, problems = happenings.of_cases(session), list[str]()
    if clocked:
        more, problems = happenings.by_clock(session)
        found += more
    notices = {notice.key: notice for notice in _addressed(session, found)}
    return [notices[key] for key in outbox(session).open(notices)], problems


def _addressed(session: Session, found: Iterable[Happening]) -> Iterable[Notice]:
    context, config = session.context(), session.site.config.notices
    people = {person.id: person for person in context.trust.file.people}
    wanted = {
        name: entry
        for name, entry in config.people.items()
        if name in people and happenings.holds_any(context, people[name])
    }
    for happening in found:
        for name, entry in wanted.items():
            if _wants(happening, name, entry):
                for channel, to in entry.to.items():
                    key = Key(happening.event, happening.ref, name, channel)
                    yield Notice(key, happening, entry.language or config.language, to)


def _wants(happening: Happening, person: str, entry: NoticePerson) -> bool:
    if happening.event not in (USUAL if entry.events is None else entry.events):
        return False
    return person in happening.people or (entry.all and happening.event not in PERSONAL)


# --- texts -----------------------------------------------------------------------------------------------------


def text_of(session: Session, notice: Notice, *, attached: bool = False) -> wording.Text:
    """The notice in its reader's language. ConfigError for a mistake in an agency's template."""
    happening, person = notice.happening, notice.key.person
    context, facts = session.context(), {**NO_FACTS, **notice.happening.facts}
    words = RESULT_TEXT if notice.language == "id" else RESULTS_EN
    facts |= {
        "agency": session.site.config.agency.nama,
        "reader": happenings.title(context, person),
        "concerned_as": "requester" if person == facts["requester_id"] else "",
        "command": _command(happening, facts, person),
        "result_text": words.get(facts["result"], facts["result"]),
        "attached": attached,
    }
    return wording.write(happening.event, notice.language, facts, session.site.config.timezone, session.site.templates)


def _command(happening: Happening, facts: Json, person: str) -> str:
    """What is to be typed next, as the reader or, where it is another's turn, as whoever's it is."""
    act, who = facts["act"], person
    if person not in happening.turn:
        who = happening.turn[0] if len(happening.turn) == 1 else str(facts["by"]).upper()
    if not act or (happening.event == "informed" and act != "receive"):
        return ""
    if act == "schedule":
        return f"sopctl schedule run --due --as {who}"
    if act == "review":
        servers = facts["servers"]
        return f"sopctl asset review {' '.join(servers) if len(servers) <= happenings.LISTED else '--all'} --as {who}"
    return " ".join(part for part in ("sopctl case", act, facts["case"], _COMMANDS.get(act, ""), f"--as {who}") if part)


# --- sending ---------------------------------------------------------------------------------------------------


def after_command(session: Session) -> None:
    """Tell people of what this command, or an earlier one that could not, has brought about. What goes wrong is said."""
    if not session.site.config.notices.people:
        return
    try:
        notices, problems = due(session, clocked=False)
        report = send(session, notices)
    except GateRefused:  # between `trust add` and `trust sign` nobody can be believed; whoever acts is told so
        return
    except (SopctlError, OSError) as error:
        session.say(str(error))
        return
    except KeyboardInterrupt:
        session.say("notices: interrupted. Nothing is lost: the next command sends them")
        return
    except Exception as error:  # a document made by hand may hold anything, and a notice never fails what it follows
        session.say(f"notices: {one_line(str(error)) or type(error).__name__}; report this as a fault of sopctl")
        return
    for line in [*problems, *report.problems, *(failure(notice, cause) for notice, cause in report.failed)]:
        session.say(line)


def failure(notice: Notice, cause: str) -> str:
    """One line on a notice that did not arrive."""
    key = notice.key
    of = f" of {notice.happening.case}" if notice.happening.case else ""
    again = "" if key.event == "test" else ". Nothing is lost: the next command tries again"
    return f"notice: {key.event}{of} to {key.person} over {key.channel}: {cause}{again}"


def send(session: Session, notices: Sequence[Notice]) -> Report:
    """Deliver what can be delivered within a moment, one try each; a channel that fails is left alone until the next command.

    ConfigError when nothing may be sent at all.
    """
    report = Report()
    if not notices:
        return report
    require_signed(session)
    box, by_key = outbox(session), {notice.key: notice for notice in notices}
    mine = box.claim({notice.key: notice.happening.case for notice in notices})
    outcome: dict[Key, str | None] = {}
    end, dead, addresses = time.monotonic() + BUDGET, set[str](), Addresses(session)
    try:
        with tempfile.TemporaryDirectory(prefix="sop-notice-") as scratch:
            papers = _Papers(session, Path(scratch), report.problems)
            for key in mine:
                notice = by_key[key]
                if key.channel in dead or time.monotonic() > end:
                    report.left.append(notice)
                    continue
                try:
                    _deliver(
                        session, notice, addresses, papers, max(1.0, min(channels.DEADLINE, end - time.monotonic()))
                    )
                    outcome[key] = None
                    report.sent.append(notice)
                except Exception as error:  # one that cannot be made must not keep all others from going out
                    outcome[key] = _cause(error)
                    report.failed.append((notice, _cause(error)))
                    if isinstance(error, channels.NotDelivered):
                        dead.add(key.channel)
    finally:
        box.settle(outcome, [key for key in mine if key not in outcome])
    return report


def _cause(error: Exception) -> str:
    if isinstance(error, SopctlError):
        return one_line(f"{error.where}: {error.message}" if error.where else error.message)
    return one_line(f"{type(error).__name__}: {error}")


def trial(session: Session, person: str) -> Report:
    """Send a trial message to one person over each of their channels, now; it is remembered nowhere.

    UsageError when the settings or the trust do not know them.
    """
    entry = session.site.config.notices.people.get(person)
    where = f"{session.site.root / 'sop.yml'}:notices.people"
    if entry is None:
        known = ", ".join(session.site.config.notices.people) or "nobody"
        raise UsageError(f"{person!r} is told nothing", where=where, hint=f"Told are: {known}.")
    session.trust.person(person)
    require_signed(session)
    report, addresses = Report(), Addresses(session)
    for channel, to in entry.to.items():
        happening = Happening("test", person, clock.now(), (person,))
        language = entry.language or session.site.config.notices.language
        notice = Notice(Key("test", person, person, channel), happening, language, to)
        try:
            text = text_of(session, notice)
            channels.deliver(addresses.of(channel, person, to), text.subject, text.body)
            report.sent.append(notice)
        except SopctlError as error:
            report.failed.append((notice, _cause(error)))
    return report


def _deliver(session: Session, notice: Notice, addresses: Addresses, papers: _Papers, seconds: float) -> None:
    key, config = notice.key, session.site.config.notices
    url = addresses.of(key.channel, key.person, notice.to)
    files = papers.of(notice.happening) if config.channels[key.channel].attach and channels.carries_files(url) else []
    text = text_of(session, notice, attached=bool(files))
    channels.deliver(url, text.subject, text.body, files, seconds=seconds)


class _Papers:
    """Forms as files, each made once a round; one that cannot be made is said, and the notice goes without it."""

    def __init__(self, session: Session, folder: Path, problems: list[str]) -> None:
        self._session, self._folder, self._problems = session, folder, problems
        self._made: dict[tuple[str, str], list[Path]] = {}

    def of(self, happening: Happening) -> list[Path]:
        """The form that belongs to ``happening``: of its record, else of the case's request."""
        if not happening.case:
            return []
        key = (happening.case, happening.record)
        if key not in self._made:
            try:
                made = self._recorded(happening.record) if happening.record else self._requested(happening.case)
            except Exception as error:  # whatever it is: a notice without its form is better than none
                self._problems.append(f"notice: {happening.case}: its form cannot be attached ({one_line(str(error))})")
                made = {}
            self._made[key] = self._write(happening.record or happening.case, made)
        return self._made[key]

    def _write(self, stem: str, made: dict[str, bytes]) -> list[Path]:
        paths, total = [], 0
        for name, data in made.items():
            total += len(data)
            if total <= MOST_ATTACHED:
                paths.append(self._folder / f"{stem}-{name}")
                fsio.write_atomic(paths[-1], data, 0o600)
        return paths

    def _recorded(self, record: str) -> dict[str, bytes]:
        """The forms as they were sealed, followed from the ledger down to their bytes."""
        site = self._session.site
        path = archive.record_path(site.archive, record)
        if path is None:
            raise ConfigError("the record is not there", where=record)
        sealed = {line.ref: line.digests.get("tagmanifest") for line in self._session.ledger.find("record", record)}
        names = [one.name for kind in ("pdf", "html") for one in sorted((path / "data").glob(f"form*.{kind}"))]
        kind = "pdf" if any(name.endswith(".pdf") for name in names) else "html"
        return {name: vault.sealed_file(path, sealed, f"data/{name}") for name in names if name.endswith(kind)}

    def _requested(self, case_id: str) -> dict[str, bytes]:
        """The request's forms, as the case stands now."""
        session, made = self._session, dict[str, bytes]()
        case = find_case(session.site.cases, case_id, session.site.profile.profile)
        printing = session.site.config.forms.pdf and not paper.problem()
        for number, form in enumerate(case_forms.request_forms(session, case) if case.request else [], 1):
            stem, html = f"form-{number:02d}" if number > 1 else "form", forms.render_html(form, session.site.templates)
            if printing:
                made[f"{stem}.pdf"] = paper.pdf(html, fsio.canonical_json(forms.form_json(form)), form.header.date)
            else:
                made[f"{stem}.html"] = html.encode()
        return made


def summary(session: Session, notice: Notice) -> Json:
    """A notice as ``notify --check`` shows it: nothing of the channel's address."""
    key = notice.key
    text = text_of(session, notice)
    return {
        "event": key.event,
        "case": notice.happening.case,
        "person": key.person,
        "channel": key.channel,
        "to": notice.to,
        "language": notice.language,
        "subject": text.subject,
        "body": text.body,
    }
