# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Run the restic program: secrets only in memory files, an environment built from nothing, errors as one line.

What is stored in a vault and what counts there is decided in ``vault.py``; this file knows only the program.
"""

from __future__ import annotations

import ctypes
import glob
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.secretfile import SecretFile
from ansible_collections.diskominfo.sop.plugins.module_utils.vault_notice import full_notice

PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: seconds in which a reading restic may take its lock away
LEAVE_GRACE = 10.0
#: seconds that restic may go on retrying a vault that does not answer (by itself it goes on for 15 minutes)
RETRY_GRACE = 20.0
#: seconds to wait for a vault that an administrator's maintenance has locked
LOCK_WAIT = 120.0
PR_SET_PDEATHSIG = 1

#: told how many bytes restic has worked through, and of how many as far as it knows
Status = Callable[[int, "int | None"], None]

_libc = ctypes.CDLL(None, use_errno=True)

#: (reason, pattern in restic's lower-cased error text), first match wins; an HTTP status stands in (), a bare number may be
#: a part of the vault's path
_CAUSES = (
    ("locked", r"already locked"),
    ("password", r"wrong password|no key found"),
    ("full", r"no space left on device|disk quota exceeded|quota exceeded|insufficient storage|\(507\)"),
    ("refused", r"\(401\)|unauthorized|signature we calculated|access key id you provided"),
    ("denied", r"permission denied|read-only file system|operation not permitted|\(403\)|forbidden"),
    (
        "unreachable",
        r"connection re(fused|set)|no such host|i/o timeout|network is unreachable|no route to host|broken pipe"
        r"|unexpected eof|: eof\b|server misbehaving|connection timed out|handshake|\(50[0234]\)|context deadline"
        r"|connection closed|server closed|no recent network activity|input/output error",
    ),
    ("certificate", r"x509|certificate"),
    ("absent", r"is there a repository at the following location|repository does not exist|config: no such file"),
)
_EXIT_REASONS = {10: "absent", 11: "locked", 12: "password"}  # restic 0.17 and later
_NEXT_STEP = {
    "locked": "the vault is locked by maintenance; wait for it to end, or let the vault's administrator unlock it",
    "password": "wrong vault password; compare it with the one the vault was made with",
    "full": "the vault has no space left; nothing was stored that counts, free or add space there and run again",
    "refused": "the vault refused the user name or password of its server; renew the host's credentials",
    "denied": "the vault is not writable; check its free space, owner and permissions of its folder, or the server's rules",
    "unreachable": "the vault does not answer, fails or the connection broke; check its server (disk, permissions) and the network and run again",
    "certificate": "the vault's TLS certificate is not trusted; give the authority that signed it (ca_pem)",
    "absent": "there is no vault at this place; make it with vault_repository first",
}

_OVER_QUOTA = (
    "the vault is full for this server ({:.1f} MB used of {:.1f} MB that it may use); nothing was stored that counts, have "
    "the vault's administrator raise its quota or forget old backups, and run again"
)


class VaultError(SopError):
    """restic failed. ``reason``: a key of the table above, "missing" (no restic) or "other"."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def classify(text: str, code: int = 1) -> str:
    """The reason in restic's error text and exit code; "other" when unknown."""
    if code in _EXIT_REASONS:
        return _EXIT_REASONS[code]
    lowered = text.lower()
    return next((reason for reason, pattern in _CAUSES if re.search(pattern, lowered)), "other")


def without_credentials(repository: str) -> str:
    """The repository's place without user and password, fit for messages."""
    return re.sub(r"(?<=//)[^/@]*@", "", repository)


def s3_secrets(key: str | None) -> list[str]:
    """What must never be shown of an S3 key, which is a file of AWS credentials with the secret last."""
    return [key.rstrip().rpartition(" = ")[2]] if key else []


