# SPDX-License-Identifier: Apache-2.0
"""Telling a witness of a checkpoint: over ssh, by a push to a protected git repository, or by mail."""

from __future__ import annotations

import json
import os
import shlex
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sopctl import checkpoints, clock, fsio, loading, signing
from sopctl.checkpoints import Checkpoint, Word
from sopctl.errors import ConfigError, EvidenceError, SopctlError
from sopctl.settings import Witness

SECONDS = 60  # for one witness, whatever it does
MAX_ANSWER = 1024 * 1024


class NoAnswer(SopctlError):  # names what happened
    """The witness could not be told: later."""

    what = "witness"


class Contradicted(EvidenceError):  # names what happened
    """The witness holds other lines than this ledger."""


@dataclass(frozen=True)
class Told:
    """What a witness is told: a checkpoint, its signature, and the ledger's lines up to it."""

    site_root: Path
    state: Path  # where what helps to tell it is kept; safe to lose
    checkpoint: Checkpoint
    signature: bytes
    lines: Sequence[bytes]
    password: str | None = None


def check(entries: Sequence[Witness], where: str) -> None:
    """ConfigError unless each entry of sop.yml's ``witnesses`` says what its kind needs."""
    names: set[str] = set()
    for one in entries:
        place = f"{where}.{one.name}"
        loading.check_id(one.name, place)
        if one.name in names:
            raise ConfigError(f"witness {one.name!r} stands there twice", where=where)
        names.add(one.name)
        for key in one.keys:
            signing.key_blob(key, f"{place}.keys")
        needed = {"ssh": ("keys", "host_key"), "git": (), "mail": ("sender",)}[one.kind]
        for key in needed:
            if not getattr(one, key):
                raise ConfigError(
                    f"a witness of kind {one.kind} needs {key!r}", where=place, hint="docs/how-to/witness.md"
                )
        if one.kind != "ssh" and one.keys:
            raise ConfigError(f"a witness of kind {one.kind} signs nothing and has no keys", where=f"{place}.keys")
        if one.to.startswith("-") or not one.to.isprintable():
            raise ConfigError(f"{one.to!r} is no address", where=f"{place}.to")


def keys_of(entries: Sequence[Witness]) -> dict[str, list[str]]:
    """Name → the keys that it signs with, ``type base64``; none for those that sign nothing."""
    return {one.name: [signing.public_line(signing.key_blob(key, one.name)) for key in one.keys] for one in entries}


