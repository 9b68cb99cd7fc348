# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C while sopctl itself is in the middle of writing a line."""

from __future__ import annotations

import os
import signal

import pytest

from sopctl.runner import Stop


def test_a_signal_in_the_middle_of_a_write_is_told_and_counted(capfd: pytest.CaptureFixture[str]) -> None:
    """Python refuses a second write to a buffered stream from a handler; nothing of the run may be lost by that."""

    def say(_text: str) -> None:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    stop = Stop(say)
    stop.install("no such marker")
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        stop.remove()
    assert stop.asked == 1
    assert capfd.readouterr().err.startswith("Interrupted: the running step is finished")
