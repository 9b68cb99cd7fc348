# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Reads the first part of a mariadb-dump and gives what may be loaded of it: tables, sequences and rows.

It knows the lines that mariadb-dump writes; any other line refuses the dump by its number. What comes out goes to an
account that can reach nothing but the staged schema, so this is the second wall, not the only one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.my_client import quote_name
from ansible_collections.diskominfo.sop.plugins.module_utils.my_dumping import COMPLETED, name_at

#: rows are joined to statements of about this many bytes (a server takes 1 MiB at least, 16 by default)
STATEMENT_BYTES = 900_000
#: bytes of rows after which the transaction is ended, so that none is so big that it hurts the server
COMMIT_BYTES = 64 << 20
_ROW = b"INSERT INTO `"
_TABLE = b"CREATE TABLE `"
_SEQUENCE = b"CREATE SEQUENCE `"
_SETVAL = re.compile(rb"(?:DO|SELECT) SETVAL\(`(?:[^`]|``)+`, -?\d+, [01](?:, \d+)?\);")
_SEQUENCE_LINE = re.compile(rb"CREATE SEQUENCE `(?:[^`]|``)+` [a-z0-9 -]+ ENGINE=InnoDB;", re.IGNORECASE)
_NOISE = re.compile(
    rb"(?:--(?: .*)?|/\*M?!\d{5,6}(?:\\-)? .*\*/ ?;?"
    rb"|DROP (?:TABLE|SEQUENCE|VIEW) IF EXISTS `(?:[^`]|``)+`;|SET @saved_cs_client     = @@character_set_client;"
    rb"|SET character_set_client = (?:utf8mb4|utf8mb3|utf8|@saved_cs_client);|(?:UN)?LOCK TABLES.*;|set autocommit=0;|commit;"
    rb"|)"
)
_OPENING = (b"/*!50001 CREATE VIEW `", b"/*!50001 CREATE TABLE `")
_LITERAL = re.compile(rb"'(?:[^'\\]|\\.|'')*'", re.DOTALL)
_VALUES = re.compile(
    rb"INSERT INTO `(?:[^`]|``)+`(?: \((?:`(?:[^`]|``)+`|row_start|row_end)(?:, (?:`(?:[^`]|``)+`|row_start|row_end))*\))? VALUES \("
)
_QUOTED = re.compile(_LITERAL.pattern + rb"|`(?:[^`]|``)+`", re.DOTALL)
_COMPRESSED = re.compile(rb"/\*M!100301 COMPRESSED\*/")
# What a table may be made of apart from rows in InnoDB's own files.
_FORBIDDEN = re.compile(
    rb"\b(?:DATA|INDEX) DIRECTORY\b|\bCONNECTION\s*=|\bUNION\s*=|\bTABLESPACE\b|\bENGINE\s*=(?!\s*InnoDB\b)",
    re.IGNORECASE,
)


class Replay:
    """The statements of one dump for ``target``, whose schema was called ``source`` when it was dumped."""

    def __init__(self, lines: Iterator[bytes], source: str, target: str, label: str) -> None:
        self._lines = lines
        self._label = label
        self._number = 0
        # a default that takes the next number of a sequence names the sequence with its schema
        self._sequence = re.compile(
            rb"\b((?:next|last)val\()" + re.escape(quote_name(source).encode()) + rb"(?=\.`)|" + _QUOTED.pattern,
            re.IGNORECASE | re.DOTALL,
        )
        self._target = quote_name(target).encode()

    def statements(self) -> Iterator[bytes]:
        """Each statement with its ``;`` and line break, the rows of a table joined."""
        prefix, size, since_commit = b"", 0, 0
        for line in self._first_part():
            if line.startswith(_ROW):
                head = self._head(line, prefix)
                row = line[len(head) - 1 : -2]
                if head == prefix and size + len(row) < STATEMENT_BYTES:
                    yield b","
                else:
                    if size:
                        yield b";\n"
                    if since_commit > COMMIT_BYTES:
                        yield b"COMMIT;\n"
                        since_commit = 0
                    yield head[:-1]
                    size = 0
                yield row
                prefix, size, since_commit = head, size + len(row), since_commit + len(row)
                continue
            if size:
                yield b";\n"
                prefix, size = b"", 0
            if line.startswith(_TABLE):
                yield self._table(line)
            elif (line.startswith(_SEQUENCE) and _SEQUENCE_LINE.fullmatch(line.rstrip(b"\n"))) or _SETVAL.fullmatch(
                line.rstrip(b"\n")
            ):
                yield line
            elif line.startswith(_OPENING):
                self._skip_view(line)
            elif not _NOISE.fullmatch(line.rstrip(b"\n")):
                raise self._refused("is nothing that mariadb-dump writes there")
        if size:
            yield b";\n"
        yield b"COMMIT;\n"

    def _first_part(self) -> Iterator[bytes]:
        for line in self._lines:
            self._number += 1
            if line.startswith(COMPLETED):
                return
            yield line
        raise SopError(f"{self._label}: the dump has no line '{COMPLETED.decode()}'; choose another backup")

    def _refused(self, why: str) -> SopError:
        return SopError(
            f"{self._label}: line {self._number} of the dump {why}; it was refused, choose another backup and have this "
            "one examined"
        )

    def _head(self, line: bytes, known: bytes) -> bytes:
        """``INSERT INTO `t` VALUES (``."""
        if not line.endswith(b");\n"):
            raise self._refused("is a row without an end")
        if known and line.startswith(known):
            return known
        found = _VALUES.match(line)
        if found is None:
            raise self._refused("is no row as mariadb-dump writes one")
        return found.group(0)

    def _table(self, line: bytes) -> bytes:
        parts = [line]
        while not parts[-1].endswith(b";\n"):
            following = next(self._lines, b"")
            self._number += 1
            if not following or following.startswith(_TABLE):
                raise self._refused("ends in the middle of a table")
            parts.append(following)
        text = b"".join(parts)
        name = name_at(text, len(_TABLE))
        outside = _COMPRESSED.sub(b"", _QUOTED.sub(b"''", text))
        if outside.count(b";") != 1 or b"/*" in outside:
            raise self._refused(f"ends a table {name} that is more than one statement")
        if re.search(rb"\n\) ENGINE=InnoDB\b", outside) is None or _FORBIDDEN.search(outside):
            raise self._refused(f"ends a table {name} that would not lie in InnoDB's own files")
        return self._sequence.sub(
            lambda found: found.group(1) + self._target if found.group(1) else found.group(0), text
        )

    def _skip_view(self, line: bytes) -> None:
        while not line.endswith((b"*/;\n", b"*/ ;\n")):
            line = next(self._lines, b"")
            self._number += 1
            if not line:
                raise self._refused("ends in the middle of a view")