def tell(witness: Witness, told: Told) -> tuple[bytes, bytes | None]:
    """The witness's word and its signature (None: it signs nothing, the word is our note).

    NoAnswer when it could not be told; Contradicted when it holds other lines.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="sop-witness-") as scratch:
            if witness.kind == "ssh":
                return _ssh(witness, told, _ssh_command(witness, told.site_root, Path(scratch)))
            if witness.kind == "git":
                _git(witness, told, _ssh_command(witness, told.site_root, Path(scratch)))
            else:
                _mail(witness, told)
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        raise no_answer(witness, " ".join(str(error).split())[:300] or type(error).__name__) from None
    note = Word(witness.name, fsio.sha256_bytes(told.checkpoint.data), told.checkpoint.size, clock.now(), signed=False)
    return note.data, None


def no_answer(witness: Witness, why: str) -> NoAnswer:
    """That the witness could not be told, and why."""
    return NoAnswer(
        f"could not be told ({why})", where=witness.name, hint="Nothing is lost: the next command asks again"
    )


def _contradicted(witness: Witness, meaning: str) -> Contradicted:
    return Contradicted(
        meaning,
        where=f"witness {witness.name}",
        hint="Compare with its copy: sopctl audit verify --witness FOLDER (docs/how-to/witness.md#other-lines).",
    )


# --- ssh -------------------------------------------------------------------------------------------------------


def _ssh_command(witness: Witness, site_root: Path, scratch: Path) -> list[str]:
    command = ["ssh", "-T", "-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
    command += ["-o", "ServerAliveInterval=10", "-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=none"]
    if witness.host_key:
        known = scratch / "known_hosts"
        known.write_text(f"* {' '.join(witness.host_key.split()[:2])}\n", encoding="ascii")
        command += ["-o", f"UserKnownHostsFile={known}"]
    if witness.identity:
        command += ["-o", "IdentitiesOnly=yes", "-i", str(site_root / witness.identity)]
    if witness.port:
        command += ["-p", str(witness.port)]
    return command


def _ssh(witness: Witness, told: Told, ssh: list[str]) -> tuple[bytes, bytes]:
    talk = subprocess.Popen(
        [*ssh, "--", witness.to], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    timer = threading.Timer(SECONDS, talk.kill)
    timer.start()
    try:
        assert talk.stdin and talk.stdout and talk.stderr  # noqa: S101  # three pipes were asked for
        said: dict[str, Any] = {}
        try:
            _say(talk.stdin, {"ask": "last", "site": told.checkpoint.site})
            last = _hear(talk.stdout.readline(MAX_ANSWER))
            known = min(int(last["size"]), len(told.lines))
            signature = told.signature.decode("ascii")
            new = [line.decode() for line in told.lines[known:]]
            _say(talk.stdin, {"checkpoint": told.checkpoint.data.decode(), "signature": signature, "lines": new})
            said = _hear(talk.stdout.readline(MAX_ANSWER))
        except (OSError, ValueError, KeyError, TypeError):
            talk.kill()
            words = talk.stderr.read(4096).decode("utf-8", "replace").strip().splitlines()[-1:]
            raise no_answer(witness, words[0] if words else "it broke off") from None
        if "refused" in said:
            raise _contradicted(witness, f"refused the checkpoint over {told.checkpoint.size} lines: {said['refused']}")
        return _believed(witness, told, str(said["word"]).encode(), str(said["signature"]).encode())
    finally:
        timer.cancel()
        talk.kill()
        talk.communicate()


def _believed(witness: Witness, told: Told, data: bytes, signature: bytes) -> tuple[bytes, bytes]:
    """The witness's word when it is about this checkpoint and signed with its key. NoAnswer else."""
    word = checkpoints.parse_word(data)
    if (word.witness, word.checkpoint) != (witness.name, fsio.sha256_bytes(told.checkpoint.data)) or not word.signed:
        raise no_answer(witness, "its word is about something else")
    try:
        key = signing.verify(data, signature, "sop-witness")
    except signing.BadSignature as error:
        raise no_answer(witness, str(error)) from None
    if key not in keys_of([witness])[witness.name]:
        raise no_answer(witness, f"it signed with {signing.fingerprint(key)}, which sop.yml does not name")
    return data, signature


def _say(stream: Any, value: dict[str, Any]) -> None:
    stream.write(json.dumps(value).encode() + b"\n")
    stream.flush()


def _hear(raw: bytes) -> dict[str, Any]:
    value = json.loads(raw)
    if not isinstance(value, dict):
        raise ValueError("not an answer")
    return value


# --- git -------------------------------------------------------------------------------------------------------

#: a branch of its own, on which it is tried whether the remote lets history be rewritten
PROBE = "refs/heads/sop-probe"
_PROTECTED = "sop-protected"  # in our clone: it was tried, and it held


