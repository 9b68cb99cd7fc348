# SPDX-License-Identifier: Apache-2.0
"""sopctl: an agency's backup/restore SOP as software."""

from __future__ import annotations

__version__ = "0.1.0"
