# SPDX-License-Identifier: Apache-2.0
"""Covers the vault's own side of the door: leases that overlap, run out and are closed twice, and hostile callers."""

from __future__ import annotations

import json
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import vault_door
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.door_host import LASTING, Door, Json

HASHES = [f"{{SHA}}{letter * 27}=" for letter in "ABCDEF"]
OPEN: Json = {"do": "open", "server": "db01", "lease": "1" * 32, "seconds": 60, "nonce": "a" * 32, "hash": HASHES[0]}


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def test_open_and_close(door: Door) -> None:
    assert door.users == {"file01": LASTING}
    said = door.ask(**OPEN)
    assert said == {"ok": True, "nonce": "a" * 32, "hash": HASHES[0], "leases": 1}
    assert door.users == {"db01": HASHES[0], "file01": LASTING}
    assert stat.S_IMODE((door.state / "users").stat().st_mode) == 0o640
    assert stat.S_IMODE((door.state / "leases.json").stat().st_mode) == 0o600
    assert door.ask(do="close", server="db01", lease="1" * 32) == {"ok": True, "leases": 0}
    assert door.users == {"file01": LASTING}
    assert door.ask(do="close", server="db01", lease="1" * 32) == {"ok": True, "leases": 0}, "twice is no error"
    assert sorted(path.name for path in door.state.iterdir()) == ["leases.json", "lock", "users"]


def test_leases_that_overlap_have_one_password(door: Door) -> None:
    """The second is told what is in force; the line goes with the last, and only then another password comes."""
    door.ask(**OPEN)
    second = door.ask(**{**OPEN, "lease": "2" * 32, "nonce": "b" * 32, "hash": HASHES[1]})
    assert (second["nonce"], second["hash"], second["leases"]) == ("a" * 32, HASHES[0], 2)
    assert door.ask(do="close", server="db01", lease="1" * 32)["leases"] == 1
    assert door.users["db01"] == HASHES[0]
    assert door.ask(do="close", server="web01", lease="2" * 32)["leases"] == 0, "another server's"
    assert door.users["db01"] == HASHES[0]
    assert door.ask(do="close", server="db01", lease="2" * 32)["leases"] == 0
    third = door.ask(**{**OPEN, "nonce": "b" * 32, "hash": HASHES[1]})
    assert (third["nonce"], door.users["db01"]) == ("b" * 32, HASHES[1])


def test_lease_runs_out_unless_it_is_renewed(door: Door) -> None:
    door.ask(**{**OPEN, "seconds": vault_door.SHORTEST})
    door.ask(**{**OPEN, "server": "web01", "seconds": vault_door.SHORTEST})
    time.sleep(vault_door.SHORTEST / 2)
    assert door.ask(**OPEN)["leases"] == 1, "a renewal is the same lease"
    time.sleep(vault_door.SHORTEST / 2 + 0.2)
    assert door.keep().returncode == 0
    assert door.users == {"db01": HASHES[0], "file01": LASTING}


def test_keeper_mends_the_file_of_users(door: Door) -> None:
    """By configuration and leases: a line that nobody has a lease for goes, one that was lost comes back."""
    door.ask(**OPEN)
    good = (door.state / "users").read_bytes()
    for broken in (b"root:{SHA}x\n" + good, b"", b"\xff\x00"):
        (door.state / "users").write_bytes(broken)
        door.keep()
        assert (door.state / "users").read_bytes() == good
    (door.state / "users").unlink()
    (door.state / "users").symlink_to("/etc/passwd")
    (door.state / ".users").symlink_to("/etc/passwd")
    before = Path("/etc/passwd").read_bytes()
    door.keep()
    assert (door.state / "users").read_bytes() == good
    assert not (door.state / "users").is_symlink()
    assert Path("/etc/passwd").read_bytes() == before


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"nonsense",
        b"[]",
        b'{"db01": 1}',
        b'{"db01": {"nonce": "x:y\\n", "hash": "z", "leases": {"1": 1e300}}}',
        b'{"db01": {"nonce": "%s", "hash": "%s\\nroot:x", "leases": {"1": %d}}}',
        b'{"db01": {"nonce": "%s", "hash": "%s", "leases": {"1": "never"}}}',
        b"[" * 5000,
    ],
)
def test_state_that_is_not_ours_opens_nothing(door: Door, state: bytes) -> None:
    if b"%d" in state:
        state %= (b"a" * 32, HASHES[0].encode(), int(time.time()) + 100)
    (door.state / "leases.json").write_bytes(state)
    assert door.keep().returncode == 0
    assert door.users == {"file01": LASTING}


