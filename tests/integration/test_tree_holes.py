"""Holes: read without reading them, and dug again."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.tree_holes import (
    data_of,
    dig_holes,
    file_digest,
    has_holes,
)

BLOCK = 4096


def pattern(seed: int) -> bytes:
    """Blocks of zeros and of something else, of odd lengths at the end."""
    chance = random.Random(seed)  # noqa: S311  (the same in every run)
    parts = []
    for _each in range(chance.randrange(1, 30)):
        size = chance.choice([1, 100, BLOCK, 3 * BLOCK, 300 * BLOCK, BLOCK + 7])
        parts.append(bytes(size) if chance.random() < 0.6 else chance.randbytes(size))
    return b"".join(parts)


@pytest.mark.parametrize("seed", range(25))
def test_digging_changes_nothing_but_the_room(tmp_path: Path, seed: int) -> None:
    data = pattern(seed)
    path = tmp_path / "f"
    path.write_bytes(data)
    os.utime(path, ns=(10**18, 10**18 + 7))
    digest = hashlib.sha256(data).hexdigest()
    assert file_digest(os.fsencode(path)) == digest
    os.sync()
    dig_holes(os.fsencode(path))
    assert path.read_bytes() == data
    assert path.stat().st_mtime_ns == 10**18 + 7
    assert file_digest(os.fsencode(path)) == digest
    blocks = [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]
    full = sum(BLOCK for block in blocks if block.strip(b"\0"))
    assert path.stat().st_blocks * 512 <= full + BLOCK * 4  # and what the file system needs to find them
    assert has_holes(os.fsencode(path), path.stat()) == (path.stat().st_blocks * 512 < len(data) >= BLOCK)


def test_a_huge_hole_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "besar"
    with path.open("wb") as stream:
        stream.truncate(1 << 43)
        stream.seek(1 << 42)
        stream.write(b"x" * BLOCK)
    with path.open("rb") as stream:
        assert list(data_of(stream.fileno(), 1 << 43)) == [(1 << 42, (1 << 42) + BLOCK)]
    assert has_holes(os.fsencode(path), path.stat())
    dig_holes(os.fsencode(path))
    assert path.stat().st_blocks * 512 < 1 << 20
