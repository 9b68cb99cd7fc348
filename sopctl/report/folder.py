# SPDX-License-Identifier: Apache-2.0
"""Where a report or a bundle is put: whole or not at all, and never over anything that is not a former one."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sopctl import fsio
from sopctl.errors import ConfigError, SopctlError, UsageError
from sopctl.site import Site

#: marks a report, and says which files are of it
MARKER = "report.json"
SCHEMA = "sop-report/v1"
_MAX_MARKER = 16 * 1024 * 1024


def check_target(out: Path, site: Site, *, replace: bool) -> None:
    """UsageError unless ``out`` is not there, or empty, or (with ``replace``) a former report without anything else in it."""
    hint = "Name a folder that does not exist."
    for kept in (site.archive, site.cases, site.root / "trust", site.root / "register", site.state):
        if _real(out).is_relative_to(_real(kept)):
            raise UsageError("lies inside the site's own records", where=str(out), hint=hint)
    if _real(site.root).is_relative_to(_real(out)):
        raise UsageError("the site itself lies in it", where=str(out), hint=hint)
    try:
        status = out.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise UsageError("is there already, and is no folder", where=str(out), hint=hint)
        if any(out.iterdir()):
            _check_former(out, hint, replace=replace)
    except FileNotFoundError:
        if not out.parent.is_dir():
            raise UsageError("there is no such folder", where=str(out.parent), hint="Make it first.") from None
    except OSError as error:
        raise ConfigError(f"cannot be looked at: {error.strerror}", where=str(out)) from error


def _real(path: Path) -> Path:
    """Without links, also where its end does not exist yet."""
    return Path(os.path.realpath(path))


def _check_former(out: Path, hint: str, *, replace: bool) -> None:
    if not replace:
        raise UsageError("is there already, and is not empty", where=str(out), hint=hint)
    try:
        value = fsio.parse_json_strict(fsio.read_strict(out / MARKER, _MAX_MARKER), str(out / MARKER))
    except SopctlError:
        raise UsageError("is not empty, and no former report", where=str(out), hint=hint) from None
    files = value.get("files") if isinstance(value, dict) else None
    if not isinstance(files, list) or value.get("schema") != SCHEMA:
        raise UsageError("is not empty, and no former report", where=str(out), hint=hint)
    known = {MARKER, *(name for name in files if isinstance(name, str))}
    for folder, folders, names in os.walk(out):
        here = Path(folder).relative_to(out)
        linked = [name for name in folders if Path(folder, name).is_symlink()]
        for name in [*names, *linked]:
            if str(here / name) not in known or Path(folder, name).is_symlink():
                raise UsageError(
                    f"holds {str(here / name)!r}, which is not of the report", where=str(out), hint="Move it away."
                )


@contextmanager
def building(out: Path) -> Iterator[Path]:
    """A new folder beside ``out`` that takes its place when the block ends well; gone when it does not.

    What was there is replaced as a whole: :func:`check_target` has allowed it. ConfigError when it cannot be written.
    """
    made = out.parent / f".{out.name[:80]}.{secrets.token_hex(6)}.tmp"
    try:
        made.mkdir()
        yield made
        _sync(made)
        _exchange(made, out)
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror}", where=str(error.filename or out)) from error
    finally:
        if made.exists():
            shutil.rmtree(made, ignore_errors=True)


def _exchange(made: Path, out: Path) -> None:
    former = made.with_suffix(".old")
    if out.exists():
        out.rename(former)
    try:
        made.rename(out)
    except OSError:
        if former.exists():
            former.rename(out)
        raise
    fsio.fsync_dir(out.parent)
    with contextlib.suppress(OSError):
        if former.exists():
            shutil.rmtree(former)


def _sync(folder: Path) -> None:
    for place, _, _ in os.walk(folder):
        fsio.fsync_dir(Path(place))


def fill(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` (paths inside ``folder``) that the report consists of, and its marker. OSError when it cannot."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    marker = {"schema": SCHEMA, "files": sorted(files)}
    (folder / MARKER).write_bytes(fsio.canonical_json(marker))
