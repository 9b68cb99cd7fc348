# SPDX-License-Identifier: Apache-2.0
"""The two YAML parsers agree on every text that the fast one is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sopctl import yamls
from sopctl.errors import ConfigError

pytestmark = pytest.mark.skipif(yamls.FAST is None, reason="PyYAML was built without libyaml; a wheel of it has it")

WORDS = st.sampled_from(
    ["a", "b", "key", "no", "null", "~", "12", "-3", "1.5", "0o7", "1e3", "2026-11-22", "12:30", "a:b", "x#y", "it's", "/var", "(a)", ".5", "...", "---", "@", "!t", "&a", "*a", "[]", "{}", "[a]", "<<", "=", "%x", "?", "é", "–", "\u00a0", "\u2028", "\t", "\\n", '"', "'"]
)  # fmt: skip
VALUES = st.one_of(
    WORDS,
    st.lists(WORDS, min_size=1, max_size=3).map(" ".join),
    st.lists(WORDS, max_size=3).map(lambda words: f'"{" ".join(words)}"'),
    st.lists(WORDS, max_size=3).map(lambda words: f"'{' '.join(words)}'"),
    st.text(st.characters(min_codepoint=32, max_codepoint=0x2030), max_size=6),
)
LINES = st.one_of(
    st.builds(
        lambda indent, dash, key, value, end: f"{' ' * indent}{dash}{key}{value}{end}\n",
        st.integers(0, 5),
        st.sampled_from(["", "", "", "- ", "-  ", "- - "]),
        st.sampled_from(["", "a: ", "b: ", "key:", "key:  ", "no: ", "d-e: ", "_f:", "12: ", "s/a.yml: ", "s//: "]),
        st.one_of(st.just(""), VALUES),
        st.sampled_from(["", "", "", " ", " # c", "# c", "  #"]),
    ),
    st.sampled_from(["---\n", "...\n", "\n", "  \n", "# c\n", "%YAML 1.1\n", "a: 1\nb:\n  - c\n"]),
)
TEXTS = st.lists(LINES, min_size=1, max_size=6).map("".join)


def read(text: str, parser: type) -> Any:
    """The word "value" and the value, or "refused" and the name of the error."""
    try:
        return "value", yamls._Builder("f").build(yaml.parse(text, Loader=parser))
    except (yaml.YAMLError, ConfigError, ValueError) as error:
        return "refused", type(error).__name__


@settings(max_examples=600)
@given(TEXTS.filter(yamls.tame))
def test_what_the_fast_one_takes_the_other_reads_alike(text: str) -> None:
    assert yamls.FAST is not None
    word, value = read(text, yamls.FAST)
    if word == "value":
        assert read(text, yaml.SafeLoader) == ("value", value)


@pytest.mark.parametrize(
    "text",
    ["a: 1", "a:\t1\n", 'a: "\\n"\n', "a: |\n  b\n", "? a\n: b\n", "a: {b: c}\n", "a: *b\n", "a: !x b\n", "...\n", "a: b: c\n", "a\n", "%YAML 1.1\n---\na: 1\n", "a: \u2028b\n", "\ufeffa: 1\n", "a: b\r\n"],
)  # fmt: skip
def test_not_of_the_simple_kinds(text: str) -> None:
    assert not yamls.tame(text)


def test_site_files_are_of_the_simple_kinds() -> None:
    """Otherwise a register of thousands is read slowly, and nobody notices."""
    entry = "id: db01\nname: Basis data (utama)\naddress: 10.0.0.1 # rak 3\nssh_host_key: ssh-ed25519 AAAA+/k= db01\ntags: []\n"
    entry += (
        "reviewed:\n  at: 2026-03-01\n  result: \"sesuai\"\nservices:\n  - unit: 'web.service'\n    server: web01\n"
    )
    assert yamls.tame(entry)
    assert yamls.tame("---\n" + entry)


def test_a_mistake_is_told_by_the_one_that_reads_everything() -> None:
    with pytest.raises(ConfigError, match="stands twice") as refused:
        yamls.parse_yaml_strict(b"a: 1\na: 2\n", str(Path("f.yml")))
    assert refused.value.where == "f.yml:2:1"


def test_long_text_takes_linear_time() -> None:
    """Possessive: a megabyte that fails at its end is not tried again from each line."""
    assert not yamls.tame("a: b c d e\n" * 90_000 + "?")
    assert not yamls.tame("a: " + "x " * 400_000 + "\t")
