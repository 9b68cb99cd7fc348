# SPDX-License-Identifier: Apache-2.0
"""What is told about a host that cannot be worked on: the cause and the next step, on one line."""

from __future__ import annotations

import pytest

from sopctl.runner import reason

SENT = 'Task failed: Data could not be sent to remote host "10.0.0.4". Make sure this host can be reached over ssh: '
CHANGED = f"{SENT}@@@@@@@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.\r\n"


@pytest.mark.parametrize(
    ("said", "begins", "step"),
    [
        (CHANGED, "Host key verification failed: ", "ssh_host_key in register/servers"),
        (f"{SENT}sopop@10.0.0.4: Permission denied (publickey).", "sopop@10.0.0.4: Permission denied", "ansible_user"),
        (
            f"{SENT}ssh: connect to host 10.0.0.4 port 22: Connection refused",
            "ssh: connect to host 10.0.0.4",
            "sshd listens",
        ),
        (
            f"{SENT}ssh: Could not resolve hostname tidak.ada: Name or service not known",
            "ssh: Could not",
            "ansible_host",
        ),
        ("Task failed: Missing sudo password", "Missing sudo password", "ansible_become_password"),
    ],
)
def test_unreachable(said: str, begins: str, step: str) -> None:
    told = reason(said, unreachable=True)
    assert told.startswith(begins)
    assert step in told
    assert "\n" not in told


def test_a_module_s_own_words_stay_as_they_are() -> None:
    """A vault that refuses a connection is no reason to look at sshd."""
    said = "vault rest:https://vault01/: the vault does not answer (dial tcp: connection refused)"
    assert reason(said) == said


def test_a_heading_takes_what_stands_under_it_along() -> None:
    assert (
        reason("Validation of arguments failed:\nvalue of x is bad")
        == "Validation of arguments failed: value of x is bad"
    )


def test_nothing_said() -> None:
    assert reason(None) == "no message"
