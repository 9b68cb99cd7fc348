# SPDX-License-Identifier: Apache-2.0
"""sopctl.fsio and sopctl.errors: writes that survive, reading that trusts nothing."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sopctl import fsio, yamls
from sopctl.errors import AlreadyExistsError, ConfigError, ExitCode, GateRefused, SopctlError


def refused(parse: Callable[[bytes, str], object], data: bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(data, "f")
    return str(caught.value)


# -- errors ------------------------------------------------------------------------------------------------------------


def test_an_error_is_one_line_with_what_where_why_and_next() -> None:
    error = ConfigError("unknown key 'x'", where="sop.yml:3:1", hint="Did you mean 'y'?")
    assert str(error) == "configuration: sop.yml:3:1: unknown key 'x'. Did you mean 'y'?"
    assert int(error.exit_code) == 2


def test_an_error_cannot_steer_the_terminal() -> None:
    assert str(ConfigError("evil\n\x1b[2Jtext", where="a\rb")) == "configuration: a b: evil \\x1b[2Jtext"


def test_the_gate_keeps_its_reasons_apart() -> None:
    error = GateRefused(["no decision", "approval expired"], where="RST-2026-0001")
    assert error.reasons == ["no decision", "approval expired"]
    assert str(error) == "refused: RST-2026-0001: no decision; approval expired"


def test_every_exit_code_is_distinct_and_documented_by_a_class() -> None:
    def below(cls: type[SopctlError]) -> set[ExitCode]:
        return {cls.exit_code}.union(*(below(sub) for sub in cls.__subclasses__()))

    assert below(SopctlError) == set(ExitCode) - {ExitCode.OK}


# -- writing -----------------------------------------------------------------------------------------------------------


def test_write_atomic_replaces_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 250)
    fsio.write_atomic(target, b"one")
    fsio.write_atomic(target, b"two", 0o600)
    assert target.read_bytes() == b"two"
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_write_atomic_exclusive_never_replaces(tmp_path: Path) -> None:
    target = tmp_path / "a"
    fsio.write_atomic(target, b"one", exclusive=True)
    with pytest.raises(AlreadyExistsError):
        fsio.write_atomic(target, b"two", exclusive=True)
    assert target.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [target]


def test_write_atomic_replaces_a_link_not_what_it_points_to(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_bytes(b"v")
    link.symlink_to(victim)
    fsio.write_atomic(link, b"new")
    assert victim.read_bytes() == b"v"
    assert not link.is_symlink()


def test_write_atomic_says_where_it_failed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing/a: cannot write: No such file"):
        fsio.write_atomic(tmp_path / "missing" / "a", b"x")


def test_write_atomic_leaves_the_old_file_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        fsio.write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_append_line_takes_a_short_write_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a"
    fsio.append_line_durable(target, b"one")
    real = os.write

    def short(descriptor: int, data: bytes) -> int:
        if len(data) > 2:
            return real(descriptor, data[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(ConfigError, match="No space left"):
        fsio.append_line_durable(target, b"twoo")
    monkeypatch.undo()
    assert target.read_bytes() == b"one\n"
    with pytest.raises(ValueError, match="newline"):
        fsio.append_line_durable(target, b"a\nb")


# -- reading -----------------------------------------------------------------------------------------------------------


def test_read_strict_refuses_everything_but_a_small_regular_file(tmp_path: Path) -> None:
    plain, link, fifo, sock = tmp_path / "p", tmp_path / "l", tmp_path / "f", tmp_path / "s"
    plain.write_bytes(b"x" * 10)
    link.symlink_to(plain)
    os.mkfifo(fifo)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(sock))
    assert fsio.read_strict(plain) == b"x" * 10
    for path, why in [
        (link, "is a link"),
        (fifo, "is a fifo"),
        (sock, "is a socket"),
        (tmp_path, "is a directory"),
        (Path("/dev/zero"), "is a device"),
        (tmp_path / "none", "no such file"),
    ]:
        with pytest.raises(ConfigError, match=why):
            fsio.read_strict(path)
    server.close()
    with pytest.raises(ConfigError, match="larger than 9 bytes"):
        fsio.read_strict(plain, 9)
    with pytest.raises(ConfigError, match=r"cannot read|not a regular"):
        fsio.sha256_file(link)


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    want = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert fsio.sha256_bytes(b"abc") == want == fsio.sha256_file(tmp_path / "a")


# -- JSON --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"a":1,"a":2}', "f: a: the key stands twice"),
        (b'{"a":1.5}', "floats are not allowed"),
        (b'{"a":1e3}', "floats are not allowed"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":-Infinity}', "-Infinity is not JSON"),
        (b'{"a":9007199254740993}', "too large"),
        (b"9" * 5000, "too large"),
        (b'{"a":{"b":["\\ud800"]}}', "f: a.b[0]: holds half a character"),
        (b'{"\\udc00":1}', "half a character"),
        (b"\xef\xbb\xbf{}", "f:1:1: begins with a byte order mark"),
        (b'{"a":\n "\xff"}', "f:2:3: not UTF-8"),
        (b'{"a":\n }', "f:2:2: not JSON"),
        (b"[" * 200_000, "f:1:33: nested deeper than 32"),
        (b'{"a":' * 40, "nested deeper"),
        (b"{} {}", "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_json_refusals(data: bytes, why: str) -> None:
    assert why in refused(fsio.parse_json_strict, data)


def test_json_depth_counts_no_brackets_in_strings_and_stays_linear() -> None:
    text = json.dumps({"a": '[{"\\' * 100})
    assert fsio.parse_json_strict(text.encode(), "f") == json.loads(text)
    assert fsio.parse_json_strict(b"[" * 32 + b"]" * 32, "f")
    begin = time.monotonic()
    refused(fsio.parse_json_strict, b'"' + b'\\"' * 400_000)
    assert time.monotonic() - begin < 5


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-fsio.MAX_INT, fsio.MAX_INT)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_canonical_json_reads_back_and_is_stable(value: object) -> None:
    written = fsio.canonical_json(value)
    assert fsio.parse_json_strict(written, "f") == value
    assert fsio.canonical_json(fsio.parse_json_strict(written, "f")) == written
    assert written.endswith(b"\n")


@given(st.binary(max_size=200))
def test_no_bytes_make_the_parsers_raise_anything_else(data: bytes) -> None:
    for parse in (fsio.parse_json_strict, yamls.parse_yaml_strict):
        try:
            parse(data, "f")
        except ConfigError as error:
            assert "\n" not in str(error)


@given(st.text(alphabet="ab:-[]{}#&*!|>'\"%@`,? \n\t0.~\\Ux", max_size=60))
def test_no_yaml_text_makes_the_parser_raise_anything_else(text: str) -> None:
    try:
        yamls.parse_yaml_strict(text.encode(), "f")
    except ConfigError as error:
        assert str(error).startswith("configuration: f")


def test_canonical_json_writes_no_float_and_no_odd_key() -> None:
    for value in ({"a": [1.0]}, {1: "x"}):
        with pytest.raises(ValueError, match=r"float|key"):
            fsio.canonical_json(value)
    assert fsio.canonical_json({"b": "é", "a": []}) == '{\n  "a": [],\n  "b": "é"\n}\n'.encode()


# -- YAML --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"a: 1\nb: 2\na: 3", "f:3:1: the key 'a' stands twice"),
        (b"x:\n  a: 1\n  a: 2", "f:3:3: the key 'a' stands twice"),
        (b"a: &x 1", "f:1:4: anchors"),
        (b"a: *x", "f:1:4: aliases"),
        (b"a: !!python/object/apply:os.system [id]", "f:1:4: tags"),
        (b"a: !vault x", "tags"),
        (b"a: 1.5", "f:1:4: 1.5 is not a whole number"),
        (b"a: 1e3", "not a whole number"),
        (b"a: .nan", "not a whole number"),
        (b"a: -.INF", "not a whole number"),
        (b"a: 99999999999999999", "too large"),
        (b"12: x", "f:1:1: the key 12 is not text"),
        (b"true: x", "the key True is not text"),
        (b"{? [a] : b}", "is not text"),
        (b"a: [1, 2", "f:1:9: not YAML"),
        (b"a:\n\t- x", "f:2:1: not YAML"),
        (b"a: \x07", "f:1:4: the character U+0007"),
        (b'a: "\\ud800"', "half a character"),
        (b'a: "\\UFFFFFFFF"', "not YAML"),
        (b"a: \xff", "f:1:4: not UTF-8"),
        (b"a\n---\nb", "f:2:1: a second document"),
        (b"", "is empty"),
        (b"# only a comment", "is empty"),
        (b"[" * 100_000, "f:1:33: nested deeper than 32"),
        (b"\xef\xbb\xbfa: 1", "byte order mark"),
    ],
)
def test_yaml_refusals(data: bytes, why: str) -> None:
    assert why in refused(yamls.parse_yaml_strict, data)


def test_yaml_words_mean_what_they_say() -> None:
    text = b"""
no: no
when: 2026-11-22
clock: 12:30
octal: 007
nip: "199001012015011001"
number: -5
yes_: true
none: ~
empty:
version: 1.2.3
'12': quoted
list: [a, {b: c}]
block: |
  two
  lines
"""
    assert yamls.parse_yaml_strict(text, "f") == {
        "no": "no",
        "when": "2026-11-22",
        "clock": "12:30",
        "octal": "007",
        "nip": "199001012015011001",
        "number": -5,
        "yes_": True,
        "none": None,
        "empty": None,
        "version": "1.2.3",
        "12": "quoted",
        "list": ["a", {"b": "c"}],
        "block": "two\nlines\n",
    }
