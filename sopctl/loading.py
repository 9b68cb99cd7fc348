# SPDX-License-Identifier: Apache-2.0
"""Strict loading of typed records: unknown keys are refused by name.

Errors give the file, line, column and key of what is wrong and the nearest key that exists.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import msgspec
import yaml

from sopctl import fsio, yamls
from sopctl.errors import ConfigError
from sopctl.models import ID_PATTERN, Document, Record

T = TypeVar("T", bound=Record)
ANY = "*"  # a key of a mapping whose keys are free; msgspec does not tell which


def check_id(value: str, where: str) -> str:
    """Return ``value`` when it is a plain id (``[a-z0-9-]{2,32}``), else ConfigError."""
    if not re.fullmatch(ID_PATTERN, value):
        raise ConfigError(f"id {value!r} is not allowed", where=where, hint="Use 2 to 32 of a-z, 0-9 and '-'.")
    return value


def check_profile_id(value: str, where: str) -> str:
    """Return a profile id (ids of SOPs also carry dots, as their numbers do), else ConfigError."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,63}", value):
        raise ConfigError(f"profile id {value!r} is not allowed", where=where, hint="Use a-z, 0-9, '-' and '.'.")
    return value


def load_yaml(kind: type[T], path: Path) -> T:
    """Read ``path`` as YAML into ``kind``. ConfigError names file, line and key."""
    data = fsio.read_strict(path)
    return from_yaml(kind, data, path)


def from_yaml(kind: type[T], data: bytes, path: Path) -> T:
    """Read YAML bytes (already taken from ``path``) into ``kind``."""
    return _convert(kind, yamls.parse_yaml_strict(data, str(path)), path, data)


def load_json(kind: type[T], data: bytes, path: Path) -> T:
    """Read JSON bytes (already taken from ``path``) into ``kind``."""
    return _convert(kind, fsio.parse_json_strict(data, str(path)), path, None)


def _convert(kind: type[T], value: Any, path: Path, text: bytes | None) -> T:
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        raise _explain(kind, error, path, text) from None


def _explain(kind: type[Record], error: msgspec.ValidationError, path: Path, text: bytes | None) -> ConfigError:
    problem, _, location = str(error).partition(" - at `")
    keys = [part for part in re.split(r"\.(?!\.)|[\[\]`]+", location.removeprefix("$")) if part]
    keys = [ANY if part.strip(".") == "" else part for part in keys]
    hint = f"See docs/reference/{'documents' if kind is Document else 'site-files'}.md."
    unknown = re.search(r"unknown field `([^`]*)`", problem)
    missing = re.search(r"missing required field `([^`]*)`", problem)
    if unknown:
        near = difflib.get_close_matches(unknown.group(1), sorted(_fields_at(kind, keys)), 1, 0.5)
        keys.append(unknown.group(1))
        problem = f"unknown key {unknown.group(1)!r}"
        hint = f"Did you mean {near[0]!r}?" if near else hint
    elif missing:
        problem = f"key {missing.group(1)!r} is missing"
    keys, spot = _place(text, keys) if text is not None else (keys, None)
    place = f"{path}:{spot}" if spot else str(path)
    shown = ".".join(key for key in keys if key != ANY)
    return ConfigError(problem, where=f"{place}:{shown}" if shown else place, hint=hint)


def located(where: str, root: Path) -> str:
    """``file:line:column:key`` for ``file:key`` of a YAML file, which may be named from the site's ``root``; else as it was."""
    match = re.fullmatch(r"(.+\.ya?ml):([A-Za-z_][^:\s]*)", where)
    if match is None:
        return where
    try:
        text = fsio.read_strict(root / match[1])
    except ConfigError:
        return where
    _, spot = _place(text, [key for key in re.split(r"[.\[\]]+", match[2]) if key])
    return f"{match[1]}:{spot}:{match[2]}" if spot else where


def _fields_at(kind: Any, keys: list[str]) -> set[str]:
    """Keys of the records that may stand at ``keys``."""
    kinds = [kind]
    for key in keys:
        kinds = [inner for kind in kinds for inner in _inner(kind, key)]
    return {
        field.encode_name for kind in kinds for record in _records(kind) for field in msgspec.structs.fields(record)
    }


def _inner(kind: Any, key: str) -> list[Any]:
    found = [field.type for one in _records(kind) for field in msgspec.structs.fields(one) if field.encode_name == key]
    for option in (kind, *get_args(kind)):
        if get_origin(option) in (list, dict):
            found.append(get_args(option)[-1])
    return found


def _records(kind: Any) -> list[type[Record]]:
    return [one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, Record)]


def _place(text: bytes, keys: list[str]) -> tuple[list[str], str | None]:
    """``keys`` as the YAML text has them (ANY filled in where only one fits), and ``line:column`` of the deepest (from 1)."""
    try:
        node = yaml.compose(text.decode(), Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return keys, None
    for depth in range(len(keys), 0, -1):
        fitting = list(_fitting(node, keys[:depth]))
        if len(fitting) == 1:
            names, spot = fitting[0]
            return [*names, *keys[depth:]], spot
    return keys, None


def _fitting(node: yaml.Node | None, keys: list[str]) -> Iterator[tuple[list[str], str]]:
    children: list[tuple[str, yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        children = [(name.value, name, value) for name, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(str(at), value, value) for at, value in enumerate(node.value)]
    for name, mark, value in children:
        if keys[0] not in (name, ANY):
            continue
        if len(keys) == 1:
            yield [name], f"{mark.start_mark.line + 1}:{mark.start_mark.column + 1}"
        else:
            for names, spot in _fitting(value, keys[1:]):
                yield [name, *names], spot
