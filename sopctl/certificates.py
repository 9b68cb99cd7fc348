# SPDX-License-Identifier: Apache-2.0
"""Officials' certificates and the CAs above them, written into ``trust/trust.yml``, which the root holder signs afterwards."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec

from sopctl import clock, fsio, pem
from sopctl.bootstrap import read_unsigned, write_trust
from sopctl.errors import UsageError
from sopctl.models import Anchor, Certificate, TrustFile
from sopctl.pem import CertificateFacts
from sopctl.people import Edited, find, put_back
from sopctl.site import Site

_SIGNING = {"non_repudiation", "digital_signature"}


def pin(site: Site, person_id: str, path: Path, days: int) -> Edited:
    """Write down the person's certificate (PEM or DER): it holds from now for ``days``. UsageError when it is not one by which
    a person signs, or somebody else's."""
    file, person = find(site, person_id)
    found = _read(path, "CERTIFICATE")
    if len(found) != 1:
        raise UsageError(f"holds {len(found)} certificates", where=str(path), hint="Give the person's own, alone.")
    one = found[0]
    if one.ca or not _SIGNING & set(one.kinds):
        raise UsageError(
            f"{one.subject} is {'a CA' if one.ca else 'not for signing'}",
            where=str(path),
            hint="Give the person's own.",
        )
    holders = {other.id for other in file.people for held in other.certificates if held.sha256 == one.digest}
    if holders - {person_id}:
        raise UsageError(f"the certificate is {holders.pop()}'s", where=str(path), hint="Each person has their own.")
    if any(held.sha256 == one.digest and held.revoked for held in person.certificates):
        raise UsageError("the certificate was revoked here", where=str(path), hint="Have the CA issue a new one.")
    now = clock.now()
    new = Certificate(one.digest, now, clock.plus(now, days=days), one.subject, one.serial)
    kept = [held for held in person.certificates if held.sha256 != one.digest]
    kept += [
        msgspec.structs.replace(held, until=max(held.until, new.until)) if held.since <= now <= held.until else held
        for held in person.certificates
        if held.sha256 == one.digest
    ]
    if not any(held.sha256 == one.digest and held.since <= now <= held.until for held in kept):
        kept.append(new)
    lines = [f"{person_id} signs papers with {one.digest} ({one.subject}, serial {one.serial})"]
    return Edited(put_back(site, file, msgspec.structs.replace(person, certificates=kept)), lines)


def add_anchors(site: Site, path: Path) -> Edited:
    """Write down the CA certificates of ``path`` (PEM) as those that signed papers must lead to."""
    file: TrustFile = read_unsigned(site)
    anchors = list(file.papers.anchors)
    lines = []
    for one in _read(path, "FILE"):
        if not one.ca:
            raise UsageError(f"{one.subject} is no CA's certificate", where=str(path), hint="Give the CA's, as PEM.")
        text = base64.b64encode(one.der).decode("ascii")
        if text not in {known.certificate for known in anchors}:
            anchors.append(Anchor(text, one.subject))
            lines.append(f"signed papers may lead to {one.subject} ({one.digest})")
    if not lines:
        raise UsageError("these CAs stand in the trust already", where=str(path))
    papers = msgspec.structs.replace(file.papers, anchors=anchors)
    return Edited(write_trust(site.root, msgspec.structs.replace(file, papers=papers)), lines)


def _read(path: Path, word: str) -> list[CertificateFacts]:
    if not path.is_file():
        raise UsageError("the certificate file does not exist", where=f"{word} {path}")
    try:
        return pem.certificates(fsio.read_strict(path))
    except ValueError as error:
        raise UsageError(str(error), where=str(path), hint="Give a certificate as PEM or DER.") from None
