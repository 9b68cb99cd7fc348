# SPDX-License-Identifier: Apache-2.0
"""Records: BagIt bags (RFC 8493), sealed whole or not at all. Checking them is :mod:`sopctl.fixity`'s duty.

A record is ``<archive>/records/<year>/<month>/<record-id>/``. Its payload lies in ``data/`` (the form is
``data/form.json``); ``tagmanifest-sha256.txt`` covers everything else and is signed into
``tagmanifest-sha256.txt.sig``, the one file no manifest names. ``sha256sum -c`` and ``ssh-keygen -Y verify`` check it
without this program.
"""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import hashlib
import os
import re
import secrets
import stat
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from sopctl import __version__
from sopctl.errors import AlreadyExistsError, ConfigError
from sopctl.fsio import fsync_dir, read_strict, sha256_file

BAGIT_TXT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
MANIFEST = "manifest-sha256.txt"
TAGMANIFEST = "tagmanifest-sha256.txt"
SIGNATURE = "tagmanifest-sha256.txt.sig"
TAG_FILES = ("bag-info.txt", "bagit.txt", MANIFEST)  # what the tag manifest names: these and nothing else
KINDS = ("run", "case", "supplement")
MAX_MANIFEST = 64 * 1024 * 1024

_RECORD_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{1,79}")
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")

Sign = Callable[[bytes], bytes]


# -- sealing -----------------------------------------------------------------------------------------------------------


def seal_record(
    archive_root: Path,
    record_id: str,
    kind: str,
    files: Mapping[str, bytes | Path],
    bag_info: Mapping[str, str | Sequence[str]],
    *,
    sign: Sign,
    at: datetime | None = None,
) -> Path:
    """Seal ``files`` (names below ``data/``) as record ``record_id`` and return its directory.

    ``at`` (default: now, UTC) gives year, month and Bagging-Date. A crash, or an error from ``sign``, leaves no record;
    what was built so far stays in ``.incoming`` and is named by :func:`unfinished`. AlreadyExistsError when the
    id is taken; ConfigError when something cannot be written.
    """
    moment = at or datetime.now(UTC)
    if not _RECORD_ID.fullmatch(record_id) or kind not in KINDS:
        raise ValueError(f"not a record id and kind: {record_id!r}, {kind!r}")
    if any((archive_root / "records").glob(f"*/*/{record_id}")):
        raise AlreadyExistsError("a record of this id is sealed already", where=record_id)
    building = archive_root / ".incoming" / f"{record_id}.{secrets.token_hex(4)}"
    target = archive_root / "records" / f"{moment:%Y}" / f"{moment:%m}" / record_id
    try:
        _make_dirs(building / "data", archive_root)
        with _held(building):
            own = {"External-Identifier": record_id, "Sop-Record-Kind": kind}
            tagmanifest = write_bag(building, files, bag_info, own, moment)
            _write_new(building / SIGNATURE, sign(tagmanifest))
            _sync_tree(building)
            _make_dirs(target.parent, archive_root)
            building.rename(target)
            fsync_dir(target.parent)
            fsync_dir(building.parent)
    except OSError as error:
        raise ConfigError(f"cannot seal the record: {error.strerror}", where=str(error.filename or target)) from error
    return target


def write_bag(
    folder: Path,
    files: Mapping[str, bytes | Path],
    bag_info: Mapping[str, str | Sequence[str]],
    own: Mapping[str, str],
    at: datetime,
) -> bytes:
    """Make ``folder`` (empty but for ``data/``) a bag of ``files`` (names below ``data/``); returns its tag manifest.

    ``own`` are labels of bag-info.txt that ``bag_info`` must not have. OSError, or ConfigError for a name that cannot stand
    in a bag.
    """
    payload = {f"data/{_safe_name(name)}": content for name, content in files.items()}
    manifest, size = _write_payload(folder, payload)
    labels = {
        **own,
        "Bagging-Date": f"{at:%Y-%m-%d}",
        "Payload-Oxum": f"{size}.{len(payload)}",
        "Bag-Software-Agent": f"sopctl {__version__}",
    }
    tags = {"bagit.txt": BAGIT_TXT, "bag-info.txt": _bag_info(bag_info, labels), MANIFEST: _manifest(manifest)}
    for name, content in tags.items():
        _write_new(folder / name, content)
    tagmanifest = _manifest({name: hashlib.sha256(content).hexdigest() for name, content in tags.items()})
    _write_new(folder / TAGMANIFEST, tagmanifest)
    return tagmanifest


def unfinished(archive_root: Path) -> list[Path]:
    """Records whose sealing was cut short (not those being sealed at this moment by a living process)."""
    incoming = archive_root / ".incoming"
    if not incoming.is_dir():
        return []
    return [path for path in sorted(incoming.iterdir()) if not _is_held(path)]


