# SPDX-License-Identifier: Apache-2.0
"""Guard rail, as the operator who owns the SSH key: every way round sopctl with the tools at hand changes nothing.

The collection is the one that sopctl runs, the hosts and their plan are a true run's. Who writes plugins of their own can
do more; that is what enrolled hosts and control mode are for (SECURITY.md, tests/integration/test_enrolment.py).
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.checks import evidence, wait_until
from tests.e2e.operator_desk import (
    ROOT,
    Desk,
    Json,
    arguments,
    changed_nothing,
    differences,
    module_task,
    play,
    quick_state,
    with_environment,
    with_own_files,
)
from tests.e2e.test_check_mode import everything
from tests.lab.hosts import Lab
from tests.support.site_builder import SiteBuilder

pytestmark = pytest.mark.lab
COLLECTION = Path("ansible_collections/diskominfo/sop")
NO_RUN = "no sopctl holds a run open"
RESTORE = "diskominfo.sop.restore"


@pytest.fixture(scope="module")
def sites_desk(
    lab: Lab,
    personnel: Callable[[], None],
    filed: None,
    make_site: Callable[..., SiteBuilder],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Desk]:
    """A site with one restore executed, and another one approved; nobody makes the lab's data anew meanwhile."""
    site = make_site("simpeg", "antrean", quick=True)
    site.run("schedule", "run", "--due", as_="pelaksana")
    used = site.approved("simpeg", "antrean")
    site.run("case", "execute", used, as_="pelaksana")
    inventory = json.loads((site.records[-1] / "data/run/inventory.json").read_text(encoding="utf-8"))
    approved = site.approved("simpeg", "antrean")
    with lab.held("data"):
        yield Desk(lab, site, inventory, used, approved, tmp_path_factory.mktemp("none"))


@pytest.fixture(scope="module")
def before_all(sites_desk: Desk) -> Json:
    """Everything, the databases' content too, before the first of these tests."""
    return everything(sites_desk.lab, sites_desk.site)


@pytest.fixture(scope="module")
def last_state(sites_desk: Desk, before_all: Json) -> list[Json]:
    """The state that the test before left, which is everybody's."""
    return [quick_state(sites_desk.lab, sites_desk.site)]


@pytest.fixture
def desk(sites_desk: Desk, last_state: list[Json], tmp_path: Path) -> Iterator[Desk]:
    """The operator's desk; afterwards no host, database, service, vault or case may be another."""
    made = copy.copy(sites_desk)
    made.folder, made.env = tmp_path, {}
    yield made
    before, now = last_state[0], quick_state(made.lab, made.site)
    last_state[0] = now  # so that a change is told once, where it was made
    assert {name: differences(before[name], now[name]) for name in now if now[name] != before[name]} == {}


def _longer(hosts: Json) -> None:
    hosts["web01"] = {**next(iter(hosts.values())), "sop_plan": hosts["file01"]["sop_plan"]}


def _other_path(hosts: Json) -> None:
    hosts["file01"]["sop_plan"][0]["dataset"]["path"] = "/srv/lain/lain.db"


def _no_case(hosts: Json) -> None:
    for host in hosts.values():
        del host["sop_case"]


