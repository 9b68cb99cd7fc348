# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""The grant: what the site allows one call of a module, and what an enrolled host remembers of it.

An enrolled host has the site's public run key in :data:`SIGNERS`. It believes no grant without that key's signature, and
it keeps a list of what it did (:data:`USED`) that nobody who holds the site's files can put back.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.exchange import sync_folder
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import TIME_FORMAT
from ansible_collections.diskominfo.sop.plugins.module_utils.secretfile import SecretFile

#: what an administrator lays down (role enrol); their places are no option, so that no caller can name others
SIGNERS = "/etc/sop/grant-signers"
USED = "/var/lib/sop/used.jsonl"
NAMESPACE = "sop-grant"
PRINCIPAL = "run"
#: a grant that holds longer than this was not made by sopctl
LONGEST = timedelta(minutes=15)
#: how far the clocks of controller and host may differ
SKEW = timedelta(minutes=2)
#: the last step of a dataset: when it is done, the execution is finished for that dataset on this host
LAST_STEPS = {"restore.finalised", "restore.placed", "verify"}
_LINE = re.compile(r'run namespaces="sop-grant" ((?:ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2})')
AGAIN = "run it by sopctl again"


def canonical(value: Json) -> bytes:
    """The bytes that are signed: as sopctl's fsio.canonical_json writes them."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def machine_id() -> str:
    """This machine's identity as the register knows it; empty where it has none."""
    try:
        with open("/etc/machine-id", encoding="ascii") as stream:
            return stream.read().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def signer_line(key: str) -> str:
    """The line of :data:`SIGNERS` for a public key (``type base64``)."""
    return f'{PRINCIPAL} namespaces="{NAMESPACE}" {key}\n'


def signer_key(line: str) -> str | None:
    """The public key of such a line; None when it is no such line."""
    found = _LINE.fullmatch(line.rstrip("\n"))
    return found.group(1) if found else None


def read_trusted(path: str) -> str | None:
    """Content of a file that only root can have written; None when there is none. SopError when others could have."""
    descriptor = -1
    try:
        folder = os.lstat(os.path.dirname(path))
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        found = os.fstat(descriptor)
        for name, entry, kind in ((os.path.dirname(path), folder, stat.S_ISDIR), (path, found, stat.S_ISREG)):
            if not kind(entry.st_mode) or entry.st_uid != 0 or entry.st_mode & 0o022:
                raise SopError(
                    f"refused: {name} must be root's alone to write, and no link; have this host enrolled again"
                )
        with os.fdopen(os.dup(descriptor), encoding="ascii", errors="replace") as stream:
            return stream.read(64 * 1024)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = "is a link" if error.errno == errno.ELOOP else f"cannot be read ({error.strerror})"
        raise SopError(f"refused: {path} {why}, so no grant can be checked; have this host enrolled again") from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def enrolled_signers() -> str | None:
    """Content of :data:`SIGNERS`; None on a host that is not enrolled. SopError when it cannot be believed."""
    text = read_trusted(SIGNERS)
    if text is None:
        return None
    if signer_key(text) is None:
        raise SopError(f"refused: {SIGNERS} is not one line of the site's run key; have this host enrolled again")
    if os.geteuid() != 0:
        raise SopError("refused: this host is enrolled, so changes are root's; set ansible_become for it")
    return text


def _signed_by(signers: str, data: bytes, signature: str) -> str:
    """Empty when ``signature`` over ``data`` is one of ``signers``', else why not. Nothing is written to disk."""
    with SecretFile(signers.encode()) as keys, SecretFile(signature.encode("utf-8", "replace")) as made:
        command = ["ssh-keygen", "-Y", "verify", "-f", keys.path, "-I", PRINCIPAL, "-n", NAMESPACE, "-s", made.path]
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
        try:
            done = subprocess.run(
                command, input=data, capture_output=True, env=env, pass_fds=[keys.fd, made.fd], check=False, timeout=60
            )
        except FileNotFoundError:
            return "ssh-keygen is not installed here"
        except subprocess.TimeoutExpired:
            return "ssh-keygen did not answer"
    if done.returncode == 0:
        return ""
    said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
    return said[0][:200]


