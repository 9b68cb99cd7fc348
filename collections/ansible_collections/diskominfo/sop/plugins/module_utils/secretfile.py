# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Secrets for child programs, in files that live in memory only and end with the process."""

from __future__ import annotations

import os
from types import TracebackType


class SecretFile:
    """``data`` as a regular file in memory (memfd), readable by the child's user alone.

    ``uid``: user id that the child runs as, when it is not ours. Give the child ``pass_fds=[secret.fd]`` and the
    name ``secret.path``, which is right in any process that inherited the descriptor; each opening starts at byte 0::

        with SecretFile(password, uid) as secret:
            subprocess.Popen(args, env={**env, "PGPASSFILE": secret.path}, pass_fds=[secret.fd])
    """

    def __init__(self, data: bytes, uid: int | None = None) -> None:
        # close-on-exec is set, so that only children named by pass_fds see it
        self.fd = os.memfd_create("sop-secret")
        try:
            os.fchmod(self.fd, 0o600)
            view = memoryview(data)
            while view:
                view = view[os.write(self.fd, view) :]
            if uid is not None and uid != os.geteuid():
                os.fchown(self.fd, uid, -1)
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> str:
        """Name of the file for the child."""
        return f"/proc/self/fd/{self.fd}"

    def close(self) -> None:
        """Close our descriptor; children keep theirs. May be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> SecretFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