ROLE: Json = {"ansible.builtin.include_role": {"name": RESTORE}}
OTHER_VARS = {
    "restore_items": [],
    "sop_authorized": "x",
    "__restore_done": False,
    "SOPCTL_GATE": "/nonexistent",
    "ansible_check_mode": False,
}
#: name → what the operator runs; each says NO_RUN unless it stands in SILENT
WAYS: dict[str, Callable[[Desk], str]] = {
    "no case": lambda desk: desk.run("ansible-playbook", RESTORE, plan=desk.plan("RST-2026-0001", _no_case)),
    "a case that does not exist": lambda desk: desk.run("ansible-playbook", RESTORE, case="RST-2026-9999"),
    "another's case": lambda desk: desk.run("ansible-playbook", RESTORE, case="RST-2025-0001"),
    "a used case": lambda desk: desk.run("ansible-playbook", RESTORE, case=desk.used),
    "an approved case without sopctl": lambda desk: desk.run("ansible-playbook", RESTORE),
    "a longer host list": lambda desk: desk.run("ansible-playbook", RESTORE, plan=desk.plan(desk.approved, _longer)),
    "another path": lambda desk: desk.run("ansible-playbook", RESTORE, plan=desk.plan(desk.approved, _other_path)),
    "ansible_host": lambda desk: desk.run("ansible-playbook", RESTORE, "-e", f"ansible_host={desk.lab.hosts['web01'].ip}"),
    "other extra-vars": lambda desk: desk.run("ansible-playbook", RESTORE, "-e", json.dumps(OTHER_VARS)),
    "grant in extra-vars": lambda desk: desk.run(
        "ansible-playbook", RESTORE, "-e", json.dumps({"grant": {"grant": {"operation": "restore.staged"}}})
    ),
    "--limit": lambda desk: desk.run("ansible-playbook", RESTORE, "--limit", "file01"),
    "--tags all": lambda desk: desk.run("ansible-playbook", RESTORE, "--tags", "all"),
    "--tags": lambda desk: desk.run("ansible-playbook", RESTORE, "--tags", "restore,swap"),
    "--skip-tags always": lambda desk: desk.run("ansible-playbook", RESTORE, "--skip-tags", "always"),
    "--start-at-task": lambda desk: desk.run("ansible-playbook", RESTORE, "--start-at-task", "Restore"),
    "--start-at-task in a role": lambda desk: desk.run(
        "ansible-playbook", play(desk, roles=[RESTORE]), "--start-at-task", f"{RESTORE} : Swap while the services are stopped"
    ),
    "--step": lambda desk: desk.run("ansible-playbook", RESTORE, "--step", stdin="n\ny\ny\ny\ny\ny\ny\ny\nc\n"),
    "own play with our role": lambda desk: desk.run("ansible-playbook", play(desk, ROLE)),
    "own play with our role, errors ignored": lambda desk: desk.run(
        "ansible-playbook", play(desk, {**ROLE, "ignore_errors": True}, ignore_errors=True, ignore_unreachable=True)
    ),
    "own play with service_control": lambda desk: desk.run(
        "ansible-playbook",
        play(desk, {"ansible.builtin.include_role": {"name": "diskominfo.sop.service_control"}, "vars": {"service_control_state": "stopped"}}),
    ),
    "check mode switched off inside a check": lambda desk: desk.run(
        "ansible-playbook", play(desk, module_task(desk, "service_state", "stopped", check_mode=False), check_mode=False), "--check"
    ),
    "ad-hoc include_role": lambda desk: desk.run("ansible", "sop_targets", "-m", "ansible.builtin.include_role", "-a", f"name={RESTORE}"),
    "task debugger": lambda desk: with_environment(desk, ANSIBLE_ENABLE_TASK_DEBUGGER="True").run(
        "ansible-playbook",
        play(desk, ROLE),
        stdin="task.args['grant'] = {'grant': {'operation': 'restore.staged'}}\nr\nr\ntask.args.pop('grant', 0)\nr\nc\nc\nc\nc\nc\n",
    ),
    "strategy debug": lambda desk: desk.run(
        "ansible-playbook", play(desk, ROLE, strategy="ansible.builtin.debug"), stdin="r\nu\nr\nc\nc\nc\nc\n"
    ),
    "strategy free": lambda desk: desk.run("ansible-playbook", play(desk, ROLE, strategy="ansible.builtin.free")),
    "serial and force_handlers": lambda desk: desk.run("ansible-playbook", play(desk, ROLE, serial=1, force_handlers=True)),
    "async": lambda desk: desk.run("ansible-playbook", play(desk, module_task(desk, "service_state", "stopped", **{"async": 60, "poll": 0}))),
    "a local ansible.cfg": lambda desk: with_own_files(desk, {}).run("ansible-playbook", RESTORE),
    "./collections": lambda desk: with_own_files(desk, {"ANSIBLE_COLLECTIONS_PATH": "./collections"}).run("ansible-playbook", RESTORE),
    "ANSIBLE_COLLECTIONS_PATH": lambda desk: with_own_files(desk, {"ANSIBLE_COLLECTIONS_PATH": str(desk.folder / "collections")}).run(
        "ansible-playbook", play(desk, ROLE)
    ),
    "ANSIBLE_RUN_TAGS and ANSIBLE_SKIP_TAGS": lambda desk: with_environment(desk, ANSIBLE_RUN_TAGS="all,never", ANSIBLE_SKIP_TAGS="always").run(
        "ansible-playbook", play(desk, ROLE)
    ),
}  # fmt: skip
#: ways in which no task of ours is reached at all
SILENT = {"async", "--tags", "--start-at-task in a role", "grant in extra-vars", "no case"}


@pytest.mark.part(4)
@pytest.mark.parametrize("way", WAYS)
def test_by_hand(way: str, desk: Desk) -> None:
    said = WAYS[way](desk)
    changed_nothing(said)
    assert NO_RUN in said or way in SILENT, said


MODULES = [
    *(("restore_dataset", state) for state in ("staged", "swapped", "finalised", "reverted")),
    *(("quiesce", state) for state in ("quiesced", "released")),
    *(("service_state", state) for state in ("stopped", "started")),
    *(("dead_mans_switch", state) for state in ("armed", "committed", "aborted", "disarmed")),
    ("backup_dataset", None),
    ("verify_dataset", None),
    ("vault_repository", None),
]


@pytest.mark.part(4)
@pytest.mark.parametrize(
    ("module", "state"), MODULES, ids=[f"{module} {state or ''}".strip() for module, state in MODULES]
)
def test_module_ad_hoc(module: str, state: str | None, desk: Desk) -> None:
    host = desk.share()[0]
    said = desk.run("ansible", host, "-m", f"diskominfo.sop.{module}", "-a", json.dumps(arguments(desk, module, state)))
    assert NO_RUN in said, said
    assert "FAILED" in said
    changed_nothing(said)


