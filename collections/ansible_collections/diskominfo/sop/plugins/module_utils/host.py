# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""What modules share on a managed host: the lock, the grant, evidence, signals, and one way to run and to fail."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from types import FrameType
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Engine, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.engines import load_engine
from ansible_collections.diskominfo.sop.plugins.module_utils.exchange import sync_folder
from ansible_collections.diskominfo.sop.plugins.module_utils.grants import TIME_FORMAT, Permit
from ansible_collections.diskominfo.sop.plugins.module_utils.tree import TreeEngine, TreeSource
from ansible_collections.diskominfo.sop.plugins.module_utils.vault import Stored, Vault

EVIDENCE_SCHEMA = "sop-evidence/v1"
#: seconds to wait for another run that holds the dataset on this host
LOCK_WAIT = 5.0

#: options that the module's action plugin fills in, never a playbook
GATE_OPTIONS: Json = {"grant": {"type": "dict"}}
VAULT_OPTIONS: Json = {"vault": {"type": "dict", "no_log": True}}
SECRET_OPTIONS: Json = {"secrets": {"type": "dict", "no_log": True, "default": {}}}
DATASET_OPTIONS: Json = {"dataset": {"type": "dict", "required": True}}
CASE_OPTIONS: Json = {"case": {"type": "str", "required": True}}
SNAPSHOT_OPTIONS: Json = {
    "snapshot": {"type": "str", "required": True},
    "manifest_snapshot": {"type": "str", "required": True},
}


class Failed(SopError):
    """A failure that leaves evidence too."""

    def __init__(self, message: str, proof: Json) -> None:
        super().__init__(message)
        self.proof = proof


class Terminated(BaseException):
    """A signal asked this module to end; everything on the way out undoes what is half done."""


class Signals:
    """Turns SIGTERM, SIGHUP and SIGINT into :class:`Terminated`, except inside :meth:`deferred`."""

    def __init__(self) -> None:
        self._hold = 0
        self._waiting: int | None = None

    def install(self) -> None:
        """Start to listen."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self._hold:
            self._waiting = number
            return
        for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)  # a second one must not cut the cleaning short
        raise Terminated(signal.Signals(number).name)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """For the few steps of an exchange: a signal is obeyed after them."""
        self._hold += 1
        try:
            yield
        finally:
            self._hold -= 1
        if self._waiting is not None and not self._hold:
            self._receive(self._waiting, None)


SIGNALS = Signals()


def utc_now() -> str:
    """Now, as ``2026-11-22T03:00:00Z``."""
    return datetime.now(timezone.utc).strftime(TIME_FORMAT)


def default_state_dir() -> str:
    """Where locks, journals and scratch copies of this host lie."""
    if os.geteuid() == 0:
        return "/var/lib/sop"
    return os.path.join(os.path.expanduser("~"), ".local", "state", "sop")


def ensure_state_dir(path: str) -> str:
    """Make ``path`` (0700) and return it; SopError when it cannot be made or belongs to another user."""
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.stat(path)
    except OSError as error:
        raise SopError(
            f"{path}: cannot be made ({error.strerror}); run as root or set state_dir to a writable folder"
        ) from error
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise SopError(f"{path}: others may write to it (or own it); give it to this user with mode 0700")
    return path


class DatasetLock:
    """The one lock of a dataset on this host. The kernel lets go of it when the holder ends, however it ends."""

    def __init__(self, state_dir: str, name: str, holder: str, wait: float = LOCK_WAIT) -> None:
        self._path = os.path.join(state_dir, f"lock-{name}")
        self._name = name
        self._holder = holder
        self._wait = wait
        self._fd = -1

    def __enter__(self) -> DatasetLock:
        ensure_state_dir(os.path.dirname(self._path))
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        deadline = time.monotonic() + self._wait
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = os.pread(self._fd, 200, 0).decode("utf-8", "replace").strip()
                    os.close(self._fd)
                    raise SopError(
                        f"{self._name}: another run holds this dataset here ({holder or 'unknown'}); wait for it to end"
                    ) from None
                time.sleep(0.2)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{self._holder}, pid {os.getpid()}, since {utc_now()}\n".encode(), 0)
        return self

    def __exit__(self, *_exc: object) -> None:
        os.ftruncate(self._fd, 0)
        os.close(self._fd)


class Journal:
    """One small JSON file of this host, written whole or not at all."""

    def __init__(self, state_dir: str, name: str) -> None:
        self._path = os.path.join(state_dir, name + ".json")

    def read(self) -> Json | None:
        """What was written last; None when nothing was, or it cannot be read as JSON."""
        try:
            with open(self._path, encoding="utf-8") as stream:
                found = json.load(stream)
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def write(self, value: Json) -> None:
        """Replace the file, on disk when this returns."""
        folder = ensure_state_dir(os.path.dirname(self._path))
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".journal-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(value, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, self._path)
        sync_folder(folder)

    def remove(self) -> None:
        """Remove the file if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(self._path)


