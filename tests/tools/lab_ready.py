# SPDX-License-Identifier: Apache-2.0
"""Say at once, before anything else runs, whether the lab can run on this machine; install its packages if it may.

python -m tests.tools.lab_ready
"""

from __future__ import annotations

import sys

from tests.lab.system import LabError, require


def main() -> int:
    """Exit code 0, or the lab's own with its one line."""
    try:
        require(install=True)
    except LabError as error:
        print(error, file=sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
