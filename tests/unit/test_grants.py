# SPDX-License-Identifier: Apache-2.0
"""Covers the collection's module_utils/grants.py: what an enrolled host believes, and what it remembers. Real keys."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import grants
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import TIME_FORMAT

from sopctl import fsio, signing

Json = dict[str, Any]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an enrolled host is root's")
RUN_1, RUN_2 = "sha256:" + "1" * 64, "sha256:" + "2" * 64


class Enrolled:
    """An enrolled host in a folder, and the site that signs for it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.signers, self.used = folder / "etc/grant-signers", folder / "lib/used.jsonl"
        for path in (self.signers, self.used):
            path.parent.mkdir()
            patch.setattr(grants, "SIGNERS" if path is self.signers else "USED", str(path))
        patch.setattr(grants, "machine_id", lambda: "a" * 32)
        self.key = self.make_key(folder / "run")
        self.signers.write_text(grants.signer_line(" ".join(Path(f"{self.key}.pub").read_text().split()[:2])))
        grants.make_used_list()
        self.count = 0

    def make_key(self, path: Path) -> Path:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        return path

    def grant(self, operation: str = "restore.staged", minutes: float = 15, **changes: Any) -> Json:
        self.count += 1
        return {
            "schema": "sop/grant/v1", "site": "s", "case": "RST-2026-0001", "execution": 1, "plan": RUN_1, "runs": [RUN_1],
            "host": "db01", "machine_id": "a" * 32, "operation": operation, "dataset": "antrean", "service": None,
            "snapshot": "b" * 64, "nonce": f"{self.count:032x}",
            "expires": (datetime.now(UTC) + timedelta(minutes=minutes)).strftime(TIME_FORMAT), **changes,
        }  # fmt: skip

    def params(self, grant: Json, key: Path | None = None, namespace: Any = "sop-grant", **changes: Any) -> Json:
        signature = signing.sign(fsio.canonical_json(grant), namespace, key or self.key).decode()
        given = {"grant": grant, "grant_signature": signature, **changes}
        return {"grant": given, "case": "RST-2026-0001", "dataset": {"id": "antrean"}, "snapshot": "b" * 64}

    def permit(self, grant: Json | None = None, **changes: Any) -> grants.Permit:
        grant = grant or self.grant()
        return grants.Permit(self.params(grant, **changes), "restore.staged")

    def do(self, operation: str, **changes: Any) -> str | None:
        """One call to its end: when the execution was finished before it, None else."""
        permit = grants.Permit(self.params(self.grant(operation, **changes)), operation)
        finished = permit.begin()
        permit.end()
        return finished

    def lines(self) -> list[Json]:
        return [json.loads(line) for line in self.used.read_text().splitlines()]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Enrolled:
    return Enrolled(tmp_path, monkeypatch)


def refused(call: Callable[[], object], *words: str) -> None:
    with pytest.raises(SopError) as told:
        call()
    said = str(told.value)
    assert said.startswith("refused: ")
    assert "\n" not in said
    for word in words:
        assert word in said, said


def test_signed_grant_is_believed_and_remembered(host: Enrolled) -> None:
    permit = host.permit()
    assert permit.enrolled
    assert permit.begin() is None
    (line,) = host.lines()
    assert {**line, "at": "", "nonce": ""} == {
        "what": "used", "site": "s", "case": "RST-2026-0001", "execution": 1, "plan": RUN_1, "dataset": "antrean",
        "operation": "restore.staged", "at": "", "nonce": "",
    }  # fmt: skip


def test_bytes_signed_are_sopctl_s_own(host: Enrolled) -> None:
    grant = host.grant(snapshot="é\u2028")
    assert grants.canonical(grant) == fsio.canonical_json(grant)


def test_unsigned(host: Enrolled) -> None:
    for signature in (None, "", 1):
        refused(lambda s=signature: host.permit(grant_signature=s), "is not signed, and this host is enrolled")  # type: ignore[misc]
    refused(lambda: host.permit(grant_signature="Tm8=\n"), "not signed by the run key that this host knows")


def test_other_key(host: Enrolled, tmp_path: Path) -> None:
    other = host.make_key(tmp_path / "other")
    refused(lambda: host.permit(key=other), "not signed by the run key that this host knows")


@pytest.mark.parametrize("namespace", ["sop-document", "sop-record", "sop-schedule", "file"])
def test_other_namespace(namespace: str, host: Enrolled) -> None:
    refused(lambda: host.permit(namespace=namespace), "not signed by the run key that this host knows")


