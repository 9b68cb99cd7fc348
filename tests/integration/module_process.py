"""Run a module of the collection as the process that Ansible makes of it, with its arguments on standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

COLLECTIONS = Path(__file__).resolve().parents[2] / "collections"
Json = dict[str, Any]


def grant_for(operation: str, args: Json) -> Json:
    """A grant that fits ``args`` for a quarter of an hour."""
    expires = datetime.now(UTC) + timedelta(minutes=15)
    grant = {"operation": operation, "case": args["case"], "expires": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}
    grant["machine_id"] = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    if "dataset" in args:
        grant["dataset"] = args["dataset"]["id"]
    if "service" in args:
        grant["service"] = args["service"]["name"]
    for key in ("snapshot", "to"):
        if key in args:
            grant[key] = args[key]
    return grant


def start_module(name: str, args: Json, check: bool = False, python: str = sys.executable) -> subprocess.Popen[bytes]:
    """Start the module and give it its arguments; a bare grant is wrapped as the gate would, unsigned."""
    if args.get("grant") and "grant" not in args["grant"]:
        args = {**args, "grant": {"grant": args["grant"], "grant_signature": None}}
    process = subprocess.Popen(
        [python, "-m", f"ansible_collections.diskominfo.sop.plugins.modules.{name}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(COLLECTIONS),
            "LC_ALL": "C.UTF-8",
            "HOME": "/nonexistent",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": {**args, "_ansible_check_mode": check}}).encode())
    process.stdin.close()
    process.stdin = None
    return process


def finish(process: subprocess.Popen[bytes], timeout: float = 300) -> Json:
    """The module's result; fails when it printed anything but one JSON object."""
    output, errors = process.communicate(timeout=timeout)
    assert b"Traceback" not in output + errors, errors.decode()
    assert output, errors.decode()
    result: Json = json.loads(output)
    return result


def run_module(name: str, args: Json, operation: str | None = None, check: bool = False) -> Json:
    """Run the module to its end; ``operation`` adds the grant for it."""
    if operation is not None:
        args = {**args, "grant": grant_for(operation, args)}
    return finish(start_module(name, args, check))
