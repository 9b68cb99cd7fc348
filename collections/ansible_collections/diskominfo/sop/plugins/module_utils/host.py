# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""What modules share on a managed host: the grant, evidence, and one way to run and to fail."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Engine, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.engines import load_engine
from ansible_collections.diskominfo.sop.plugins.module_utils.grants import Permit
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import (
    SIGNALS,
    DatasetLock,
    Journal,
    Terminated,
    default_state_dir,
    ensure_state_dir,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.progress import Meter, file_name, remove
from ansible_collections.diskominfo.sop.plugins.module_utils.restic import s3_secrets
from ansible_collections.diskominfo.sop.plugins.module_utils.switch import STEPS, Switch
from ansible_collections.diskominfo.sop.plugins.module_utils.tree import TreeEngine, TreeSource
from ansible_collections.diskominfo.sop.plugins.module_utils.vault import Stored, Vault

EVIDENCE_SCHEMA = "sop-evidence/v1"
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
        self.meter: Meter | None = None

    def secrets_of(self, dataset: str) -> Json:
        """The secrets of one dataset, where a call is about several."""
        return dict(self._secrets.get(dataset) or {})

    def secret_values(self) -> set[str]:
        """Everything that must never be printed."""
        vault = self._vault_settings or {}
        groups = [self._secrets, *(value for value in self._secrets.values() if isinstance(value, dict))]
        values = {value for group in groups for value in group.values() if isinstance(value, str) and value}
        values |= {vault[key] for key in ("password", "ca_pem") if isinstance(vault.get(key), str) and vault[key]}
        values |= set(s3_secrets(vault.get("s3_key")))
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
        if self.dataset:
            return str(self.dataset["id"])
        return f"service-{self.service.get('name')}" if self.service else f"switch-{self.case}"

    @property
    def switch(self) -> Switch:
        """The dead man's switch of the case here."""
        granted = (self.params.get("grant") or {}).get("grant") or {}
        return Switch(self.case, str(granted.get("site") or ""))

    @contextmanager
    def watched(self, operation: str) -> Iterator[None]:
        """Hold the switch's lock where ``operation`` is a step that the switch watches, and the phase allows it."""
        if operation not in STEPS and not operation.startswith("switch."):
            yield
            return
        with self.switch.held(f"{self.case} {operation}"):
            self.switch.require(operation)
            yield

    @property
    def away(self) -> bool:
        """Whether this host is not the dataset's: a drill host, which only proves a backup and keeps nothing of it."""
        return bool(((self.params.get("grant") or {}).get("grant") or {}).get("drill"))

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
            self._vault = Vault(self._vault_settings, self.state_dir, read_only=self.check_mode, cache=not self.away)
        return self._vault

    def journal(self, prefix: str) -> Journal:
        """A journal of this dataset and case."""
        return Journal(self.state_dir, f"{prefix}-{self.name}-{self.case}")

    @contextmanager
    def metered(self, what: str, total: int, estimate: bool = False) -> Iterator[None]:
        """Show meanwhile how many of ``total`` bytes have passed; ``estimate``: the total is no more than that."""
        self.meter = Meter(ensure_state_dir(self.state_dir), file_name(self.name, self.case), what, total, estimate)
        try:
            yield
        finally:
            self.meter.end()
            self.meter = None

    def store(self, tags: dict[str, str]) -> Stored:
        """Store the dataset's dump in the vault, with its content description."""
        engine = self.engine
        if not isinstance(engine, TreeEngine):
            return self.vault.backup_stream(engine.dump, engine.dump_name, tags, self.meter)
        path = engine.tree_path()
        stored = self.vault.backup_tree(path, tags, self.meter)
        return replace(stored, content=engine.content_of_entries(self.vault.entries(stored.snapshot, path)))

    def read_through(self, manifest: Json) -> None:
        """Read the dump to its end; SopError when it is not the manifest's."""
        source = self.source(manifest)
        if isinstance(source, TreeSource):
            self.vault.read_tree(manifest["dump_snapshot"], self.meter)
            return
        with source.open() as stream:
            while stream.read(1 << 20):
                pass

    def source(self, manifest: Json) -> DumpSource:
        """What a restore of ``manifest``'s dump reads; SopError when it is one of another engine."""
        if manifest.get("engine") != self.engine.kind:
            raise SopError(
                f"{self.name}: the backup was made by engine {manifest.get('engine')!r}, the dataset's is {self.engine.kind!r}; "
                "choose another backup or correct the register"
            )
        if isinstance(self.engine, TreeEngine):
            root = manifest["content"]["globals"]["root"]
            return self.vault.tree_source(manifest["dump_snapshot"], root, self.meter)
        return self.vault.stream_source(manifest["dump_snapshot"], self.engine.dump_name, manifest, self.meter)

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

    def left_behind(self) -> list[str]:
        """Scratch folders of this call that are still there, and processes that work in one."""
        marks = (scratch_prefix(self.name), f"sop-scratch-{os.getpid()}-")
        parents = sorted({self.state_dir, str(self.engine.scratch_place(0).path)})
        found = [
            os.path.join(parent, name)
            for parent in parents
            if os.path.isdir(parent)
            for name in os.listdir(parent)
            if name.startswith(marks)
        ]
        # whole paths: a dataset of another site, or a call in another container, may have the same name or number
        paths = [os.path.join(parent, mark).encode() for parent in parents for mark in marks]
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as stream:
                    command = stream.read()
            except OSError:
                continue
            if any(path in command for path in paths):
                found.append(f"process {pid}")
        return found

    def remove_leftovers(self) -> None:
        """Remove scratch copies and the progress that a killed run left (the caller holds the dataset's lock)."""
        remove(os.path.join(self.state_dir, file_name(self.name, self.case)))
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
            with job.watched(allowed), DatasetLock(job.state_dir, job.name, f"{job.case} {allowed}"):
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
