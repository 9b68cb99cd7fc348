# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Until when operating systems get security updates that everybody gets without a contract.

Sources, as published in November 2026: Debian and Ubuntu from the package distro-info-data (columns ``eol-lts`` of Debian,
``eol`` of Ubuntu); Red Hat Enterprise Linux from Red Hat's page "Red Hat Enterprise Linux Life Cycle" (end of maintenance
support); CentOS from the CentOS project's page "CentOS product specifications"; AlmaLinux and Rocky Linux from their own
pages "Release notes" and "Release and version guide"; Oracle Linux from "Oracle Open Source Support Policies" (Premier Support).
Extended support that is bought (ELTS, Ubuntu Pro, ELS) is not counted. One line a release: a new one is one more line.
"""

from __future__ import annotations

UNTIL: dict[tuple[str, str], str] = {
    ("debian", "9"): "2022-06-30",
    ("debian", "10"): "2024-06-30",
    ("debian", "11"): "2026-08-31",
    ("debian", "12"): "2028-06-30",
    ("debian", "13"): "2030-06-30",
    ("ubuntu", "16.04"): "2021-04-30",
    ("ubuntu", "18.04"): "2023-05-31",
    ("ubuntu", "20.04"): "2025-05-29",
    ("ubuntu", "22.04"): "2027-06-01",
    ("ubuntu", "24.04"): "2029-05-31",
    ("ubuntu", "24.10"): "2025-07-10",
    ("ubuntu", "25.04"): "2026-01-15",
    ("ubuntu", "25.10"): "2026-07-09",
    ("ubuntu", "26.04"): "2031-05-29",
    ("rhel", "7"): "2024-06-30",
    ("rhel", "8"): "2029-05-31",
    ("rhel", "9"): "2032-05-31",
    ("rhel", "10"): "2035-05-31",
    ("centos", "7"): "2024-06-30",
    ("centos", "8"): "2021-12-31",
    ("centos-stream", "8"): "2024-05-31",
    ("centos-stream", "9"): "2027-05-31",
    ("almalinux", "8"): "2029-03-01",
    ("almalinux", "9"): "2032-05-31",
    ("almalinux", "10"): "2035-05-31",
    ("rocky", "8"): "2029-05-31",
    ("rocky", "9"): "2032-05-31",
    ("rocky", "10"): "2035-05-31",
    ("ol", "7"): "2024-12-31",
    ("ol", "8"): "2029-07-31",
    ("ol", "9"): "2032-06-30",
}
#: systems whose releases go by the whole version; the others go by its first number
WHOLE = {"ubuntu"}


def support_until(system: str, version: str, name: str = "") -> str | None:
    """Last day (``YYYY-MM-DD``) of free security updates for an os-release's ``ID`` and ``VERSION_ID``; None if unknown."""
    if system == "centos" and "stream" in name.lower():
        system = "centos-stream"
    return UNTIL.get((system, version if system in WHOLE else version.partition(".")[0]))
