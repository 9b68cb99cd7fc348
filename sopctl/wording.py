# SPDX-License-Identifier: Apache-2.0
"""What a notice says: Jinja templates, one for each event and language; an agency may have its own.

A template's first line is the subject, the rest the text. Every value that it prints was typed by somebody: it comes out as
one line, without control characters and without what chat services take for markup.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sopctl import clock, indonesian
from sopctl.errors import ConfigError

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

FOLDER = "notices"
LANGUAGES = ("id", "en")
LONGEST_SUBJECT, LONGEST_VALUE = 150, 600
_MARKUP = {"<": "‹", ">": "›", "`": "'", "[": "(", "]": ")", "*": "∗"}
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


@dataclass(frozen=True)
class Text:
    """A notice in one language: ``subject`` is one short line."""

    subject: str
    body: str


def write(event: str, language: str, facts: Mapping[str, Any], timezone: str, templates: Path | None = None) -> Text:
    """The notice of ``event``. ConfigError names the template and line of a mistake.

    ``templates``: the agency's own folder, in which ``notices/id/turn.txt.j2`` and so on take the place of ours.
    """
    import jinja2

    name = f"{FOLDER}/{language}/{event}.txt.j2"
    environment = _environment(templates)
    environment.filters["time"] = lambda moment: moment_text(moment, language, timezone)
    try:
        text = environment.get_template(name).render(facts)
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(
            f"template: {error.message}", where=f"{error.filename or error.name}:{error.lineno}"
        ) from error
    except jinja2.TemplateError as error:
        raise ConfigError(f"template: {error.message}", where=f"{templates or 'templates'}/{name}") from error
    subject, _, body = text.strip().partition("\n")
    return Text(plain(subject)[:LONGEST_SUBJECT], body.strip() + "\n")


def plain(value: object) -> str:
    """``value`` on one line: no control, no invisible and no direction-changing characters, no markup."""
    kept = "".join(
        " " if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"} else _MARKUP.get(char, char)
        for char in str(value)
    )
    text = " ".join(kept.split())
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def moment_text(moment: str | None, language: str, timezone: str) -> str:
    """``2026-11-21T20:00:00Z`` → ``22 November 2026 pukul 03.00 WIB`` or ``22 November 2026, 03:00 WIB`` (Asia/Jakarta)."""
    if not moment or not clock.is_time(str(moment)):
        return "–"
    if language == "id":
        return indonesian.format_time(moment, timezone)
    local = clock.parse(moment).astimezone(indonesian.zone(timezone))
    return f"{local.day} {_MONTHS[local.month - 1]} {local.year}, {local:%H:%M} {local.tzname()}"


def _environment(templates: Path | None) -> ImmutableSandboxedEnvironment:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    loaders: list[jinja2.BaseLoader] = [jinja2.PackageLoader("sopctl", "templates")]
    if templates is not None:
        loaders.insert(0, jinja2.FileSystemLoader(templates))
    return ImmutableSandboxedEnvironment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=False,  # plain text; `finalize` takes out of each value what is none
        finalize=plain,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
