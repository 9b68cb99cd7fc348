# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.runner: green runs that lie, events that cannot be kept, and an environment of our own making."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard

from sopctl import runner
from sopctl.models import Json
from sopctl.redact import Redactor
from sopctl.runner import RunOutcome, RunRequest, Stop, environment, judge

SECRET = "kata-sandi-vault"


def request(folder: Path, **values: Any) -> RunRequest:
    settings: dict[str, Any] = {
        "playbook": "diskominfo.sop.backup", "inventories": [], "folder": folder, "keep": folder,
        "hosts": ["srv01", "srv02"], "all_hosts": ["srv01", "srv02", "web01"], "known_hosts": "", **values,
    }  # fmt: skip
    return RunRequest(**settings)


def evidence(*hosts: str) -> list[Json]:
    return [{"kind": "backup", "host": host} for host in hosts]


# --- judging ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [
        (RunOutcome(rc=0, stats={}, evidence=evidence("srv01", "srv02")), None),
        (RunOutcome(rc=0, stats={}, evidence=evidence("srv01", "srv02", "web01")), None),
        (RunOutcome(rc=0, stats={}), "planned hosts returned no evidence: srv01, srv02"),
        (RunOutcome(rc=0, stats={}, evidence=evidence("srv01")), "planned hosts returned no evidence: srv02"),
        (RunOutcome(rc=0, evidence=evidence("srv01", "srv02")), "the play did not come to its end (ansible exited 0)"),
        (RunOutcome(rc=4), "the play did not come to its end (ansible exited 4)"),
        (
            RunOutcome(rc=0, stats={}, evidence=evidence("srv01", "srv02", "srv09")),
            "hosts that were not planned returned evidence: srv09",
        ),
        (
            RunOutcome(rc=0, stats={}, evidence=evidence("srv01"), unreachable={"srv02": "no route"}),
            "exit 0 although hosts did not answer: srv02",
        ),
        (
            RunOutcome(rc=0, stats={}, evidence=evidence("srv01", "srv02"), failures=[{"host": "srv01", "msg": "x"}]),
            None,
        ),
        (RunOutcome(rc=2, stats={}, evidence=evidence("srv01"), failures=[{"host": "srv02", "msg": "x"}]), None),
        (RunOutcome(rc=4, stats={}, evidence=evidence("srv01"), unreachable={"srv02": "no route"}), None),
        (
            RunOutcome(rc=0, stats={}, evidence=evidence("srv01"), failures=[{"host": "srv01", "msg": "x"}]),
            "planned hosts returned no evidence: srv02",
        ),
    ],
)
def test_judge(outcome: RunOutcome, problem: str | None, tmp_path: Path) -> None:
    judge(request(tmp_path), outcome)
    if problem is None:
        assert outcome.problems == []
    else:
        assert problem in outcome.problems


# --- taking events ---------------------------------------------------------------------------------------------------


def collect(tmp_path: Path, *events: Json, progress: Any = lambda _: None) -> RunOutcome:
    collector = runner._Collector(tmp_path, Redactor([SECRET]), progress)
    for event in events:
        assert collector(event) is False  # ansible-runner shall keep no file of it
    collector.close()
    return collector.outcome


def event(counter: int, kind: str = "runner_on_ok", host: str = "srv01", **result: Any) -> Json:
    return {"counter": counter, "event": kind, "stdout": f"line {counter}", "event_data": {"host": host, "res": result}}


STATS: Json = {"event": "playbook_on_stats", "event_data": {"ok": {"srv01": 2}, "changed": {"srv01": 1, "srv02": 2}}}


def test_one_compressed_stream(tmp_path: Path) -> None:
    outcome = collect(
        tmp_path, event(1, sop_evidence={"kind": "backup", "host": "srv01"}, changed=True), {**STATS, "counter": 2}
    )
    assert (outcome.problems, outcome.events, outcome.changed) == ([], 2, 3)
    assert outcome.evidence == [{"kind": "backup", "host": "srv01", "changed": True, "failed": False}]
    assert outcome.stats == {"ok": {"srv01": 2}, "changed": {"srv01": 1, "srv02": 2}}
    stream = zstandard.ZstdDecompressor().stream_reader(io.BytesIO((tmp_path / "events.jsonl.zst").read_bytes()))
    lines = stream.read().decode().splitlines()
    assert [json.loads(line)["counter"] for line in lines] == [1, 2]
    assert (tmp_path / "stdout.txt").read_text() == "line 1\n"


