"""Pipes that a dump passes through hold a megabyte where the kernel allows it; where it does not, nothing fails."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ansible_collections.diskominfo.sop.plugins.module_utils.pipes import ROOM, widen


def test_a_pipe_is_widened() -> None:
    allowed = int(Path("/proc/sys/fs/pipe-max-size").read_text(encoding="ascii"))
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb"):
        before = fcntl.fcntl(reading, fcntl.F_GETPIPE_SZ)
        widen(stream)
        after = fcntl.fcntl(reading, fcntl.F_GETPIPE_SZ)
    assert after == (ROOM if allowed >= ROOM or os.geteuid() == 0 else before)


def test_what_is_no_pipe_is_left_alone(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as stream:
        widen(stream)
        stream.write(b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
