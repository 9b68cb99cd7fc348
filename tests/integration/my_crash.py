"""Runs one step of the MariaDB engine and dies, or has the server die, at the n-th statement that changes something.

``python -m tests.integration.my_crash '{"dataset": …, "step": "swap", "case": …, "at": 3, "whom": "self|sent|PID"}'``:
``self`` ends this process before the statement is sent, ``sent`` right after, a number kills that process (the server)
right after. Exit code 0 means that the step came to its end before the n-th statement.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from typing import Any

from ansible_collections.diskominfo.sop.plugins.module_utils import my_client
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.mariadb import MariadbEngine

_HARMLESS = re.compile(r"(SELECT|SHOW|SET|USE|CHECK|START|XA)\b")


def main() -> None:
    """Do as the first argument says."""
    order: dict[str, Any] = json.loads(sys.argv[1])
    left = int(order["at"])
    run = my_client.MySession.run

    def counted(self: my_client.MySession, statement: str) -> list[list[str]]:
        nonlocal left
        if _HARMLESS.match(statement):
            return run(self, statement)
        left -= 1
        if left != 0:
            return run(self, statement)
        if order["whom"] == "self":
            os.kill(os.getpid(), signal.SIGKILL)
        stdin = self._child.stdin
        assert stdin is not None
        stdin.write(f"{statement}\n;\n".encode())
        stdin.flush()
        time.sleep(float(order["after"]))
        os.kill(os.getpid() if order["whom"] == "sent" else int(order["whom"]), signal.SIGKILL)
        return run(self, statement)

    my_client.MySession.run = counted  # type: ignore[method-assign]
    engine = MariadbEngine(order["dataset"], {})
    getattr(engine, order["step"])(order["case"])


if __name__ == "__main__":
    main()
