# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Dropping what a restore has set aside: only what was ordered by name, only of this restore, only beside live data."""

from __future__ import annotations

from contextlib import suppress

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Engine, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.engines import load_engine
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import Journal
from ansible_collections.diskominfo.sop.plugins.module_utils.switch import LIVE, Switch
from ansible_collections.diskominfo.sop.plugins.module_utils.switch_units import settle_path

#: state of the dataset for the case → which copy is beside the live data
COPIES = {"swapped": "before", "staged": "shadow"}


class Cleaning:
    """What the case of ``switch`` has set aside beside one dataset on this host. ``name`` is the dataset's, for messages."""

    def __init__(self, engine: Engine, switch: Switch, name: str, journal: Journal, snapshot: str) -> None:
        self.engine, self.case, self.name = engine, switch.case, name
        self.switch, self.journal, self.snapshot = switch, journal, snapshot
        self.copy = COPIES.get(engine.state(switch.case), "")

    def beside(self) -> Json | None:
        """The copy that is there, {"copy", "name", "bytes"}; None when there is none. Bytes are None where unknown."""
        if self.copy == "before":
            return {"copy": "before", "name": self.engine.before_name(self.case), "bytes": self._before_bytes()}
        if self.copy == "shadow":
            return {"copy": "shadow", "name": self.engine.shadow_name(self.case), "bytes": self._shadow_bytes()}
        return None

    def _before_bytes(self) -> int | None:
        with suppress(SopError):  # no restore fails for a size
            return self.engine.kept_bytes(self.case)
        return None

    def _shadow_bytes(self) -> int | None:
        """A staged copy is a dataset of its own name; one that is closed may not tell its size."""
        shadow = self.engine.shadow_name(self.case)
        place = "database" if "database" in self.engine.dataset else "path"
        with suppress(SopError):
            return int(load_engine({**self.engine.dataset, place: shadow}, self.engine.secrets).describe()["bytes"])
        return None

    def require(self, ordered: list[Json]) -> None:
        """SopError unless what is there is what was ordered to go, came of the planned restore, and is not needed."""
        found = self.beside()
        if found is None:
            return
        if (found["copy"], found["name"]) not in [(each.get("copy"), each.get("name")) for each in ordered]:
            raise SopError(
                f"{self.name}: {found['name']} is kept here, which nobody ordered to be dropped; nothing was dropped, look "
                "at the data"
            )
        written = (self.journal.read() or {}).get("snapshot")
        if written != self.snapshot:
            raise SopError(
                f"{self.name}: {found['name']} came of "
                + (f"another restore (snapshot {str(written)[:12]})" if written else "a restore that this host forgot")
                + f", not of {self.case} as it is recorded; nothing was dropped, look whose it is"
            )
        if not self.engine.describe()["exists"]:
            raise SopError(
                f"{self.name}: there is no live data under its own name, so {found['name']} may be all there is; nothing "
                "was dropped"
            )
        self._require_switch_over()

    def _require_switch_over(self) -> None:
        phase = self.switch.phase
        if phase in LIVE:
            raise SopError(
                f"{self.name}: the dead man's switch of {self.case} is {phase} here and may still need the old data; nothing "
                f"was dropped, see: {settle_path(self.switch)} {self.case} --status"
            )

    def drop(self) -> None:
        """Drop it, or the rest of what a killed run was dropping. Idempotent; SopError when something is left."""
        if self.copy == "shadow":
            self.engine.discard(self.case)
        else:
            self.engine.drop_kept(self.case)
        left = self.engine.state(self.case)
        if left != "absent":
            raise SopError(f"{self.name}: is still {left} for {self.case} after dropping; look at the data, run again")
        self.journal.remove()  # last: without it nobody knows whose a copy is
