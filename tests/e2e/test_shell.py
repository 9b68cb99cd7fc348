# SPDX-License-Identifier: Apache-2.0
"""Tab in real shells, the manual page, and `sopctl` alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from tests.support.agencies import Story
from tests.support.site_builder import SiteBuilder

BIN = str(Path(sys.executable).parent)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A Kaltim site with one case that waits for the administrator's decision."""
    folder = tmp_path_factory.mktemp("shell")
    story = Story(folder, SiteBuilder(folder, profile="kaltim"))
    story.request("backup", "arsip", specification=story.specification("arsip"))
    return story


def environment(story: Story) -> dict[str, str]:
    """Of a person at a terminal in the site's folder."""
    path = f"{BIN}:{os.environ['PATH']}"
    return story.site.env | {"PATH": path, "SOPCTL_SITE": str(story.site.root), "TERM": "dumb"}


def script(story: Story, shell: str) -> Path:
    """The shell's own completion script."""
    path = story.site.folder / f"completion.{shell}"
    path.write_text(story.site.run("completion", shell, site=False).stdout)
    return path


ASKED = [
    ("sopctl case show BKP-", "BKP-2026-0001"),
    ("sopctl case request backup --dataset ar", "arsip"),
    ("sopctl asset show sr", "srv01"),
    ("sopctl case decide BKP-2026-0001 --as admin", "administrator"),
    ("sopctl sched", "schedule"),
]


@pytest.mark.parametrize(("typed", "offered"), ASKED)
def test_bash(story: Story, typed: str, offered: str) -> None:
    words = typed.split(" ")
    asked = f"""source {script(story, "bash")}
        COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}
        _sopctl_completion sopctl; echo "${{COMPREPLY[@]}}" """
    done = subprocess.run(
        ["bash", "--norc", "-c", asked], env=environment(story), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [offered], done.stderr


@pytest.mark.parametrize(("typed", "offered"), ASKED[:2])
def test_fish(story: Story, typed: str, offered: str) -> None:
    asked = f"source {script(story, 'fish')}; complete -C '{typed}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", asked], env=environment(story), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [offered], done.stderr


def test_zsh(story: Story) -> None:
    """Its completion needs a terminal, so somebody types into one."""
    with pexpect.spawn("zsh", ["-f"], env=environment(story), encoding="utf-8", timeout=60, cwd=story.site.root) as zsh:
        zsh.sendline("PS1='ready> '; autoload -Uz compinit; compinit -D -u")
        zsh.sendline(f"source {script(story, 'zsh')}; echo load''ed")
        zsh.expect("loaded")
        zsh.send("echo sopctl case show BKP-\x01\x04\x04\x04\x04\x04\x05\t")  # a line that begins with sopctl
        zsh.expect("BKP-2026-0001")


def test_a_tab_outside_of_a_site_complains_of_nothing(story: Story, tmp_path: Path) -> None:
    env = environment(story) | {
        "COMP_WORDS": "sopctl case show ",
        "COMP_CWORD": "3",
        "_SOPCTL_COMPLETE": "bash_complete",
    }
    env["SOPCTL_SITE"] = str(tmp_path)
    done = subprocess.run([f"{BIN}/sopctl"], env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_manual(story: Story) -> None:
    folder = story.site.folder / "man1"
    story.site.run("man", "--to", folder, site=False)
    page = folder / "sopctl.1"
    lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True, check=False)
    assert lint.returncode == 0, lint.stdout
    shown = subprocess.run(["mandoc", "-T", "utf8", page], capture_output=True, text=True, check=True).stdout
    plain = " ".join(re.sub(".\b", "", shown).split())
    assert "case request" in plain and "SOPCTL_AS" in plain


def test_alone_it_says_what_waits_for_me(story: Story) -> None:
    site = story.site
    mine = site.run(env={"SOPCTL_AS": "administrator"}).stdout
    assert "Waiting for you (administrator):" in mine
    assert "sopctl case decide BKP-2026-0001 --approve|--reject --reason R --as administrator" in mine
    others = site.run(env={"SOPCTL_AS": "pengawas"}).stdout
    assert "Nothing waits for you (pengawas)." in others and "1 case waits for others: sopctl next" in others
    assert "BKP-2026-0001: decide" in site.run().stdout
    value = json.loads(site.run("--json", env={"SOPCTL_AS": "administrator"}).stdout)
    assert [row["case"] for row in value["mine"]] == ["BKP-2026-0001"]


def test_alone_outside_of_a_site_it_shows_its_help(story: Story, tmp_path: Path) -> None:
    done = story.site.run(site=False, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "Usage: sopctl" in done.stdout + done.stderr


def test_shells_are_here() -> None:
    """Otherwise the tests above would be skipped somewhere, and nobody would notice."""
    assert all(shutil.which(name) for name in ("bash", "fish", "zsh", "mandoc")), "run make deps"


def test_a_tab_over_a_trust_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "trust").mkdir()
    (tmp_path / "sop.yml").touch()
    (tmp_path / "trust/trust.yml").write_bytes(b"people:\n  - id: kabid\n    jabatan: \xff\n")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "_SOPCTL_COMPLETE": "bash_complete"}
    env |= {"COMP_WORDS": "sopctl case decide X --as ka", "COMP_CWORD": "5", "SOPCTL_SITE": str(tmp_path)}
    done = subprocess.run([f"{BIN}/sopctl"], env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "kabid" in done.stdout and done.stderr == ""
