# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""What lies in a vault: dumps, the manifests that make them count, and streams to restore from.

A dump counts only if a second snapshot, its manifest, was written after it: a process killed at any moment leaves at
most a dump without a manifest, which nobody reads.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import IO, cast

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import (
    DumpSource,
    DumpStream,
    Json,
    SopError,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.pipes import widen
from ansible_collections.diskominfo.sop.plugins.module_utils.progress import Meter, bytes_written
from ansible_collections.diskominfo.sop.plugins.module_utils.restic import Child, Restic, VaultError
from ansible_collections.diskominfo.sop.plugins.module_utils.tree import Entry, TreeSource

MANIFEST_SCHEMA = "sop-manifest/v1"
MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 64 << 20
_CHUNK = 1 << 20
_ID_DIGITS = 64
_SECOND = timedelta(seconds=1)
_GO_SPECIAL_MODES = ((1 << 23, stat.S_ISUID), (1 << 22, stat.S_ISGID), (1 << 20, stat.S_ISVTX))


@dataclass(frozen=True)
class Stored:
    """A dump that restic has stored (it does not count yet). ``sha256`` is of the dump's bytes, or for a folder the
    vault's hash tree over names and contents. ``content`` is None for a folder."""

    snapshot: str
    bytes: int
    sha256: str
    content: Json | None


@dataclass(frozen=True)
class Counted:
    """A dump with its manifest snapshot. ``time`` is what the host's clock said when it was stored."""

    snapshot: str
    manifest_snapshot: str
    dataset: str
    period: str
    name: str
    case: str
    time: str


def tag_value(snapshot: Json, key: str) -> str:
    """The value of the tag ``key=…`` of a snapshot, "" when it has none."""
    prefix = key + "="
    return next((tag[len(prefix) :] for tag in snapshot.get("tags") or [] if tag.startswith(prefix)), "")


class Vault:
    """One restic repository as seen from one host."""

    def __init__(self, vault: Json, state_dir: str, read_only: bool = False, cache: bool = True) -> None:
        self.restic = Restic(vault, state_dir, read_only, cache)
        self.label = self.restic.label

    def repository_id(self) -> str:
        """The id of the repository; VaultError with reason "absent" when there is none."""
        return str(json.loads(self.restic.run(["cat", "config"]))["id"])

    def ensure_repository(self, create: bool = True) -> tuple[str, bool]:
        """Return (repository id, created); idempotent. With ``create`` false an absent one gives ("", False)."""
        try:
            return self.repository_id(), False
        except VaultError as error:
            if error.reason != "absent":
                raise
        if not create:
            return "", False
        self.restic.run(["init"])
        return self.repository_id(), True

    # -- writing ------------------------------------------------------------------------------------------------

    def backup_stream(
        self, open_dump: Callable[[], DumpStream], filename: str, tags: dict[str, str], meter: Meter | None = None
    ) -> Stored:
        """Store the dump that ``open_dump`` starts. When the connection to the vault breaks, one new dump is tried."""
        try:
            return self._backup_stream_once(open_dump, filename, tags, meter)
        except VaultError as error:
            if error.reason not in {"unreachable", "locked"}:
                raise
        self.restic.run(["snapshots", "--json", "--tag", "sop-kind=none"])  # waits for locks; says so when still broken
        return self._backup_stream_once(open_dump, filename, tags, meter)

    def _backup_stream_once(
        self, open_dump: Callable[[], DumpStream], filename: str, tags: dict[str, str], meter: Meter | None
    ) -> Stored:
        args = ["backup", "--json", "--stdin", "--stdin-filename", filename, *_tag_options(tags)]
        child = self.restic.spawn(args, stdin=subprocess.PIPE)
        dump: DumpStream | None = None
        try:
            dump = open_dump()
            size, sha256 = self._feed(dump, child, meter)
            content = dump.finish()  # only now does the dump count; restic still waits for more
            cast("IO[bytes]", child.process.stdin).close()
            child.wait()
        except BaseException:
            child.kill()  # first: an end of its input would look like a whole dump to restic
            if dump is not None:
                dump.abort()
            raise
        finally:
            child.close()
        summary = _summary(child)
        if summary.get("total_bytes_processed") != size:
            raise SopError(
                f"vault {self.label}: restic stored {summary.get('total_bytes_processed')} bytes of {size}; "
                "the dump does not count, run again"
            )
        return Stored(self._full_id(summary, tags), size, sha256, content)

    def _feed(self, dump: DumpStream, child: Child, meter: Meter | None) -> tuple[int, str]:
        if meter:
            meter.again()
        digest = hashlib.sha256()
        size = 0
        stdin = cast("IO[bytes]", child.process.stdin)
        widen(stdin)
        try:
            while chunk := dump.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                stdin.write(chunk)
                if meter:
                    meter.add(len(chunk))
            stdin.flush()
        except BrokenPipeError:
            child.wait()
            raise VaultError("other", f"vault {self.label}: restic stopped reading the dump; run again") from None
        return size, digest.hexdigest()

    def backup_tree(self, path: str, tags: dict[str, str], meter: Meter | None = None) -> Stored:
        """Store the folder ``path``; a thing in it that cannot be read fails the whole."""
        args = ["backup", "--json", *_tag_options(tags), "--", path]
        for attempt in (1, 2):
            child = self.restic.spawn(args, status=meter.reached if meter else None)
            try:
                child.wait()
                break
            except VaultError as error:
                if child.process.returncode == 3:
                    message = f"{path}: not everything could be read, so the dump does not count ({error})"
                    raise SopError(message) from error
                if error.reason not in {"unreachable", "locked"} or attempt == 2:
                    raise
            finally:
                child.close()
            self.restic.run(["snapshots", "--json", "--tag", "sop-kind=none"])
        summary = _summary(child)
        found = self._just_written(str(summary.get("snapshot_id", "")), tags)
        return Stored(str(found["id"]), int(summary["total_bytes_processed"]), str(found["tree"]), None)

    def put_manifest(self, manifest: Json, tags: dict[str, str]) -> str:
        """Store ``manifest`` and return its snapshot id. It is whole before restic starts, so it is stored whole."""
        args = ["backup", "--json", "--stdin", "--stdin-filename", MANIFEST_NAME, *_tag_options(tags)]
        with os.fdopen(os.memfd_create("sop-manifest"), "w+b") as stream:
            stream.write(json.dumps(manifest, indent=1, sort_keys=True).encode())
            stream.flush()
            try:
                output = self.restic.run(args, stdin=stream)
            except VaultError as error:
                if error.reason != "unreachable":
                    raise
                output = self.restic.run(args, stdin=stream)
        summary = next(json.loads(line) for line in output.splitlines() if b'"summary"' in line)
        return self._full_id(summary, tags)

    def _full_id(self, summary: Json, tags: dict[str, str]) -> str:
        """The whole id: each call of restic derives its key anew, most of a second, so the vault is asked only when nothing
        else tells it. restic 0.14 prints eight digits of it, and keeps what it wrote in its cache."""
        short = str(summary.get("snapshot_id", ""))
        if len(short) == _ID_DIGITS:
            return short
        return self.restic.cached_snapshot(short) or str(self._just_written(short, tags)["id"])

    def _just_written(self, short: str, tags: dict[str, str]) -> Json:
        """The snapshot whose id begins with ``short``, as the vault lists it, with these tags."""
        wanted = {f"{key}={value}" for key, value in tags.items()}
        found = [
            item
            for item in self._list([short])
            if item["id"].startswith(short) and wanted <= set(item.get("tags") or [])
        ]
        if not short or len(found) != 1:
            raise SopError(
                f"vault {self.label}: the snapshot just written ({short or 'no id'}) is not found; run again"
            )
        return found[0]

    # -- reading ------------------------------------------------------------------------------------------------

    def _list(self, args: list[str]) -> list[Json]:
        return list(json.loads(self.restic.run(["snapshots", "--json", *args])) or [])

    def snapshots(self, tags: dict[str, str]) -> list[Json]:
        """All snapshots having every tag of ``tags``, as restic describes them."""
        return self._list(["--tag", _joined(tags)])

    def counted(self, dataset: str, period: str | None = None) -> list[Counted]:
        """The dumps of ``dataset`` (and ``period``) that count, oldest first."""
        found = self.snapshots({"sop-dataset": dataset})
        dumps = {item["id"]: item for item in found if tag_value(item, "sop-kind") == "dump"}
        counted: dict[str, Counted] = {}
        for item in sorted(found, key=lambda each: str(each["time"])):
            dump_id = tag_value(item, "sop-dump")
            dump = dumps.get(dump_id)
            if tag_value(item, "sop-kind") != "manifest" or dump is None or dump_id in counted:
                continue
            values = [tag_value(dump, key) for key in ("sop-dataset", "sop-period", "sop-name", "sop-case")]
            if values == [tag_value(item, key) for key in ("sop-dataset", "sop-period", "sop-name", "sop-case")]:
                dataset_id, its_period, name, case = values
                time = str(dump["time"])
                counted[dump_id] = Counted(dump_id, str(item["id"]), dataset_id, its_period, name, case, time)
        return [each for each in counted.values() if period is None or each.period == period]

    def read_manifest(self, manifest_snapshot: str, dataset: str, snapshot: str) -> Json:
        """The manifest of ``snapshot``; SopError when it is not that, or not of ``dataset``."""
        where = f"vault {self.label}: manifest {manifest_snapshot[:12]}"
        raw = self.restic.run(["dump", manifest_snapshot, "/" + MANIFEST_NAME])
        if len(raw) > MAX_MANIFEST_BYTES:
            raise SopError(f"{where}: larger than {MAX_MANIFEST_BYTES} bytes; choose another backup")
        try:
            manifest = json.loads(raw)
        except ValueError as error:
            raise SopError(f"{where}: is not JSON; choose another backup") from error
        wanted = {"schema": MANIFEST_SCHEMA, "dataset": dataset, "dump_snapshot": snapshot}
        for key, value in wanted.items():
            if not isinstance(manifest, dict) or manifest.get(key) != value:
                raise SopError(f"{where}: its {key} is not {value!r}; this is not the manifest of the planned backup")
        return cast("Json", manifest)

    def entries(self, snapshot: str, root: str) -> Iterator[Entry]:
        """What the vault says the folder ``root`` held."""
        child = self.restic.spawn(["ls", "--json", snapshot], raw=True)
        try:
            for line in cast("IO[bytes]", child.process.stdout):
                node = json.loads(line)
                if node.get("struct_type") == "node" and (node["path"] + "/").startswith(root.rstrip("/") + "/"):
                    yield _entry(node, root)
            child.wait()
        finally:
            child.close()

    def read_tree(self, snapshot: str, meter: Meter | None = None) -> None:
        """Read a folder's dump to its end, so that every byte of it is checked."""
        child = self.restic.spawn(["dump", snapshot, "/"], raw=True)
        try:
            while chunk := cast("IO[bytes]", child.process.stdout).read(_CHUNK):
                if meter:
                    meter.add(len(chunk))
            child.wait()
        finally:
            child.close()

    def stream_source(self, snapshot: str, filename: str, manifest: Json, meter: Meter | None = None) -> DumpSource:
        """The dump as a stream that checks its own length and digest at the end."""
        return StreamSource(self, snapshot, filename, manifest, meter)

    def tree_source(self, snapshot: str, root: str, meter: Meter | None = None) -> TreeSource:
        """The folder ``root`` as it lies in ``snapshot``."""
        return VaultTree(self, snapshot, root, meter)


class StreamSource(DumpSource):
    """A dump in the vault; each :meth:`open` starts a new restic."""

    def __init__(self, vault: Vault, snapshot: str, filename: str, manifest: Json, meter: Meter | None = None) -> None:
        self._vault = vault
        self._snapshot = snapshot
        self._filename = filename
        self._manifest = manifest
        self._meter = meter

    def open(self) -> IO[bytes]:
        """A fresh stream of the whole dump."""
        child = self._vault.restic.spawn(["dump", self._snapshot, "/" + self._filename], raw=True)
        size, sha256 = int(self._manifest["bytes"]), str(self._manifest["sha256"])
        reader = _CheckedReader(child, self._vault.label, size, sha256, self._meter)
        return io.BufferedReader(reader, _CHUNK)


class _CheckedReader(io.RawIOBase):
    """restic's output. The end of it is given only when restic exited 0 and the bytes are the manifest's."""

    def __init__(self, child: Child, label: str, size: int, sha256: str, meter: Meter | None = None) -> None:
        self._child = child
        self._label = label
        self._left = size
        self._sha256 = sha256
        self._digest = hashlib.sha256()
        self._meter = meter
        if meter:
            meter.again()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed wants any buffer; io passes this
        read = cast("IO[bytes]", self._child.process.stdout).readinto(buffer)  # type: ignore[attr-defined]  # BufferedReader
        self._left -= read
        self._digest.update(buffer[:read])
        if self._meter:
            self._meter.add(read)
        if read == 0:
            self._child.wait()
            if self._left != 0 or self._digest.hexdigest() != self._sha256:
                raise SopError(
                    f"vault {self._label}: the dump is not the one its manifest describes; choose another backup"
                )
        return int(read)

    def close(self) -> None:
        if not self.closed:
            self._child.close()
        super().close()


class VaultTree(TreeSource):
    """A folder in the vault."""

    def __init__(self, vault: Vault, snapshot: str, root: str, meter: Meter | None = None) -> None:
        self._vault = vault
        self._snapshot = snapshot
        self._root = root
        self._meter = meter

    def entries(self) -> Iterator[Entry]:
        """What the vault says the folder held."""
        return self._vault.entries(self._snapshot, self._root)

    def restore(self, target: str) -> None:
        """Restore below ``target``; restic makes the whole absolute path again there."""
        # older restic says nothing while it restores, and looking through a large folder again and again costs too much
        holes = ["--sparse"] if self._vault.restic.keeps_holes() else []
        child = self._vault.restic.spawn(["restore", self._snapshot, *holes, "--target", target])
        watched = self._meter.sampled(lambda: bytes_written(child.process.pid)) if self._meter else nullcontext()
        try:
            with watched:
                child.wait()
        finally:
            child.close()
        self.path = os.path.join(target, self._root.lstrip("/"))
        if not os.path.isdir(self.path):
            raise SopError(f"vault {self._vault.label}: the backup does not hold {self._root}; choose another backup")


def _tag_options(tags: dict[str, str]) -> list[str]:
    return [option for key, value in tags.items() for option in ("--tag", _joined({key: value}))]


def _joined(tags: dict[str, str]) -> str:
    for key, value in tags.items():
        if "," in value or not value.isprintable():
            raise SopError(
                f"tag {key}: {value!r} has a comma or a control character, which restic would split; rename it"
            )
    return ",".join(f"{key}={value}" for key, value in tags.items())


def _summary(child: Child) -> Json:
    try:
        return cast("Json", json.loads(child.summary))
    except ValueError:
        raise SopError(
            f"vault {child.restic.label}: restic ended without its summary; nothing counts, run again"
        ) from None


def _entry(node: Json, root: str) -> Entry:
    go_mode = int(node.get("mode", 0))  # left out where it is 0
    mode = go_mode & 0o777
    for go_bit, bit in _GO_SPECIAL_MODES:
        if go_mode & go_bit:
            mode |= bit
    path = os.path.relpath(node["path"], root)
    size = int(node.get("size", 0)) if node["type"] == "file" else 0
    uid, gid = int(node.get("uid", 0)), int(node.get("gid", 0))
    times = (nanoseconds(str(node[key])) for key in ("mtime", "ctime"))
    return Entry(path, str(node["type"]), size, mode, uid, gid, *times)


def nanoseconds(text: str) -> int:
    """An RFC 3339 time with up to nine decimals, as nanoseconds since 1970."""
    text = text.replace("Z", "+00:00")
    body, offset = text[:-6], text[-6:]
    seconds, _dot, fraction = body.partition(".")
    moment = datetime.fromisoformat(seconds + offset).astimezone(timezone.utc)
    whole = (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)) // _SECOND
    return whole * 10**9 + int(fraction.ljust(9, "0") or 0)
