# SPDX-License-Identifier: Apache-2.0
"""The chain of root keys: ``trust/roots/<n>.pub`` is the n-th root after the pinned one, signed by the root before it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sopctl import fsio, signing
from sopctl.errors import ConfigError, GateRefused
from sopctl.signing import BadSignature

FOLDER = "trust/roots"
EXAMPLE = 'Write: root namespaces="sop-trust" ssh-ed25519 AAAA…'
MOST = 99  # roots; a chain that long is a mistake


def parse_lines(data: bytes, where: str) -> list[str]:
    """The keys (``type base64``) of an allowed_signers file of roots; ConfigError names the line that is none."""
    keys = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split()
        kinds = [at for at, part in enumerate(parts) if part.startswith(("ssh-", "ecdsa-", "sk-"))]
        if not kinds or parts[1 : kinds[0]] not in ([], ['namespaces="sop-trust"']):  # no option is passed over unread
            raise ConfigError("not an allowed_signers line", where=f"{where}:{number}", hint=EXAMPLE)
        keys.append(signing.public_line(signing.key_blob(" ".join(parts[kinds[0] :]), f"{where}:{number}")))
    if not keys:
        raise ConfigError("holds no key", where=where, hint=EXAMPLE)
    return keys


def line_of(key: str) -> str:
    """The line to pin for ``key`` (``type base64``), and what ``trust/roots/<n>.pub`` holds."""
    return f'root namespaces="sop-trust" {key}\n'


@dataclass(frozen=True)
class Root:
    """One roll-over: the ``number``-th new root (from 1), and the digests of its two files."""

    number: int
    key: str
    signed_by: str
    root: str
    signature: str

    @property
    def ref(self) -> str:
        """How the ledger names it (kind ``root``)."""
        return f"root/{self.number}"

    @property
    def digests(self) -> dict[str, str]:
        """What the ledger keeps of it."""
        return {"root": self.root, "signature": self.signature}


@dataclass(frozen=True)
class RootChain:
    """The pinned roots and those that followed them. ``links`` are in order; the first was signed by root 0."""

    pinned: frozenset[str] = frozenset()
    links: tuple[Root, ...] = ()

    @property
    def _line(self) -> list[str]:
        return [self.links[0].signed_by, *(link.key for link in self.links)] if self.links else []

    def keys(self) -> frozenset[str]:
        """Every key that is or was a root: the pinned ones and those that follow the first of them in the chain.

        What stands before the first pinned one is not vouched for: a new root says nothing of the one it followed.
        """
        first = next((at for at, key in enumerate(self._line) if key in self.pinned), len(self._line))
        return self.pinned | set(self._line[first:])

    def in_force(self) -> frozenset[str]:
        """The keys that may sign the trust now: the newest of the chain, and pinned ones that the chain does not name."""
        return (self.pinned - set(self._line[:-1])) | set(self._line[-1:])

    def replaced(self, key: str, by: str) -> bool:
        """Whether ``by`` came to be the root after ``key``; no for one that is only pinned."""
        line = self._line
        return key in line and by in line and line.index(key) < line.index(by)

    def unseen(self, known: Mapping[str, str]) -> list[Root]:
        """The roots that the ledger does not know yet; ``known`` is its refs (``root/<n>``) → digest of ``<n>.pub``.

        GateRefused for a root that the ledger knows and that is gone or another one now.
        """
        found = {link.ref: link for link in self.links}
        for ref, digest in known.items():
            link = found.get(ref)
            if link is None or link.root != digest:
                what = "is gone" if link is None else "is not the one that was in force before"
                raise GateRefused(
                    f"{ref} {what}", where=f"{FOLDER}/{ref.removeprefix('root/')}.pub", hint="Put the file back."
                )
        return [link for ref, link in found.items() if ref not in known]


def read_chain(site_root: Path, pinned: frozenset[str], source: str) -> RootChain:
    """The chain below ``site_root``, every link checked. ``source`` says where the pin lies.

    ConfigError for a file that does not belong there, GateRefused for a link that cannot be believed; both name the file.
    """
    folder = site_root / FOLDER
    if not os.path.lexists(folder):
        return RootChain(pinned)
    if folder.is_symlink() or not folder.is_dir():
        raise ConfigError("is not a folder", where=str(folder))
    names = {path.name for path in folder.iterdir()}
    count = sum(1 for name in names if re.fullmatch(r"[0-9]+\.pub", name))
    expected = [name for number in range(1, count + 1) for name in (f"{number}.pub", f"{number}.pub.sig")]
    for name in sorted(names.difference(expected)):
        raise ConfigError(
            "does not belong to the chain of roots",
            where=str(folder / name),
            hint="It holds 1.pub, 1.pub.sig, 2.pub, 2.pub.sig …; what a broken-off roll-over left may be removed.",
        )
    links: list[Root] = []
    for number in range(1, min(count, MOST) + 1):
        links.append(_link(folder / f"{number}.pub", number, links, pinned))
    chain = RootChain(pinned, tuple(links))
    if links and not pinned.intersection(chain._line):
        raise GateRefused(
            "the chain of roots does not begin at the pinned root",
            where=str(folder / "1.pub.sig"),
            hint=f"Pinned in {source}.",
        )
    return chain


def _link(path: Path, number: int, before: list[Root], pinned: frozenset[str]) -> Root:
    """One link, signed by the root before it; or by a further pinned key, where that root was stolen."""
    data, signature = fsio.read_strict(path), fsio.read_strict(path.with_name(path.name + ".sig"))
    where = f"{path}.sig"
    keys = parse_lines(data, str(path))
    if len(keys) != 1:
        raise ConfigError("holds more than one key", where=str(path), hint="One root follows one root.")
    try:
        signed_by = signing.verify(data, signature, "sop-trust")
    except BadSignature as error:
        raise GateRefused(f"root {number}'s signature is not valid: {error}", where=where) from None
    left = {key for link in before for key in (link.key, link.signed_by)}
    if before and signed_by != before[-1].key and signed_by not in pinned - left:
        raise GateRefused(f"root {number} is not signed by root {number - 1}, which it follows", where=where)
    if keys[0] in left | {signed_by}:
        raise GateRefused(f"root {number} was a root before", where=str(path), hint="A root that was left stays left.")
    return Root(number, keys[0], signed_by, fsio.sha256_bytes(data), fsio.sha256_bytes(signature))
