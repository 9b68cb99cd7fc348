# SPDX-License-Identifier: Apache-2.0
"""``python -m sopctl``."""

from sopctl.cli import main

if __name__ == "__main__":
    main()
