"""A dead man's switch that fires in the very moment of the swap does no harm: a thousand times, on real data."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import settle, switch
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.engines import load_engine
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import Journal

from tests.integration.switch_host import CASE, MARK, Host, Json, fast_host
from tests.support.thin import stride

RACES = 1000 // stride(5)
host = fast_host
pytestmark = [
    pytest.mark.part(2),
    pytest.mark.skipif(
        os.geteuid() != 0, reason="the switch of an ordinary user lies in the home; run as root, as on a server"
    ),
]


def swapper(host: Host, pause: float) -> int:
    """What the controller's modules do, in a process of its own: swap, then commit. 0 both, 1 refused, 2 only swapped."""
    engine = load_engine(host.dataset, {})
    time.sleep(pause)
    try:
        with host.switch.held("swap"):
            host.switch.require("restore.swapped")
            engine.swap(CASE)
        with host.switch.held("commit"):
            if host.switch.phase != "armed":
                return 2
            host.switch.enter("committed")
    except SopError:
        return 1
    return 0


def settler(host: Host, pause: float) -> int:
    """The switch that fires."""
    time.sleep(pause)
    with Path(os.devnull).open("w") as quiet:
        sys.stdout = quiet
        return settle.Settlement(host.switch, "boot").run()


def forked(work: Callable[[Host, float], int], host: Host, pause: float) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os._exit(work(host, pause))
    finally:
        os._exit(99)


def test_a_thousand_races_between_switch_and_swap(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is first: the data is wholly old or wholly new, as the journal says, and the service runs."""
    monkeypatch.setattr(switch, "LEAST_LEFT", -1e12)
    monkeypatch.setattr(Journal, "write", unsynced)
    dice = random.Random(20261124)  # noqa: S311  (a race needs no secret)
    seen: dict[tuple[int, str], int] = {}
    lead = 0.0  # the swapper's, follows who was first: on a machine of any speed both are near each other
    for _ in range(RACES // 2):  # twice: sqlite and files
        host.reset()
        host.flag.unlink()
        fields: Json = {"datasets": [host.dataset], "units": [], "deadline": 0, "alone": True, "past": []}
        host.switch.write(fields)
        host.switch.enter("armed", services=[{"service": host.service, "active": True}])
        pauses = dice.uniform(0, 0.01) - min(lead, 0), dice.uniform(0, 0.01) + max(lead, 0)
        jobs = [forked(swapper, host, pauses[0]), forked(settler, host, pauses[1])]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in jobs]
        data = host.live
        lead += 0.002 if codes[0] == 1 else -0.002
        seen[(codes[0], data)] = seen.get((codes[0], data), 0) + 1
        assert codes[1] == 0, codes
        assert host.runs
        journal = host.switch.read()
        assert journal["phase"] == "settled"
        assert data == ("baru" if codes[0] == 0 else "lama"), (codes, journal)
        assert journal["outcome"]["data"] == ("new" if data == "baru" else "old")
        names = {path.name for path in host.folder.iterdir() if "__" in path.name}
        kept = "before" if data == "baru" else "shadow"
        assert names == {f"{host.path.name}__{kept}_{MARK}"}, names
    assert {code for code, _data in seen} >= {0, 1}, f"both were first sometimes: {seen}"


def unsynced(self: Journal, value: Json) -> None:
    """Like the real one without fsync: a thousand of them are not what is tested."""
    path = Path(self._path)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(value))
    fresh.replace(path)
