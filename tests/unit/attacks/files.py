# SPDX-License-Identifier: Apache-2.0
"""Files that two programs could read differently, and files that are none. The bytes are rightly signed where that can be."""

from __future__ import annotations

import json
import os

from tests.support.case_site import CaseSite
from tests.unit.attacks.forging import (
    DECIDE,
    DISPOSE,
    REQUEST,
    Attack,
    Table,
    bom,
    crlf,
    data,
    extra,
    forge,
    link,
    rewrite,
    swap,
    trusted_by_hand,
    utf16,
)

REASON = '"reason": "sesuai"'
PROFILE = "profiles/trenggalek-060-017-2023.yml"
ENTRY = "register/datasets/antrean.yml"


def _sparse(site: CaseSite) -> None:
    """A gigabyte that takes no room on the disk."""
    with (site.folder / "03-decide.json").open("r+b") as stream:
        stream.truncate(1024**3)


def _binary(before: bytes) -> bytes:
    return bytes(range(256)) * 4


def _deep(opened: str, closed: str) -> str:
    return f'"reason": {opened * 10_000}{closed * 10_000}'


def _device(site: CaseSite) -> None:
    path = site.folder / "03-decide.json"
    path.unlink()
    os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero: a reader without end


def _hard_linked_twice(site: CaseSite) -> None:
    for end in ("", ".sig"):
        os.link(site.folder / f"03-decide.json{end}", site.folder / f"04-decide.json{end}")


def _hidden(site: CaseSite) -> None:
    (site.folder / ".04-decide.json").write_bytes(b"{}")


def _year_elsewhere(site: CaseSite) -> None:
    """The folder of the year is a link to a tree that somebody else may write to."""
    link(f"cases/{site.case.split('-')[1]}")(site)


def _case_elsewhere(site: CaseSite) -> None:
    link(f"cases/{site.case.split('-')[1]}/{site.case}")(site)


def _trust_deep(before: bytes) -> bytes:
    return before + b"extra: " + b"[" * 10_000 + b"]" * 10_000 + b"\n"


def _serial_twice(before: bytes) -> bytes:
    return before + b"serial: 99\n"


def _anchored(before: bytes) -> bytes:
    return before.replace(b"schema: sop-trust/v1", b"schema: &a sop-trust/v1", 1)


def _merged(before: bytes) -> bytes:
    return before.replace(b"policy:\n", b"policy: &p\n", 1) + b"more: *p\n"


def _tagged(before: bytes) -> bytes:
    return before.replace(b"schema: sop-trust/v1", b"schema: !!python/name:os.system sop-trust/v1", 1)


def _second_document(before: bytes) -> bytes:
    return before + b"---\n" + before


def _register_twice(before: bytes) -> bytes:
    return before.replace(b'"server":', b'"server": "srv02",\n  "server":', 1)


def _latin(before: bytes) -> bytes:
    return before.replace(b"sesuai", "ses\u00fcai".encode("latin-1"), 1)


def _list(before: bytes) -> bytes:
    return json.dumps([json.loads(before)]).encode()


def _decision(new: str, reason: str, old: str = REASON) -> Attack:
    return Attack(forge(data(DECIDE, swap(old, new))), reason)


