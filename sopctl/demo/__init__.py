# SPDX-License-Identifier: Apache-2.0
"""The demo: the whole SOP on this one machine, with a real database, a real web service and sopctl's public commands."""
