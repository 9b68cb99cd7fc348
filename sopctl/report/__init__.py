# SPDX-License-Identifier: Apache-2.0
"""What an auditor is handed: a site of plain pages about an agency's records, and a bundle that checks itself."""
