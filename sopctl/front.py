# SPDX-License-Identifier: Apache-2.0
"""A person's sopctl in control mode: it starts the site's own one through sudo, and signs for it with the person's key.

The *signer* signs what fits the command that the person typed, and nothing else. So the site's account never holds a
person's key, and a person never holds the account's.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sopctl import checkpoints, signing
from sopctl.control import OPTION, configured, read_message
from sopctl.errors import ConfigError, SopctlError, UsageError
from sopctl.models import CASE_PATTERN, Json

#: not looked for on the caller's PATH
SUDO = Path("/usr/bin/sudo")
RUN = ("schedule", "run")
SCAN, REVIEW = ("asset", "scan"), ("asset", "review")
RELAYED = (signal.SIGTERM, signal.SIGHUP)
_TAGMANIFEST = re.compile(rb"(?:[0-9a-f]{64} +[^\s][^\n]*\n)+")


@dataclass(frozen=True)
class Typed:
    """What the person typed, as far as it says what may be signed."""

    command: tuple[str, str]
    case: str | None
    person: str | None
    key: str | None
    rest: list[str]  # without --key: the file is the person's, and nobody else's business


def typed(words: list[str]) -> Typed:
    """Read a command line without running it."""
    values: dict[str, str] = {}
    rest: list[str] = []
    names = {"--as": "as", "--key": "key", "-C": "site", "--site": "site"}
    plain: list[str] = []
    at = 0
    while at < len(words):
        name, equals, value = words[at].partition("=")
        taken = 1
        if name in names:
            if not equals:
                value, taken = (words[at + 1] if at + 1 < len(words) else ""), 2
            values[names[name]] = value
        elif not words[at].startswith("-"):
            plain.append(words[at])
        if name != "--key":
            rest += words[at : at + taken]
        at += taken
    person = values.get("as") or os.environ.get("SOPCTL_AS")
    case = next((word for word in plain if re.fullmatch(CASE_PATTERN, word)), None)
    command = (plain[0] if plain else "", plain[1] if len(plain) > 1 else "")
    return Typed(command, case, person, values.get("key"), rest)


def objection(said: Typed, namespace: str, data: bytes) -> str:
    """Why this is not signed for what was typed; empty when it is."""
    group, verb = said.command
    if namespace == "sop-document":
        return _objection_to_document(said, data)
    fits = {
        "sop-record": bool(_TAGMANIFEST.fullmatch(data))
        and (group == "case" or said.command in {RUN, ("record", "sign"), SCAN, REVIEW}),
        "sop-checkpoint": _is_checkpoint(data)
        and (group == "case" or said.command in {RUN, ("audit", "checkpoint"), SCAN, REVIEW}),
        "sop-schedule": said.command == ("schedule", "sign"),
        "sop-register": group in {"asset", "register"} and _is_review(said, data) == (said.command == REVIEW),
    }
    if namespace not in fits:
        return f"nothing is signed in namespace {namespace!r} here"
    return "" if fits[namespace] else f"that is for namespace {namespace}, and you typed {group} {verb}".rstrip()


def _is_review(said: Typed, data: bytes) -> bool:
    """Whether this is a review of the register by the person who typed; an index is none."""
    try:
        document: Any = json.loads(data)
    except (ValueError, RecursionError):
        return False
    if not isinstance(document, dict) or document.get("schema") != "sop-review/v1":
        return False
    actor = document.get("actor")
    return said.command != REVIEW or (isinstance(actor, dict) and actor.get("person") == said.person)


def _is_checkpoint(data: bytes) -> bool:
    try:
        checkpoints.parse(data)
    except ValueError:
        return False
    return True


def _objection_to_document(said: Typed, data: bytes) -> str:
    group, verb = said.command
    try:
        document: Any = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return "that is no document"
    if said.case and document.get("case") != said.case:
        return f"that is of case {document.get('case')}, and you act on {said.case}"
    if document.get("schema") == "sop/plan/v1":
        scheduled = said.command == RUN and document.get("operation") == "backup"
        looking = said.command == SCAN and document.get("operation") == "scan" and document.get("items") == []
        fits = (
            scheduled or looking or (group == "case" and verb in {"execute", "plan", "clean"} and said.case is not None)
        )
        return "" if fits else "that is a plan, and you are executing none"
    actor = document.get("actor")
    named = actor.get("person") if isinstance(actor, dict) else None
    if said.person is None or named != said.person:
        return f"that names {named} as the one who acts, not {said.person}"
    wanted = verb if group == "case" else "execute" if said.command == RUN else ""
    if not wanted or document.get("act") != wanted:
        return f"that is the act {document.get('act')}, and you typed {' '.join(said.command)}"
    return ""


def own_keys(said: Typed, folder: Path) -> dict[str, Path]:
    """``type base64`` → file to sign with, of every key the person has at hand. Agents' keys get a public file in ``folder``."""
    given = said.key or os.environ.get("SOPCTL_KEY")
    if given:
        path = Path(given).expanduser()
        if not path.is_file():
            raise UsageError("the key file does not exist", where=f"--key {path}")
        return {_public(path): path}
    places = [Path(os.environ["SOPCTL_KEYS"]) / (said.person or "")] if "SOPCTL_KEYS" in os.environ else []
    places += [path.with_suffix("") for path in sorted(Path.home().glob(".ssh/id_*.pub"))]
    found = {_public(path): path for path in places if path.is_file() and path.with_name(f"{path.name}.pub").is_file()}
    with suppress(OSError):
        listed = subprocess.run(
            ["ssh-add", "-L"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        for number, line in enumerate(listed.stdout.splitlines() if listed.returncode == 0 else []):
            with suppress(SopctlError):  # a kind of key that nobody may sign with
                key = signing.public_line(signing.key_blob(line, "ssh-agent"))
                path = folder / f"agent-{number}.pub"
                path.write_text(f"{key}\n", encoding="ascii")
                found.setdefault(key, path)
    return found


def _public(path: Path) -> str:
    beside = path if path.suffix == ".pub" else path.with_name(f"{path.name}.pub")
    if beside.is_file():
        text = beside.read_text(encoding="utf-8", errors="replace")
    else:
        done = subprocess.run(["ssh-keygen", "-y", "-f", str(path)], stdout=subprocess.PIPE, text=True, check=False)
        text = done.stdout
    return signing.public_line(signing.key_blob(text, str(beside)))


class SignerServer:
    """Signs for the account ``uid`` what fits ``said``; tells the person what it refuses. Use as a context manager."""

    def __init__(self, said: Typed, uid: int, tell: Callable[[str], None]) -> None:
        self._said, self._uid, self._tell = said, uid, tell
        self._folder = Path(tempfile.mkdtemp(prefix="sop-sign-", dir="/tmp"))  # short, and reachable for both
        self._private = self._folder / "own"
        self._private.mkdir(mode=0o700)
        try:
            self._keys = own_keys(said, self._private)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._folder.chmod(0o711)  # the account must pass to the socket, whose name it alone is told
        self.path = self._folder / secrets.token_hex(16)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(self.path))
        self.path.chmod(0o666)  # who asks is judged by the kernel's word about the peer
        self._socket.listen(16)
        self._following: list[socket.socket] = []
        self._lock = threading.Lock()

    def __enter__(self) -> SignerServer:
        threading.Thread(target=self._serve, name="sop-signer", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def relay(self, number: int) -> None:
        """Pass a signal on to the sopctl that follows; sudo would take none from an ordinary user."""
        for connection in list(self._following):
            with suppress(OSError):
                connection.sendall(f"{int(number)}\n".encode())

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        _pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != self._uid:
            connection.close()
            return
        try:
            question = read_message(connection)
            if question.get("signals"):
                self._following.append(connection)
                return
            with self._lock:
                answer = self._answer(question)
        except SopctlError as error:
            answer = {"refused": str(error)}
        except Exception as error:  # what cannot be decided is not signed
            answer = {"refused": f"could not decide ({type(error).__name__}: {error})"}
        with suppress(OSError), connection:
            connection.sendall(json.dumps(answer).encode() + b"\n")

    def _answer(self, question: Json) -> Json:
        if question.get("keys"):
            return {"keys": list(self._keys)}
        data, namespace = base64.b64decode(question["sign"], validate=True), question["namespace"]
        why = objection(self._said, namespace, data)
        usable = [key for key in self._keys if not question.get("with") or key in question["with"]]
        if not why and not usable:
            why = "you have no such key"
        if why:
            self._tell(f"Not signed: {why}.")
            return {"refused": why}
        return {"signature": signing.sign(data, namespace, self._keys[usable[0]]).decode("ascii")}


def front(words: list[str], tell: Callable[[str], None]) -> int | None:
    """Be the front where the machine is in control mode and we are not its account: the exit code. None else."""
    control = configured()
    if control is None or os.geteuid() == control.uid or not words or {"-h", "--help", "--version"} & set(words):
        return None
    if any(word == OPTION or word.startswith(f"{OPTION}=") for word in words):
        raise UsageError(f"only {control.user}'s sopctl takes a signer", where=OPTION, hint="Leave it away.")
    said = typed(words)
    with SignerServer(said, control.uid, tell) as server:
        command = [str(SUDO), "-n", "-u", control.user, "--", control.command, OPTION, str(server.path), *said.rest]
        previous = [(number, signal.signal(number, lambda got, _frame: server.relay(got))) for number in RELAYED]
        previous.append(
            (signal.SIGINT, signal.signal(signal.SIGINT, lambda *_: None))
        )  # the terminal sends it to sudo too
        try:
            process = subprocess.Popen(command)
            code = process.wait()
        except OSError as error:
            raise ConfigError(
                f"sudo cannot be started ({error.strerror})", where=str(SUDO), hint="Install sudo."
            ) from None
        finally:
            for number, handler in previous:
                signal.signal(number, handler)
    return code if code >= 0 else 128 - code