class Permit:
    """One call's grant, checked against the arguments; on an enrolled host also against its run key and its memory."""

    def __init__(self, params: Json, operation: str) -> None:
        """SopError unless the grant allows ``operation`` with ``params`` now."""
        self.operation = operation
        given = params.get("grant")
        self._dataset = (params.get("dataset") or {}).get("id")
        self._service = (params.get("service") or {}).get("name")
        self.what = f"{operation} of {self._dataset or self._service or params.get('case')}"
        if not isinstance(given, dict) or not isinstance(given.get("grant"), dict) or not given["grant"]:
            raise SopError(f"refused: no grant for {self.what}; run it by sopctl (case execute or schedule run)")
        self.body: Json = given["grant"]
        self._signature = given.get("grant_signature")
        self._signers = enrolled_signers()
        self._require_signature()
        self._require_arguments(params)
        self.require_fresh()

    @property
    def enrolled(self) -> bool:
        """Whether this host checked the site's signature, and remembers."""
        return self._signers is not None

    def _require_signature(self) -> None:
        if self._signers is None:
            return
        if not isinstance(self._signature, str) or not self._signature:
            raise SopError(f"refused: the grant for {self.what} is not signed, and this host is enrolled; {AGAIN}")
        try:
            data = canonical(self.body)
        except (ValueError, TypeError) as error:
            raise SopError(f"refused: the grant for {self.what} is no plain JSON; {AGAIN}") from error
        why = _signed_by(self._signers, data, self._signature)
        if why:
            raise SopError(
                f"refused: the grant for {self.what} is not signed by the run key that this host knows ({why}); "
                "run it by the sopctl of its site, or have this host enrolled again"
            )

    def _require_arguments(self, params: Json) -> None:
        body, wanted = self.body, {"operation": self.operation, "dataset": self._dataset, "case": params.get("case")}
        wanted |= {"service": self._service} if self._service else {}
        wanted |= {"snapshot": params.get("snapshot"), "to": params.get("to")}
        for key, value in wanted.items():
            if value is not None and body.get(key) != value:
                raise SopError(f"refused: the grant's {key} is {body.get(key)!r}, not {value!r}; {AGAIN}")
        here = machine_id()
        if body.get("machine_id") != here:
            raise SopError(
                f"refused: the grant for {self.what} is for the machine {body.get('machine_id')}, this is {here}; "
                "correct machine_id in the register and have the change approved"
            )

    def require_fresh(self) -> None:
        """SopError when the grant has ended, or claims to hold longer than grants do."""
        try:
            expires = datetime.strptime(str(self.body.get("expires")), TIME_FORMAT).replace(tzinfo=timezone.utc)
        except ValueError as error:
            raise SopError(f"refused: the grant for {self.what} has no readable expiry; {AGAIN}") from error
        now = datetime.now(timezone.utc)
        if now >= expires:
            raise SopError(f"refused: the grant for {self.what} ended at {self.body['expires']}; {AGAIN}")
        if self.enrolled and expires > now + LONGEST + SKEW:
            raise SopError(
                f"refused: the grant for {self.what} would hold until {self.body['expires']}, longer than a quarter of an "
                "hour; see the clocks of both machines"
            )

    def begin(self) -> str | None:
        """Use the grant up. Returns when this execution was finished here for this dataset, None while it is open.

        SopError when the grant was used before, or the site has forgotten a run that this host remembers.
        """
        if not self.enrolled:
            return None
        with _used() as used:
            lines = used.lines()
            self._require_unused(lines)
            self._require_remembered(lines)
            used.append(self._line("used"))
            return self._finished_at(lines)

    def _require_unused(self, lines: list[Json]) -> None:
        nonce, execution = self.body.get("nonce"), self.body.get("execution")
        if not isinstance(nonce, str) or not re.fullmatch(r"[0-9a-f]{32,64}", nonce):
            raise SopError(f"refused: the grant for {self.what} has no nonce; {AGAIN}")
        if not isinstance(execution, int) or isinstance(execution, bool) or execution < 1:
            raise SopError(f"refused: the grant for {self.what} does not say which execution it is of; {AGAIN}")
        for line in lines:
            if line.get("nonce") == nonce:
                raise SopError(f"refused: the grant for {self.what} was used here at {line.get('at')}; {AGAIN}")

    def _require_remembered(self, lines: list[Json]) -> None:
        """The site's ledger names every run of the case that this host remembers, or it was put back."""
        told = self.body.get("runs")
        known = set(told) if isinstance(told, list) and all(isinstance(run, str) for run in told) else set()
        if self.body.get("plan") not in known:
            raise SopError(f"refused: the grant for {self.what} does not name its own run; {AGAIN}")
        for line in lines:
            if self._same_case(line) and line.get("plan") not in known:
                raise SopError(
                    f"refused: this host worked for {self.body.get('case')} at {line.get('at')} in a run that the site's "
                    "ledger does not name: case or ledger were put back; find the ledger's true end before anything else"
                )

    def _same_case(self, line: Json) -> bool:
        return all(line.get(key) == self.body.get(key) for key in ("site", "case"))

    def _finished_at(self, lines: list[Json]) -> str | None:
        if self._dataset is None:
            return None
        for line in lines:
            same = line.get("execution") == self.body.get("execution") and line.get("dataset") == self._dataset
            if line.get("what") == "finished" and same and self._same_case(line):
                return str(line.get("at"))
        return None

    def end(self) -> None:
        """Remember the execution as finished for this dataset, when this was its last step.

        The proof of a safety backup is the last step of nothing: what it secures is replaced next.
        """
        if not self.enrolled or self.operation not in LAST_STEPS or self.body.get("safety"):
            return
        with _used() as used:
            if self._finished_at(used.lines()) is None:
                used.append(self._line("finished"))

    def refuse_again(self, finished: str) -> SopError:
        """What a step is told that would change what a finished execution left."""
        return SopError(
            f"refused: this host finished execution {self.body['execution']} of {self.body['case']} for {self._dataset} at "
            f"{finished}, and {self.operation} would change it again; open a new case"
        )

    def _line(self, what: str) -> Json:
        keys = ("site", "case", "execution", "plan", "operation", "nonce")
        line = {key: self.body.get(key) for key in keys}
        return {**line, "what": what, "dataset": self._dataset, "at": datetime.now(timezone.utc).strftime(TIME_FORMAT)}


