# SPDX-License-Identifier: Apache-2.0
"""The commands of a documentation page, run block by block in what is one shell to them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


class PageShell:
    """``steps`` names the page's ``sh`` blocks in their order; ``words`` are put in for what the page has as an example.

    ``inside`` is the argv before ``bash`` (a namespace); ``keep`` are the page's own variables.
    """

    def __init__(
        self,
        page: str,
        steps: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        words: Mapping[str, str],
        *,
        keep: str,
        inside: Sequence[str] = (),
    ) -> None:
        found = re.findall(r"^```sh\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)
        assert len(found) == len(steps), f"{page} has {len(found)} blocks"
        self.blocks = dict(zip(steps, found, strict=True))
        self.env = dict(env)
        self._words, self._inside = words, inside
        self._kept = folder / f"shell-of-{page.replace('/', '-')}"
        self._kept.write_text("set -eu\n", encoding="utf-8")
        self._save = f'{{ echo set -eu; echo "cd $PWD; umask $(umask)"; export -p; declare -p {keep}; }} >{self._kept} 2>/dev/null || true'

    def run(self, step: str, typed: str = "") -> str:
        """What a block prints; AssertionError with all output when one of its commands fails."""
        block = self.blocks[step]
        for old, new in self._words.items():
            block = block.replace(old, new)
        done = subprocess.run(
            [*self._inside, "bash", "-c", f". {self._kept}\n{block}\n{self._save}"],
            env=self.env,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, f"{step}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def variable(self, name: str) -> str:
        """What a variable of the page holds now."""
        command = ["bash", "-c", f'. {self._kept}; printf %s "${{{name}}}"']
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