def _safe_name(name: str) -> str:
    parts = PurePosixPath(name).parts
    plain = all(0 < len(part.encode()) <= 200 and part not in (".", "..") for part in parts)
    printable = name.isprintable() and not set(name) & set('\\%*?"<>|:~') and name == name.strip()
    if not parts or not plain or not printable or "/".join(parts) != name or name.startswith("/"):
        raise ConfigError("this file name cannot stand in a record", where=name, hint="Use letters, digits and . _ -")
    if unicodedata.normalize("NFC", name) != name:
        raise ConfigError("this file name is not in Unicode's normal form (NFC)", where=name, hint="Rename the file")
    return name


def _make_dirs(path: Path, root: Path) -> None:
    """Like mkdir -p below (and including) ``root``, each new name on disk when it returns."""
    missing = [path]
    while not missing[-1].exists():
        missing.append(missing[-1].parent)
    for directory in reversed(missing[:-1]):
        directory.mkdir(mode=0o750, exist_ok=True)
        fsync_dir(directory.parent)
    if not path.resolve().is_relative_to(root.resolve()):
        raise ConfigError("leads out of the archive through a link", where=str(path))


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Hold a lock on the directory that is being built, so that it is not taken for the remains of a crash."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: the record is only listed too early
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_held(directory: Path) -> bool:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True  # sealed between our looks
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _write_payload(building: Path, payload: Mapping[str, bytes | Path]) -> tuple[dict[str, str], int]:
    manifest, total = {}, 0
    for name, content in sorted(payload.items()):
        (building / name).parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        manifest[name], size = _write_new(building / name, content)
        total += size
    return manifest, total


def _write_new(path: Path, content: bytes | Path) -> tuple[str, int]:
    """Write a new file (copying a regular file when given one); returns its SHA-256 and size."""
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    with os.fdopen(descriptor, "wb") as out:
        for block in _blocks(content):
            out.write(block)
            digest.update(block)
            size += len(block)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest(), size


def _blocks(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with _open_regular(content) as stream:
        while block := stream.read(1024 * 1024):
            yield block


def _open_regular(path: Path) -> BinaryIO:
    stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise ConfigError("is not a regular file and cannot stand in a record", where=str(path))
    return stream


def _manifest(digests: Mapping[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()


def _bag_info(given: Mapping[str, str | Sequence[str]], own: Mapping[str, str]) -> bytes:
    lines = []
    for label, value in [*own.items(), *sorted(given.items())]:
        if not _LABEL.fullmatch(label) or (label in own and label in given):
            raise ValueError(f"not a label for bag-info.txt: {label!r}")
        for one in [value] if isinstance(value, str) else value:
            lines.append(f"{label}: {' '.join(one.split())}\n")
    return "".join(lines).encode()


def _sync_tree(root: Path) -> None:
    for directory, _, _ in os.walk(root):
        fsync_dir(Path(directory))


# -- finding -----------------------------------------------------------------------------------------------------------


def list_records(archive_root: Path) -> list[Path]:
    """Every sealed record's directory, by year, month and id."""
    months = [month for year in _folders(archive_root / "records", "[0-9]*") for month in _folders(year, "[0-9]*")]
    return [record for month in months for record in _folders(month)]


def _folders(place: Path, pattern: str = "*") -> list[Path]:
    """The folders in ``place`` by name. Names are compared, not paths: there may be thousands."""
    try:
        with os.scandir(place) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
    return [place / name for name in names if fnmatch.fnmatchcase(name, pattern)]


def record_path(archive_root: Path, record_id: str) -> Path | None:
    """The directory of the sealed record of that id; None when there is none."""
    if not re.fullmatch(r"[A-Z]{3}-[0-9]{4}-[0-9]{4}-[A-Z0-9]{1,8}", record_id):
        return None
    months = [month for year in _folders(archive_root / "records", "[0-9]*") for month in _folders(year, "[0-9]*")]
    return next((month / record_id for month in months if _is_dir(month / record_id)), None)


def record_info(path: Path) -> dict[str, list[str]]:
    """bag-info.txt as label → values. It is not checked here: that is :func:`verify_record`."""
    info: dict[str, list[str]] = {}
    for line in read_strict(path / "bag-info.txt").decode("utf-8", "replace").splitlines():
        label, colon, value = line.partition(": ")
        if colon:
            info.setdefault(label, []).append(value)
    return info


def record_file(path: Path, name: str, max_bytes: int = MAX_MANIFEST) -> bytes:
    """A payload file's bytes (``form.json``); ConfigError when it is not there."""
    return read_strict(path / "data" / _safe_name(name), max_bytes)


def record_digests(path: Path) -> dict[str, str]:
    """What the ledger keeps of a record: the digests of the tag manifest and of its signature."""
    return {"tagmanifest": sha256_file(path / TAGMANIFEST), "signature": sha256_file(path / SIGNATURE)}


def _is_dir(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISDIR(path.lstat().st_mode)
    return False