class Job:
    """One call of a module: its arguments, its dataset's engine and its vault."""

    def __init__(self, module: AnsibleModule) -> None:
        self.params: Json = module.params
        self.check_mode: bool = module.check_mode
        self.case: str = self.params.get("case") or ""
        self.dataset: Json = self.params.get("dataset") or {}
        self.service: Json = self.params.get("service") or {}
        self._vault_settings: Json | None = self.params.pop("vault", None)
        self._secrets: Json = self.params.pop("secrets", None) or {}
        self.state_dir = str(self.dataset.get("state_dir") or self.service.get("state_dir") or default_state_dir())
        self._engine: Engine | None = None
        self._vault: Vault | None = None

    def secret_values(self) -> set[str]:
        """Everything that must never be printed."""
        vault = self._vault_settings or {}
        values = {value for key, value in self._secrets.items() if isinstance(value, str) and value}
        values |= {vault[key] for key in ("password", "ca_pem") if isinstance(vault.get(key), str) and vault[key]}
        repository = vault.get("repository")
        if isinstance(repository, str) and (found := re.search(r"//([^/@]*)@", repository)):
            values |= {part for part in found.group(1).split(":", 1)[1:] if part} | {repository}
        return values

    def check(self) -> None:
        """SopError unless the ids are fit for tags and file names."""
        if self.dataset and not re.fullmatch(r"[a-z0-9-]{2,32}", str(self.dataset.get("id"))):
            raise SopError(f"dataset.id: {self.dataset.get('id')!r} is not 2 to 32 of a-z, 0-9 and -; correct the plan")
        if self.case and not re.fullmatch(r"[A-Z]{2,8}-[0-9]{4}-[0-9]{4,8}", self.case):
            raise SopError(f"case: {self.case!r} does not look like RST-2026-0001; correct the plan")
        for key in ("snapshot", "manifest_snapshot"):
            value = self.params.get(key)
            if value is not None and not re.fullmatch(r"[0-9a-f]{64}", value):
                raise SopError(f"{key}: {value!r} is not a snapshot id of 64 hexadecimal digits; correct the plan")

    @property
    def name(self) -> str:
        """What the lock is named after."""
        return str(self.dataset["id"]) if self.dataset else f"service-{self.service.get('name')}"

    @property
    def engine(self) -> Engine:
        """The dataset's engine."""
        if self._engine is None:
            settings = {**self.dataset, "state_dir": self.state_dir}
            self._engine = load_engine(settings, self._secrets)
        return self._engine

    @property
    def vault(self) -> Vault:
        """The vault of this run."""
        if self._vault is None:
            if not self._vault_settings:
                raise SopError(f"{self.name}: no vault was given; run it by sopctl, which adds the site's vault")
            self._vault = Vault(self._vault_settings, self.state_dir, read_only=self.check_mode)
        return self._vault

    def journal(self, prefix: str) -> Journal:
        """A journal of this dataset and case."""
        return Journal(self.state_dir, f"{prefix}-{self.name}-{self.case}")

    def store(self, tags: dict[str, str]) -> Stored:
        """Store the dataset's dump in the vault, with its content description."""
        engine = self.engine
        if not isinstance(engine, TreeEngine):
            return self.vault.backup_stream(engine.dump, engine.dump_name, tags)
        path = engine.tree_path()
        stored = self.vault.backup_tree(path, tags)
        return replace(stored, content=engine.content_of_entries(self.vault.entries(stored.snapshot, path)))

    def read_through(self, manifest: Json) -> None:
        """Read the dump to its end; SopError when it is not the manifest's."""
        source = self.source(manifest)
        if isinstance(source, TreeSource):
            self.vault.read_tree(manifest["dump_snapshot"])
            return
        with source.open() as stream:
            while stream.read(1 << 20):
                pass

    def source(self, manifest: Json) -> DumpSource:
        """What a restore of ``manifest``'s dump reads."""
        if isinstance(self.engine, TreeEngine):
            return self.vault.tree_source(manifest["dump_snapshot"], manifest["content"]["globals"]["root"])
        return self.vault.stream_source(manifest["dump_snapshot"], self.engine.dump_name, manifest)

    def settle(self) -> None:
        """Let the engine finish what a crash left open in an exchange, where it can leave something open."""
        self.engine.settle(self.case)

    def planned_manifest(self) -> Json:
        """The manifest of the planned snapshot."""
        params = self.params
        return self.vault.read_manifest(params["manifest_snapshot"], str(self.dataset["id"]), params["snapshot"])

    def would_change(self, work: Callable[[Job], Json]) -> bool:
        """Whether ``work`` would change something, as its check mode tells."""
        self.check_mode, self._vault = True, None
        try:
            return bool(work(self)["changed"])
        finally:
            self.check_mode, self._vault = False, None

    def remove_leftovers(self) -> None:
        """Remove scratch copies that a killed run left (the caller holds the dataset's lock)."""
        prefix = scratch_prefix(self.name)
        for name in os.listdir(self.state_dir):
            if name.startswith(prefix):
                shutil.rmtree(os.path.join(self.state_dir, name), ignore_errors=True)


