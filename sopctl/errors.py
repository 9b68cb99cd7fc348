# SPDX-License-Identifier: Apache-2.0
"""Every error a user can cause, each with its documented exit code.

Libraries raise these; only ``sopctl.cli`` turns them into a line on stderr and an exit code.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What ``sopctl`` returns to the shell; documented and stable."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2  # usage or configuration
    REFUSED = 10  # refused by the gate
    LOCKED = 11
    FAILED_RESTORED = 20  # run failed, old state restored
    FAILED_DOWN = 21  # run failed, service still down: escalate
    PARTIAL = 22  # some datasets failed
    EVIDENCE_BROKEN = 30
    OVERDUE = 31
    INTERRUPTED = 130


def one_line(text: str) -> str:
    """``text`` on one line, with control characters made visible, so that no file's content can steer a terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in " ".join(text.split()))


class SopctlError(Exception):
    """A failure with a cause, a place and a next step, printed as one line: ``what: where: why. next``.

    ``message`` is the why, ``where`` the place (``file:line:column``, ``file: key``, ``host/dataset``, a case id),
    ``hint`` what the reader can do now. ``what`` names the sort of failure and comes from the class.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.UNEXPECTED
    what: ClassVar[str] = "failed"

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        head = ": ".join(part for part in (self.what, one_line(self.where), one_line(self.message)) if part)
        if not self.hint:
            return head
        return f"{head}{'' if head.endswith(('.', '!', '?')) else '.'} {one_line(self.hint)}"


class ConfigError(SopctlError):
    """A file of the site, or the environment, is not as it must be."""

    exit_code = ExitCode.USAGE
    what = "configuration"


class AlreadyExistsError(ConfigError):
    """A file that is written once is there already."""


class UsageError(SopctlError):
    """The command line asks for something that does not exist or make sense."""

    exit_code = ExitCode.USAGE
    what = "usage"


class GateRefused(SopctlError):  # the gate's answer has this name in the design and in every message
    """The gate said no, or could not decide; ``reasons`` says why, one sentence each."""

    exit_code = ExitCode.REFUSED
    what = "refused"

    def __init__(self, reasons: str | Iterable[str], *, where: str = "", hint: str = "") -> None:
        self.reasons: list[str] = [reasons] if isinstance(reasons, str) else list(reasons)
        super().__init__("; ".join(self.reasons), where=where, hint=hint)


class LockedError(SopctlError):
    """Somebody else is at work on the same thing."""

    exit_code = ExitCode.LOCKED
    what = "locked"


class RunFailed(SopctlError):  # reads as the outcome it is: "run failed", like the exit code's text
    """The run failed; the old state is in place again."""

    exit_code = ExitCode.FAILED_RESTORED
    what = "run failed, old state restored"


class VaultFailed(SopctlError):
    """Maintenance of the vault did not come to its end; no server was touched."""

    exit_code = ExitCode.FAILED_RESTORED
    what = "vault"


class ServiceDown(SopctlError):  # names the state the service is in
    """The run failed and the service is still down: somebody must act now."""

    exit_code = ExitCode.FAILED_DOWN
    what = "run failed, SERVICE STILL DOWN"


class PartialFailure(SopctlError):  # names the outcome
    """Some datasets failed, others are done."""

    exit_code = ExitCode.PARTIAL
    what = "partly done"


class EvidenceError(SopctlError):
    """A record, the ledger or a signature does not hold."""

    exit_code = ExitCode.EVIDENCE_BROKEN
    what = "evidence broken"


class OverdueError(SopctlError):
    """Something the SOP wants by now has not been done."""

    exit_code = ExitCode.OVERDUE
    what = "overdue"


class Interrupted(SopctlError):  # names what happened
    """Stopped by the operator; the case is consistent."""

    exit_code = ExitCode.INTERRUPTED
    what = "interrupted"