def test_every_changing_module_is_among_them() -> None:
    plugins = {path.stem for path in (ROOT / "collections" / COLLECTION / "plugins/action").glob("*.py")}
    assert plugins - {"authorize", "asset_facts", "dataset_capacity"} == {module for module, _ in MODULES}


@pytest.mark.parametrize(("module", "state"), [("service_state", "stopped"), ("restore_dataset", "reverted")])
def test_module_without_its_action_plugin(module: str, state: str, desk: Desk) -> None:
    """Copied to where Ansible finds modules without a name of the collection's: no plugin asks, and the module refuses."""
    library = desk.folder / "library"
    library.mkdir()
    shutil.copyfile(ROOT / "collections" / COLLECTION / f"plugins/modules/{module}.py", library / f"own_{module}.py")
    said = with_environment(desk, ANSIBLE_LIBRARY=str(library)).run(
        "ansible", desk.share()[0], "-m", f"own_{module}", "-a", json.dumps(arguments(desk, module, state))
    )
    assert "refused: no grant for" in said, said
    changed_nothing(said)


def test_nothing_at_all_is_another(sites_desk: Desk, before_all: Json) -> None:
    """All of the above together, down to the rows of the database."""
    assert everything(sites_desk.lab, sites_desk.site) == before_all


# through sopctl ------------------------------------------------------------------------------------------------------


def test_planted_compiled_code_is_refused(desk: Desk, tmp_path: Path) -> None:
    """Exit 10, and sshd hears of nothing."""
    tree = tmp_path / "tree"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("sopctl", "collections"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignore)
    shutil.copyfile(ROOT / "pyproject.toml", tree / "pyproject.toml")
    planted = (
        tree
        / "collections"
        / COLLECTION
        / "plugins/plugin_utils/__pycache__"
        / f"gate.{sys.implementation.cache_tag}.pyc"
    )
    planted.parent.mkdir()
    planted.write_bytes(b"planted")
    before = logins(desk.lab)
    command = [
        sys.executable,
        "-m",
        "sopctl",
        "-C",
        str(desk.site.root),
        "case",
        "execute",
        desk.approved,
        "--as",
        "pelaksana",
    ]
    env = {**desk.site.env, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 10, done.stdout + done.stderr
    assert "compiled code in the collection" in done.stderr
    assert logins(desk.lab) == before


def logins(lab: Lab) -> list[str]:
    """How often each host let somebody in."""
    script = "journalctl -q -u ssh.service -o cat | grep -c 'Accepted publickey' || true"
    return [lab.exec(host, script) for host in ("db01", "web01", "file01")]


PLANTED = """
from pathlib import Path
Path({marker!r}).touch()
from ansible.plugins.action import ActionBase
class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        return {{"changed": False}}
"""


def test_sopctl_ignores_what_steers_ansible(sites_desk: Desk, tmp_path: Path) -> None:
    """The caller's environment and folder are full of it; the approved run still does everything (last: it changes)."""
    marker = tmp_path / "planted-ran"
    here = tmp_path / "here"
    actions = here / "collections" / COLLECTION / "plugins/action"
    actions.mkdir(parents=True)
    for name in ("restore_dataset", "service_state", "quiesce", "authorize"):
        (actions / f"{name}.py").write_text(PLANTED.format(marker=str(marker)), encoding="utf-8")
    lines = [
        "[defaults]",
        "collections_path = ./collections",
        f"action_plugins = {actions}",
        "strategy = free",
        "[tags]",
        "run = never",
    ]
    (here / "ansible.cfg").write_text("\n".join(lines) + "\n", encoding="utf-8")
    env = {
        "ANSIBLE_RUN_TAGS": "never",
        "ANSIBLE_SKIP_TAGS": "all,always,untagged",
        "ANSIBLE_CONFIG": str(here / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(here / "collections"),
        "ANSIBLE_ACTION_PLUGINS": str(actions),
        "ANSIBLE_STRATEGY": "free",
        "ANSIBLE_ENABLE_TASK_DEBUGGER": "True",
        "ANSIBLE_PIPELINING": "False",
        "ANSIBLE_INVENTORY": "/nonexistent",
        "ANSIBLE_CHECK_MODE_MARKERS": "True",
        "ANSIBLE_KEEP_REMOTE_FILES": "1",
        "SOPCTL_GATE": "/nonexistent",
        "PYTHONPATH": str(here),
    }
    site, lab = sites_desk.site, sites_desk.lab
    done = site.run("case", "execute", sites_desk.approved, as_="pelaksana", check=False, env=env, cwd=here)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not marker.exists()
    record = site.records[-1]
    assert sorted(entry["dataset"] for entry in evidence(record, "finalise")) == ["antrean", "simpeg"]
    assert {(entry["service"], entry["state"]) for entry in evidence(record, "service")} == {
        (name, state) for name in ("simpeg-web", "antrean") for state in ("stopped", "started")
    }
    assert wait_until(lambda: lab.exit_code("file01", "systemctl is-active antrean.service") == 0, 20)
