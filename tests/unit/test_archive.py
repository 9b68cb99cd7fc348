# SPDX-License-Identifier: Apache-2.0
"""sopctl.archive and sopctl.fixity: records are whole or absent, and every change to one is found."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import bagit
import pytest

from sopctl import archive, fixity
from sopctl.errors import AlreadyExistsError, ConfigError, EvidenceError
from sopctl.findings import Finding

AT = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
FILES: dict[str, bytes | Path] = {
    "form.json": b'{"a": 1}\n',
    "form.html": b"<p>form</p>",
    "case/RST-2026-0001/01-request.json": b"{}",
    "run/stdout.txt": b"",
    "surat permohonan é.pdf": b"%PDF",
}


def sign(data: bytes) -> bytes:
    return b"SIGNED " + hashlib.sha256(data).hexdigest().encode()


def check(data: bytes, signature: bytes) -> list[str]:
    return [] if signature == sign(data) else ["the signature does not fit"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def record(root: Path) -> Path:
    info = {"Source-Organization": "Dinas\nKominfo", "Sop-Case": ["RST-2026-0001", "RST-2026-0002"]}
    return archive.seal_record(root, "RUN-2026-0001", "run", FILES, info, sign=sign, at=AT)


def rules(record: Path) -> set[str]:
    return {finding.rule for finding in fixity.verify_record(record, check)}


def test_a_sealed_record_is_a_valid_bag_that_plain_commands_check(root: Path, record: Path) -> None:
    assert record == root / "records" / "2026" / "11" / "RUN-2026-0001"
    assert fixity.verify_record(record, check) == []
    assert bagit.Bag(str(record)).is_valid()
    for manifest in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", manifest], cwd=record, check=True)
    assert archive.record_info(record)["Sop-Case"] == ["RST-2026-0001", "RST-2026-0002"]
    assert archive.record_info(record)["Source-Organization"] == ["Dinas Kominfo"]
    assert archive.record_info(record)["Payload-Oxum"] == ["26.5"]
    assert archive.record_file(record, "form.json") == FILES["form.json"]
    assert archive.list_records(root) == [record]
    assert archive.unfinished(root) == []
    assert not any((root / ".incoming").iterdir())


def test_files_are_taken_from_disk_too_and_links_are_not(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "events"
    source.write_bytes(b"x" * 3_000_000)
    sealed = archive.seal_record(root, "RUN-1", "run", {"run/events": source}, {}, sign=sign, at=AT)
    assert (sealed / "data/run/events").read_bytes() == source.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(source)
    with pytest.raises(ConfigError):
        archive.seal_record(root, "RUN-2", "run", {"a": link}, {}, sign=sign, at=AT)
    with pytest.raises(ConfigError):
        archive.seal_record(root, "RUN-3", "run", {"a": tmp_path}, {}, sign=sign, at=AT)
    assert [path.name for path in archive.list_records(root)] == ["RUN-1"]


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../b", "", "a//b", "a\nb", "a%0Ab", "a\\b", "./a", " a", "a/", "e\u0301.pdf", "\x1b[2J"]
)
def test_names_that_leave_the_record_or_deceive_are_refused(root: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        archive.seal_record(root, "RUN-1", "run", {name: b"x"}, {}, sign=sign, at=AT)
    assert archive.list_records(root) == []


def test_an_id_is_sealed_once_whatever_the_month(root: Path, record: Path) -> None:
    with pytest.raises(AlreadyExistsError):
        archive.seal_record(root, record.name, "run", FILES, {}, sign=sign, at=datetime(2027, 1, 1, tzinfo=UTC))
    assert fixity.verify_record(record, check) == []


def test_a_record_id_or_label_of_another_shape_is_a_programming_error(root: Path) -> None:
    for record_id, kind, info in [
        ("../x", "run", {}),
        ("a b", "run", {}),
        ("R-1", "other", {}),
        ("R-1", "run", {"A:B": "x"}),
    ]:
        with pytest.raises(ValueError, match="not a"):
            archive.seal_record(root, record_id, kind, {}, info, sign=sign)
    with pytest.raises(ValueError, match="not a label"):
        archive.seal_record(root, "R-1", "run", {}, {"Payload-Oxum": "1.1"}, sign=sign)


def test_a_signature_that_fails_leaves_no_record_and_a_named_rest(root: Path) -> None:
    def no_agent(_data: bytes) -> bytes:
        raise ConfigError("no key")

    with pytest.raises(ConfigError, match="no key"):
        archive.seal_record(root, "RUN-1", "run", FILES, {}, sign=no_agent, at=AT)
    assert archive.list_records(root) == []
    assert [path.name.split(".")[0] for path in archive.unfinished(root)] == ["RUN-1"]
    assert archive.seal_record(root, "RUN-1", "run", FILES, {}, sign=sign, at=AT).is_dir()


def test_what_is_being_sealed_now_is_not_called_unfinished(root: Path) -> None:
    seen: list[list[Path]] = []

    def looking(data: bytes) -> bytes:
        seen.append(archive.unfinished(root))
        return sign(data)

    archive.seal_record(root, "RUN-1", "run", FILES, {}, sign=looking, at=AT)
    assert seen == [[]]


KILLED_SEAL = """
import os, signal, sys
from pathlib import Path
from sopctl import archive
calls = 0
real = os.fsync
def fsync(descriptor):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)
os.fsync = fsync
archive.seal_record(Path(sys.argv[1]), "RUN-1", "run", {"form.json": b"{}", "run/a": b"x"}, {}, sign=lambda data: b"sig")
print(calls)
"""


def test_killed_at_any_moment_the_record_is_absent_or_whole(tmp_path: Path) -> None:
    def seal(root: Path, at_call: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED_SEAL, str(root), str(at_call)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    total = int(seal(tmp_path / "whole", 0).stdout)
    assert total > 10
    for call in range(1, total + 1, 3):
        root = tmp_path / str(call)
        assert seal(root, call).returncode == -signal.SIGKILL
        records = archive.list_records(root)
        for found in records:
            assert [f.rule for f in fixity.verify_record(found, lambda _data, _signature: [])] == []
        assert len(records) + len(archive.unfinished(root)) <= 1


# -- every change is found ---------------------------------------------------------------------------------------------


def test_one_changed_byte_in_any_file_is_found(record: Path, tmp_path: Path) -> None:
    for path in sorted(record.rglob("*")):
        if not path.is_file():
            continue
        whole = path.read_bytes()
        for changed in (
            [whole + b"x"] if not whole else [whole[:-1] + bytes([whole[-1] ^ 1]), whole + b"\n", whole[1:], b""]
        ):
            path.write_bytes(changed)
            assert {f.severity for f in fixity.verify_record(record, check)} == {"broken"}, path
            assert path.read_bytes() == changed  # checking repairs nothing
        path.unlink()
        assert rules(record), path
        path.write_bytes(whole)
        assert rules(record) == set()


def test_the_findings_say_what_happened(record: Path) -> None:
    (record / "data/form.json").write_bytes(b"{}")
    found = fixity.verify_record(record, check)
    assert [(f.file, f.rule) for f in found if f.rule == "file-altered"] == [("data/form.json", "file-altered")]
    assert str(found[0]).startswith("broken: RUN-2026-0001/")
    assert set(found[0].as_json()) == {"severity", "record", "file", "rule", "meaning"}


def _rewrite_all(record: Path) -> None:
    """A forger without the key: content, manifests and oxum are made to fit, only the signature cannot be."""
    (record / "data/form.json").write_bytes(b'{"a": 2}\n')
    manifest = subprocess.run(
        ["bash", "-c", "find data -type f -print0 | sort -z | xargs -0 sha256sum"],
        cwd=record,
        capture_output=True,
        check=True,
    ).stdout
    (record / "manifest-sha256.txt").write_bytes(manifest)
    names = ["bag-info.txt", "bagit.txt", "manifest-sha256.txt"]
    (record / "tagmanifest-sha256.txt").write_bytes(
        subprocess.run(["sha256sum", *names], cwd=record, capture_output=True, check=True).stdout
    )


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda r: (r / "extra-tag.txt").write_text("x"), "file-extra"),
        (lambda r: (r / "data/extra").write_text("x"), "file-extra"),
        (lambda r: (r / "data/.hidden").write_text("x"), "file-extra"),
        (lambda r: (r / "fetch.txt").write_text("http://x 1 data/a\n"), "fetch"),
        (lambda r: (r / "data/empty").mkdir(), "directory-extra"),
        (lambda r: (r / "tagmanifest-sha256.txt").unlink(), "manifest-missing"),
        (lambda r: (r / "tagmanifest-sha256.txt.sig").unlink(), "file-missing"),
        (lambda r: (r / "data/form.json").unlink(), "file-missing"),
        (lambda r: shutil.rmtree(r / "data"), "file-missing"),
        (lambda r: os.mkfifo(r / "data/fifo"), "special-file"),
        (lambda r: (r / "data/link").symlink_to("/etc/passwd"), "link"),
        (lambda r: (r / "link").symlink_to(r / "data"), "link"),
        (lambda r: r.rename(r.with_name("RUN-2026-0009")), "bag-info"),
        (lambda r: (r / "manifest-md5.txt").write_text(""), "file-extra"),
        (lambda r: (r / "tagmanifest-sha256.txt").write_text("x"), "manifest"),
        (_rewrite_all, "signature"),
    ],
)
def test_tampering_by_kind(record: Path, change: Callable[[Path], object], rule: str) -> None:
    change(record)
    found = next(iter(record.parent.iterdir()))
    assert rule in rules(found)


def test_a_file_replaced_by_a_link_to_the_same_content_is_found(record: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (record / "data/form.json").rename(outside)
    (record / "data/form.json").symlink_to(outside)
    assert rules(record) == {"link"}


def test_bagit_alone_would_pass_what_we_find(record: Path) -> None:
    (record / "extra-tag.txt").write_text("x")
    (record / "tagmanifest-sha256.txt").unlink()
    assert bagit.Bag(str(record)).is_valid()
    assert {"file-extra", "manifest-missing"} <= rules(record)


def test_a_manifest_that_leaves_the_record_is_refused(record: Path) -> None:
    manifest = record / "manifest-sha256.txt"
    manifest.write_bytes(manifest.read_bytes() + b"0" * 64 + b"  data/../../../../etc/passwd\n")
    assert "manifest" in rules(record)


def test_a_signature_that_cannot_be_checked_is_unchecked(record: Path) -> None:
    def no_trust(_data: bytes, _signature: bytes) -> list[str]:
        raise EvidenceError("no trust file for that day")

    found = fixity.verify_record(record, no_trust)
    assert [(f.severity, f.rule) for f in found] == [("unchecked", "signature")]


def test_an_unreadable_record_is_not_called_ok(record: Path, tmp_path: Path) -> None:
    assert rules(tmp_path / "none") == {"not-a-record"}
    link = tmp_path / "link"
    link.symlink_to(record)
    assert rules(link) == {"not-a-record"}


# -- the whole archive against the ledger ------------------------------------------------------------------------------


def test_an_archive_is_compared_with_the_ledger(root: Path, record: Path) -> None:
    other = archive.seal_record(root, "RUN-2026-0002", "case", FILES, {}, sign=sign, at=AT)
    sealed = {path.name: archive.record_digests(path)["tagmanifest"] for path in (record, other)}

    def looked(known: dict[str, str]) -> list[Finding]:
        records = archive.list_records(root)
        each = [found for path in records for found in fixity.compare_with_ledger(path, known)]
        return each + fixity.compare_archive(root, records, known)

    def found(known: dict[str, str]) -> list[tuple[str, str]]:
        return [(f.record, f.rule) for f in looked(known)]

    assert looked(sealed) == []

    assert found({record.name: sealed[record.name]}) == [("RUN-2026-0002", "record-unlisted")]
    assert found({**sealed, "RUN-2026-0003": "sha256:" + "0" * 64}) == [("RUN-2026-0003", "record-missing")]
    assert found({**sealed, record.name: "sha256:" + "0" * 64}) == [(record.name, "record-exchanged")]
    (root / "records" / "2026" / "notes.txt").write_text("x")
    (root / "records" / "2026" / "11" / "file").write_text("x")
    strays = [f.file for f in looked(sealed) if f.rule == "stray"]
    assert strays == ["records/2026/11/file", "records/2026/notes.txt"]
    shutil.rmtree(record)
    assert (record.name, "record-missing") in found(sealed)
