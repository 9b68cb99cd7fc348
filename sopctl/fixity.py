# SPDX-License-Identifier: Apache-2.0
"""Is a sealed record still what was sealed? Checked by our own walk first, then by bagit. Nothing is ever repaired.

bagit alone passes bags with extra tag files, without a tag manifest, with a fetch.txt and with links, so the walk asks
for the exact set of files, all of them regular, before bagit reads one.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from sopctl.archive import BAGIT_TXT, MANIFEST, MAX_MANIFEST, SIGNATURE, TAG_FILES, TAGMANIFEST
from sopctl.errors import SopctlError
from sopctl.findings import Finding, Severity
from sopctl.fsio import read_strict, sha256_file

_MANIFEST_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")

VerifySignature = Callable[[bytes, bytes], list[str]]


def verify_record(path: Path, verify_signature: VerifySignature, *, by_bagit: bool = True) -> list[Finding]:
    """Everything wrong with the record at ``path``; empty when it is whole and signed.

    ``verify_signature`` gets the tag manifest's bytes and the signature's, and returns what is wrong with them; a
    SopctlError from it means "could not decide" and becomes an ``unchecked`` finding. ``by_bagit``: another program's opinion
    is asked too, which takes longer than all before it; an audit of thousands of records does without.
    """
    check = _RecordCheck(path)
    check.run(verify_signature)
    if by_bagit and not check.findings:
        check.ask_bagit()
    return check.findings


def compare_archive(archive_root: Path, records: Iterable[Path], sealed: Mapping[str, str]) -> list[Finding]:
    """What is wrong with an archive besides each of its ``records``, against ``sealed``: record id → tag manifest digest, as
    the ledger has them. A record that is gone or there twice, and anything in ``records/`` that is not a record."""
    seen = Counter(path.name for path in records)
    findings = [
        Finding("broken", name, "", "record-twice", "the archive holds this record twice")
        for name, times in seen.items()
        if times > 1
    ]
    findings += gone(set(sealed) - set(seen))
    return findings + list(_strays(archive_root / "records", archive_root))


def gone(records: Iterable[str]) -> list[Finding]:
    """Each of ``records``, which the ledger names and the archive does not hold."""
    meaning = "the ledger names this record, but it is gone"
    return [Finding("broken", name, "", "record-missing", meaning) for name in sorted(records)]


def compare_with_ledger(path: Path, sealed: Mapping[str, str]) -> Iterator[Finding]:
    """What speaks against this being the record that ``sealed`` (record id → tag manifest digest) knows."""
    if path.name not in sealed:
        yield Finding("broken", path.name, "", "record-unlisted", "the ledger does not know this record")
        return
    try:
        actual = sha256_file(f"{path}/{TAGMANIFEST}")
    except SopctlError:
        return  # verify_record has named it already
    if actual != sealed[path.name]:
        meaning = "this is not the tag manifest that was sealed: the ledger has another digest"
        yield Finding("broken", path.name, TAGMANIFEST, "record-exchanged", meaning)


def _strays(folder: Path, archive_root: Path, depth: int = 0) -> Iterator[Finding]:
    pattern = (r"\d{4}", r"\d\d", r".*")[depth]
    if not folder.is_dir():
        return
    for entry in sorted(os.scandir(folder), key=lambda item: item.name):
        if not re.fullmatch(pattern, entry.name) or not entry.is_dir(follow_symlinks=False):
            meaning = "is neither a record nor one of the archive's folders"
            yield Finding("broken", "archive", os.path.relpath(entry.path, archive_root), "stray", meaning)
        elif depth < 2:
            yield from _strays(Path(entry.path), archive_root, depth + 1)


class _RecordCheck:
    """One record, one look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.findings: list[Finding] = []

    def run(self, verify_signature: VerifySignature) -> list[Finding]:
        if not stat.S_ISDIR(self._lstat(self.path)):
            self.add("broken", "", "not-a-record", "is not a directory (or is a link to one)")
            return self.findings
        files, directories = self.walk()
        if self.findings:  # links and special files: nothing in here is opened
            return self.findings
        payload = self.read_manifest(MANIFEST, "data/")
        tags = self.read_manifest(TAGMANIFEST, "")
        self.compare_names(files, directories, payload, tags)
        for name, digest in {**payload, **tags}.items():
            self.compare_digest(name, digest, files)
        self.check_tags(files, payload)
        self.check_signature(files, verify_signature)
        return self.findings

    def add(self, severity: Severity, file: str, rule: str, meaning: str) -> None:
        self.findings.append(Finding(severity, self.path.name, file, rule, meaning))

    @staticmethod
    def _lstat(path: Path) -> int:
        try:
            return os.lstat(path).st_mode
        except OSError:
            return 0

    def walk(self) -> tuple[dict[str, int], set[str]]:
        """Name → size of each regular file, and the directories; anything else is a finding."""
        files: dict[str, int] = {}
        directories: set[str] = set()
        waiting = [""]  # folders, as the beginning of the names in them
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(self.path / folder) as entries:
                    found = list(entries)
            except OSError as error:
                self.add("unchecked", folder.rstrip("/"), "unreadable", f"cannot be read: {error.strerror}")
                continue
            for entry in found:
                name = folder + entry.name
                if entry.is_symlink():
                    self.add("broken", name, "link", "is a link: a record holds its files itself")
                elif entry.is_dir(follow_symlinks=False):
                    directories.add(name)
                    waiting.append(name + "/")
                elif entry.is_file(follow_symlinks=False):
                    files[name] = entry.stat(follow_symlinks=False).st_size
                else:
                    self.add("broken", name, "special-file", "is not a regular file")
        return files, directories

    def read_manifest(self, name: str, prefix: str) -> dict[str, str]:
        """File name → digest, in the one form sopctl and sha256sum write."""
        try:
            text = read_strict(f"{self.path}/{name}", MAX_MANIFEST).decode("utf-8")
        except SopctlError as error:
            missing = error.message == "no such file"
            self.add("broken", name, "manifest-missing" if missing else "manifest", f"{name}: {error.message}")
            return {}
        except UnicodeDecodeError:
            self.add("broken", name, "manifest", "is not UTF-8")
            return {}
        found: dict[str, str] = {}
        for number, line in enumerate(text.split("\n")[:-1], start=1):
            match = _MANIFEST_LINE.fullmatch(line)
            if match is None or match[2] in found or not _stays_inside(match[2], prefix):
                self.add("broken", name, "manifest", f"line {number} is not an entry that sopctl writes")
            else:
                found[match[2]] = match[1]
        if not text.endswith("\n"):
            self.add("broken", name, "manifest", "its last line is cut off")
        return found

    def compare_names(
        self, files: Mapping[str, int], directories: set[str], payload: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        for name in sorted({*TAG_FILES, TAGMANIFEST, SIGNATURE, *payload} - set(files)):
            if name not in (MANIFEST, TAGMANIFEST):  # read_manifest has named these
                self.add("broken", name, "file-missing", "is named in the record, but it is gone")
        for name in sorted(set(TAG_FILES) - set(tags)):
            self.add("broken", name, "tag-unlisted", f"{TAGMANIFEST} does not name it: it could be changed unseen")
        for name in sorted(set(tags) - set(TAG_FILES)):
            self.add("broken", name, "tag-extra", f"{TAGMANIFEST} names a file that sopctl does not write")
        for name in sorted(set(files) - {*TAG_FILES, TAGMANIFEST, SIGNATURE, *payload}):
            if name == "fetch.txt":
                self.add("broken", name, "fetch", "a record holds its files itself and fetches none")
            else:
                self.add("broken", name, "file-extra", "was put into the record after it was sealed")
        wanted = {"data"}
        for name in files:
            while (name := name.rpartition("/")[0]) and name not in wanted:
                wanted.add(name)
        for name in sorted(directories - wanted):
            self.add("broken", name, "directory-extra", "is an empty folder that the record does not have")
        if "data" not in directories:
            self.add("broken", "data", "file-missing", "the payload folder is gone")

    def compare_digest(self, name: str, digest: str, files: Mapping[str, int]) -> None:
        if name not in files:
            return
        try:
            actual = sha256_file(f"{self.path}/{name}")
        except SopctlError as error:
            self.add("unchecked", name, "unreadable", f"cannot be read: {error.message}")
            return
        if actual != f"sha256:{digest}":
            self.add("broken", name, "file-altered", "its content is not what was sealed")

    def check_tags(self, files: Mapping[str, int], payload: Mapping[str, str]) -> None:
        if "bagit.txt" in files and self._read("bagit.txt") != BAGIT_TXT:
            self.add("broken", "bagit.txt", "bagit-version", "is not the declaration that sopctl writes")
        if "bag-info.txt" not in files:
            return
        lines = (self._read("bag-info.txt") or b"").decode("utf-8", "replace").splitlines()
        octets = sum(size for name, size in files.items() if name in payload)
        for label, value in (
            ("External-Identifier", self.path.name),
            ("Payload-Oxum", f"{octets}.{len(payload)}"),
        ):
            if [line for line in lines if line.startswith(f"{label}:")] != [f"{label}: {value}"]:
                self.add("broken", "bag-info.txt", "bag-info", f"{label} is not {value}")

    def check_signature(self, files: Mapping[str, int], verify_signature: VerifySignature) -> None:
        if TAGMANIFEST not in files or SIGNATURE not in files:
            return
        signed, signature = self._read(TAGMANIFEST), self._read(SIGNATURE)
        if signed is None or signature is None:
            return
        try:
            problems = verify_signature(signed, signature)
        except SopctlError as error:
            self.add("unchecked", SIGNATURE, "signature", f"could not be checked: {error.message}")
            return
        for problem in problems:
            self.add("broken", SIGNATURE, "signature", problem)

    def ask_bagit(self) -> None:
        """A second opinion from another program's reading of the standard."""
        import bagit

        # for good: it is one logger for all threads, and what bagit finds is told as a finding
        logging.getLogger("bagit").disabled = True
        try:
            bagit.Bag(str(self.path)).validate()
        except bagit.BagError as error:
            self.add("broken", "", "bagit", f"bagit says: {' '.join(str(error).split())}")
        except OSError as error:
            self.add("unchecked", "", "bagit", f"bagit could not read it: {error.strerror}")

    def _read(self, name: str) -> bytes | None:
        try:
            return read_strict(f"{self.path}/{name}", MAX_MANIFEST)
        except SopctlError as error:
            self.add("unchecked", name, "unreadable", error.message)
            return None


def _stays_inside(name: str, prefix: str) -> bool:
    parts = name.split("/")
    return name.startswith(prefix) and not {"", ".", ".."} & set(parts) and "%" not in name and "\\" not in name
