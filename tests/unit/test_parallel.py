# SPDX-License-Identifier: Apache-2.0
"""Jobs in processes of their own give what they would give here, in their order; and one that is killed is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial

import pytest

from sopctl import parallel
from sopctl.errors import SopctlError


def job(number: int) -> tuple[int, int]:
    return number, os.getpid()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors; so does what it is for")
def test_in_their_order_by_others() -> None:
    found = list(parallel.results([partial(job, number) for number in range(40)], apart=True))
    assert [number for number, _ in found] == list(range(40))
    assert os.getpid() not in {who for _, who in found}


def test_few_are_done_here() -> None:
    assert list(parallel.results([partial(job, 1)], apart=False)) == [(1, os.getpid())]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors; so does what it is for")
def test_one_that_is_killed_is_told() -> None:
    jobs: list[Callable[[], object]] = [partial(job, 1), lambda: os.kill(os.getpid(), signal.SIGKILL)]
    with pytest.raises(SopctlError, match="killed"):
        list(parallel.results(jobs, apart=True))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors; so does what it is for")
def test_what_a_job_raises_is_raised_here() -> None:
    def broken() -> None:
        raise SopctlError("so geht es nicht")

    with pytest.raises(SopctlError, match="so geht"):
        list(parallel.results([broken], apart=True))
