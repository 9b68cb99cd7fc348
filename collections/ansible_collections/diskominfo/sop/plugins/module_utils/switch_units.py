# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""What makes a switch fire with nobody there: sop-settle itself, and systemd's timer and boot unit, or a process that waits."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import zipfile

from ansible_collections.diskominfo.sop.plugins.module_utils import holds
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.exchange import sync_folder, write_file
from ansible_collections.diskominfo.sop.plugins.module_utils.switch import Switch

PACKAGE = __name__.rpartition(".")[0]
MAIN = f"import sys\nfrom {PACKAGE}.settle import main\nsys.exit(main(sys.argv[1:]))\n"
WANTS = os.path.join(holds.UNITS, "multi-user.target.wants")
#: seconds that settling may take at boot before systemd gives up on it (a database may be replaying its log)
BOOT_LIMIT = 1800


def archive() -> bytes:
    """``sop-settle`` as one file: the code of this collection that is running, byte for byte, and nothing else."""
    names = sorted(name for name in sys.modules if name.startswith(PACKAGE + "."))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as pack:

        def add(path: str, text: str) -> None:
            pack.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), text)

        parts = PACKAGE.split(".")
        for depth in range(1, len(parts) + 1):
            add("/".join([*parts[:depth], "__init__.py"]), "")
        for name in names:
            spec = importlib.util.find_spec(name)
            source = spec.loader.get_source(name) if spec is not None and spec.loader is not None else None  # type: ignore[attr-defined]  # both loaders that can be here have it
            if spec is None or source is None:
                raise SopError(f"{name}: its source cannot be read, so sop-settle cannot be laid down; report this")
            path = name.replace(".", "/")
            add(f"{path}/__init__.py" if spec.submodule_search_locations is not None else f"{path}.py", source)
        add("__main__.py", MAIN)
    return b"#!" + sys.executable.encode() + b"\n" + made.getvalue()


def settle_path(switch: Switch) -> str:
    """Where ``sop-settle`` of this switch lies."""
    return os.path.join(switch.folder, "sop-settle")


def _unit(switch: Switch, kind: str) -> str:
    return {"fire": f"sop-settle-{switch.name}.service", "timer": f"sop-settle-{switch.name}.timer"}.get(
        kind, f"sop-settle-{switch.name}-boot.service"
    )


def secrets_path(switch: Switch) -> str:
    """Passwords of the case's databases: in memory, root's, gone after a restart."""
    return os.path.join(holds.HOLDS, f"secrets-{switch.name}.json")


def write_secrets(switch: Switch, secrets: Json) -> None:
    """Keep what the engines need to log in, where they need anything."""
    needed = {key: value for key, value in secrets.items() if value}
    if not needed:
        return
    if not _is_memory(holds.HOLDS):
        return  # an ordinary user's host: the switch says that it cannot reach the data
    write_file(secrets_path(switch), json.dumps(needed), 0o600)


def _is_memory(path: str) -> bool:
    """Whether ``path`` lies in memory, so that a secret there is on no disk."""
    if os.geteuid() != 0:
        return False
    os.makedirs(path, mode=0o755, exist_ok=True)
    best, kind = "", ""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            words = line.split()
            point, found = words[4], words[words.index("-") + 1]
            if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
                best, kind = point, found
    return kind in {"tmpfs", "ramfs"}


def read_secrets(switch: Switch) -> Json:
    """What :func:`write_secrets` kept; ``{}`` when there is nothing (any more)."""
    try:
        with open(secrets_path(switch), encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_program(switch: Switch) -> None:
    path, data = settle_path(switch), archive()
    with contextlib.suppress(OSError), open(path, "rb") as stream:
        if stream.read() == data:
            return
    fresh = path + ".new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o700)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(fresh, path)
    sync_folder(switch.folder)


def lay_down(switch: Switch, units: list[str], seconds: float) -> str:
    """Have the switch fire in ``seconds``; returns what waits: "systemd" or "process". Repeating it begins anew."""
    _write_program(switch)
    if not holds.has_systemd():
        _start_process(switch)
        return "process"
    command = f"{sys.executable} {settle_path(switch)}"
    head = f"[Unit]\nDescription=Dead man's switch of {switch.case} (diskominfo.sop)\n"
    # not before sockets, timers and paths: basic.target waits for those and we wait for it, and so does the database. What
    # they trigger waits for us.
    services = [unit for unit in units if not unit.endswith((".socket", ".path", ".timer"))]
    before = f"Before={' '.join(services)}\n" if services else ""
    made = {
        "fire": f"{head}\n[Service]\nType=oneshot\nExecStart={command} --fire {switch.case}\nTimeoutStartSec=infinity\n",
        "timer": f"{head}\n[Timer]\nOnActiveSec={seconds:.1f}s\nAccuracySec=100ms\nUnit={_unit(switch, 'fire')}\n",
        "boot": f"{head}After=local-fs.target\n{before}\n[Service]\nType=oneshot\nExecStart={command} --boot {switch.case}\n"
        f"TimeoutStartSec={BOOT_LIMIT}\n\n[Install]\nWantedBy=multi-user.target\n",
    }
    for kind, text in made.items():
        write_file(os.path.join(holds.UNITS, _unit(switch, kind)), text)
    holds.lay_down(units)
    os.makedirs(WANTS, exist_ok=True)
    link = os.path.join(WANTS, _unit(switch, "boot"))
    if not os.path.islink(link):
        os.symlink(f"../{_unit(switch, 'boot')}", link)
    sync_folder(WANTS)
    holds.systemctl("daemon-reload")
    holds.systemctl("restart", _unit(switch, "timer"))
    return "systemd"


def fire(switch: Switch) -> None:
    """Have systemd run what the timer runs, without waiting for it."""
    if holds.has_systemd():
        holds.systemctl("start", "--no-block", _unit(switch, "fire"), check=False)


def _start_process(switch: Switch) -> None:
    """A process that outlives us and waits; it ends by itself once nothing is to be settled."""
    subprocess.Popen(
        [sys.executable, settle_path(switch), "--watch", switch.case],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", "HOME": os.path.expanduser("~")},
        start_new_session=True,
    )


def take_up(switch: Switch, units: list[str], own: str | None = None) -> None:
    """Take away all that :func:`lay_down` and the holds left, and the secrets; the journal stays.

    ``own``: the kind of unit ("fire", "boot") that we run in, which systemd forgets by itself.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(secrets_path(switch))
    if holds.has_systemd():
        timer = os.path.join(holds.UNITS, _unit(switch, "timer"))
        if own is None and os.path.exists(timer):
            holds.systemctl("stop", _unit(switch, "timer"), check=False)
        found = holds.take_up(units)
        paths = [os.path.join(holds.UNITS, _unit(switch, kind)) for kind in ("timer", "fire", "boot")]
        for path in [*paths, os.path.join(WANTS, _unit(switch, "boot"))]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
                found = True
        if found:
            holds.systemctl("daemon-reload")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(settle_path(switch))