def test_clock_that_was_put_back_opens_for_no_longer(door: Door) -> None:
    """A lease from a far future was made under another clock."""
    door.ask(**OPEN)
    state = json.loads((door.state / "leases.json").read_text())
    state["db01"]["leases"]["1" * 32] += 10 * vault_door.LONGEST
    (door.state / "leases.json").write_text(json.dumps(state))
    door.keep()
    assert door.users == {"file01": LASTING}


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (b"", "one line of at most"),
        (b"{}", "one line of at most"),
        (b"x\n", "one object of JSON"),
        (b"\xff\n", "one object of JSON"),
        (b"[" * 2000 + b"\n", "one object of JSON"),
        (b'{"do": "look", "do": "open"}\n', "one object of JSON"),
        (b"[]\n", "does one of open, close, look"),
        (b'{"do": ["open"]}\n', "does one of open, close, look"),
        (b'{"do": "keep"}\n', "does one of open, close, look"),
        (b'{"do": "look", "more": 1}\n', "look takes nothing"),
        (b" " * 3000 + b"\n", "one line of at most"),
        ({"server": "db01:x"}, "server is not well-formed"),
        ({"server": "db01\nroot"}, "server is not well-formed"),
        ({"server": None}, "server is not well-formed"),
        ({"server": "db09"}, "db09 is not one that this door is for"),
        ({"server": "file01"}, "file01 is not one that this door is for (it has a lasting password)"),
        ({"hash": "{SHA}x\nroot:y"}, "hash is not well-formed"),
        ({"hash": "plain"}, "hash is not well-formed"),
        ({"hash": HASHES[0] + "\n"}, "hash is not well-formed"),
        ({"nonce": "A" * 32}, "nonce is not well-formed"),
        ({"lease": "1"}, "lease is not well-formed"),
        ({"seconds": 3601}, "seconds is a whole number"),
        ({"seconds": 0}, "seconds is a whole number"),
        ({"seconds": True}, "seconds is a whole number"),
        ({"seconds": 60.0}, "seconds is a whole number"),
        ({"until": 1}, "open takes"),
    ],
)
def test_hostile_callers_are_told_no_in_one_line(door: Door, request_: bytes | Json, told: str) -> None:
    line = request_ if isinstance(request_, bytes) else json.dumps({**OPEN, **request_}).encode() + b"\n"
    done = door.raw(line)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["ok"], done.stderr) == (0, False, b"")
    assert told in answer["why"]
    assert door.users == {"file01": LASTING}


def test_server_has_so_many_leases_and_no_more(door: Door) -> None:
    one = vault_door.Door.load(str(door.config))
    for number in range(vault_door.MOST):
        one.answer({**OPEN, "lease": f"{number:032x}"})
    assert "leases already" in door.ask(**{**OPEN, "lease": "f" * 32})["why"]
    assert door.ask(**{**OPEN, "lease": f"{0:032x}"})["ok"], "a renewal is taken"


def test_many_callers_at_once(door: Door) -> None:
    """Whoever is first, all have one password, and none of the leases is lost."""

    def call(number: int) -> Json:
        letter = "abcdef"[number]
        return door.ask(**{**OPEN, "lease": f"{number:032x}", "nonce": letter * 32, "hash": HASHES[number]})

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(call, range(6)))
    assert len({one["nonce"] for one in said}) == 1
    assert sorted(one["leases"] for one in said) == [1, 2, 3, 4, 5, 6]
    assert door.users["db01"] == said[0]["hash"]


def test_time_of_the_file_is_another_at_every_change(door: Door) -> None:
    """By it alone the server sees a change, and two of them can fall into one tick of the file system."""
    one, seen = vault_door.Door.load(str(door.config)), []
    for _ in range(50):
        for request in (OPEN, {"do": "close", "server": "db01", "lease": "1" * 32}):
            one.answer(request)
            seen.append((door.state / "users").stat().st_mtime_ns)
    assert len(set(seen)) == len(seen)


def test_caller_that_says_nothing_is_hung_up_on(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """And holds nobody up meanwhile."""
    source = Path(str(vault_door.__file__)).read_text().replace("PATIENCE = 20", "PATIENCE = 1")
    fast = door.folder / "vault_door.py"
    fast.write_text(source)
    command = [*door.command[:2], str(fast), str(door.config)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as silent:
        assert door.ask(**OPEN)["ok"]
        assert silent.wait(10) != 0


STEPS = st.tuples(st.sampled_from(["open", "close", "wait", "keep"]), st.integers(0, 3), st.integers(5, 60))


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEPS, max_size=25))
def test_who_may_log_in_is_who_holds_a_lease(
    steps: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Against a model of one dict, through any order of opening, closing and time passing."""
    door = Door(tmp_path_factory.mktemp("door"))
    now, held, nonce = 1_800_000_000.0, dict[int, float](), ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault_door, "time", SimpleNamespace(time=lambda: now, time_ns=time.time_ns))
        one = vault_door.Door.load(str(door.config))
        for count, (what, who, seconds) in enumerate(steps):
            held = {lease: end for lease, end in held.items() if end > now}
            lease = f"{who:032x}"
            if what == "open":
                nonce = nonce if held else f"{count:032x}"
                said = one.answer({**OPEN, "lease": lease, "seconds": seconds, "nonce": f"{count:032x}"})
                held[who] = now + seconds
                assert said["nonce"] == nonce
            elif what == "close":
                held.pop(who, None)
                assert one.answer({"do": "close", "server": "db01", "lease": lease})["leases"] == len(held)
            elif what == "wait":
                now += seconds / 2
                continue
            else:
                one.keep()
            assert ("db01" in door.users) == bool(held)