ATTACKS: Table = {
    # JSON: a decision that is rightly signed, received, and not what it seems
    "decision in UTF-16": Attack(forge(data(DECIDE, utf16)), "not UTF-8"),
    "decision in Latin-1": Attack(forge(data(DECIDE, _latin)), "not UTF-8"),
    "decision begins with a byte order mark": Attack(forge(data(DECIDE, bom)), "begins with a byte order mark"),
    "decision is binary": Attack(forge(data(DECIDE, _binary)), "not UTF-8"),
    "decision is empty": Attack(forge(data(DECIDE, lambda _: b"")), "not JSON"),
    "decision is NULs": Attack(forge(data(DECIDE, lambda _: b"\0" * 64)), "not JSON"),
    "decision is a list": Attack(forge(data(DECIDE, _list)), "Expected `object`, got `array`"),
    "decision is two": Attack(forge(data(DECIDE, lambda one: one + one)), "not JSON: Extra data"),
    "decision is a sparse gigabyte": Attack(_sparse, "is larger than 1048576 bytes"),
    "decision is a device": Attack(_device, "does not belong into a case folder"),
    "decision converted by git": Attack(rewrite("CASE/03-decide.json", crlf), "03-decide.json was never received"),
    "decision with a comment": _decision(f"// ya\n{REASON}", "not JSON"),
    "decision with NaN": _decision('"reason": NaN', "NaN is not JSON"),
    "decision with Infinity": _decision('"reason": Infinity', "Infinity is not JSON"),
    "decision with a float": _decision('"reason": 1.0', "floats are not allowed"),
    "decision with an exponent": _decision('"reason": 1e3', "floats are not allowed"),
    "decision with a number of a thousand digits": _decision(f'"reason": {"9" * 1000}', "is too large"),
    "decision 10,000 lists deep": _decision(_deep("[", "]"), "nested deeper than 32 levels"),
    "decision 10,000 objects deep": _decision(_deep('{"a":', "}").replace(":}", ":0}", 1), "nested deeper than 32"),
    "decision 10,000 lists deep and never closed": _decision(
        '"reason": ' + "[" * 10_000, "nested deeper than 32 levels"
    ),
    "decision says two things": _decision(
        '"decision": "reject",\n    "decision": "approve"', "the key stands twice", '"decision": "approve"'
    ),
    "decision says two things, spelled another way": _decision(
        '"decision": "approve",\n    "d\\u0065cision": "reject"', "the key stands twice", '"decision": "approve"'
    ),
    "decision with half a letter": _decision('"reason": "\\ud800"', "holds half a character"),
    "decision with half a letter in a key": _decision(f'{REASON},\n    "\\udfff": 1', "holds half a character"),
    "decision with a raw NUL": _decision('"reason": "a\0b"', "not JSON: Invalid control character"),
    "decision with an unknown act": _decision('"act": "approve"', "Invalid enum value 'approve'", '"act": "decide"'),
    "decision's number is text": _decision('"seq": "3"', "Expected `int`, got `str`", '"seq": 3'),
    "decision's number is true": _decision('"seq": true', "Expected `int`, got `bool`", '"seq": 3'),
    "decision of an unknown schema": _decision("sop/document/v2", "Invalid enum value", "sop/document/v1"),
    "decision has no signer": _decision('"aktor"', "unknown key 'aktor'", '"actor"'),
    "request says another dataset too": Attack(
        forge(data(REQUEST, swap('"datasets"', '"datasets": ["berkas"],\n    "datasets"'))), "the key stands twice"
    ),
    "disposition in UTF-16": Attack(forge(data(DISPOSE, utf16)), "not UTF-8"),
    # links and strange things in the tree
    "decision is a link": Attack(link("CASE/03-decide.json"), "does not belong into a case folder"),
    "signature is a link": Attack(link("CASE/03-decide.json.sig"), "is a link"),
    "decision under two numbers": Attack(_hard_linked_twice, "the file's name does not fit document 3 (decide)"),
    "a hidden document": Attack(_hidden, "does not belong into a case folder"),
    "attachments are a link": Attack(link("CASE/attachments"), "does not belong into a case folder"),
    "case folder is a link": Attack(_case_elsewhere, "is a link"),
    "folder of the year is a link": Attack(_year_elsewhere, "is a link"),
    "trust is a link": Attack(link("trust/trust.yml"), "is a link"),
    "trust's signature is a link": Attack(link("trust/trust.yml.sig"), "is a link"),
    "profile is a link": Attack(link(PROFILE), "is a link"),
    "register entry is a link": Attack(link(ENTRY), "is a link"),
    "register index is a link": Attack(link("register/index.yml"), "is a link"),
    "register index's signature is a link": Attack(link("register/index.yml.sig"), "is a link"),
    "sop.yml is a link": Attack(link("sop.yml"), "is a link"),
    "attachment climbs out": Attack(
        forge(extra("attach", "pemohon", "pemohon", file="../../../sop.yml", sha256="sha256:" + "0" * 64, note="")),
        "does not name a plain file",
    ),
    "attachment has an absolute path": Attack(
        forge(extra("attach", "pemohon", "pemohon", file="/etc/passwd", sha256="sha256:" + "0" * 64, note="")),
        "does not name a plain file",
    ),
    "letter climbs out": Attack(
        forge(lambda _, papers: papers[REQUEST].body["body"]["letter"].update(file="../../../sop.yml")),
        "does not name a plain file",
    ),
    # YAML, signed by the root holder by hand
    "trust in UTF-16": Attack(trusted_by_hand(change_bytes=utf16), "not UTF-8"),
    "trust begins with a byte order mark": Attack(trusted_by_hand(change_bytes=bom), "begins with a byte order mark"),
    "trust says two serials": Attack(trusted_by_hand(change_bytes=_serial_twice), "the key 'serial' stands twice"),
    "trust with an anchor": Attack(trusted_by_hand(change_bytes=_anchored), "anchors (&a) are not allowed"),
    "trust with an alias": Attack(trusted_by_hand(change_bytes=_merged), "are not allowed"),
    "trust with a tag": Attack(trusted_by_hand(change_bytes=_tagged), "are not allowed"),
    "trust is two documents": Attack(trusted_by_hand(change_bytes=_second_document), "a second document begins here"),
    "trust 10,000 lists deep": Attack(trusted_by_hand(change_bytes=_trust_deep), "nested deeper than 32 levels"),
    "trust with an unknown key": Attack(
        trusted_by_hand(change_bytes=lambda one: one + b"root: kabid\n"), "unknown key 'root'"
    ),
    "trust with a float": Attack(
        trusted_by_hand(change_bytes=lambda one: one + b"root: 1.5\n"), "is not a whole number"
    ),
    "trust is empty": Attack(trusted_by_hand(change_bytes=lambda _: b""), "is empty"),
    "trust converted by git": Attack(rewrite("trust/trust.yml", crlf), "the trust's signature is not valid"),
    "trust is binary": Attack(rewrite("trust/trust.yml", _binary), "the trust's signature is not valid"),
    "profile converted by git": Attack(rewrite(PROFILE, crlf), "is not the one in the trust (its bytes differ)"),
    "profile with an anchor": Attack(rewrite(PROFILE, swap("roles:", "roles: &r")), "anchors (&r) are not allowed"),
    "profile says roles twice": Attack(
        rewrite(PROFILE, lambda one: one + b"roles: {}\n"), "the key 'roles' stands twice"
    ),
    "register entry converted by git": Attack(
        rewrite(ENTRY, crlf), "register/datasets/antrean.yml is not as its keeper"
    ),
    "register entry says two servers": Attack(rewrite(ENTRY, _register_twice), "the key 'server' stands twice"),
    "register entry in UTF-16": Attack(rewrite(ENTRY, utf16), "not UTF-8"),
    "register index converted by git": Attack(rewrite("register/index.yml", crlf), "register/index.yml is not"),
    "register index 10,000 lists deep": Attack(
        rewrite("register/index.yml", _trust_deep), "nested deeper than 32 levels"
    ),
    "sop.yml says two time zones": Attack(
        rewrite("sop.yml", lambda one: one + b"timezone: Asia/Jayapura\n"), "the key 'timezone' stands twice"
    ),
    "sop.yml is binary": Attack(rewrite("sop.yml", _binary), "not UTF-8"),
}