@pytest.mark.parametrize(
    "change",
    [
        {"case": "RST-2026-0002"}, {"execution": 2}, {"plan": RUN_2}, {"runs": [RUN_1, RUN_2]}, {"host": "web01"},
        {"machine_id": "b" * 32}, {"operation": "restore.swapped"}, {"dataset": "berkas"}, {"snapshot": "c" * 64},
        {"nonce": "f" * 32}, {"expires": "2999-01-01T00:00:00Z"}, {"site": "t"}, {"schema": "x"}, {"extra": 1},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_edited(change: Json, host: Enrolled) -> None:
    grant = host.grant()
    signed = host.params(grant)["grant"]["grant_signature"]
    refused(lambda: host.permit({**grant, **change}, grant_signature=signed), "not signed by the run key")


def test_expired_or_too_long(host: Enrolled) -> None:
    refused(lambda: host.permit(host.grant(minutes=-1)), "ended at")
    refused(lambda: host.permit(host.grant(minutes=30)), "longer than a quarter of an hour")
    refused(lambda: host.permit(host.grant(expires="soon")), "no readable expiry")
    permit = host.permit(host.grant(minutes=0.05))
    permit.body["expires"] = "2026-01-01T00:00:00Z"  # time went by while it waited for the dataset's lock
    refused(permit.require_fresh, "ended at")


def test_other_host_or_other_arguments(host: Enrolled) -> None:
    refused(lambda: host.permit(host.grant(machine_id="b" * 32)), "is for the machine " + "b" * 32)
    refused(lambda: host.permit(host.grant(dataset="berkas")), "the grant's dataset is 'berkas', not 'antrean'")
    refused(lambda: host.permit(host.grant(snapshot="c" * 64)), "the grant's snapshot is")
    refused(lambda: host.permit(host.grant("restore.swapped")), "the grant's operation is 'restore.swapped'")
    refused(lambda: host.permit(host.grant(case="RST-2026-0009")), "the grant's case is 'RST-2026-0009'")
    service = {**host.params(host.grant("service.stopped", dataset=None, service="cron")), "service": {"name": "nginx"}}
    service["dataset"] = service["snapshot"] = None
    refused(lambda: grants.Permit(service, "service.stopped"), "the grant's service is 'cron', not 'nginx'")


def test_used_twice(host: Enrolled) -> None:
    grant = host.grant()
    host.permit(grant).begin()
    refused(lambda: host.permit(grant).begin(), "was used here at")


@pytest.mark.parametrize("nonce", [None, "", "x" * 32, "1" * 31, 5])
def test_without_nonce(nonce: Any, host: Enrolled) -> None:
    refused(lambda: host.permit(host.grant(nonce=nonce)).begin(), "has no nonce")


@pytest.mark.parametrize("execution", [None, 0, -1, "1", True])
def test_without_execution(execution: Any, host: Enrolled) -> None:
    refused(lambda: host.permit(host.grant(execution=execution)).begin(), "does not say which execution")


def test_finished_execution_is_known(host: Enrolled) -> None:
    """What is done after it may change nothing (host.run_module sees to that); another dataset, site or execution may."""
    assert host.do("restore.staged") is None
    assert host.do("restore.finalised") is None
    again = {"plan": RUN_2, "runs": [RUN_1, RUN_2]}
    assert host.do("restore.staged", **again)
    assert host.do("restore.finalised", **again)
    assert [line["what"] for line in host.lines()].count("finished") == 1
    assert host.do("restore.staged", **again, execution=2) is None
    assert host.do("restore.staged", case="RST-2026-0001", site="t") is None
    told = host.permit().refuse_again("2026-11-22T03:00:00Z")
    assert "this host finished execution 1 of RST-2026-0001 for antrean at 2026-11-22T03:00:00Z" in str(told)


def test_proof_of_a_safety_backup_finishes_nothing(host: Enrolled) -> None:
    """A restore in place stores and reads back what it then replaces: the steps after that are the same execution's."""
    assert host.do("backup", safety=True) is None
    assert host.do("verify", safety=True) is None
    assert host.do("restore.emptied") is None
    assert host.do("restore.finalised") is None
    assert host.do("restore.staged"), "now it is finished"


def test_a_placed_copy_is_the_end_of_its_execution_and_goes_nowhere_else(host: Enrolled) -> None:
    to = {"to": "/srv/salinan"}
    params = host.params(host.grant("restore.placed", 15, **to))
    refused(lambda: grants.Permit({**params, "to": "/srv/lain"}, "restore.placed"), "the grant's to is '/srv/salinan'")
    grants.Permit({**params, **to}, "restore.placed")
    assert host.do("restore.placed") is None
    assert host.do("restore.placed")


def test_case_and_ledger_put_back(host: Enrolled) -> None:
    """The ledger forgot the run that this host worked for: whatever it grants for that case is refused, for ever."""
    host.do("restore.staged")
    forgotten = {"plan": RUN_2, "runs": [RUN_2]}
    refused(lambda: host.do("restore.staged", **forgotten), "in a run that the site's ledger does not name", "put back")
    padded = {"plan": RUN_2, "runs": ["sha256:" + "9" * 64, RUN_2]}
    refused(lambda: host.do("restore.staged", **padded), "in a run that the site's ledger does not name")
    assert host.do("restore.staged", case="RST-2026-0001", plan=RUN_2, runs=[RUN_1, RUN_2]) is None, "a resume goes on"


@pytest.mark.parametrize("runs", [None, [], "x", [1], [RUN_2], {RUN_1: 1}])
def test_run_that_its_own_ledger_does_not_name(runs: Any, host: Enrolled) -> None:
    if isinstance(runs, dict):
        runs = [runs]
    refused(lambda: host.do("restore.staged", runs=runs), "does not name its own run")


def test_line_cut_short_by_a_crash(host: Enrolled) -> None:
    host.do("restore.staged")
    whole = host.used.read_bytes()
    host.used.write_bytes(whole + b'{"what": "us')
    assert host.do("restore.swapped") is None
    assert len(host.lines()) == 2


def test_damaged_or_missing_list_is_no_empty_list(host: Enrolled) -> None:
    host.do("restore.staged")
    host.used.write_bytes(b"garbage\n" + host.used.read_bytes())
    refused(lambda: host.do("restore.swapped"), "line 1 is damaged")
    host.used.unlink()
    refused(lambda: host.do("restore.swapped"), "cannot be opened", "cannot tell what it did")
    host.used.symlink_to(host.used.with_name("other"))
    refused(lambda: host.do("restore.swapped"), "cannot be opened")


def test_files_that_others_could_have_written(host: Enrolled) -> None:
    for path in (host.signers, host.signers.parent):
        mode = path.stat().st_mode
        path.chmod(mode | 0o020)
        refused(host.permit, "must be root's alone to write")
        path.chmod(mode & 0o7777)
        os.chown(path, 65534, -1)
        refused(host.permit, "must be root's alone to write")
        os.chown(path, 0, -1)
    for path in (host.used, host.used.parent):
        mode = path.stat().st_mode
        path.chmod(mode | 0o002)
        refused(lambda: host.permit().begin(), "must be root's alone to write")
        path.chmod(mode & 0o7777)
    moved = host.signers.with_name("moved")
    host.signers.rename(moved)
    host.signers.symlink_to(moved)
    refused(host.permit, "is a link")


@pytest.mark.parametrize(
    "content", ["", "garbage\n", "run ssh-ed25519 AAAA\n", '* namespaces="sop-grant" ssh-ed25519 AAAA\n',
                'run cert-authority,namespaces="sop-grant" ssh-ed25519 AAAA\n', "{line}{line}", "# comment\n{line}"],
)  # fmt: skip
def test_signers_file_that_says_something_else(content: str, host: Enrolled) -> None:
    line = host.signers.read_text()
    host.signers.write_text(content.replace("{line}", line))
    refused(host.permit, "is not one line of the site's run key")


def test_host_that_is_not_enrolled_is_guarded_as_before(host: Enrolled) -> None:
    host.signers.unlink()
    permit = host.permit(grant_signature=None)
    assert not permit.enrolled
    assert permit.begin() is None
    permit.end()
    assert host.lines() == []
    refused(lambda: host.permit(host.grant(machine_id="x"), grant_signature=None), "is for the machine")
    refused(
        lambda: grants.Permit({"grant": None, "dataset": {"id": "antrean"}}, "backup"), "no grant for backup of antrean"
    )
    refused(lambda: grants.Permit({"grant": {"grant": {}}, "dataset": {"id": "antrean"}}, "backup"), "no grant for")


def test_ordinary_user_on_an_enrolled_host(host: Enrolled) -> None:
    for folder in [
        each for each in host.signers.parents if each.name.startswith(("pytest-", "popen-", "test_", "etc"))
    ]:
        folder.chmod(0o755)
    params = host.params(host.grant())
    with multiprocessing.get_context("fork").Pool(1, os.setuid, (65534,)) as pool:
        said = pool.apply(_refusal, (params,))
    assert "this host is enrolled, so changes are root's; set ansible_become" in said


def _refusal(params: Json) -> str:
    try:
        grants.Permit(params, "restore.staged")
    except SopError as error:
        return str(error)
    return ""


def test_host_without_ssh_keygen_cannot_decide(host: Enrolled, monkeypatch: pytest.MonkeyPatch) -> None:
    params = host.params(host.grant())

    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    refused(lambda: grants.Permit(params, "restore.staged"), "ssh-keygen is not installed here")
