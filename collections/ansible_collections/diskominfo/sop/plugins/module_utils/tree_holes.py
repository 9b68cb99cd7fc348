# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Files with holes: read without reading the holes, and made again where older restic has filled them with zeros."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import stat
from collections.abc import Iterator

_CHUNK = 1 << 20
#: the smallest hole that is dug: the block of common file systems
_BLOCK = 4096
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01

_libc = ctypes.CDLL(None, use_errno=True)
#: with 64 bit offsets on every machine
_fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate


def data_of(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the parts of a file that are not holes; all of it where the file system does not say."""
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            start, end = position, size
        yield start, min(end, size)
        position = end


def has_holes(path: bytes, found: os.stat_result) -> bool:
    """Whether the regular file takes less room than its size because of holes (not because it is small or packed)."""
    if found.st_blocks * 512 >= found.st_size or found.st_size < _BLOCK:
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return list(data_of(descriptor, found.st_size)) != [(0, found.st_size)]
    finally:
        os.close(descriptor)


def file_digest(path: bytes) -> str:
    """SHA-256 of a file's bytes. Holes are counted as the zeros they are, but not read."""
    digest = hashlib.sha256()
    zeros = bytes(_CHUNK)
    with open(path, "rb", buffering=0) as stream:
        found = os.fstat(stream.fileno())
        sparse = stat.S_ISREG(found.st_mode) and found.st_blocks * 512 < found.st_size
        position = 0
        for start, end in list(data_of(stream.fileno(), found.st_size)) if sparse else []:
            _zeros(digest, start - position, zeros)
            position = start
            stream.seek(start)
            while position < end and (chunk := stream.read(min(_CHUNK, end - position))):
                digest.update(chunk)
                position += len(chunk)
        if sparse:
            _zeros(digest, found.st_size - position, zeros)
            position = found.st_size
            stream.seek(position)
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _zeros(digest: hashlib._Hash, count: int, zeros: bytes) -> None:
    for _each in range(count // len(zeros)):
        digest.update(zeros)
    digest.update(zeros[: count % len(zeros)])


def dig_holes(path: bytes) -> None:
    """Give the blocks of zeros in a file back to its file system; times stay. Does nothing where there are no holes."""
    found = os.stat(path, follow_symlinks=False)
    dug = False
    with open(path, "r+b", buffering=0) as stream:
        for start, end in list(data_of(stream.fileno(), found.st_size)):
            for begin, finish in _zero_runs(stream.fileno(), start - start % _BLOCK, end):
                # the last block of a file is given back only when the hole ends with the block
                length = (-(-finish // _BLOCK) * _BLOCK if finish == found.st_size else finish) - begin
                if _fallocate(stream.fileno(), _PUNCH_HOLE_KEEP_SIZE, ctypes.c_int64(begin), ctypes.c_int64(length)):
                    return
                dug = True
    if dug:
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def _zero_runs(descriptor: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the runs of blocks of zeros; a block at the end may be a part of one."""
    zeros = bytes(_CHUNK)
    run = position = start
    while position < end:
        chunk = os.pread(descriptor, min(_CHUNK, end - position), position)
        if not chunk:
            break
        if chunk != zeros:  # the usual hole is large
            for offset in range(0, len(chunk), _BLOCK):
                block = chunk[offset : offset + _BLOCK]
                if block != zeros[: len(block)]:
                    if position + offset > run:
                        yield run, position + offset
                    run = position + offset + len(block)
        position += len(chunk)
    if position > run:
        yield run, position
