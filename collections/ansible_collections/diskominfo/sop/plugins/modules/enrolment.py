#!/usr/bin/python
# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Have a host check grants and remember them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: enrolment
short_description: Have a host check the site's signature before anything is changed on it
version_added: 0.1.0
description:
  - Lays down C(/etc/sop/grant-signers), the public key that grants must be signed by, and C(/var/lib/sop/used.jsonl), the
    host's own list of what was done on it. From then on the other modules refuse what that key has not signed.
  - It needs no grant, because it lays down what checks them. The server's administrator
    runs it, once.
author: sopctl contributors (@diskominfo)
extends_documentation_fragment:
  - diskominfo.sop.sop.changes
options:
  key:
    description:
      - The public half of the site's run key, the one line of C(trust/run.pub). Needed for V(present).
    type: str
  replaces:
    description:
      - Fingerprint (C(SHA256:…), as C(ssh-keygen -lf) prints it) of the key that lies there now. Another key is replaced, and
        a host is taken out again, only when this names it.
    type: str
  state:
    description:
      - V(present), the host checks grants; V(absent), it does no longer. The used-list stays in both.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Enrol the host
  diskominfo.sop.enrolment:
    key: "{{ lookup('ansible.builtin.file', '/srv/sop/site/trust/run.pub') }}"
"""

RETURN = r"""
sop_evidence:
  description: Which key this host believes now.
  returned: success
  type: dict
  sample:
    kind: enrolment
    state: present
    fingerprint: SHA256:JwHfPv9hvH8rWWhPL0yfNmpXyCwqYQ2fE7dXcVw1a2s
    before: ""
"""

import base64
import binascii
import hashlib
import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.diskominfo.sop.plugins.module_utils import grants
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.exchange import sync_folder, write_file
from ansible_collections.diskominfo.sop.plugins.module_utils.host import evidence, one_line


def fingerprint(key: str) -> str:
    """``SHA256:…`` of ``type base64``, as ssh-keygen prints it."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def plain_key(text: str | None) -> str:
    """``type base64`` of one public key line; SopError when it is anything else."""
    lines = [line for line in (text or "").splitlines() if line.strip()]
    parts = lines[0].split() if len(lines) == 1 else []
    key = " ".join(parts[:2])
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (IndexError, binascii.Error, ValueError):
        blob = b""
    size = int.from_bytes(blob[:4], "big")
    if grants.signer_key(grants.signer_line(key)) != key or blob[4 : 4 + size].decode("latin-1") != parts[0]:
        raise SopError("key: not one OpenSSH public key line; give the content of the site's trust/run.pub")
    return key


def found_key() -> str | None:
    """The key that lies there; None when the host is not enrolled. SopError when the file is not ours."""
    text = grants.read_trusted(grants.SIGNERS)
    if text is None:
        return None
    key = grants.signer_key(text)
    if key is None:
        raise SopError(f"{grants.SIGNERS} was not written by this module; look who did, then remove it by hand")
    return key


def require_named(key: str, replaces: str | None, what: str) -> None:
    """SopError unless ``replaces`` names the key that lies there."""
    if replaces != fingerprint(key):
        raise SopError(
            f"refused: this host is enrolled with the key {fingerprint(key)}; to {what} set replaces (enrol_replaces) to "
            "exactly that fingerprint"
        )


def write(line: str) -> None:
    """Lay the line down, whole or not at all."""
    folder = os.path.dirname(grants.SIGNERS)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    os.chmod(folder, 0o755)  # noqa: S103  # a public key; modules of ordinary users must see that the host is enrolled
    write_file(grants.SIGNERS, line)


def bring(params: Json, check_mode: bool) -> Json:
    """Bring the host to the wanted state."""
    if os.geteuid() != 0:
        raise SopError("refused: only root can enrol a host; set ansible_become for it")
    before = found_key()
    after = plain_key(params["key"]) if params["state"] == "present" else None
    if before is not None and before != after:
        require_named(before, params["replaces"], "replace it" if after else "take the host out")
    remembers = os.path.lexists(grants.USED)
    changed = before != after or (after is not None and not remembers)
    if changed and not check_mode:
        if after is None:
            os.unlink(grants.SIGNERS)
            sync_folder(os.path.dirname(grants.SIGNERS))
        else:
            grants.make_used_list()
            if before != after:
                write(grants.signer_line(after))
            grants.enrolled_signers()  # says what makes it unbelievable, such as a folder that others may write to
    shown = [grants.signer_line(key) if key else "" for key in (before, after)]
    lists = ["" if remembers else "no used-list\n", "" if remembers or after is not None else "no used-list\n"]
    proof = evidence(
        "enrolment",
        state=params["state"],
        fingerprint=fingerprint(after) if after else "",
        before=fingerprint(before) if before else "",
    )
    diff = {"before": shown[0] + lists[0], "after": shown[1] + lists[1]}
    return {"changed": changed, "diff": diff, "sop_evidence": proof}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "key": {"type": "str", "no_log": False},
            "replaces": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["key"])],
        supports_check_mode=True,
    )
    try:
        if module.params["replaces"] and not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", module.params["replaces"]):
            raise SopError("replaces: not a fingerprint as `ssh-keygen -lf KEY.pub` prints it (SHA256:…)")
        result = bring(module.params, module.check_mode)
    except SopError as error:
        module.fail_json(msg=one_line(error))
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or grants.SIGNERS}: {error.strerror}; nothing is believed to have changed"
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