def die_with_parent(parent: int) -> None:
    """In a new child: be killed when the thread that started us ends, however it ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _is_its_digest(path: str) -> bool:
    """Whether the file is named by its own SHA-256, as all of restic's are."""
    with suppress(OSError), open(path, "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest() == os.path.basename(path)
    return False


class Child:
    """A running restic. Its two output streams are drained all the time, so that it never stalls on us."""

    def __init__(
        self,
        restic: Restic,
        process: subprocess.Popen[bytes],
        secrets: list[SecretFile],
        raw: bool,
        status: Status | None = None,
    ) -> None:
        self.restic = restic
        self.process = process
        self.summary: bytes = b""
        self._secrets = secrets
        self._status = status
        self._errors: deque[str] = deque(maxlen=30)
        self._first_retry = 0.0
        self._threads = [threading.Thread(target=self._drain_errors, daemon=True)]
        if not raw:
            self._threads.append(threading.Thread(target=self._drain_output, daemon=True))
        for thread in self._threads:
            thread.start()

    def _drain_output(self) -> None:
        stdout = self.process.stdout
        assert stdout is not None  # noqa: S101  (spawn always asks for the pipe)
        for line in stdout:
            if b'"summary"' in line:
                self.summary = line
            elif self._status and line.startswith(b'{"message_type":"status"'):
                self._tell(line, self._status)

    def _tell(self, line: bytes, status: Status) -> None:
        with suppress(ValueError, TypeError):  # the words of another version of restic are no reason to fail
            found = json.loads(line)
            total = found.get("total_bytes")
            status(int(found.get("bytes_done", 0)), int(total) if total else None)

    def _drain_errors(self) -> None:
        stderr = self.process.stderr
        assert stderr is not None  # noqa: S101  (spawn always asks for the pipe)
        for raw_line in stderr:
            line = raw_line.decode("utf-8", "replace").strip()
            if line:
                self._errors.append(line)
            if "retrying after" in line:
                self._stop_hopeless_retry(line)

    def _stop_hopeless_retry(self, line: str) -> None:
        """restic retries a full or read-only vault for 15 minutes, with the dump standing still."""
        self._first_retry = self._first_retry or time.monotonic()
        hopeless = classify(line) in {"full", "denied", "refused"}
        if hopeless or time.monotonic() - self._first_retry > RETRY_GRACE:
            self.kill()

    def kill(self) -> None:
        """SIGKILL restic and what it started (rclone, ssh), then collect it; never raises."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _leave(self) -> None:
        """Ask a reading restic to end, so that it takes its lock out of the vault; a writing one is never asked."""
        with suppress(ProcessLookupError, PermissionError):
            self.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=LEAVE_GRACE)

    def close(self) -> None:
        """End what still runs and let go of everything; may be called twice."""
        if self.process.poll() is None and self.process.stdin is None:
            self._leave()
        if self.process.poll() is None:
            self.kill()
        for thread in self._threads:
            thread.join(timeout=5)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with suppress(OSError):  # what was left in stdin's buffer has no reader any more
                    stream.close()
        for secret in self._secrets:
            secret.close()

    def wait(self) -> None:
        """Wait for the end; VaultError unless it was exit 0."""
        code = self.process.wait()
        for thread in self._threads:
            thread.join(timeout=5)
        if code != 0:
            raise self.restic.error("\n".join(self._errors), code)


class Restic:
    """The restic program against one vault.

    ``vault`` is {"repository", "password", "ca_pem"?, "s3_key"?, "aliases"?, "restic"?}; ``aliases`` are ids of snapshots that
    lie there under others, since they were brought back from a copy; ``state_dir`` holds restic's cache for vaults that
    are reached over a network; ``read_only`` leaves no lock in the vault and no cache on the host (check mode). ``cache``
    false leaves no cache either.
    """

    def __init__(self, vault: Json, state_dir: str, read_only: bool = False, cache: bool = True) -> None:
        for key in ("repository", "password"):
            if not isinstance(vault.get(key), str) or not vault[key] or "\n" in vault[key]:
                raise SopError(
                    f"vault: {key} is missing or is not one line of text; set it in the site's vault settings"
                )
        self.repository: str = vault["repository"]
        self.label = without_credentials(self.repository)
        self._password: str = vault["password"]
        self._ca_pem: str | None = vault.get("ca_pem")
        self._s3_key: str | None = vault.get("s3_key")
        self._aliases: dict[str, str] = vault.get("aliases") or {}
        self._program = self._find(vault.get("restic") or "restic")
        self._state_dir = state_dir
        self._read_only = read_only
        self._cache = cache
        self.lock_wait = float(vault.get("lock_wait", LOCK_WAIT))

    @staticmethod
    def _find(name: str) -> str:
        found = shutil.which(name, path=PROGRAM_PATH)
        if found is None:
            raise VaultError(
                "missing", f"restic: no program {name!r} on this host; install the package restic (0.14 or later)"
            )
        return found

    def keeps_holes(self) -> bool:
        """Whether this restic can restore sparse files as such (0.15 and later)."""
        found = re.match(r"restic (\d+)\.(\d+)", self.run(["version"]).decode("utf-8", "replace"))
        return found is not None and (int(found[1]), int(found[2])) >= (0, 15)

    def scrub(self, text: str) -> str:
        """``text`` without any secret of this vault."""
        for secret in (self._password, self.repository, *s3_secrets(self._s3_key)):
            text = text.replace(secret, self.label if secret == self.repository else "***")
        return without_credentials(text)

    def error(self, text: str, code: int) -> VaultError:
        """restic's error text as one line with the next step."""
        reason = classify(text, code)
        if reason == "unreachable" and "500 Internal Server Error" in text:
            told = full_notice(self.repository, self._ca_pem)
            if told is not None:
                return VaultError("full", f"vault {self.label}: {_OVER_QUOTA.format(*(size / 1e6 for size in told))}")
        lines = [line for line in self.scrub(text).splitlines() if line.strip() and "github.com/" not in line]
        cause = next((line for line in lines if line.startswith("Fatal:")), lines[-1] if lines else f"exit code {code}")
        cause = cause.replace("Fatal: ", "", 1)[:300]
        if reason == "other" and code < 0:
            message = f"restic was killed by signal {-code} (out of memory?); what it had not finished does not count, run again"
            return VaultError(reason, f"vault {self.label}: {message}")
        if reason == "other":
            return VaultError(reason, f"vault {self.label}: restic exited {code} ({cause})")
        return VaultError(reason, f"vault {self.label}: {_NEXT_STEP[reason]} (restic: {cause})")

    def spawn(
        self,
        args: list[str],
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        raw: bool = False,
        status: Status | None = None,
    ) -> Child:
        """Start restic; ``raw``: the caller reads ``process.stdout`` itself; ``status`` is told of a backup's progress."""
        secrets = [SecretFile(self._password.encode()), SecretFile(self.repository.encode())]
        env = {
            "PATH": PROGRAM_PATH,
            "HOME": self._state_dir,
            "LC_ALL": "C.UTF-8",
            "RESTIC_PASSWORD_FILE": secrets[0].path,
            "RESTIC_REPOSITORY_FILE": secrets[1].path,
            "RESTIC_PROGRESS_FPS": "1" if status else "0.1",
        }
        options = self._global_options(secrets)
        if self._s3_key:
            secrets.append(SecretFile(self._s3_key.encode()))
            env["AWS_SHARED_CREDENTIALS_FILE"] = secrets[-1].path
        command = [self._program, *options, *(self._aliases.get(arg, arg) for arg in args)]
        parent = os.getpid()
        try:
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=env,
                cwd="/",
                pass_fds=[secret.fd for secret in secrets],
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509  (no thread of ours holds a lock here)
            )
        except BaseException:
            for secret in secrets:
                secret.close()
            raise
        return Child(self, process, secrets, raw, status)

    @property
    def _cache_dir(self) -> str:
        return os.path.join(self._state_dir, "restic-cache")

    def cached_snapshot(self, short: str) -> str:
        """The id of the one snapshot in the cache that begins with ``short``, its content being what the id says; or ""."""
        if not re.fullmatch("[0-9a-f]{8,64}", short):
            return ""
        pattern = os.path.join(glob.escape(self._cache_dir), "*", "snapshots", short[:2], f"{short}*")
        found = [path for path in glob.glob(pattern) if _is_its_digest(path)]
        return os.path.basename(found[0]) if len(found) == 1 else ""

    def _global_options(self, secrets: list[SecretFile]) -> list[str]:
        options = ["--no-cache"]
        if self._read_only:
            options.append("--no-lock")
        elif self._cache and re.match(r"(rest|sftp|s3|b2|rclone|swift|azure|gs):", self.repository):
            options = ["--cache-dir", self._cache_dir]
        if self._ca_pem:
            secrets.append(SecretFile(self._ca_pem.encode()))
            options += ["--cacert", secrets[-1].path]
        return options

    def run(self, args: list[str], stdin: int | IO[bytes] = subprocess.DEVNULL) -> bytes:
        """Run restic to its end and return what it printed, waiting a bounded time for a locked vault."""
        deadline = time.monotonic() + self.lock_wait
        pause = 0.5
        while True:
            try:
                return self._run_once(args, stdin)
            except VaultError as error:
                if error.reason != "locked" or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, 5.0)

    def _run_once(self, args: list[str], stdin: int | IO[bytes]) -> bytes:
        if not isinstance(stdin, int):
            stdin.seek(0)
        child = self.spawn(args, stdin, raw=True)
        try:
            assert child.process.stdout is not None  # noqa: S101  (spawn always asks for the pipe)
            output = child.process.stdout.read()
            child.wait()
            return output
        finally:
            child.close()
