# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Options that the collection's modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation of shared options; the options themselves are in C(module_utils/host.py)."""

    DOCUMENTATION = r"""
options: {}
requirements:
  - Python >= 3.9
notes:
  - Every changing call takes the dataset's lock on the managed host and checks its grant before and after.
  - The result carries the evidence that records and forms are filled from as RV(ignore:sop_evidence).
"""

    GATE = r"""
options:
  grant:
    description:
      - What the signatures allow, and the run key's signature over it (C(grant), C(grant_signature)). The module's action
        plugin puts it in; a playbook never sets it. A host that is enrolled checks the signature.
      - Without it the module refuses, except in check mode.
    type: dict
"""

    CASE = r"""
options:
  case:
    description: Id of the case or standing order that this call belongs to, such as V(RST-2026-0001).
    type: str
    required: true
"""

    DATASET = r"""
options:
  dataset:
    description:
      - The dataset as the plan describes it.
      - C(id) and C(engine) (V(postgresql), V(sqlite) or V(files)) are always there.
      - C(path) for V(sqlite) and V(files); C(database) and C(connection) for V(postgresql).
      - C(state_dir) is where locks, journals and scratch copies lie, by default C(/var/lib/sop).
    type: dict
    required: true
"""

    VAULT = r"""
options:
  vault:
    description:
      - The vault, with C(repository), C(password), and where needed C(ca_pem), C(s3_key), C(aliases), C(restic) and C(lock_wait).
      - The module's action plugin puts it in; a playbook never sets it.
    type: dict
requirements:
  - restic >= 0.14
"""

    SECRETS = r"""
options:
  secrets:
    description:
      - Secrets of the dataset, such as C(db_password). The module's action plugin puts them in.
    type: dict
    default: {}
"""

    SNAPSHOT = r"""
options:
  snapshot:
    description: Id of the planned dump in the vault, 64 hexadecimal digits.
    type: str
    required: true
  manifest_snapshot:
    description: Id of that dump's manifest in the vault, 64 hexadecimal digits.
    type: str
    required: true
"""

    CHANGES = r"""
attributes:
  check_mode:
    description: Can run in check mode and says what it would do, without changing the host or the vault.
    support: full
  diff_mode:
    description: Says in diff mode what it changed.
    support: full
"""

    READS = r"""
attributes:
  check_mode:
    description: Reads only, so that check mode does the same.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""
