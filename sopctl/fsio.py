# SPDX-License-Identifier: Apache-2.0
"""Files: durable writes, and reading that trusts nothing.

Everything that decides (documents, trust, profile, register) is read through here: a regular file opened without
following links, at most 1 MiB, strict UTF-8, no duplicate keys, no floats, no surrogates, bounded depth. Two programs
that read the same signed bytes must see the same values; whatever parsers are known to disagree on is refused.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Any, NoReturn

from sopctl.errors import AlreadyExistsError, ConfigError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_INT = 2**53 - 1  # larger whole numbers are changed silently by common JSON readers

_CHUNK = 1024 * 1024
TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


# -- writing ---------------------------------------------------------------------------------------------------------


def write_atomic(path: Path, data: bytes, mode: int = 0o644, *, exclusive: bool = False) -> None:
    """Write ``data`` to ``path`` whole or not at all, and so that it survives a power cut.

    With ``exclusive`` an existing ``path`` is never replaced: AlreadyExistsError. Other failures: ConfigError.
    """
    temporary = path.parent / f".{path.name[:80]}.{secrets.token_hex(6)}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                os.fchmod(stream.fileno(), mode)
                stream.flush()
                os.fsync(stream.fileno())
            if exclusive:
                os.link(temporary, path, follow_symlinks=False)
            else:
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_dir(path.parent)
    except FileExistsError as error:
        raise AlreadyExistsError("is there already and is written only once", where=str(path)) from error
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror}", where=str(path)) from error


def append_line_durable(path: Path, line: bytes, mode: int = 0o644) -> None:
    """Append one line (a newline is added) to ``path`` and wait until it is on disk; a short write is taken back."""
    if b"\n" in line:
        raise ValueError("a line holds no newline")
    try:
        new = not path.exists()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, mode)
        try:
            before = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, line + b"\n")
                os.fsync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
        if new:
            fsync_dir(path.parent)
    except OSError as error:
        raise ConfigError(f"cannot append: {error.strerror}", where=str(path)) from error


def fsync_dir(path: Path) -> None:
    """Wait until the names in directory ``path`` are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


# -- reading ---------------------------------------------------------------------------------------------------------


def read_strict(path: Path | str, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file; links, fifos, devices and files over ``max_bytes`` are refused."""
    where = str(path)
    try:
        # Looked at before it is opened: opening some devices has effects. Looked at again after: it may be exchanged.
        _require_regular(os.lstat(path), where)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        try:
            status = os.fstat(descriptor)
            _require_regular(status, where)
            data = _read_all(descriptor, min(status.st_size, max_bytes), max_bytes + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise ConfigError("no such file", where=where) from error
    except OSError as error:
        why = "is a link" if error.errno == errno.ELOOP else f"cannot read: {error.strerror}"
        raise ConfigError(why, where=where) from error
    if len(data) > max_bytes:
        raise ConfigError(f"is larger than {max_bytes} bytes", where=where)
    return data


def _read_all(descriptor: int, size: int, most: int) -> bytes:
    """At most ``most`` bytes; no more memory than about ``size``, which it is said to have, is asked for at once."""
    data = os.read(descriptor, size + 1)
    while len(data) < most and (block := os.read(descriptor, min(_CHUNK, most - len(data)))):
        data += block
    return data


_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _require_regular(status: os.stat_result, where: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise ConfigError(f"is {kind}, not a regular file", where=where, hint="Put the file itself there")


def sha256_bytes(data: bytes) -> str:
    """``sha256:<hex>`` of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def sha256_file(path: Path | str) -> str:
    """``sha256:<hex>`` of a file of any size; a link is refused."""
    digest = hashlib.sha256()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            _require_regular(status, str(path))
            size = min(status.st_size + 1, _CHUNK)  # an audit asks for very many small files
            while block := os.read(descriptor, size):
                digest.update(block)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(f"cannot read: {error.strerror}", where=str(path)) from error
    return "sha256:" + digest.hexdigest()


# -- parsing ---------------------------------------------------------------------------------------------------------


def canonical_json(value: object) -> bytes:
    """``value`` as JSON with sorted keys, two spaces, UTF-8 and a newline at the end; floats are a ValueError."""
    _refuse_floats(value)
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "strict") + b"\n"


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise ValueError(f"a float ({value!r}) cannot be written: use a whole number with its unit")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"a key is not text: {key!r}")
            _refuse_floats(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _refuse_floats(inner)


def parse_json_strict(data: bytes, where: str) -> Any:
    """The value of ``data``; what two JSON readers could read differently is a ConfigError at ``where:line:column``."""
    text = decode(data, where)
    _check_json_depth(text, where)

    def fail(why: str) -> NoReturn:
        raise ConfigError(why, where=where)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in items:
            if key in result:
                raise ConfigError("the key stands twice", where=f"{where}: {key}", hint="Keep one of them")
            result[key] = value
        return result

    def whole(digits: str) -> int:
        if len(digits) > 20 or abs(int(digits)) > MAX_INT:
            fail(f"the number {digits[:24]} is too large: write it as text")
        return int(digits)

    try:
        value = json.loads(
            text,
            object_pairs_hook=pairs,
            parse_int=whole,
            parse_float=lambda digits: fail(f"{digits[:24]} is not a whole number: floats are not allowed"),
            parse_constant=lambda name: fail(f"{name} is not JSON"),
        )
    except json.JSONDecodeError as error:
        raise ConfigError(f"not JSON: {error.msg}", where=f"{where}:{error.lineno}:{error.colno}") from error
    refuse_surrogates(value, where)
    return value


def decode(data: bytes, where: str) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        raise ConfigError("begins with a byte order mark", where=f"{where}:1:1", hint="Save it as UTF-8 without BOM")
    try:
        return data.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        line, column = position(data[: error.start].decode("utf-8", "replace"))
        raise ConfigError("not UTF-8", where=f"{where}:{line}:{column}", hint="Save it as UTF-8") from error


def position(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _check_json_depth(text: str, where: str) -> None:
    """Before the recursive parser sees it: brackets outside strings are counted (in linear time, open strings too)."""
    depth = 0
    for match in re.finditer(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', text, re.DOTALL):
        if match[0] in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                line, column = position(text[: match.start()])
                raise ConfigError(TOO_DEEP, where=f"{where}:{line}:{column}")
        elif match[0] in "]}":
            depth -= 1


_SURROGATE = re.compile("[\ud800-\udfff]")


def refuse_surrogates(value: object, where: str, key: str = "") -> None:
    if isinstance(value, str):
        if _SURROGATE.search(value):
            raise ConfigError("holds half a character (a lone surrogate)", where=f"{where}: {key}" if key else where)
    elif isinstance(value, dict):
        for name, inner in value.items():
            refuse_surrogates(name, where, key)
            refuse_surrogates(inner, where, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            refuse_surrogates(inner, where, f"{key}[{index}]")
