# SPDX-License-Identifier: Apache-2.0
"""A host as module ``asset_facts`` saw it: every file, link, folder and program's answer, kept as one JSON file.

``python -m tests.support.recorded_host > NAME.json`` records this machine (with the collection on the path); a
:class:`RecordedHost` answers from such a file, and a test may change it before it is looked at. ``recorded`` says whether a
machine was recorded or the file was put together by hand.
"""

from __future__ import annotations

import copy
import fnmatch
import json
from pathlib import Path
from typing import Any

from ansible_collections.diskominfo.sop.plugins.module_utils.asset_look import Look, Ran

Json = dict[str, Any]
FOLDER = Path(__file__).resolve().parents[1] / "unit/hosts"


class RecordedHost(Look):
    """Answers as the recorded machine did; what was not asked then is not there."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.said: Json = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        #: (program, uid) of everything that was run
        self.ran: list[tuple[list[str], int | None]] = []

    @property
    def root(self) -> bool:
        return bool(self.said["root"])

    def text(self, path: str, what: str = "") -> str | None:
        found = self.said["files"].get(path)
        if path in self.said["closed"] and not self.root:
            if what:
                self.could_not(what, f"{path} may only be read by root")
            return None
        return None if found is None else str(found)

    def names(self, folder: str) -> list[str]:
        return list(self.said["folders"].get(folder, []))

    def find(self, pattern: str) -> list[str]:
        return sorted(path for path in self.said["files"] if fnmatch.fnmatch(path, pattern))

    def link(self, path: str) -> str | None:
        found = self.said["links"].get(path)
        return None if found is None else str(found)

    def user(self, uid: int) -> str | None:
        return dict(self.said["users"]).get(str(uid))

    def run(self, argv: list[str], uid: int | None = None) -> Ran:
        self.ran.append((argv, uid))
        code, out, err = self.said["programs"].get(" ".join(argv), [None, "", "No such file or directory"])
        return Ran(code, out, err)


class Recorder(Look):
    """This machine, remembering what was asked and answered."""

    def __init__(self) -> None:
        super().__init__()
        self.said: Json = {"files": {}, "closed": [], "folders": {}, "links": {}, "users": {}, "programs": {}}

    def text(self, path: str, what: str = "") -> str | None:
        found = super().text(path, what)
        if found is not None:
            self.said["files"][path] = found
        return found

    def names(self, folder: str) -> list[str]:
        found = super().names(folder)
        self.said["folders"][folder] = found
        return found

    def link(self, path: str) -> str | None:
        found = super().link(path)
        if found is not None:
            self.said["links"][path] = found
        return found

    def user(self, uid: int) -> str | None:
        found = super().user(uid)
        self.said["users"][str(uid)] = found
        return found

    def run(self, argv: list[str], uid: int | None = None) -> Ran:
        found = super().run(argv, uid)
        self.said["programs"][" ".join(argv)] = [found.code, found.out, found.err]
        return found

    def kept(self) -> Json:
        """What is worth keeping: of the processes, those that matter."""
        said = copy.deepcopy(self.said)
        keep = {path.split("/")[2] for path in said["files"] if path.endswith(("/cmdline", "/net/tcp"))}
        for kind in ("files", "links", "folders"):
            said[kind] = {
                path: value
                for path, value in said[kind].items()
                if not path.startswith("/proc/") or not path.split("/")[2].isdigit() or path.split("/")[2] in keep
            }
        return {"recorded": True, "root": self.root, **said}


if __name__ == "__main__":
    from ansible_collections.diskominfo.sop.plugins.module_utils.asset_gathering import gather

    recorder = Recorder()
    gather(recorder)
    print(json.dumps(recorder.kept(), indent=1, sort_keys=True))
