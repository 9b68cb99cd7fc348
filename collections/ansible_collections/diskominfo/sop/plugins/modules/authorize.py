#!/usr/bin/python
# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Documentation of the action plugin of the same name, which does all the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: authorize
short_description: Ask the gate about the whole play
version_added: "0.1.0"
description:
  - First task of every changing playbook. Asks the live sopctl whether this play may run on exactly these hosts.
  - Refuses the whole fleet early; each changing module asks again with its own arguments.
  - Runs on the controller and opens no connection.
options:
  case:
    description: The case that the play belongs to.
    type: str
    required: true
  playbook:
    description: What the play does.
    type: str
    choices: [backup, clean, plan, restore]
    required: true
attributes:
  check_mode:
    description: In check mode the gate asks for the role and registered hosts, not for an approval.
    support: full
author:
  - sopctl contributors
"""

EXAMPLES = r"""
- name: Ask the gate
  diskominfo.sop.authorize:
    case: "{{ sop_case }}"
    playbook: restore
"""

RETURN = r"""
sop_authorized:
  description: The case that the gate allowed.
  type: str
  returned: success
  sample: RST-2026-0001
"""
