# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.gate_server: one JSON line in, one out, to nobody but ourselves; what is not understood is refused."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sopctl import gate_server
from sopctl.gate_server import GateServer

SECRET = "kata sandi"


def answer(question: dict[str, Any]) -> dict[str, Any]:
    if question.get("fail"):
        raise RuntimeError("rusak")
    return {"allowed": True, "echo": question["n"], "secrets": SECRET}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GateServer]:
    with GateServer(tmp_path, answer) as open_server:
        yield open_server


def ask(server: GateServer, data: bytes) -> bytes:
    """What comes back for ``data``; empty when the door was shut in our face."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(30)
        connection.connect(str(server.path))
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        got = b""
        with contextlib.suppress(ConnectionResetError):  # the door was shut before we had said everything
            while piece := connection.recv(65536):
                got += piece
        return got


def test_question_and_answer(server: GateServer) -> None:
    assert json.loads(ask(server, b'{"n": 1}\n')) == {"allowed": True, "echo": 1, "secrets": SECRET}


def test_socket_is_ours_alone(server: GateServer, tmp_path: Path) -> None:
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\n",
        b"\xff\xfe\n",
        b"\n",
        b"[1, 2]\n",
        b'"text"\n',
        b"null\n",
        b"{}\n",
        b'{"n": 1}',
        b'{"n": 1',
        b'{"fail": true}\n',
        b"[" * 100_000 + b"\n",
        b'{"n": 1}\n{"n": 2}\n',
    ],
)
def test_what_is_not_understood_is_refused(data: bytes, server: GateServer) -> None:
    refused = json.loads(ask(server, data))
    assert refused["allowed"] is False
    assert "the gate could not decide" in refused["reasons"][0]
    assert SECRET not in json.dumps(refused)
    assert json.loads(ask(server, b'{"n": 3}\n'))["echo"] == 3, "the door must stay open for others"


def test_oversized_question(server: GateServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_server, "MAX_QUESTION", 100_000)
    got = ask(server, b'{"n": "' + b"x" * 300_000 + b'"}\n')
    assert got == b"" or "too long" in json.loads(got)["reasons"][0]
    assert SECRET.encode() not in got
    assert json.loads(ask(server, b'{"n": 2}\n'))["echo"] == 2


def test_silent_client_blocks_nobody(server: GateServer) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(str(server.path))
        silent.sendall(b'{"n":')
        assert json.loads(ask(server, b'{"n": 4}\n'))["echo"] == 4


def test_answers_in_parallel(server: GateServer) -> None:
    got: dict[int, int] = {}

    def one(number: int) -> None:
        text = json.dumps({"n": number, "padding": "x" * 50_000})
        got[number] = json.loads(ask(server, text.encode() + b"\n"))["echo"]

    threads = [threading.Thread(target=one, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {number: number for number in range(40)}


@pytest.mark.skipif(os.geteuid() != 0, reason="another user can be played by root only")
def test_other_users_get_no_answer(server: GateServer, tmp_path: Path) -> None:
    """Even where the folder's mode would let them in."""
    for folder in (tmp_path, *tmp_path.parents[:2]):  # not /tmp itself
        folder.chmod(0o755)
    server.path.chmod(0o666)
    program = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX); "
        "s.settimeout(20); s.connect(sys.argv[1]); s.sendall(b'{\"n\": 5}\\n'); sys.stdout.buffer.write(s.recv(65536))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(server.path)], capture_output=True, check=False)
    assert SECRET.encode() not in done.stdout
    assert done.stdout == b"", done.stderr
    assert json.loads(ask(server, b'{"n": 6}\n'))["echo"] == 6


def test_closed_door(tmp_path: Path) -> None:
    with GateServer(tmp_path, answer) as server:
        pass
    assert not server.path.exists()
    with pytest.raises(OSError):
        ask(server, b'{"n": 1}\n')


# what is no question ----------------------------------------------------------------------------------------------


def test_progress_is_heard_and_grants_nothing(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []
    with GateServer(tmp_path, answer, heard.append) as server:
        assert json.loads(ask(server, b'{"kind": "progress", "n": 1, "done": 5}\n')) == {}
        assert json.loads(ask(server, b'{"kind": "PROGRESS", "n": 2}\n'))["echo"] == 2, "any other is a question"
    assert heard == [{"kind": "progress", "n": 1, "done": 5}]


def test_progress_that_breaks_its_listener_breaks_nothing_else(tmp_path: Path) -> None:
    def broken(_: dict[str, Any]) -> None:
        raise RuntimeError("terminal gone")

    for hear in (broken, None):
        with GateServer(tmp_path, answer, hear) as server:
            assert json.loads(ask(server, b'{"kind": "progress"}\n')) == {}
            assert json.loads(ask(server, b'{"n": 3}\n'))["echo"] == 3


def test_progress_that_is_slow_to_show_keeps_nobody_waiting(tmp_path: Path) -> None:
    """A terminal that is held: whoever tells is let go at once, questions are answered, further states are dropped."""
    held, release, heard = threading.Event(), threading.Event(), list[int]()

    def hear(message: dict[str, Any]) -> None:
        heard.append(message["n"])
        held.set()
        assert release.wait(30)

    def tell(door: GateServer, number: int) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(10)
            connection.connect(str(door.path))
            connection.sendall(json.dumps({"kind": "progress", "n": number}).encode() + b"\n")
            assert connection.recv(100) == b"{}\n"

    with GateServer(tmp_path, answer, hear) as server:
        tell(server, 1)
        assert held.wait(10)
        for number in range(2, 30):
            tell(server, number)
        assert json.loads(ask(server, b'{"n": 4}\n'))["echo"] == 4
        release.set()
    assert heard == [1]
