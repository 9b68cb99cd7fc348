# SPDX-License-Identifier: Apache-2.0
"""``sopctl demo``."""

from __future__ import annotations

import click


@click.command()
def demo() -> None:
    """Run the whole SOP on this machine."""
