# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Which entries of a dump an ordinary role loads, and which statements the superuser may run from it.

A dump is text that its author controls. The superuser therefore runs no statement from it but grants, security labels,
publications, event triggers and comments on extensions, each recognised word by word.
"""

from __future__ import annotations

import re

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError

# Kinds of entries, by the beginning of their description in `pg_restore --list`.
_PRIVILEGES = ("ACL ", "DEFAULT ACL ", "SECURITY LABEL ")
_ABSENT_KINDS = ("EXTENSION", "SUBSCRIPTION", "DATABASE")  # made beforehand, or never brought back by a restore
_ENTRY = re.compile(r"^(\d+); (\d+) (\d+) (.*)$")

_OBJECT = (
    "TABLE|SEQUENCE|FUNCTION|PROCEDURE|ROUTINE|TYPE|DOMAIN|SCHEMA|LANGUAGE|FOREIGN DATA WRAPPER|FOREIGN SERVER"
    "|LARGE OBJECT"
)
#: what the superuser may run, matched against a statement whose quoted parts are blanked
PRIVILEGE_STATEMENTS = re.compile(
    rf"(GRANT|REVOKE)( GRANT OPTION FOR)? [A-Z]+( [A-Z]+)*( ?\([^()]*\))?(, ?[A-Z]+( ?\([^()]*\))?)* ON ({_OBJECT}) "
    r"|ALTER DEFAULT PRIVILEGES FOR ROLE |(RE)?SET SESSION AUTHORIZATION\b"
    r"|SECURITY LABEL FOR \S+ ON (?!ROLE|DATABASE|TABLESPACE)"
)
OBJECT_STATEMENTS = re.compile(r"(CREATE|ALTER|COMMENT ON) (EVENT TRIGGER|PUBLICATION) |COMMENT ON EXTENSION ")
# Session settings with which pg_restore begins its output; ours are the same or stricter, so they are left out.
_PREAMBLE = re.compile(r"SET \w+ = (on|off|0|\w+|'_'|\"_\")$|SELECT pg_catalog\.set_config\('_', '_', false\)$")
# What could make PostgreSQL see other borders than we do has no token: $-quotes, /* comments, psql's backslash and
# :variables.
_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n\r]*)|(?P<ident>"(?:[^"]|"")*")|(?P<escape>\b[eE]'(?:[^'\\]|''|\\.)*')"""
    r"""|(?P<literal>'(?:[^']|'')*')|(?P<meta>\\(?:un)?restrict [A-Za-z0-9]+(?:\n|$))"""
    r"""|(?P<end>;)|(?P<other>::|/(?!\*)|[^:\\$/])""",
    re.DOTALL,
)


class Toc:
    """The dump's table of contents, parted by who restores what."""

    def __init__(self, listing: str, made_schemas: set[int]) -> None:
        """``made_schemas``: object ids, in the source, of the schemas that are made beforehand for extensions."""
        self.ordinary: list[str] = []
        self.privileges: list[str] = []
        self.superuser: list[str] = []
        #: the very last: once they are there, whatever the superuser makes or changes runs their functions
        self.event_triggers: list[str] = []
        for line in listing.splitlines():
            entry = _ENTRY.match(line)
            if entry is None:
                continue
            _, catalogue, oid, text = entry.groups()
            about = text[len("COMMENT - ") :] if text.startswith("COMMENT - ") else text
            if text.startswith(_PRIVILEGES):
                self.privileges.append(line)
            elif about.startswith("EVENT TRIGGER "):
                self.event_triggers.append(line)
            elif about.startswith("PUBLICATION ") or (about is not text and about.startswith("EXTENSION ")):
                self.superuser.append(line)
            elif not (
                about.startswith(tuple(f"{kind} " for kind in _ABSENT_KINDS))
                or (text.startswith("STATISTICS DATA ") and catalogue == "0")
                or (text.startswith("SCHEMA ") and int(oid) in made_schemas)
            ):
                self.ordinary.append(line)


def checked_statements(script: str, allowed: re.Pattern[str], label: str) -> list[str]:
    """The statements of pg_restore's ``script``; SopError for any that is not among ``allowed``."""
    statements: list[str] = []
    text, blanked = "", ""
    position = 0
    while position < len(script):
        token = _TOKEN.match(script, position)
        if token is None:
            raise SopError(f"{label}: the dump holds a statement that this restore does not understand; it was refused")
        position = token.end()
        kind, value = token.lastgroup, token.group()
        if kind == "meta":
            continue
        if kind == "end":
            plain = re.sub(r" +", " ", blanked).strip()
            if plain and not _PREAMBLE.match(plain):
                if not allowed.match(plain):
                    raise SopError(
                        f"{label}: the dump asks the superuser to run '{plain[:60]}', no grant; it was refused"
                    )
                statements.append(text.strip())
            text, blanked = "", ""
            continue
        text += " " if kind == "space" else value
        blanked += {"space": " ", "ident": '"_"', "literal": "'_'", "escape": "'_'"}.get(kind or "", value)
    if blanked.strip():
        raise SopError(f"{label}: the dump's grants end in the middle of a statement; they were refused")
    return statements
