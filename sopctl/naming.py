# SPDX-License-Identifier: Apache-2.0
"""Rules with words in braces (``{agency}_{dataset}_{time}``), and the one by which backups are named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Formatter

from sopctl.errors import ConfigError

#: word of ``naming`` → what it becomes, in an example as long as it can be
WORDS = {
    "agency": "a" * 16,
    "server": "s" * 32,
    "dataset": "d" * 32,
    "jenis": "permohonan",
    "period": "2026-11-22T0130",
    "time": "20261122T030000Z",
    "run": "bkp-2026-0001",
}
DEFAULT = "The default: {agency}_{server}_{dataset}_{jenis}_{time}_{run}."
#: restic takes it as a tag, file systems as a file's name
LONGEST = 150
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)


def fill(rule: str, words: Mapping[str, object], where: str) -> str:
    """``rule`` with its ``{words}`` filled in. ConfigError at ``where`` for a word that does not exist."""
    try:
        return rule.format(**words)
    except (LookupError, ValueError, AttributeError, TypeError):
        raise ConfigError(
            f"the rule {rule!r} uses an unknown word",
            where=where,
            hint="Words: " + (", ".join("{" + word + "}" for word in words) or "none") + ".",
        ) from None


def check(rule: str, agency: str, where: str) -> None:
    """ConfigError unless ``rule`` gives names that are safe, tell all backups apart, and sort by time.

    They sort within a server, dataset and kind: nothing that changes from run to run may stand before the time. Words are
    whole and ``_`` or ``.`` stands between them, which no id holds, so that no two sets of words make one name.
    """
    name(rule, {**WORDS, "agency": agency}, where)
    parts = list(Formatter().parse(rule))
    words = [word for _, word, _, _ in parts if word is not None]
    for needed, why in (("dataset", "tells one dataset's backups from another's"), ("time", "tells its backups apart")):
        if needed not in words:
            raise ConfigError(f"the rule {rule!r} has no {{{needed}}}, which {why}", where=where, hint=DEFAULT)
    for number, (text, word, spec, conversion) in enumerate(parts):
        if spec or conversion:
            raise ConfigError(f"the rule {rule!r} cuts or changes {{{word}}}", where=where, hint=DEFAULT)
        if number and word is not None and not set("_.") & set(text):
            raise ConfigError(
                f"by the rule {rule!r} nothing tells where {{{word}}} begins", where=where, hint="Put '_' before it."
            )
    early = {"run", "period"} & set(words[: words.index("time")])
    if early:
        raise ConfigError(
            f"by the rule {rule!r} names do not sort by time",
            where=where,
            hint=f"Put {{time}} before {{{sorted(early)[0]}}}.",
        )


def name(rule: str, words: Mapping[str, object], where: str) -> str:
    """A backup's name. ConfigError for a word that does not exist and for a name that is not safe everywhere."""
    made = fill(rule, words, where)
    if not _SAFE.fullmatch(made) or len(made) > LONGEST:
        raise ConfigError(
            f"name {made!r} is not safe as a file name",
            where=where,
            hint=f"Use letters, digits, '_', '.', '-', at most {LONGEST} of them.",
        )
    return made
