#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A witness of a sopctl ledger: what another administrator's machine runs behind a forced command of its sshd.

    restrict,command="python3 /opt/sop_witness.py --name kabag --key /srv/witness/key /srv/witness/ledger" ssh-ed25519 AAAA…

One file, Python 3.9 and ssh-keygen, nothing else. It keeps in its folder ``ledger.jsonl`` (the lines it was sent, only ever
appended to), ``checkpoints/`` (each checkpoint with its signature, and its own word with its own) and ``refused/`` (what did
not extend what it has: that somebody tried is evidence). It believes nothing that it has not compared with its own copy.

On standard input and output, a line of JSON each: ``{"ask": "last", "site": …}`` → ``{"size": …, "head": …}`` →
``{"checkpoint": …, "signature": …, "lines": […]}`` → ``{"word": …, "signature": …}`` or ``{"refused": …}``.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO

MAX_MESSAGE = 256 * 1024 * 1024
MAX_REFUSED = 1000  # files: who is refused must not fill the disk
SECONDS = 120
NO_LINE = "sha256:" + "0" * 64
NOTE = re.compile(r"sop-checkpoint/v1 ([0-9a-f-]{8,64})\n([1-9][0-9]{0,11})\n(sha256:[0-9a-f]{64})\n([0-9TZ:-]{20})\n")


class Refused(Exception):
    """What was sent does not extend what is kept here."""


def digest(data: bytes) -> str:
    """``sha256:<hex>``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def now() -> str:
    """This machine's time, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Witness:
    """The folder that is kept, for one site."""

    def __init__(self, folder: Path, name: str, key: Path) -> None:
        self.folder, self.name, self.key = folder, name, key
        self.ledger = folder / "ledger.jsonl"
        for made in (folder, folder / "checkpoints", folder / "refused"):
            made.mkdir(mode=0o700, exist_ok=True)
        data = self.ledger.read_bytes() if self.ledger.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) != len(data):  # a crash in the middle of a line, which nobody was told of
            os.truncate(self.ledger, len(whole))
        self.lines = whole.split(b"\n")[:-1]

    def last(self) -> dict[str, Any]:
        """How far the copy goes."""
        return {"size": len(self.lines), "head": digest(self.lines[-1]) if self.lines else NO_LINE}

    def take(self, said: dict[str, Any]) -> dict[str, Any]:
        """Append what extends, countersign, answer; what does not extend is kept aside."""
        text, signature = str(said["checkpoint"]), str(said["signature"])
        match = NOTE.fullmatch(text)
        if match is None or len(signature) > 16 * 1024:
            return {"refused": "that is no checkpoint"}
        try:
            new = self.extension(match[1], int(match[2]), match[3], said["lines"])
        except Refused as error:
            self.keep_refused(text, signature, str(error))
            return {"refused": str(error)}
        self.append(new)
        return self.countersign(text, signature, int(match[2]))

    def extension(self, site: str, size: int, head: str, sent: Any) -> list[bytes]:
        """The lines to append. Refused unless they continue the copy, and end as the checkpoint says."""
        pin = self.folder / "site"
        if not pin.exists():
            write(pin, site.encode() + b"\n")
        if pin.read_text(encoding="ascii").strip() != site:
            raise Refused("this witness keeps another site's ledger")
        new = [str(line).encode() for line in sent] if isinstance(sent, list) else []
        if size <= len(self.lines):
            if digest(self.lines[size - 1]) != head:
                raise Refused(f"line {size} is another than the one kept here: the ledger was rewritten")
            return []
        prev, number = self.last()["head"], len(self.lines)
        for raw in new:
            number += 1
            try:
                line = json.loads(raw)
                fits = line["seq"] == number and line["prev"] == prev and b"\n" not in raw
            except (ValueError, KeyError, TypeError, RecursionError):
                fits = False
            if not fits:
                raise Refused(f"line {number} does not follow line {number - 1} as it is kept here")
            prev = digest(raw)
        if (number, prev) != (size, head):
            raise Refused(f"the lines sent do not end where the checkpoint says (line {size})")
        return new

    def append(self, new: list[bytes]) -> None:
        """Onto the copy, and to the disk."""
        descriptor = os.open(self.ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(b"".join(line + b"\n" for line in new))
            stream.flush()
            os.fsync(stream.fileno())
        self.lines += new

    def countersign(self, text: str, signature: str, size: int) -> dict[str, Any]:
        """This witness's word: that this checkpoint was there, by its own clock."""
        stem = self.folder / "checkpoints" / f"{size:08d}-{digest(text.encode())[7:15]}"
        word = f"sop-witness/v1 {self.name}\n{digest(text.encode())}\n{size}\n{now()}\n".encode()
        with tempfile.TemporaryDirectory() as scratch:
            message = Path(scratch, "word")
            message.write_bytes(word)
            command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "sop-witness", "-f", str(self.key), str(message)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            own = Path(scratch, "word.sig").read_bytes()
        for ending, data in (
            (".txt", text.encode()),
            (".txt.sig", signature.encode()),
            (".word", word),
            (".word.sig", own),
        ):
            if not stem.with_name(stem.name + ending).exists():  # the first word stays: it has the earliest time
                write(stem.with_name(stem.name + ending), data)
        return {"word": word.decode(), "signature": own.decode()}

    def keep_refused(self, text: str, signature: str, reason: str) -> None:
        """What was refused, once."""
        folder = self.folder / "refused"
        path = folder / f"{digest(text.encode())[7:23]}.json"
        if not path.exists() and len(list(folder.iterdir())) < MAX_REFUSED:
            value = {"at": now(), "checkpoint": text, "reason": reason, "signature": signature}
            write(path, json.dumps(value, indent=1).encode() + b"\n")


def write(path: Path, data: bytes) -> None:
    """A new file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as stream:  # noqa: PTH123  # an fsync needs the stream
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def listen(stream: BinaryIO) -> dict[str, Any]:
    """One line of JSON; SystemExit when it is none."""
    raw = stream.readline(MAX_MESSAGE)
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        sys.exit("sop_witness: not a message of sopctl")
    return said


def answer(value: dict[str, Any]) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main() -> None:
    """One conversation."""
    parser = argparse.ArgumentParser(description="Witness of a sopctl ledger, behind sshd's forced command.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where this witness keeps its copy")
    parser.add_argument("--name", required=True, help="its name in the site's sop.yml")
    parser.add_argument("--key", required=True, type=Path, help="its own private key, without a pass phrase")
    given = parser.parse_args()
    os.umask(0o077)
    signal.alarm(SECONDS)  # who opens a connection and says nothing must not keep others out
    given.folder.mkdir(mode=0o700, exist_ok=True)
    with (given.folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        witness = Witness(given.folder, given.name, given.key)
        if listen(sys.stdin.buffer).get("ask") != "last":
            sys.exit("sop_witness: not a message of sopctl")
        answer(witness.last())
        said = listen(sys.stdin.buffer)
        if not {"checkpoint", "signature", "lines"} <= said.keys():
            sys.exit("sop_witness: not a message of sopctl")
        answer(witness.take(said))


if __name__ == "__main__":
    main()
