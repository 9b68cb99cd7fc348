# SPDX-License-Identifier: Apache-2.0
"""sopctl.redact: no spelling of a secret, and no row a database quoted, stays in what is kept."""

from __future__ import annotations

import base64
import json
import shlex
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sopctl.errors import ConfigError
from sopctl.redact import MARK, Redactor

SECRET = "p@ss/w\"ord\\é 'x'\ttab"
PLAIN = "Rahasia-Kuat-22"


@pytest.mark.parametrize(
    "spelled",
    [
        SECRET,
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        json.dumps(json.dumps({"password": SECRET})),
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        quote_plus(SECRET),
        shlex.quote(SECRET),
        repr(SECRET),
        SECRET.encode().hex(),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        *(base64.b64encode(b"u" * n + b":" + SECRET.encode()).decode() for n in range(4)),
        f"postgresql://app:{quote(SECRET, safe='')}@db/x",
    ],
)
def test_every_spelling_goes(spelled: str) -> None:
    redactor = Redactor([SECRET])
    text = redactor.text(f"before {spelled} after")
    assert MARK in text
    assert text.startswith("before ")
    assert text.endswith(" after")
    assert redactor.data(f"before {spelled} after".encode()).decode() == text
    assert redactor.finds(spelled.encode())
    assert not redactor.finds(text.encode())


#: what the value below is written as when nothing of it is secret
FRAME = json.dumps({"a": [MARK, (f"x{MARK}y", 5, None)], f"k{MARK}": repr(MARK.encode())}) + MARK


@given(st.text(st.characters(codec="utf-8"), min_size=4, max_size=40).filter(lambda s: len(s.strip()) >= 4))
def test_any_secret_goes_from_nested_values(secret: str) -> None:
    assume(secret not in FRAME)  # "null" stands there anyhow
    redactor = Redactor([secret])
    value = redactor.value({"a": [secret, (f"x{secret}y", 5, None)], f"k{secret}": secret.encode()})
    assert not redactor.finds(json.dumps(value, default=repr).encode().replace(MARK.encode(), b""))
    assert redactor.value(5) == 5


def test_the_longer_of_two_overlapping_secrets_leaves_no_remains() -> None:
    assert Redactor(["hunter2", "hunter2-long"]).text("hunter2-long hunter2") == f"{MARK} {MARK}"


def test_json_stays_json() -> None:
    redactor = Redactor([PLAIN])
    event = {"msg": f'ERROR: dup {PLAIN}\nDETAIL:  Key (nik)=(35"03) already exists.\nHINT: x', "rc": 1}
    for text in (json.dumps(event), json.dumps(event, indent=1), json.dumps(event) + "\n" + json.dumps(event) + "\n"):
        clean = redactor.text(text)
        parsed = [json.loads(clean)] if "\n{" not in clean else [json.loads(line) for line in clean.splitlines()]
        for one in parsed:
            assert one["rc"] == 1
            assert "03" not in one["msg"]
            assert one["msg"].endswith("\nHINT: x")


@pytest.mark.parametrize(
    "text",
    [
        "ERROR: duplicate key\nDETAIL:  Key (nik)=(3503ROW) already exists.\nHINT: kept",
        "DETAIL:  Key (nama)=(two\nlines 3503ROW) already exists.\nHINT: kept",
        "DETAIL:  Failing row contains (1, Budi\n3503ROW, null).\nHINT: kept",
        'CONTEXT:  COPY pegawai, line 3, column nik: "3503ROW"\nHINT: kept',
        'CONTEXT:  COPY pegawai, line 3: "a\t3503ROW\nmore 3503ROW"\nHINT: kept',
        "STATEMENT:  INSERT INTO t VALUES ('3503ROW')\nHINT: kept",
        "RINCIAN: Kunci (nik)=(3503ROW) sudah ada.\nHINT: kept",
        "ERROR 1062 (23000): Duplicate entry '3503ROW' for key 'nik'\nHINT: kept",
        "Incorrect integer value: '3503ROW' for column\nHINT: kept",
        'fatal: [db01]: FAILED! => {"msg": "ERROR\\nDETAIL:  Key (a)=(3503ROW) already exists.\\nHINT: kept", "rc": 1}',
        'fatal: => {"msg": "DETAIL:  3503ROW\\nHINT: kept"}',
    ],
)
def test_rows_quoted_by_a_database_go(text: str) -> None:
    clean = Redactor([]).text(text)
    assert "3503ROW" not in clean
    assert "HINT: kept" in clean


def test_ordinary_text_is_left_alone() -> None:
    text = "ok: [db01] => detail: fine\nrincian biasa (a).\n{not json"
    assert Redactor([PLAIN]).text(text) == text
    assert Redactor([]).data(b"\xff\xfe binary") == b"\xff\xfe binary"
    assert not Redactor([]).finds(b"anything")


def test_secrets_too_short_to_replace_are_refused_and_empty_ones_passed_over() -> None:
    with pytest.raises(ConfigError, match="fewer than 4"):
        Redactor(["abc"])
    assert Redactor(["", PLAIN]).text(PLAIN) == MARK
