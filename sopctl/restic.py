# SPDX-License-Identifier: Apache-2.0
"""Run the restic program from the admin host: secrets in memory files only, an environment from an allow-list, one-line errors.

What stands in a vault and what counts there is decided elsewhere; this file knows only the program.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sopctl.errors import ConfigError, LockedError, SopctlError, VaultFailed
from sopctl.models import Json

#: seconds to wait for a repository that somebody else has locked
LOCK_WAIT = 30.0
#: seconds in which an interrupted restic may take its lock out of the repository
LEAVE_GRACE = 10.0
#: seconds that restic may go on retrying a repository that does not answer
RETRY_GRACE = 20.0
_AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_ENVIRONMENT = ("PATH", "HOME", "SSH_AUTH_SOCK", "AWS_DEFAULT_REGION", *_AWS_KEYS)
_HOPELESS = r"\(40[13]\)|forbidden|unauthorized|permission denied|no space left"
_NETWORK = re.compile(r"(rest|sftp|s3|b2|rclone|swift|azure|gs):")

#: what restic says, in lower case, where there is no repository
ABSENT = r"is there a repository at the following location|repository does not exist|config: no such file"
#: … and where the server does not know who asks, S3's words included
REFUSED = r"\(401\)|unauthorized|signature we calculated|access key id you provided"
#: pattern in restic's lower-cased error text, the repository's place left out → (error, next step), first match wins
_CAUSES: tuple[tuple[str, type[SopctlError], str], ...] = (
    (
        r"already locked",
        LockedError,
        "Wait for what runs there to end. A lock that a dead restic left goes by itself after half an hour.",
    ),
    (r"wrong password|no key found", ConfigError, "Compare it with the password the vault was made with."),
    (
        r"connection|no such host|timeout|unreachable|no route to host|broken pipe|\beof\b|\(50[0234]\)|misbehaving",
        VaultFailed,
        "The vault does not answer: see to its server and the network, then run it again.",
    ),
    (
        r"no space left on device|quota exceeded|insufficient storage|\(507\)",
        VaultFailed,
        "Add space, then run it again.",
    ),
    (
        REFUSED,
        ConfigError,
        "The vault's server refused user or password (S3: access key or secret): see vault.user in sop.yml.",
    ),
    (
        r"permission denied|read-only file system|operation not permitted|\(403\)|forbidden",
        ConfigError,
        "Here the vault lets nothing be deleted (append-only?): set vault.admin_url in sop.yml to a way that may.",
    ),
    (r"x509|certificate", ConfigError, "Give the authority that signed the server's certificate: vault.ca_file."),
    # last: restic asks this whatever kept it from reading the config
    (
        ABSENT,
        ConfigError,
        "Nothing is there as seen from this machine: set vault.admin_url in sop.yml to where it is.",
    ),
)


@dataclass(frozen=True)
class Result:
    """What restic ended with."""

    code: int
    out: str
    err: str


class Restic:
    """The restic program against one repository; ``access`` is as ``Session.vault_access`` gives it."""

    def __init__(self, access: Json, label: str, state: Path, lock_wait: float = LOCK_WAIT) -> None:
        self.access = access
        # in restic's words a folder's name may be any number and any word
        self._place = re.sub(rf"^({_NETWORK.pattern}|local:)", "", self._clean(access["repository"]))
        #: how messages name the repository: its place, without credentials
        self.label = f"{label}: {self._clean(access['repository'])}"
        self._state = state
        self._lock_wait = lock_wait
        program = shutil.which("restic")
        if program is None:
            raise ConfigError("there is no restic on this machine", where="restic", hint="Install the package restic.")
        self._program = program

    @property
    def folder(self) -> Path | None:
        """The repository as a folder of this machine; None where it is reached by a network."""
        place = str(self.access["repository"]).removeprefix("local:")
        return None if _NETWORK.match(place) else Path(place)

    def absent(self) -> bool:
        """Whether there is no repository at this place (yet)."""
        done = self._once(("cat", "config"), None, True)
        told = done.err.replace(self._place, "").lower()
        first = next((pattern for pattern, _, _ in _CAUSES if re.search(pattern, told)), None)
        return done.code != 0 and first == ABSENT

    def json(self, *args: str) -> Any:
        """What restic prints as JSON."""
        text = self.run(*args, "--json").out
        try:
            return json.loads(text or "null")
        except ValueError:
            raise VaultFailed(
                f"restic {args[0]} printed no JSON", where=self.label, hint="See restic version."
            ) from None

    def run(self, *args: str, may_fail: bool = False, source: Restic | None = None, discard: bool = False) -> Result:
        """Run restic to its end, waiting a bounded time for a locked repository. ``may_fail``: exit 1 or 2 is a result of its own
        unless its cause is one of the table's. ``source``: the repository to copy from. ``discard``: nobody wants its output."""
        end, pause = time.monotonic() + self._lock_wait, 0.5
        while True:
            done = self._once(args, source, discard)
            if done.code == 0:
                return done
            error = self._error(done, args[0], may_fail, source)
            if error is None:
                return done
            if not isinstance(error, LockedError) or time.monotonic() + pause > end:
                raise error
            time.sleep(pause)
            pause = min(pause * 2, 5.0)

    def _once(self, args: Sequence[str], source: Restic | None, discard: bool) -> Result:
        with ExitStack() as stack:
            descriptors: list[int] = []

            def secret(text: str) -> str:
                descriptor = os.memfd_create("sop-secret")
                stack.callback(os.close, descriptor)
                os.write(descriptor, text.encode())
                descriptors.append(descriptor)
                return f"/proc/self/fd/{descriptor}"

            env = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
            env |= {"LC_ALL": "C.UTF-8", "RESTIC_PROGRESS_FPS": "0.01"}
            options = ["--no-cache"] if self.folder else ["--cache-dir", str(self._state / "restic-cache")]
            for begin, end in (("RESTIC", self), ("RESTIC_FROM", source)):
                if end is None:
                    continue
                env[f"{begin}_PASSWORD_FILE"] = secret(end.access["password"])
                env[f"{begin}_REPOSITORY_FILE"] = secret(end.access["repository"])
                if end.access.get("ca_pem"):
                    options += ["--cacert", secret(end.access["ca_pem"])]
                if end.access.get("s3_key"):
                    env = {name: value for name, value in env.items() if name not in _AWS_KEYS}
                    env["AWS_SHARED_CREDENTIALS_FILE"] = secret(end.access["s3_key"])
            process = subprocess.Popen(
                [self._program, *options, *args],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if discard else subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=env,
                cwd="/",
                pass_fds=descriptors,
            )
            lines: list[str] = []
            reader = threading.Thread(target=self._drain, args=(process, lines), daemon=True)
            reader.start()
            try:
                out = process.stdout.read() if process.stdout else b""
                process.wait()
                reader.join()
            except BaseException:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(LEAVE_GRACE)
                process.kill()
                process.wait()
                raise
            said = "\n".join(lines)
            for end in (self, source):
                said = end._clean(said) if end else said
            return Result(process.returncode, out.decode("utf-8", "replace"), said)

    def _drain(self, process: subprocess.Popen[bytes], lines: list[str]) -> None:
        """Collect what restic complains of; end it when it goes on retrying what cannot succeed (by itself for 15 minutes)."""
        first = 0.0
        for raw in process.stderr or ():
            line = raw.decode("utf-8", "replace").rstrip()
            lines.append(line)
            if "retrying after" in line:
                first = first or time.monotonic()
                if re.search(_HOPELESS, line.lower()) or time.monotonic() - first > RETRY_GRACE:
                    with suppress(ProcessLookupError):
                        process.send_signal(signal.SIGINT)

    def _clean(self, text: str) -> str:
        text = text.replace(self.access["password"], "***")
        return re.sub(r"(?<=//)[^/@\s]*@", "", text)

    def _error(self, done: Result, what: str, may_fail: bool, source: Restic | None) -> SopctlError | None:
        where = f"{source.label} to {self.label}" if source else self.label
        lines = [line.strip() for line in done.err.splitlines() if line.strip()]
        fatal = next((line for line in lines if line.startswith("Fatal:")), lines[-1] if lines else "")
        cause = fatal.removeprefix("Fatal: ")[:300] or f"exit code {done.code}"
        # a check names damage in words that may look like a broken connection: only what ended it tells
        told = fatal if may_fail else done.err
        for end in (self, source):
            told = told.replace(end._place, "") if end else told
        told = told.lower()
        for pattern, kind, hint in _CAUSES:
            if re.search(pattern, told):
                return kind(f"restic {what}: {cause}", where=where, hint=hint)
        if may_fail and done.code in {1, 2}:  # "dump" says 2
            return None
        return VaultFailed(f"restic {what} exited {done.code} ({cause})", where=where, hint="See to the vault.")
