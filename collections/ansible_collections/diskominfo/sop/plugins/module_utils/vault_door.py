# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""The vault's door: who may log in now. sshd starts it on the vault's host, as an account that can do nothing else.

Module vault_server lays this very file down, so it needs nothing but Python. One line of JSON comes in, one goes out:

- ``open`` ``{server, lease, seconds, nonce, hash}`` lets a server in until ``seconds`` from now, by this host's clock. A
  server has one password at a time: where another lease of it lives, the nonce and the hash that are in force are
  answered, and those given are not taken. The same lease again is its renewal.
- ``close`` ``{server, lease}`` ends one lease. With the last one the server's line goes.
- ``look`` ``{}`` answers the servers that the door is for.

``keep`` as second argument is what its timer runs: it ends what has run out and mends the file of users.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import sys
import syslog
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
#: bytes of a request; the longest honest one has about 300
LINE = 2048
#: seconds that a lease can be asked for, whoever asks
SHORTEST, LONGEST = 5, 3600
#: leases that one server can have at a time
MOST = 32
#: bytes of the file of leases: more was not written by us
STATE = 1 << 20
#: seconds until a caller that says nothing is hung up on
PATIENCE = 20
WORDS: dict[str, str] = {
    "server": r"[a-z0-9-]{2,32}",
    "lease": r"[0-9a-f]{32}",
    "nonce": r"[0-9a-f]{32}",
    "hash": r"\{SHA\}[A-Za-z0-9+/]{27}=",
}
FIELDS: dict[str, set[str]] = {
    "open": {"server", "lease", "seconds", "nonce", "hash"},
    "close": {"server", "lease"},
    "look": set(),
}


class Refused(Exception):
    """What the caller is told in one sentence."""


@dataclass
class Open:
    """What is in force for one server; ``leases``: id → end in seconds since 1970."""

    nonce: str
    hash: str
    leases: dict[str, float] = field(default_factory=dict)


