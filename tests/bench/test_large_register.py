# SPDX-License-Identifier: Apache-2.0
"""A register of 5,000 servers: what looks at all of them answers at once.

    make bench PYTEST="-k large_register"                      BENCH_SERVERS=500 for less

Printed is the time of each command, started as people start it, the second time (files in memory), and what it is beside
``sopctl --version``. No lab is needed.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from sopctl import runner
from tests.support.agencies import Story
from tests.support.site_builder import SiteBuilder

SERVERS = int(os.environ.get("BENCH_SERVERS", "5000"))
LIMIT = 2.0  # seconds
UNITS = ["Bidang Aptika", "Bidang Statistik", "Sekretariat", "Dinas Kesehatan"]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """One real server, and a register of as many entries and facts as are asked for, signed."""
    folder = tmp_path_factory.mktemp("large")
    story = Story(folder, SiteBuilder(folder, profile="kaltim"))
    site = story.site
    site.run("asset", "scan", as_="pengelola")
    entry = json.loads((site.root / "register/servers/srv01.yml").read_text())
    looked = (site.root / "register/facts/srv01.json").read_text()
    for number in range(SERVERS - 1):
        name = f"srv-{number:05}"
        more = {
            "id": name,
            "inventory_hostname": name,
            "owner_unit": UNITS[number % 4],
            "machine_id": f"a{number:031x}",
        }
        text = yaml.safe_dump(entry | more, sort_keys=False)
        (site.root / f"register/servers/{name}.yml").write_text(text)
        (site.root / f"register/facts/{name}.json").write_text(looked.replace('"srv01"', f'"{name}"'))
    site.sign_register()
    return story


def timed(name: str, command: list[str], env: dict[str, str], cwd: Path) -> float:
    """Seconds of the second run."""
    for _ in range(2):
        began = time.monotonic()
        done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)
        took = time.monotonic() - began
        assert done.returncode in {0, 31}, f"{shlex.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    print(f"{name:<24} {took:6.2f} s")
    return took


def test_large_register(story: Story) -> None:
    site = story.site
    place = [*site.sopctl, "-C", str(site.root)]
    took = {"--version": timed("sopctl --version", [*site.sopctl, "--version"], site.env, site.folder)}
    for words in ("asset list", "asset due", "asset show srv01"):
        took[words] = timed(words, [*place, *words.split()], site.env, site.folder)
    (site.root / "inventory/asset_register.yml").write_text(
        "plugin: diskominfo.sop.asset_register\ncache: true\ncache_plugin: ansible.builtin.jsonfile\n"
        f"cache_connection: {site.folder}/inventory-cache\n"
    )
    env = runner.environment(site.folder / "ansible")
    ask = ["ansible-inventory", "-i", str(site.root / "inventory"), "--host", "srv-00001"]
    took["inventory plugin"] = timed("inventory plugin", ask, env, site.folder)
    (site.root / "inventory/asset_register.yml").unlink()
    cases = []
    for _ in range(2):
        case = story.request("backup", "arsip", specification=story.specification("arsip"))
        site.run("case", "decide", case, "--approve", "--reason", "kapasitas ada", as_="administrator")
        site.run("case", "dispose", case, as_="pengawas")
        cases.append(case)
    for case in cases:
        began = time.monotonic()
        plan = ["case", "plan", case, "--on-duty", "pengelola", "--on-duty", "pemeriksa", "--as", "pengelola"]
        subprocess.run([*place, *plan], env=site.env, cwd=site.folder, capture_output=True, check=True)
        took["case plan"] = time.monotonic() - began
    print(f"{'case plan':<24} {took['case plan']:6.2f} s")
    slow = {name: round(seconds, 2) for name, seconds in took.items() if seconds > LIMIT}
    assert not slow, f"slower than {LIMIT} s: {slow}"
