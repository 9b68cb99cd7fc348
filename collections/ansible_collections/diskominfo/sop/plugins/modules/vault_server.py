#!/usr/bin/python
# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Have a host serve restic repositories, append-only."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_server
short_description: Have a host serve restic repositories over TLS, append-only, a user a server
version_added: 0.1.0
description:
  - Lays down a system user, the repositories' folder, users and certificate, and a hardened unit that runs
    C(rclone serve restic --append-only --private-repos).
  - Beside it a timer runs the keeper as root, each minute. It seals each new repository (C(config) and C(keys) become
    root's), and takes write access from a server that is over its quota.
  - It needs no grant, because the vault's host belongs to another administrator than the servers that store there. That
    administrator runs it.
  - Nothing that was stored is ever removed. The folder of a user that is no longer named stays, and nobody can reach it.
author: sopctl contributors (@diskominfo)
extends_documentation_fragment:
  - diskominfo.sop.sop.changes
requirements:
  - rclone >= 1.60
  - systemd >= 247
options:
  name:
    description: Name of this vault, and of its units, its system user and its folder in C(/etc).
    type: str
    default: sop-vault
  root:
    description: Folder of the repositories. Each folder above it must be root's.
    type: path
    default: /srv/sop-vault
  listen:
    description: Address and port to serve at, as rclone takes it.
    type: str
    default: ":8000"
  certificate:
    description: The server's certificate and what it needs up to its authority, PEM.
    type: str
    required: true
  key:
    description: The certificate's private key without a pass phrase, PEM.
    type: str
    required: true
  users:
    description:
      - One user a server. Passwords are given as hashes, so that they are never on the vault's host, and the same input
        leaves the same file.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The server's asset id. Its repositories lie in the folder of that name.
        type: str
        required: true
      password_hash:
        description:
          - Hash of the password as C(openssl passwd -apr1 -stdin) or C(htpasswd -nB) prints it (APR1 or bcrypt).
          - Without one the user gets in only while the door is open for it.
        type: str
      quota:
        description: The most that this server may store, such as V(500G) (1 G is 2^30 bytes). V(0) is without limit.
        type: str
        default: "0"
  door_keys:
    description:
      - Public keys of those who may let users in that have no O(users[].password_hash), for a time. They log in as C(NAME-door)
        over SSH, and can do nothing else there.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Serve the vault
  diskominfo.sop.vault_server:
    certificate: "{{ lookup('ansible.builtin.file', 'vault01.pem') }}"
    key: "{{ lookup('ansible.builtin.file', 'vault01.key') }}"
    users:
      - name: db01
        password_hash: "{{ db01_vault_hash }}"
        quota: 500G
"""

RETURN = r"""
sop_evidence:
  description: What is served now.
  returned: success
  type: dict
  sample:
    kind: vault_server
    unit: sop-vault.service
    users: [db01, file01]
    sealed_once: true
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.host import one_line
from ansible_collections.diskominfo.sop.plugins.module_utils.vault_install import Installation


def main() -> None:
    """Entry point."""
    user = {
        "name": {"type": "str", "required": True},
        "password_hash": {"type": "str", "no_log": True},
        "quota": {"type": "str", "default": "0"},
    }
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "default": "sop-vault"},
            "root": {"type": "path", "default": "/srv/sop-vault"},
            "listen": {"type": "str", "default": ":8000"},
            "certificate": {"type": "str", "required": True},
            "key": {"type": "str", "required": True, "no_log": True},
            "users": {"type": "list", "elements": "dict", "required": True, "options": user},
            "door_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
        },
        supports_check_mode=True,
    )
    try:
        result = Installation(module.params, module.check_mode).bring()
    except SopError as error:
        module.fail_json(msg=one_line(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or 'vault_server'}: {error.strerror}; mend it and run again")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