@dataclass
class Door:
    """What the configuration says: lasting users with their hashes, servers of the door, folder of what changes."""

    users: dict[str, str]
    servers: list[str]
    state: str

    @classmethod
    def load(cls, path: str) -> Door:
        """The configuration that module vault_server wrote."""
        with open(path, encoding="utf-8") as stream:
            given = json.load(stream)
        return cls(given["users"], given["servers"], given["state"])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One caller at a time."""
        descriptor = os.open(os.path.join(self.state, "lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read(self, now: float) -> dict[str, Open]:
        """What is open now. A file that is not ours opens nothing: whoever lost a lease by it asks again."""
        path = os.path.join(self.state, "leases.json")
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), encoding="utf-8") as stream:
                given = json.loads(stream.read(STATE))
            found = {
                name: Open(str(one["nonce"]), str(one["hash"]), dict(one["leases"])) for name, one in given.items()
            }
            return {name: one for name, one in found.items() if self.alive(name, one, now)}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            print(f"{path}: cannot be read ({type(error).__name__}); every lease ends now", file=sys.stderr)
            return {}

    def alive(self, name: str, one: Open, now: float) -> bool:
        """Whether a server still has a lease. One that ends later than any can was made under another clock."""
        one.leases = {lease: end for lease, end in one.leases.items() if now < end <= now + LONGEST}
        fits = all(re.fullmatch(WORDS[key], text) for key, text in (("nonce", one.nonce), ("hash", one.hash)))
        return bool(one.leases) and fits and name in self.servers

    def write(self, found: dict[str, Open]) -> None:
        """Leases first: what is broken off between the two, ``keep`` mends by them."""
        state = {name: {"nonce": one.nonce, "hash": one.hash, "leases": one.leases} for name, one in found.items()}
        self.replace("leases.json", json.dumps(state, sort_keys=True) + "\n", 0o600)
        hashes = {**self.users, **{name: one.hash for name, one in found.items()}}
        self.replace("users", "".join(f"{name}:{text}\n" for name, text in sorted(hashes.items())), 0o640)

    def replace(self, name: str, text: str, mode: int) -> None:
        """Write a file whole, where it differs. Its group is the folder's: the server reads its users by that."""
        path = os.path.join(self.state, name)
        before = 0
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), encoding="utf-8", errors="replace") as stream:
                before = os.fstat(stream.fileno()).st_mtime_ns
                if stream.read(STATE) == text and os.fstat(stream.fileno()).st_mode & 0o7777 == mode:
                    return
        except OSError:
            pass
        fresh = os.path.join(self.state, f".{name}")
        if os.path.lexists(fresh):  # left by a caller that was killed; we hold the lock
            os.unlink(fresh)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(descriptor, mode)
            # The server reads its users anew when this time is another: a file system counts in ticks of milliseconds.
            now = max(time.time_ns(), before + 1)
            os.utime(descriptor, ns=(now, now))
            os.fsync(descriptor)
        os.rename(fresh, path)
        folder = os.open(self.state, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def keep(self) -> None:
        """End what has run out, and mend the file of users."""
        with self.locked():
            self.write(self.read(time.time()))

    def answer(self, request: Json) -> Json:
        """Do what is asked. Refused says why not."""
        if request["do"] == "look":
            return {"servers": self.servers}
        name = request["server"]
        if name not in self.servers:
            lasting = " (it has a lasting password)" if name in self.users else ""
            raise Refused(f"server {name} is not one that this door is for{lasting}")
        with self.locked():
            now = time.time()
            found = self.read(now)
            done = self.open(found, request, now) if request["do"] == "open" else self.close(found, request)
            self.write(found)
        return done

    def open(self, found: dict[str, Open], request: Json, now: float) -> Json:
        """Let a server in; what is in force stays."""
        one = found.setdefault(request["server"], Open(request["nonce"], request["hash"]))
        if request["lease"] not in one.leases and len(one.leases) >= MOST:
            raise Refused(f"server {request['server']} has {MOST} leases already")
        one.leases[request["lease"]] = now + request["seconds"]
        return {"nonce": one.nonce, "hash": one.hash, "leases": len(one.leases)}

    def close(self, found: dict[str, Open], request: Json) -> Json:
        """End a lease; one that has ended is no error."""
        one = found.get(request["server"])
        if one is None:
            return {"leases": 0}
        one.leases.pop(request["lease"], None)
        if not one.leases:
            del found[request["server"]]
        return {"leases": len(one.leases)}


def _once(pairs: list[tuple[str, Any]]) -> Json:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key stands there twice")
    return dict(pairs)


def parse(line: bytes) -> Json:
    """The request. Refused unless it is exactly what the protocol knows."""
    if len(line) > LINE or not line.endswith(b"\n"):
        raise Refused(f"a request is one line of at most {LINE} bytes")
    try:
        given = json.loads(line.decode("ascii"), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise Refused("a request is one object of JSON, in ASCII") from None
    if not isinstance(given, dict) or given.get("do") not in list(FIELDS):
        raise Refused("a request does one of open, close, look")
    fields = FIELDS[given["do"]]
    if given.keys() != fields | {"do"}:
        raise Refused(f"{given['do']} takes {', '.join(sorted(fields)) or 'nothing'}")
    for name in sorted(fields):
        if name == "seconds":
            if type(given[name]) is not int or not SHORTEST <= given[name] <= LONGEST:
                raise Refused(f"seconds is a whole number from {SHORTEST} to {LONGEST}")
        elif not isinstance(given[name], str) or not re.fullmatch(WORDS[name], given[name]):
            raise Refused(f"{name} is not well-formed")
    return dict(given)


def read_line(read: Callable[[int], bytes]) -> bytes:
    """What comes, up to its line feed or one byte more than is borne."""
    line = b""
    while len(line) <= LINE and not line.endswith(b"\n"):
        more = read(LINE + 1 - len(line))
        if not more:
            break
        line += more
    return line


def main(arguments: list[str]) -> int:
    """Answer one request, or keep. 1 when the door itself is not as it must be: the vault's administrator must look."""
    os.umask(0o077)
    door = Door.load(arguments[0])
    if arguments[1:] == ["keep"]:
        door.keep()
        return 0
    signal.alarm(PATIENCE)
    request: Json = {}
    try:
        request = parse(read_line(lambda most: os.read(0, most)))
        answer = {"ok": True, **door.answer(request)}
    except Refused as error:
        answer = {"ok": False, "why": str(error)}
    except OSError as error:
        answer = {"ok": False, "why": f"the door cannot write on its host ({error.strerror})"}
    told = " ".join(str(request[key]) for key in ("do", "server", "lease", "seconds") if key in request)
    syslog.openlog("sop-vault-door", 0, syslog.LOG_AUTHPRIV)
    syslog.syslog(syslog.LOG_INFO, f"{told or 'a request that is none'}: {answer.get('why', 'done')}")
    print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