def scratch_prefix(dataset: str) -> str:
    """Start of the names of a dataset's throw-away folders in the state folder."""
    return f"scratch-{dataset}."


def evidence(kind: str, **fields: Any) -> Json:
    """Evidence as records expect it."""
    return {"schema": EVIDENCE_SCHEMA, "kind": kind, **fields}


def one_line(text: object) -> str:
    """``text`` on one line."""
    return " ".join(str(text).split())


def run_module(
    options: Json, work: Callable[[Job], Json], operation: str | Callable[[Json], str] | None = None
) -> NoReturn:
    """Run a module: grant, lock, the grant used up, ``work``; leave with its result or with one line of error.

    ``operation``: what the grant must allow; None for a module that only reads (no grant, no lock).
    """
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    job = Job(module)
    # "no_log" would also hide harmless words, such as the program's name, wherever they stand in a result
    module.no_log_values = job.secret_values()
    SIGNALS.install()
    try:
        job.check()
        if operation is None or job.check_mode:
            result = work(job)
        else:
            allowed = operation if isinstance(operation, str) else operation(job.params)
            permit = Permit(job.params, allowed)
            with DatasetLock(job.state_dir, job.name, f"{job.case} {allowed}"):
                permit.require_fresh()  # waiting for the lock takes time
                finished = permit.begin()
                job.remove_leftovers()
                if finished and job.would_change(work):
                    raise permit.refuse_again(finished)
                result = work(job)
                permit.end()
            result["sop_evidence"]["enrolled"] = permit.enrolled
    except Failed as error:
        module.fail_json(msg=one_line(error), sop_evidence=error.proof)
    except SopError as error:
        module.fail_json(msg=one_line(error))
    except Terminated as ended:
        module.fail_json(
            msg=f"{job.name}: ended by {ended} before it was done; what was half done is undone, run again"
        )
    except Exception as error:  # the last line of defence: never a traceback
        module.fail_json(msg=f"{job.name}: unexpected {type(error).__name__}: {one_line(error)[:300]}; report this")
    module.exit_json(**result)
    raise AssertionError  # exit_json has left