@pytest.mark.parametrize(
    ("counters", "missing"), [([2], "events 1 to 1"), ([1, 4], "events 2 to 3"), ([1, 2, 2], "events 3 to 1")]
)
def test_events_that_are_missing(counters: list[int], missing: str, tmp_path: Path) -> None:
    outcome = collect(tmp_path, *map(event, counters))
    assert outcome.problems == [f"{missing} are missing"]


def test_a_host_that_was_delegated_to_and_does_not_answer_is_told_with_its_dataset(tmp_path: Path) -> None:
    """ssh says nothing of either, and other datasets of the delegating host may be well."""
    said: Json = {
        "sop_host": "db03",
        "sop_dataset": "simpeg",
        "sop_unreachable": True,
        "msg": "db03/simpeg: does not answer: ssh: connect to host 10.0.0.3 port 22: Connection refused",
    }
    [failure] = collect(tmp_path, event(1, "runner_on_failed", host="db01", **said)).failures
    assert (failure["host"], failure["dataset"]) == ("db03", "simpeg")
    assert failure["msg"].startswith("simpeg: ssh: connect to host 10.0.0.3 port 22: Connection refused: see that")


def test_full_disk_is_a_problem_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ansible-runner swallows the handler's exceptions and reports success; we must not."""
    collector = runner._Collector(tmp_path, Redactor([]), lambda _: None)

    class Full:
        def write(self, _data: bytes) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(collector, "_events", Full())
    assert collector(event(1)) is False
    collector.close()
    first, *rest = collector.outcome.problems
    assert first.startswith("an event could not be kept (OSError: [Errno 28] No space left")
    assert rest == ["the event stream could not be closed (No space left on device)"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_really_full_disk(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl.zst").symlink_to("/dev/full")
    (tmp_path / "stdout.txt").symlink_to("/dev/full")
    outcome = collect(tmp_path, *(event(number, padding=os.urandom(50_000).hex()) for number in range(1, 30)))
    assert any("No space left" in problem for problem in outcome.problems)


def test_progress_that_fails_is_recorded(tmp_path: Path) -> None:
    def broken(_: Json) -> None:
        raise BrokenPipeError("the reader went away")

    outcome = collect(tmp_path, event(1), progress=broken)
    assert outcome.problems == ["an event could not be kept (BrokenPipeError: the reader went away)"]


@pytest.mark.parametrize("odd", [{}, {"counter": 1, "event_data": None}, {"counter": 1, "event_data": {"res": None}}])
def test_odd_events(odd: Json, tmp_path: Path) -> None:
    assert collect(tmp_path, odd).problems == []


def test_nothing_secret_is_kept(tmp_path: Path) -> None:
    outcome = collect(
        tmp_path,
        event(1, "runner_on_failed", msg=f"restic: {SECRET}\ntail", sop_evidence={"kind": "backup", "host": SECRET}),
        {"counter": 2, "stdout": f"said {SECRET}"},
    )
    raw = zstandard.ZstdDecompressor().stream_reader(io.BytesIO((tmp_path / "events.jsonl.zst").read_bytes())).read()
    for kept in (raw.decode(), (tmp_path / "stdout.txt").read_text(), json.dumps(outcome.failures), str(outcome)):
        assert SECRET not in kept


def test_failures_are_told_once(tmp_path: Path) -> None:
    failed: Json = {
        "msg": "pg_dump exited 1\nmore",
        "sop_evidence": {"kind": "backup", "host": "srv01", "dataset": "simpeg"},
    }
    outcome = collect(
        tmp_path,
        event(1, "runner_on_failed", failed=True, **failed),
        event(2, "runner_on_failed", failed=True, **failed),
        event(3, "runner_on_failed", results=[{"failed": True}], msg="All items completed"),
        event(4, "runner_item_on_failed", msg="srv01/antrean: refused by the gate: no", sop_refused=True),
        {**event(5, "runner_on_failed", msg="ignored"), "event_data": {"ignore_errors": True, "res": {"msg": "x"}}},
        event(6, "runner_on_unreachable", host="srv02", msg="Failed to connect\nvia ssh"),
    )
    assert [failure["msg"] for failure in outcome.failures] == [
        "pg_dump exited 1",
        "srv01/antrean: refused by the gate: no",
    ]
    assert outcome.failures[0]["dataset"] == "simpeg"
    assert outcome.refused == ["srv01/antrean: refused by the gate: no"]
    assert outcome.unreachable == {"srv02": "Failed to connect"}


# --- environment -----------------------------------------------------------------------------------------------------

ALLOWED = {
    "HOME", "USER", "SSH_AUTH_SOCK", "PATH", "LC_ALL", "PYTHONNOUSERSITE", "PYTHONDONTWRITEBYTECODE",
}  # fmt: skip


def test_environment_is_an_allow_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "CANARY_PASSWORD",
        "RESTIC_PASSWORD",
        "PGPASSWORD",
        "ANSIBLE_STRATEGY",
        "ANSIBLE_CONFIG_X",
        "PYTHONPATH",
    ):
        monkeypatch.setenv(name, "canary")
    for name in ("AWX_LIB_DIRECTORY", "LD_PRELOAD", "LANG", "LANGUAGE", "SOPCTL_KEY", "AD_HOC_COMMAND_ID"):
        monkeypatch.setenv(name, "/canary")
    env = environment(tmp_path)
    assert "canary" not in json.dumps(env)
    assert {name for name in env if not name.startswith("ANSIBLE_")} <= ALLOWED
    assert env["LC_ALL"] == "C.UTF-8"
    assert "ANSIBLE_STRATEGY" not in env


def test_what_ansible_runner_adds_is_chosen_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWX_LIB_DIRECTORY", "/canary")
    made = {
        **os.environ,
        "ANSIBLE_STDOUT_CALLBACK": "awx_display",
        "ANSIBLE_CALLBACK_PLUGINS": "/canary",
        "SECRET": "x",
    }
    env = runner._runner_environment(made, request(tmp_path, gate=tmp_path / "gate"), tmp_path / "known_hosts")
    assert "canary" not in json.dumps(env)
    assert "SECRET" not in env
    assert (env["ANSIBLE_STDOUT_CALLBACK"], env["SOPCTL_GATE"]) == ("awx_display", str(tmp_path / "gate"))
    assert Path(env["ANSIBLE_CALLBACK_PLUGINS"], "awx_display.py").is_file()


def test_traps_of_ansible_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANSIBLE_HOST_KEY_CHECKING", "ANSIBLE_PIPELINING", "ANSIBLE_COLLECTIONS_PATH", "ANSIBLE_CONFIG"):
        monkeypatch.setenv(name, "False")
    env = environment(tmp_path, tmp_path / "known_hosts")
    assert env["ANSIBLE_HOST_PATTERN_MISMATCH"] == "error"
    assert env["ANSIBLE_INVENTORY_UNPARSED_FAILED"] == env["ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"] == "True"
    assert env["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert Path(env["ANSIBLE_CONFIG"]).is_file()
    assert Path(env["ANSIBLE_COLLECTIONS_PATH"], "ansible_collections/diskominfo/sop/galaxy.yml").is_file()
    assert f"UserKnownHostsFile={tmp_path / 'known_hosts'}" in env["ANSIBLE_SSH_ARGS"]
    assert "StrictHostKeyChecking=yes" in env["ANSIBLE_SSH_ARGS"]
    assert env["PYTHONDONTWRITEBYTECODE"] == "1"


def test_path_begins_with_the_interpreters_own_bin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A venv that is not activated, as cron starts it; and nothing relative, where a planted program could lie."""
    own = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", f"/usr/bin::.:relative:{own}:/bin")
    assert environment(tmp_path)["PATH"] == f"{own}:/usr/bin:/bin"
    monkeypatch.delenv("PATH")
    assert environment(tmp_path)["PATH"].startswith(f"{own}:/usr")
    monkeypatch.delenv("HOME")
    assert environment(tmp_path)["HOME"]


# --- the run as a whole ----------------------------------------------------------------------------------------------


def play(tmp_path: Path, text: str, hosts: str, **values: Any) -> RunOutcome:
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "play.yml").write_text(text)
    (tmp_path / "hosts").write_text(hosts)
    settings = {
        "playbook": str(tmp_path / "play.yml"),
        "inventories": [tmp_path / "hosts"],
        "hosts": ["srv01"],
        **values,
    }
    return runner.run(request(folder, keep=tmp_path, **settings), Redactor([]), lambda _: None, Stop(lambda _: None))


QUIET = "- hosts: {hosts}\n  gather_facts: false\n  tasks:\n    - ansible.builtin.debug: {{msg: hello}}\n"


def test_green_run_without_evidence_is_not_believed(tmp_path: Path) -> None:
    outcome = play(tmp_path, QUIET.format(hosts="all"), "srv01 ansible_connection=local\n")
    assert (outcome.rc, outcome.problems) == (0, ["planned hosts returned no evidence: srv01"])


def test_run_that_matches_no_host(tmp_path: Path) -> None:
    outcome = play(tmp_path, QUIET.format(hosts="nobody"), "srv01 ansible_connection=local\n")
    assert outcome.problems


def test_playbook_that_cannot_be_read(tmp_path: Path) -> None:
    outcome = play(tmp_path, "- hosts: [", "srv01 ansible_connection=local\n")
    assert outcome.rc != 0
    assert any("did not come to its end" in problem for problem in outcome.problems)