class _Repository:
    """Our bare clone, and the remote."""

    def __init__(self, witness: Witness, told: Told, ssh: list[str]) -> None:
        self.witness, self.path = witness, told.state / f"{witness.name}.git"
        who = {f"GIT_{role}_{what}": "sopctl" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        self.env = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "SSH_AUTH_SOCK") if name in os.environ},
            **who,
            "LC_ALL": "C.UTF-8",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_SSH_COMMAND": shlex.join(ssh),
        }
        self.remote = str(told.site_root / witness.to) if witness.to.startswith(".") else witness.to

    def run(self, *words: str, given: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            ["git", "-C", str(self.path), *words],
            input=given,
            env=self.env,
            capture_output=True,
            check=False,
            timeout=SECONDS,
        )
        if check and done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise no_answer(self.witness, f"git {words[0]}: {said[-1] if said else done.returncode}")
        return done

    def out(self, *words: str, given: bytes = b"") -> str:
        return self.run(*words, given=given).stdout.decode("ascii", "replace").strip()

    def commit(self, files: Mapping[str, bytes], parent: str | None, message: str) -> str:
        """A commit of these files."""
        blobs = {name: self.out("hash-object", "-w", "--stdin", given=data) for name, data in files.items()}
        tree = self.out("mktree", given="".join(f"100644 blob {blobs[name]}\t{name}\n" for name in blobs).encode())
        return self.out("commit-tree", tree, *(["-p", parent] if parent else []), "-m", message)

    def require_protected(self) -> None:
        """NoAnswer when the remote lets a branch be rewritten or deleted: then it proves nothing."""
        first, other = (self.commit({"probe": text}, None, "probe") for text in (b"one\n", b"other\n"))
        there = self.out("ls-remote", self.remote, PROBE).split()
        if not there:
            self.run("push", "-q", self.remote, f"{first}:{PROBE}")
        rewriting = f"+{other if not there or there[0] == first else first}:{PROBE}"
        for what, option in ((rewriting, "denyNonFastForwards"), (f":{PROBE}", "denyDeletes")):
            if self.run("push", "-q", self.remote, what, check=False).returncode == 0:
                raise no_answer(self.witness, f"the remote lets branches be rewritten; set receive.{option} true there")


def forget_probe(witness: Witness, state: Path) -> None:
    """Have it tried anew whether the remote of a git witness lets history be rewritten."""
    (state / f"{witness.name}.git" / _PROTECTED).unlink(missing_ok=True)


def _git(witness: Witness, told: Told, ssh: list[str]) -> None:
    repository = _Repository(witness, told, ssh)
    if not repository.path.exists():
        told.state.mkdir(parents=True, exist_ok=True)
        repository.path.mkdir()
        repository.run("init", "-q", "--bare")
    ready = repository.path / _PROTECTED
    if not ready.exists():
        repository.require_protected()
        ready.touch()
    branch, size = f"refs/heads/ledger-{told.checkpoint.site}", told.checkpoint.size
    ours = b"".join(line + b"\n" for line in told.lines)
    parent = next(iter(repository.out("ls-remote", repository.remote, branch).split()), None)
    if parent:
        repository.run("fetch", "-q", "--no-tags", repository.remote, branch)
        theirs = repository.run("cat-file", "blob", f"{parent}:ledger.jsonl").stdout
        if theirs.startswith(ours):
            return
        if not ours.startswith(theirs):
            raise _contradicted(witness, f"holds other lines than this ledger's first {size}")
    files = {"checkpoint.txt": told.checkpoint.data, "checkpoint.txt.sig": told.signature, "ledger.jsonl": ours}
    made = repository.commit(files, parent, f"{size} lines, {told.checkpoint.head}")
    repository.run("push", "-q", repository.remote, f"{made}:{branch}")


# --- mail ------------------------------------------------------------------------------------------------------


def _mail(witness: Witness, told: Told) -> None:
    import smtplib  # its errors are OSErrors
    from email.message import EmailMessage

    point = told.checkpoint
    message = EmailMessage()
    message["From"], message["To"] = witness.sender or "", witness.to
    message["Subject"] = f"sopctl checkpoint {point.size} {point.site}"
    message["Date"] = clock.parse(point.at)
    text = (
        "Keep this mail: it shows how far the ledger of a backup SOP had come, and nobody can shorten or rewrite it\n"
        "up to there without contradicting this mail. Save it as a file and compare:\n"
        f"sopctl audit verify --witness FILE\n\n{point.data.decode()}\n{told.signature.decode()}"
    )
    message.set_content(text, cte="7bit")
    host, _, port = witness.server.partition(":")
    context = ssl.create_default_context()
    kind = smtplib.SMTP_SSL if witness.tls == "tls" else smtplib.SMTP
    more: dict[str, Any] = {"context": context} if witness.tls == "tls" else {}
    default = {"none": 25, "starttls": 587, "tls": 465}[witness.tls]
    with kind(host, int(port or default), timeout=SECONDS / 3, **more) as server:
        if witness.tls == "starttls":
            server.starttls(context=context)
        if witness.user:
            server.login(witness.user, told.password or "")
        server.send_message(message)
