# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""The attributes of chattr(1) that keep even root from changing a thing: immutable and append-only."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError

#: (chattr's letter, bit of FS_IOC_SETFLAGS, which is also that of statx)
_LETTERS = (("i", 0x10), ("a", 0x20))
_ALL = 0x30
# numbers of ioctl hold the size of a C long
_WORD = struct.calcsize("l")
_GET = 0x80006601 | _WORD << 16
_SET = 0x40006602 | _WORD << 16
_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_STATX_BYTES = 256
_STATX_ATTRIBUTES = 8

_statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)


def _bits(path: bytes) -> int:
    if _statx is None:  # a C library older than any that a supported Python comes with
        return 0
    found = ctypes.create_string_buffer(_STATX_BYTES)
    if _statx(_AT_FDCWD, path, _AT_SYMLINK_NOFOLLOW, 0, found) != 0:
        number = ctypes.get_errno()
        if number == errno.ENOSYS:
            return 0
        raise OSError(number, os.strerror(number), path)
    return int(struct.unpack_from("Q", found.raw, _STATX_ATTRIBUTES)[0]) & _ALL


def flags(path: bytes) -> str:
    """ "i" immutable, "a" append-only, "ia" both, "" neither."""
    bits = _bits(path)
    return "".join(letter for letter, bit in _LETTERS if bits & bit)


def set_flags(path: bytes, wanted: str) -> None:
    """Make :func:`flags` of a file or folder be ``wanted``; SopError when it cannot be."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode) and not stat.S_ISDIR(os.lstat(path).st_mode):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            # an int is what kernels copy, whatever the number says
            (have,) = struct.unpack("I", fcntl.ioctl(descriptor, _GET, struct.pack("I", 0)))
            bits = sum(bit for letter, bit in _LETTERS if letter in wanted)
            fcntl.ioctl(descriptor, _SET, struct.pack("I", have & ~_ALL | bits))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SopError(
            f"{os.fsdecode(path)}: attributes {wanted or 'i and a'} of chattr cannot be "
            f"{'set' if wanted else 'taken away'} ({error.strerror}); run as root, on a file system that has them"
        ) from error
