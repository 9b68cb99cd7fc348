# SPDX-License-Identifier: Apache-2.0
"""YAML read strictly: words mean what YAML 1.2 says, and what two readers could read differently is refused.

Two parsers give the events: PyYAML's own, and libyaml's, which is seventeen times as fast and is PyYAML's where it was built with it.
The fast one reads only text of lines on which both must agree (docs/adr/0016-two-yaml-parsers.md); whatever it does not
take is read by the other, whose word it is then, errors included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

from sopctl import fsio
from sopctl.errors import ConfigError

#: libyaml's parser; None where PyYAML was built without it
FAST: type | None = getattr(yaml, "CSafeLoader", None)

# No control character, no tab, no backslash, no byte order mark, no line break but \n, nothing beyond Latin letters and dashes.
_ANY = r"[ -\[\]-~\u00a1-\u024f\u2010-\u2027]"
_PLAIN = r"[A-Za-z0-9/._~(](?:(?!:[ \n])(?! #)(?! *\n)(?!:$)" + _ANY + r")*+"
_QUOTED = rf"\"(?:(?!\"){_ANY})*+\"|'(?:(?!'){_ANY})*+'"
_VALUE = rf"(?:{_QUOTED}|\[\]|\{{\}}|{_PLAIN})"
_PAIR = rf"[A-Za-z_][A-Za-z0-9_./-]*+:(?: ++{_VALUE})?+"
_LINE = rf" *+(?:(?:- ++)*+{_PAIR}|(?:- ++)++{_VALUE}|)(?: ++#{_ANY}*+| *+)\n"
_COMMENT = rf" *+#{_ANY}*+\n"
_TAME = re.compile(rf"(?:---\n)?+(?:{_COMMENT}|{_LINE})*+")

_YAML_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_YAML_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|nan)", re.IGNORECASE
)
_YAML_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def parse_yaml_strict(data: bytes, where: str) -> Any:
    """The value of one YAML document, errors at ``where:line:column``.

    Words mean what YAML 1.2 says (``no`` and ``12:30`` and ``2026-11-22`` and ``007`` are text); tags, anchors,
    aliases, floats, keys that are not text and duplicate keys are refused.
    """
    text = fsio.decode(data, where)
    if FAST is not None and tame(text):
        try:
            return _Builder(where).build(yaml.parse(text, Loader=FAST))
        except (yaml.YAMLError, ConfigError, ValueError):
            pass  # what is wrong is said by the one parser that reads everything
    return _parse(text, where)


def tame(text: str) -> bool:
    """Whether every line is of the simple kinds that both parsers read alike."""
    return _TAME.fullmatch(text) is not None


def _parse(text: str, where: str) -> Any:
    try:
        value = _Builder(where).build(yaml.parse(text, Loader=yaml.SafeLoader))  # events only: no tag is constructed
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise ConfigError(f"not YAML: {error.problem or error.context}", where=place) from error
    except yaml.reader.ReaderError as error:
        line, column = fsio.position(text[: error.position])
        raise ConfigError(
            f"the character U+{ord(text[error.position]):04X} is not allowed", where=f"{where}:{line}:{column}"
        ) from error
    except (ValueError, OverflowError) as error:  # an escape such as "\UFFFFFFFF" that names no character
        raise ConfigError(f"not YAML: {error}", where=where) from error
    fsio.refuse_surrogates(value, where)
    return value


_NO_KEY = object()
NODES = (yaml.ScalarEvent, yaml.MappingStartEvent, yaml.SequenceStartEvent)


class _Builder:
    """Values from YAML events, with a stack of its own: depth is bounded and nothing is constructed by tag."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.root: Any = None
        self.documents = 0
        self.open: list[tuple[dict[str, Any] | list[Any], list[Any]]] = []  # container, [pending key]

    def build(self, events: Iterator[yaml.Event]) -> Any:
        for event in events:
            if isinstance(event, NODES):  # most of them by far
                self.node(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self.open.pop()
            elif isinstance(event, yaml.DocumentStartEvent):
                self.documents += 1
                if self.documents > 1:
                    self.fail(event, "a second document begins here: one file holds one")
            elif isinstance(event, yaml.AliasEvent):
                self.fail(event, f"aliases (*{event.anchor}) are not allowed: write the value out")
        if not self.documents:
            raise ConfigError("is empty", where=self.where)
        return self.root

    def node(self, event: yaml.ScalarEvent | yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        if event.anchor is not None:
            self.fail(event, f"anchors (&{event.anchor}) are not allowed: write the value out")
        if event.tag is not None:
            self.fail(event, f"tags ({event.tag}) are not allowed")
        if type(event) is yaml.ScalarEvent:
            self.add(event, self.scalar(event))
            return
        if len(self.open) >= fsio.MAX_DEPTH:
            self.fail(event, fsio.TOO_DEEP)
        container: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self.add(event, container)
        self.open.append((container, [_NO_KEY]))

    def add(self, event: yaml.NodeEvent, value: Any) -> None:
        if not self.open:
            self.root = value
            return
        container, pending = self.open[-1]
        if isinstance(container, list):
            container.append(value)
        elif pending[0] is _NO_KEY:
            if not isinstance(value, str):
                self.fail(event, f"the key {value!r} is not text: put it in quotes")
            if value in container:
                self.fail(event, f"the key {value!r} stands twice: keep one of them")
            pending[0] = value
        else:
            container[pending[0]] = value
            pending[0] = _NO_KEY

    def scalar(self, event: yaml.ScalarEvent) -> str | int | bool | None:
        text: str = event.value
        if event.style:  # quoted or block: always text (plain is None in one parser, "" in the other)
            return text
        if text in _YAML_WORDS:
            return _YAML_WORDS[text]
        if _YAML_INT.fullmatch(text):
            if len(text) > 20 or abs(int(text)) > fsio.MAX_INT:
                self.fail(event, f"the number {text[:24]} is too large: put it in quotes")
            return int(text)
        if _YAML_FLOAT.fullmatch(text):
            self.fail(event, f"{text[:24]} is not a whole number: put it in quotes if it is text")
        return text

    def fail(self, event: yaml.Event, why: str) -> NoReturn:
        mark = event.start_mark
        place = f"{self.where}:{mark.line + 1}:{mark.column + 1}" if mark else self.where
        raise ConfigError(why, where=place)
