# SPDX-License-Identifier: Apache-2.0
"""Secrets out of everything that is kept: records, event streams, standard output, error messages.

Known secrets are replaced wherever they stand, in each spelling they commonly take (JSON-escaped, URL-quoted,
shell-quoted, hex, base64 at every alignment). Rows that databases quote in their error messages (PostgreSQL's DETAIL
and CONTEXT, MariaDB's "Duplicate entry") are dropped too: they are personal data.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

from sopctl.errors import ConfigError

MARK = "‹dirahasiakan›"
DETAIL_MARK = "‹rincian data dihapus›"
MIN_LENGTH = 4  # shorter ones would blacken half the text; sopctl refuses them as secrets

# A row value may hold line ends: the known endings are looked for first, then the end of the line.
_LONG = (
    r"Key \((?s:.{0,8000}?)\)=\((?s:.{0,8000}?)\) (?:already exists|is not present|is still ref|conflicts|is dup)",
    r"Failing row contains \((?s:.{0,8000}?)\)\.[ \t]*(?=\r|\n|\\n|\Z)",
    r'COPY [^\r\n:]+: "(?s:.{0,8000}?)"[ \t]*(?=\r|\n|\\n|\Z)',
)
_DETAIL = re.compile(
    r"(?P<label>(?:(?<![A-Za-z])|(?<=\\[nrt]))(?:DETAIL|RINCIAN|CONTEXT|KONTEKS|STATEMENT|PERNYATAAN|QUERY)\s*:)"
    rf"\s*(?:{'|'.join(_LONG)})?(?:(?!\\n)[^\r\n])*"
)
_DETAIL_LABELS = ("DETAIL", "RINCIAN", "CONTEXT", "KONTEKS", "STATEMENT", "PERNYATAAN", "QUERY")
_VALUE = re.compile(r"(?P<label>\b(?:Duplicate entry|value:|value for|Truncated incorrect \w+ value:)) '[^'\r\n]*'")
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"')


class Redactor:
    """Replaces each of ``secrets`` in text, bytes and nested values by ‹dirahasiakan›.

    Empty ones are passed over; very short ones are a ConfigError: replacing them would destroy the text.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms: set[str] = set()
        for secret in secrets:
            if not secret:
                continue
            if len(secret.strip()) < MIN_LENGTH:
                raise ConfigError(
                    f"a password of fewer than {MIN_LENGTH} characters cannot be kept out of records",
                    where="vault or database password",
                    hint="Set a longer one",
                )
            forms |= _forms(secret)
        ordered = sorted(forms, key=lambda form: (-len(form), form))  # the longest first: no half-replaced remains
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, value: str) -> str:
        """``value`` without secrets and without rows quoted by a database; JSON and JSON lines stay JSON."""
        if self._pattern is not None:
            value = self._pattern.sub(MARK, value)
        if not _may_quote_rows(value):
            return value
        if _is_json(value):
            return _JSON_STRING.sub(_without_rows_in_string, value)
        return _without_rows(value)

    def data(self, value: bytes) -> bytes:
        """The same for bytes; what is not UTF-8 is kept as it is."""
        return self.text(value.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    def value(self, value: Any) -> Any:
        """The same for nested dicts, lists and tuples, keys included; other types are returned as they are."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes):
            return self.data(value)
        if isinstance(value, dict):
            return {self.value(key): self.value(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner) for inner in value]
        if isinstance(value, tuple):
            return tuple(self.value(inner) for inner in value)
        return value

    def finds(self, value: bytes) -> bool:
        """Whether a secret stands in ``value``: the last look before a file is sealed."""
        return self._pattern is not None and self._pattern.search(value.decode("utf-8", "surrogateescape")) is not None


def _may_quote_rows(value: str) -> bool:
    return any(label in value for label in _DETAIL_LABELS) or _VALUE.search(value) is not None


def _without_rows(value: str) -> str:
    value = _DETAIL.sub(lambda match: f"{match['label']} {DETAIL_MARK}", value)
    return _VALUE.sub(lambda match: f"{match['label']} '{DETAIL_MARK}'", value)


def _without_rows_in_string(match: re.Match[str]) -> str:
    if not _may_quote_rows(match[0]):
        return match[0]
    return json.dumps(_without_rows(json.loads(match[0])), ensure_ascii=match[0].isascii())


def _is_json(value: str) -> bool:
    if not value.lstrip().startswith(("{", "[", '"')):
        return False
    for pieces in ([value], value.splitlines()):
        try:
            for piece in pieces:
                if piece.strip():
                    json.loads(piece)
        except (ValueError, RecursionError):
            continue
        return True
    return False


def _forms(secret: str) -> set[str]:
    raw = secret.encode()
    forms = {secret, shlex.quote(secret).strip("'"), repr(secret)[1:-1]}
    for ascii_only in (True, False):
        escaped = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        forms |= {escaped, escaped.replace("/", "\\/"), json.dumps(escaped)[1:-1]}
    for quoted in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        forms |= {quoted, re.sub("%[0-9A-F]{2}", lambda m: m[0].lower(), quoted)}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms |= {encode(raw).decode(), encode(raw + b"\n").decode()} | _inside_base64(raw, encode)
    forms |= {raw.hex(), raw.hex().upper()}
    return {form for form in forms if len(form) >= MIN_LENGTH}


def _inside_base64(raw: bytes, encode: Any) -> set[str]:
    """The part of ``raw``'s base64 that does not depend on its neighbours, when it begins at byte 0, 1 or 2 of three.

    "user:secret" in an Authorization header holds the secret at any of the three alignments.
    """
    found = set()
    for lead in range(3):
        encoded = encode(b"\0" * lead + raw).decode()
        first = (0, 2, 3)[lead]
        last = (len(raw) + lead) * 8 // 6
        core = encoded[first:last]
        if len(core) >= 8:  # shorter cores would hit innocent text
            found.add(core)
    return found
