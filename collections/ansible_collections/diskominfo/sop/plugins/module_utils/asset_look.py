# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""How a host is looked at: files and programs, without changing anything, and a list of what could not be read.

What is found on a host is not believed: a process may call itself ``postgres`` and name any program as its own. So nothing
that a process names is run with more rights than that process has.
"""

from __future__ import annotations

import glob
import os
import pwd
import subprocess
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
#: bytes of one file or of one program's output that are looked at
MOST = 4 << 20
#: seconds that a program may take
PATIENCE = 20
PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


@dataclass(frozen=True)
class Ran:
    """What a program came to. ``code`` is None where it could not be started or did not end in time."""

    code: int | None
    out: str
    err: str


class Look:
    """This machine. Everything that is read goes through here, so that a recorded machine can stand in its place."""

    def __init__(self) -> None:
        self.unread: list[Json] = []

    @property
    def root(self) -> bool:
        """Whether we may read everything."""
        return os.geteuid() == 0

    def could_not(self, what: str, why: str) -> None:
        """Note what could not be read, and why, each once."""
        entry = {"what": what, "why": " ".join(why.split())[:200]}
        if entry not in self.unread:
            self.unread.append(entry)

    def text(self, path: str, what: str = "") -> str | None:
        """A file's text; None where it is not there or may not be read, which is noted as ``what``."""
        try:
            with open(path, "rb") as stream:
                return stream.read(MOST).decode("utf-8", "replace")
        except PermissionError:
            if what:
                self.could_not(what, f"{path} may only be read by root")
        except OSError:
            pass
        return None

    def names(self, folder: str) -> list[str]:
        """Names in a folder, sorted; none where it cannot be read."""
        try:
            return sorted(os.listdir(folder))
        except OSError:
            return []

    def find(self, pattern: str) -> list[str]:
        """Paths that match a shell pattern, sorted."""
        return sorted(glob.glob(pattern))

    def link(self, path: str) -> str | None:
        """Where a symbolic link leads; None where it cannot be read."""
        try:
            return os.readlink(path)
        except OSError:
            return None

    def user(self, uid: int) -> str | None:
        """The account of that number."""
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return None

    def run(self, argv: list[str], uid: int | None = None) -> Ran:
        """Run a program, as ``uid`` where that is another account (which only root can); never raises."""
        user: int | None = None
        group: int | None = None
        groups: list[int] | None = None
        if uid is not None and uid != os.geteuid():
            try:
                user, group, groups = uid, pwd.getpwuid(uid).pw_gid, []
            except KeyError:
                return Ran(None, "", f"there is no account {uid}")
        environment = {"PATH": PATH, "LC_ALL": "C.UTF-8", "PGCONNECT_TIMEOUT": "5"}
        try:
            done = subprocess.run(
                argv,
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PATIENCE,
                check=False,
                user=user,
                group=group,
                extra_groups=groups,
            )
        except subprocess.TimeoutExpired:
            return Ran(None, "", f"{argv[0]} did not answer within {PATIENCE} seconds")
        except (OSError, ValueError) as error:
            return Ran(None, "", str(getattr(error, "strerror", None) or error))
        return Ran(
            done.returncode,
            done.stdout[:MOST].decode("utf-8", "replace"),
            done.stderr[:MOST].decode("utf-8", "replace"),
        )


def said(ran: Ran) -> str:
    """The last line of what a program complained of."""
    lines = [line.strip() for line in ran.err.splitlines() if line.strip()]
    return lines[-1] if lines else f"it exited {ran.code}"


def clean(text: str | None) -> str | None:
    """``text`` on one line without control characters; None where nothing is left, or only what a factory leaves blank."""
    line = "".join(char for char in " ".join((text or "").split()) if char.isprintable())[:200]
    return None if not line or line.lower() in BLANK else line


#: what firmware says where nobody filled it in
BLANK = {
    "to be filled by o.e.m.", "not specified", "none", "default string", "system serial number", "system manufacturer",
    "system product name", "0", "0123456789", "unknown", "n/a",
}  # fmt: skip