class _Used:
    """The open used-list: one JSON object a line, added to and never rewritten."""

    def __init__(self, descriptor: int) -> None:
        self._fd = descriptor

    def lines(self) -> list[Json]:
        """Every line. A last one that a crash cut short belongs to work that never began, and is taken away."""
        data = b""
        while piece := os.pread(self._fd, 1 << 20, len(data)):
            data += piece
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            os.ftruncate(self._fd, whole)
        found = []
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            if not isinstance(entry, dict):
                raise SopError(
                    f"refused: {USED} line {number} is damaged, so this host cannot tell what it did; look at it"
                )
            found.append(entry)
        return found

    def append(self, line: Json) -> None:
        """Add a line; it is on disk when this returns."""
        data = json.dumps(line, sort_keys=True).encode() + b"\n"
        end = os.lseek(self._fd, 0, os.SEEK_END)
        if os.write(self._fd, data) != len(data):
            os.ftruncate(self._fd, end)
            raise SopError(f"refused: {USED} takes no more (is the disk full?); nothing was begun")
        os.fsync(self._fd)


@contextmanager
def _used() -> Iterator[_Used]:
    """Hold the used-list. SopError when it is not there or not root's alone: then this host has no memory."""
    folder = os.path.dirname(USED)
    try:
        descriptor = os.open(USED, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SopError(
            f"refused: {USED} cannot be opened ({error.strerror}), so this host cannot tell what it did; "
            "have it enrolled again, after looking why"
        ) from error
    try:
        found, around = os.fstat(descriptor), os.lstat(folder)
        if not stat.S_ISREG(found.st_mode) or not stat.S_ISDIR(around.st_mode):
            raise SopError(f"refused: {USED} is not a plain file in a plain folder; have this host enrolled again")
        if found.st_uid != 0 or around.st_uid != 0 or (found.st_mode | around.st_mode) & 0o022:
            raise SopError(f"refused: {USED} must be root's alone to write; have this host enrolled again")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield _Used(descriptor)
    except OSError as error:
        raise SopError(f"refused: {USED}: {error.strerror}; nothing was begun") from error
    finally:
        os.close(descriptor)


def make_used_list() -> bool:
    """Make the used-list unless it is there; whether it was made."""
    folder = os.path.dirname(USED)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    try:
        os.close(os.open(USED, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        return False
    sync_folder(folder)
    return True
